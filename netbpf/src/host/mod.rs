//! Everything netbpf reads from the host and changes on it: namespaces, links, addresses, routes,
//! bridge entries, sysctls, the bpffs. Verbs are idempotent and act at once; what is wanted, and
//! in which order, is decided elsewhere, and so is what to record before.

pub mod address;
pub mod announce;
pub mod bpffs;
pub mod cgroup;
mod error;
pub mod kernel;
pub mod link;
pub mod neighbour;
pub mod netns;
pub mod port;
pub mod route;
mod rtnl;
pub mod section;
pub mod sysctl;
pub mod tc;
pub mod undo;
pub mod watch;
pub mod xfrm;

use std::path::Path;

pub use self::{
    error::{Error, Result},
    netns::{Done, Netns, NetnsId},
    rtnl::Rtnl,
};

/// A hardware address in wire order.
pub type Mac = [u8; 6];

/// The namespace that netbpf acts on, with a socket into it. The thread that made it is inside, so
/// that programs attach, and sysctls are read and written, in that namespace.
#[derive(Debug)]
pub struct Host {
    netns: Netns,
    rtnl: Rtnl,
}

/// What is in a namespace, read once.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every link.
    pub links: Vec<link::Link>,
    /// Every address of every link, in both families.
    pub addresses: Vec<address::Address>,
    /// Every unicast route of every table, in both families.
    pub routes: Vec<route::Route>,
    /// Static forwarding entries of bridge ports.
    pub fdb: Vec<neighbour::FdbEntry>,
}

impl Host {
    /// Enters `--netns NAME|PATH`, or stays in the namespace that netbpf was started in.
    /// It is called on the main thread before any other is started.
    pub fn enter(name_or_path: Option<&str>) -> Result<Self> {
        let netns = Netns::named(name_or_path)?;
        if name_or_path.is_some() {
            netns.enter()?;
        }
        let rtnl = Rtnl::open(&netns)?;
        Ok(Self { netns, rtnl })
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The socket into it.
    pub fn rtnl(&self) -> &Rtnl {
        &self.rtnl
    }

    /// Opens the container namespace at `path`, which has to be there and must not be the host.
    pub fn container(&self, path: &Path) -> Result<Netns> {
        let netns = Netns::existing(path)?;
        if netns.id() == self.netns.id() {
            return Err(Error::Foreign(format!(
                "{} is the host's own namespace",
                path.display()
            )));
        }
        Ok(netns)
    }
}

impl Rtnl {
    /// Reads all there is.
    pub fn observe(&self) -> Result<Observed> {
        Ok(Observed {
            links: self.links()?,
            addresses: self.addresses()?,
            routes: self.routes()?,
            fdb: self.fdb()?,
        })
    }
}
