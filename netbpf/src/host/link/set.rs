//! What is set on a link that is there.

use std::{
    thread,
    time::{Duration, Instant},
};

use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{
    super::{Mac, error::Result, rtnl::Rtnl},
    Running,
};

const RUNNING_PAUSE: Duration = Duration::from_millis(2);

impl Rtnl {
    /// Makes link `port` a port of bridge `master`.
    pub fn enslave(&self, port: u32, master: u32) -> Result<()> {
        let change = LinkUnspec::new_with_index(port).controller(master);
        self.change(change, || {
            format!("make link {port} a port of link {master}")
        })
    }

    /// Takes link `port` from its master, if it has one.
    pub fn release(&self, port: u32) -> Result<()> {
        let change = LinkUnspec::new_with_index(port).nocontroller();
        self.change(change, || format!("take link {port} from its bridge"))
    }

    /// Brings a link up.
    pub fn up(&self, index: u32) -> Result<()> {
        self.change(LinkUnspec::new_with_index(index).up(), || {
            format!("bring up link {index}")
        })
    }

    /// Waits until every one of `indices` can carry packets, and says whether they do: a link that
    /// has just been brought up gets there a moment later, and until then its bridge drops.
    pub fn until_running(&self, indices: &[u32], patience: Duration) -> Result<Running> {
        let deadline = Instant::now() + patience;
        loop {
            let links = self.links()?;
            let is_running = |index: &u32| links.iter().any(|l| l.index == *index && l.running);
            if indices.iter().all(is_running) {
                return Ok(Running::All);
            }
            if Instant::now() >= deadline {
                return Ok(Running::NotAll);
            }
            thread::sleep(RUNNING_PAUSE);
        }
    }

    /// Takes a link down.
    pub fn down(&self, index: u32) -> Result<()> {
        self.change(LinkUnspec::new_with_index(index).down(), || {
            format!("take down link {index}")
        })
    }

    /// Sets a link's MTU, in bytes.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        let change = LinkUnspec::new_with_index(index).mtu(mtu);
        self.change(change, || format!("set the MTU of link {index} to {mtu}"))
    }

    /// Sets a link's hardware address. A bridge keeps one that was set, whatever ports it gets.
    pub fn set_mac(&self, index: u32, mac: Mac) -> Result<()> {
        let change = LinkUnspec::new_with_index(index).address(mac.to_vec());
        self.change(change, || {
            format!("set the hardware address of link {index}")
        })
    }

    /// Sets a link's alias; an empty one takes it away.
    pub fn set_alias(&self, index: u32, alias: &str) -> Result<()> {
        let change = LinkUnspec::new_with_index(index).alias(alias);
        self.change(change, || format!("set the alias of link {index}"))
    }

    pub(super) fn change(
        &self,
        message: LinkMessageBuilder<LinkUnspec>,
        action: impl FnOnce() -> String,
    ) -> Result<()> {
        self.wait(
            action,
            self.handle().link().change(message.build()).execute(),
        )
    }
}
