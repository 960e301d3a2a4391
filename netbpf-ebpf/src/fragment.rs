//! Fragments: the first one leaves its ports for the later ones.
//!
//! Nothing is held back or put together: a later fragment that comes before the first is dropped,
//! with a reason of its own.

use netbpf_common::{
    family::Family,
    packet::{Fragment, Packet},
    verdict::DropReason,
    wire::Be16,
};

use crate::maps::Tables;

/// Names a datagram on its way in. Another interface's datagrams can't be mixed up with it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FragmentKey<F: Family> {
    /// Source address.
    pub src_addr: F::Addr,
    /// Destination address.
    pub dst_addr: F::Addr,
    /// The datagram's identification, wire order.
    pub id: u32,
    /// Where it comes in.
    pub ifindex: u32,
    /// IP protocol.
    pub proto: u32,
}

/// A datagram's ports, or an ICMP echo's identifier twice.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FragmentPorts {
    /// Source port.
    pub src_port: Be16,
    /// Destination port.
    pub dst_port: Be16,
}

/// Gives a later fragment the ports of its first one, and remembers those of a first one.
#[inline(always)]
pub fn follow<F: Tables>(packet: &mut Packet<F>, ifindex: u32) -> Result<(), DropReason> {
    if packet.fragment == Fragment::None {
        return Ok(());
    }
    let tuple = &mut packet.tuple;
    let key = FragmentKey::<F> {
        src_addr: tuple.src_addr,
        dst_addr: tuple.dst_addr,
        id: packet.fragment_id,
        ifindex,
        proto: u32::from(tuple.proto),
    };
    if packet.fragment == Fragment::First {
        let ports = FragmentPorts {
            src_port: tuple.src_port,
            dst_port: tuple.dst_port,
        };
        F::set_fragment_ports(&key, ports);
        return Ok(());
    }
    let Some(ports) = F::fragment_ports(&key) else {
        return Err(DropReason::FragmentWithoutFirst);
    };
    tuple.src_port = ports.src_port;
    tuple.dst_port = ports.dst_port;
    Ok(())
}
