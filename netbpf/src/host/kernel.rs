//! What the kernel and our privileges allow. It never changes anything.

use std::{env, ffi::OsStr, fmt, fs, io, os::unix::fs::FileExt as _, path::Path, sync::OnceLock};

use memchr::memmem;
use nix::{sys::utsname::uname, unistd::geteuid};

use super::{
    cgroup,
    error::{Doing, Error, Result},
};

/// The oldest kernel that netbpf promises to run on: what came later it can do without, see
/// [`Features`].
pub const OLDEST: Release = Release { major: 6, minor: 1 };

/// Names, separated by commas, what of [`Features`] is not to be used, and what of [`OTHERS`]: for
/// tests of what netbpf does where it is missing.
const WITHOUT: &str = "NETBPF_WITHOUT";

/// What else may be missing: a cgroup2, and memory for flow tables as a whole.
const OTHERS: [&str; 2] = [cgroup::WORD, PREALLOCATION];

/// The word for flow tables that have all their memory from the beginning.
pub const PREALLOCATION: &str = "preallocation";

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Capabilities that netbpf needs, with their bits (`linux/capability.h`).
const CAPABILITIES: [(&str, u32); 3] = [
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_BPF", 39),
];

/// The part of a kernel's release that features are told by.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Release {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl Release {
    /// Reads `6.18.44-cloud-amd64`, `6.7-rc1`, `7.0`; none when it does not begin with two numbers.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Self { major, minor })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Whether the environment rules something out that this host may have.
pub fn is_ruled_out(word: &str) -> bool {
    names(&without(), word)
}

/// Finds out whether the environment rules out only what netbpf knows of.
///
/// # Errors
///
/// The words that it doesn't know, and those that it does.
pub fn check_ruled_out() -> std::result::Result<(), String> {
    check_words(&without())
}

fn without() -> String {
    list_of(&env::var_os(WITHOUT).unwrap_or_default())
}

/// What is not UTF-8 is in the list as a word that nothing is called.
fn list_of(value: &OsStr) -> String {
    value.to_string_lossy().into_owned()
}

fn check_words(list: &str) -> std::result::Result<(), String> {
    let known = Features::NAMES.map(|(word, _)| word);
    let known: Vec<&str> = known.into_iter().chain(OTHERS).collect();
    let words = list.split(',').filter(|word| !word.is_empty());
    let unknown: Vec<String> = words
        .filter(|word| !known.contains(word))
        .map(|word| format!("{word:?}"))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{WITHOUT} names {}: it can name {}",
        unknown.join(", "),
        known.join(", ")
    ))
}

fn names(list: &str, word: &str) -> bool {
    list.split(',').any(|name| name == word)
}

/// What is known of the running kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    /// What it has beyond the oldest one that will do.
    pub features: Features,
}

/// What a kernel may have beyond the oldest one that will do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Features {
    /// Programs hang on TCX links (6.6), else on the `clsact` qdisc.
    pub tcx: bool,
    /// Route lookups leave the neighbour alone: `BPF_FIB_LOOKUP_SKIP_NEIGH` (6.3).
    pub fib_skip_neigh: bool,
    /// Route lookups say the source address: `BPF_FIB_LOOKUP_SRC` (6.7). Else masquerade takes the
    /// first address of the way out.
    pub fib_lookup_src: bool,
    /// Address rewrites may pass `BPF_F_IPV6` to the checksum helpers: 6.16 and its backports.
    pub bpf_f_ipv6: bool,
    /// `bpf_redirect_peer` itself says that a packet is addressed to whoever receives it (6.15).
    pub redirect_peer_scrub: bool,
}

/// How a kernel is known to have a feature.
#[derive(Clone, Copy)]
enum Evidence {
    /// Its type information has this name.
    Name(&'static str),
    /// It is of this release or a later one, where nothing that it shows has a name.
    Since(Release),
}

impl Features {
    /// The words by which [`WITHOUT`] names them, and how they are known.
    const NAMES: [(&str, Evidence); 5] = [
        ("tcx", Evidence::Name("BPF_TCX_INGRESS")),
        (
            "fib_skip_neigh",
            Evidence::Name("BPF_FIB_LOOKUP_SKIP_NEIGH"),
        ),
        ("fib_lookup_src", Evidence::Name("BPF_FIB_LOOKUP_SRC")),
        ("bpf_f_ipv6", Evidence::Name("BPF_F_IPV6")),
        (
            "redirect_peer_scrub",
            Evidence::Since(Release {
                major: 6,
                minor: 15,
            }),
        ),
    ];

    /// What this kernel has, and the environment does not rule out.
    pub fn detect() -> Result<Self> {
        static DETECTED: OnceLock<Features> = OnceLock::new();
        if let Some(detected) = DETECTED.get() {
            return Ok(*detected);
        }
        let strings = btf_strings(Path::new(BTF)).doing(|| format!("read {BTF}"))?;
        let release = Release::parse(&release()?);
        Ok(*DETECTED.get_or_init(|| Self::of(&strings, release, &without())))
    }

    /// A number that differs where one of the features does that the programs are told of.
    pub fn constants(self) -> u64 {
        [
            self.fib_skip_neigh,
            self.fib_lookup_src,
            self.bpf_f_ipv6,
            self.redirect_peer_scrub,
        ]
        .into_iter()
        .fold(0, |bits, is_used| bits << 1 | u64::from(is_used))
    }

    fn of(strings: &[u8], release: Option<Release>, without: &str) -> Self {
        let mut used = Self::NAMES
            .into_iter()
            .map(|(word, evidence)| evidence.holds(strings, release) && !names(without, word));
        let mut next = || used.next() == Some(true);
        Self {
            tcx: next(),
            fib_skip_neigh: next(),
            fib_lookup_src: next(),
            bpf_f_ipv6: next(),
            redirect_peer_scrub: next(),
        }
    }
}

impl Evidence {
    /// Whether a kernel with these strings in its type information shows it.
    fn holds(self, strings: &[u8], release: Option<Release>) -> bool {
        match self {
            Self::Name(name) => has_name(strings, name),
            Self::Since(first) => release.is_some_and(|release| release >= first),
        }
    }
}

/// Finds out whether netbpf can run here. The error names all that is missing.
pub fn require() -> Result<Kernel> {
    let release = release()?;
    let mut missing = Vec::new();
    if Release::parse(&release).is_none_or(|parsed| parsed < OLDEST) {
        missing.push(format!("Linux {OLDEST} or newer (this is {release})"));
    }
    if !Path::new(BTF).exists() {
        missing.push(format!(
            "the kernel's type information ({BTF}, CONFIG_DEBUG_INFO_BTF)"
        ));
    }
    missing.extend(missing_privileges()?);
    if missing.is_empty() {
        return Ok(Kernel {
            release,
            features: Features::detect()?,
        });
    }
    Err(Error::Unsupported(format!(
        "netbpf needs {}",
        missing.join(", and ")
    )))
}

/// Finds out whether we may act here, whatever the kernel is. The error names all that is missing.
pub fn require_privileges() -> Result<()> {
    match missing_privileges()? {
        None => Ok(()),
        Some(missing) => Err(Error::Unsupported(format!("netbpf needs {missing}"))),
    }
}

/// What `uname -r` prints.
pub fn release() -> Result<String> {
    let name = uname().doing(|| "ask for the kernel's release".to_owned())?;
    Ok(name.release().to_string_lossy().into_owned())
}

/// Whether br_netfilter gives bridged IPv4 packets to netfilter, in the calling thread's namespace.
pub fn bridge_calls_iptables() -> Result<bool> {
    reads_one("/proc/sys/net/bridge/bridge-nf-call-iptables")
}

/// Whether br_netfilter gives bridged IPv6 packets to netfilter, in the calling thread's namespace.
pub fn bridge_calls_ip6tables() -> Result<bool> {
    reads_one("/proc/sys/net/bridge/bridge-nf-call-ip6tables")
}

fn reads_one(path: &str) -> Result<bool> {
    match fs::read_to_string(path) {
        Ok(value) => Ok(value.trim() == "1"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).doing(|| format!("read {path}")),
    }
}

fn missing_privileges() -> Result<Option<String>> {
    let status =
        fs::read_to_string("/proc/self/status").doing(|| "read /proc/self/status".to_owned())?;
    let held = effective_capabilities(&status).unwrap_or(0);
    let lacking: Vec<&str> = CAPABILITIES
        .into_iter()
        .filter(|(_, bit)| held >> bit & 1 == 0)
        .map(|(name, _)| name)
        .collect();
    if lacking.is_empty() {
        return Ok(None);
    }
    let who = if geteuid().is_root() { "" } else { "root, or " };
    Ok(Some(format!(
        "{who}the capabilities {}",
        lacking.join(", ")
    )))
}

/// The `CapEff` line of `/proc/<pid>/status` as a bit set.
fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The string section of a BTF blob. It alone is read: the kernel gives such files out by the page.
fn btf_strings(path: &Path) -> io::Result<Vec<u8>> {
    /// `struct btf_header` (`linux/btf.h`) is six words; the second is its own length, the last two
    /// are where after it the strings begin, and how many bytes they are.
    const WORDS: usize = 6;
    let file = fs::File::open(path)?;
    let mut header = [0; WORDS * 4];
    file.read_exact_at(&mut header, 0)?;
    let word = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&header[at * 4..at * 4 + 4]);
        u32::from_ne_bytes(word)
    };
    let mut strings = vec![0; word(5) as usize];
    file.read_exact_at(&mut strings, u64::from(word(1)) + u64::from(word(4)))?;
    Ok(strings)
}

/// Whether `name` stands among the strings of a BTF blob: each ends with a zero byte, and an
/// enumerator's name stands alone.
fn has_name(strings: &[u8], name: &str) -> bool {
    memmem::find(strings, format!("\0{name}\0").as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_release_is_read_up_to_its_second_number() {
        for (text, major, minor) in [
            ("6.18.44-cloud-amd64", 6, 18),
            ("6.7-rc1", 6, 7),
            ("7.0", 7, 0),
            ("6.1.0+", 6, 1),
        ] {
            assert_eq!(
                Release::parse(text),
                Some(Release { major, minor }),
                "{text}"
            );
        }
        for text in ["", "six", "6", "6.", ".7"] {
            assert_eq!(Release::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_gate_is_between_6_0_and_6_1() {
        assert!(Release::parse("6.0.999").is_some_and(|release| release < OLDEST));
        assert!(Release::parse("6.1.0").is_some_and(|release| release >= OLDEST));
        assert!(Release::parse("10.0").is_some_and(|release| release >= OLDEST));
    }

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        let status = "CapPrm:\t0000000000000000\nCapEff:\t0000008000201000\n";
        let held = effective_capabilities(status).unwrap();
        assert!(CAPABILITIES.iter().all(|(_, bit)| held >> bit & 1 == 1));
        assert_eq!(effective_capabilities("nothing"), None);
    }

    #[test]
    fn a_name_in_btf_is_found_whole_or_not_at_all() {
        let strings = b"\0int\0BPF_F_IPV6_SOMETHING\0XBPF_F_IPV6\0";
        assert!(!has_name(strings, "BPF_F_IPV6"));
        assert!(has_name(b"\0int\0BPF_F_IPV6\0", "BPF_F_IPV6"));
    }

    #[test]
    fn what_can_not_be_ruled_out_is_refused() {
        assert_eq!(check_words(""), Ok(()));
        assert_eq!(check_words("tcx,cgroup2"), Ok(()));
        assert_eq!(
            check_words("tcx,bpf,CGROUP2").unwrap_err(),
            "NETBPF_WITHOUT names \"bpf\", \"CGROUP2\": it can name tcx, fib_skip_neigh, \
             fib_lookup_src, bpf_f_ipv6, redirect_peer_scrub, cgroup2, preallocation"
        );
    }

    #[test]
    fn what_is_not_utf8_is_refused() {
        let list = list_of(OsStr::from_bytes(b"tcx,bpf\xff"));
        let why = check_words(&list).unwrap_err();
        let named = "NETBPF_WITHOUT names \"bpf\u{fffd}\": it can name tcx, ";
        assert!(why.starts_with(named), "{why}");
    }

    #[test]
    fn a_feature_is_used_where_the_kernel_has_it_and_nothing_rules_it_out() {
        let btf = b"\0BPF_TCX_INGRESS\0BPF_FIB_LOOKUP_SRC\0";
        let all = Features {
            tcx: true,
            fib_lookup_src: true,
            ..Features::default()
        };
        assert_eq!(Features::of(btf, None, ""), all);
        assert_eq!(
            Features::of(btf, None, "fib_skip_neigh,tcx"),
            Features { tcx: false, ..all }
        );
    }

    #[test]
    fn what_has_no_name_is_told_by_the_release() {
        let scrubs = |release, without| {
            Features::of(b"", Release::parse(release), without).redirect_peer_scrub
        };
        assert!(scrubs("6.15.0", ""));
        assert!(scrubs("7.0", "tcx"));
        assert!(!scrubs("6.14.11", ""));
        assert!(!scrubs("unknown", ""));
        assert!(!scrubs("6.15.0", "redirect_peer_scrub"));
    }
}
