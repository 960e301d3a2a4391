//! Lets a container's interface tell its link what it is called (row A4): the kernel sends a
//! gratuitous ARP request for its IPv4 address and unsolicited advertisements for its IPv6
//! addresses, so that nobody goes on sending to the MAC that had them before.
//!
//! The switches stay on, for an interface that comes up again later has the same to say.

use super::{
    Mac, Netns, Rtnl,
    error::Result,
    sysctl::{Knob, Sysctl},
};

/// Announces every address of `interface`, which is up, has this MAC, and is in `netns`.
pub fn announce(netns: &Netns, interface: &str, mac: Mac) -> Result<()> {
    netns.run(|| switch_on(interface))??;
    let rtnl = Rtnl::open(netns)?;
    // The kernel announces when it is given a MAC, also the one that there is.
    rtnl.set_mac(rtnl.existing_link(interface)?.index, mac)
}

/// A family that the kernel or the interface doesn't have needs no switch.
fn switch_on(interface: &str) -> Result<()> {
    for knob in [Knob::Ipv4ArpNotify, Knob::Ipv6NdiscNotify] {
        let sysctl = Sysctl::new(knob, interface);
        if sysctl.read()?.is_some_and(|value| value != "1") {
            sysctl.write("1")?;
        }
    }
    Ok(())
}
