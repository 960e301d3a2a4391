//! What a kernel has beyond the oldest one that will do, as far as the environment does not rule it
//! out.

use std::{env, ffi::OsStr, fs, io, os::unix::fs::FileExt as _, path::Path, sync::OnceLock};

use memchr::memmem;

use super::{
    super::{
        cgroup,
        error::{Doing, Result},
    },
    BTF, Release, release,
};

/// Names, separated by commas, what of [`Features`] is not to be used, and what of [`OTHERS`]: for
/// tests of what netbpf does where it is missing.
const WITHOUT: &str = "NETBPF_WITHOUT";

/// What else may be missing: a cgroup2, and memory for flow tables as a whole.
const OTHERS: [&str; 2] = [cgroup::WORD, PREALLOCATION];

/// The word for flow tables that have all their memory from the beginning.
pub const PREALLOCATION: &str = "preallocation";

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
