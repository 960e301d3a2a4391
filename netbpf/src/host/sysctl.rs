//! Per-interface sysctls of the calling thread's network namespace. It knows no others, so that it
//! can never write one of `all` or `default`.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::error::{Doing, Error, Result};

const ROOT: &str = "/proc/sys/net";

/// What can be set on an interface.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Knob {
    /// `net.ipv4.conf.<interface>.forwarding`.
    Ipv4Forwarding,
    /// `net.ipv4.conf.<interface>.rp_filter`.
    Ipv4RpFilter,
    /// `net.ipv4.conf.<interface>.route_localnet`.
    Ipv4RouteLocalnet,
    /// `net.ipv4.conf.<interface>.accept_local`.
    Ipv4AcceptLocal,
    /// `net.ipv6.conf.<interface>.forwarding`.
    Ipv6Forwarding,
    /// `net.ipv6.conf.<interface>.accept_ra`.
    Ipv6AcceptRa,
    /// `net.ipv6.conf.<interface>.disable_ipv6`.
    Ipv6Disable,
    /// `net.ipv4.conf.<interface>.arp_notify`.
    Ipv4ArpNotify,
    /// `net.ipv6.conf.<interface>.ndisc_notify`.
    Ipv6NdiscNotify,
}

/// A sysctl of one interface.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Sysctl {
    /// What is set.
    pub knob: Knob,
    /// On which interface.
    pub interface: String,
}

impl Sysctl {
    /// The sysctl `knob` of `interface`.
    pub fn new(knob: Knob, interface: impl Into<String>) -> Self {
        Self {
            knob,
            interface: interface.into(),
        }
    }

    /// Its value in the calling thread's namespace; `None` when there is no such interface, or the
    /// kernel has no such family.
    pub fn read(&self) -> Result<Option<String>> {
        match fs::read_to_string(self.path()?) {
            Ok(value) => Ok(Some(value.trim_end().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("read {self}")),
        }
    }

    /// Sets it in the calling thread's namespace.
    pub fn write(&self, value: &str) -> Result<()> {
        fs::write(self.path()?, value).doing(|| format!("set {self} to {value}"))
    }

    fn path(&self) -> Result<PathBuf> {
        let interface = self.interface.as_str();
        if matches!(interface, "" | "." | ".." | "all" | "default") || interface.contains('/') {
            return Err(Error::NoLink(interface.to_owned()));
        }
        let (family, name) = self.knob.words();
        Ok(Path::new(ROOT)
            .join(family)
            .join("conf")
            .join(interface)
            .join(name))
    }
}

impl Knob {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Ipv4Forwarding => ("ipv4", "forwarding"),
            Self::Ipv4RpFilter => ("ipv4", "rp_filter"),
            Self::Ipv4RouteLocalnet => ("ipv4", "route_localnet"),
            Self::Ipv4AcceptLocal => ("ipv4", "accept_local"),
            Self::Ipv6Forwarding => ("ipv6", "forwarding"),
            Self::Ipv6AcceptRa => ("ipv6", "accept_ra"),
            Self::Ipv6Disable => ("ipv6", "disable_ipv6"),
            Self::Ipv4ArpNotify => ("ipv4", "arp_notify"),
            Self::Ipv6NdiscNotify => ("ipv6", "ndisc_notify"),
        }
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (family, name) = self.knob.words();
        write!(f, "net.{family}.conf.{}.{name}", self.interface)
    }
}
