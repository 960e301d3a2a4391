//! What the kernel and our privileges allow. It never changes anything.

mod features;

use std::{fmt, fs, io, path::Path};

use nix::{sys::utsname::uname, unistd::geteuid};

pub use self::features::{Features, PREALLOCATION, check_ruled_out, is_ruled_out};
use super::error::{Doing, Error, Result};

/// The oldest kernel that netbpf promises to run on: what came later it can do without, see
/// [`Features`].
pub const OLDEST: Release = Release { major: 6, minor: 1 };

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
    /// What it has beyond the oldest one that will do.
    pub features: Features,
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
}
