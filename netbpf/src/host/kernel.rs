//! What the kernel and our privileges allow. It never changes anything.

use std::{fmt, fs, io, path::Path};

use nix::{sys::utsname::uname, unistd::geteuid};

use super::error::{Doing, Error, Result};

/// The oldest kernel that the programs run on: TCX came with 6.6, `BPF_FIB_LOOKUP_SRC` with 6.7.
pub const OLDEST: Release = Release { major: 6, minor: 7 };

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

/// What is known of the running kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    /// Whether address rewrites may pass `BPF_F_IPV6` to the checksum helpers.
    pub has_bpf_f_ipv6: bool,
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
            has_bpf_f_ipv6: has_bpf_f_ipv6()?,
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

/// Whether the checksum helpers take `BPF_F_IPV6`: 6.16 and its backports do.
pub fn has_bpf_f_ipv6() -> Result<bool> {
    let btf = fs::read(BTF).doing(|| format!("read {BTF}"))?;
    Ok(btf_names(&btf, "BPF_F_IPV6"))
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

/// Whether `name` stands in the string section of a BTF blob: strings there end with a zero byte,
/// and an enumerator's name stands alone.
fn btf_names(btf: &[u8], name: &str) -> bool {
    let wanted: Vec<u8> = [b"\0", name.as_bytes(), b"\0"].concat();
    btf.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
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
    fn the_gate_is_between_6_6_and_6_7() {
        assert!(Release::parse("6.6.999").is_some_and(|release| release < OLDEST));
        assert!(Release::parse("6.7.0").is_some_and(|release| release >= OLDEST));
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
        assert!(!btf_names(strings, "BPF_F_IPV6"));
        assert!(btf_names(b"\0int\0BPF_F_IPV6\0", "BPF_F_IPV6"));
    }
}
