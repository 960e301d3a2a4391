//! Who a container may say that it is: MACs and addresses that it sends from.
//!
//! A checked end has its own and nothing else. An unchecked one (`source_check = false`) may have
//! any that is neither the host's nor, on its own link, another container's.

use netbpf_common::{
    endpoint::{Interface, MacKey, interface_flags},
    wire::Mac,
};

use crate::{
    maps::{self, Tables},
    policy::stays_on_link,
};

/// Whether an end may send from other MACs and addresses than its own.
#[inline(always)]
pub const fn is_unchecked(interface: &Interface) -> bool {
    interface.flags & interface_flags::SOURCE_UNCHECKED != 0
}

/// Whether a container may send from a MAC.
#[inline(always)]
pub fn may_use_mac(interface: &Interface, mac: Mac) -> bool {
    if mac == interface.mac {
        return true;
    }
    is_unchecked(interface)
        && !mac.is_group()
        && maps::network(interface.network).is_some_and(|net| net.bridge_mac != mac)
        && maps::endpoint_by_mac(&MacKey {
            network: interface.network,
            mac,
            pad: [0; 2],
        })
        .is_none()
}

/// Whether a container may send from `src`: its own address, and what it needs on its own link
/// before and beside that.
#[inline(always)]
pub fn may_send<F: Tables>(interface: &Interface, src: &F::Addr, dst: &F::Addr) -> bool {
    if F::is_unspecified(src) {
        return F::is_multicast(dst);
    }
    if *src == F::interface_address(interface) {
        return true;
    }
    if stays_on_link::<F>(src) {
        return F::is_multicast(dst) || stays_on_link::<F>(dst);
    }
    is_unchecked(interface) && may_carry::<F>(interface, src)
}

/// Whether an address that an unchecked end sends from or answers for is nobody's whom it must not
/// play: not the host's, and not that of another container of its network.
#[inline(always)]
pub fn may_carry<F: Tables>(interface: &Interface, addr: &F::Addr) -> bool {
    if F::is_loopback(addr) || F::is_multicast(addr) || F::host_address(addr).is_some() {
        return false;
    }
    F::endpoint(addr).is_none_or(|endpoint| {
        endpoint.network != interface.network || endpoint.id == interface.endpoint
    })
}

/// Whether an address is one that the container has on another of its interfaces.
#[inline(always)]
pub fn is_siblings<F: Tables>(interface: &Interface, addr: &F::Addr) -> bool {
    F::endpoint(addr).is_some_and(|endpoint| {
        maps::interface(endpoint.ifindex).is_some_and(|other| have_one_container(interface, other))
    })
}

/// Whether a frame that came in by `ifindex` may be of a flow whose packets come in by `known`: by
/// another interface of the same container, or by an unchecked end from another MAC.
#[inline(always)]
pub fn is_same_sender(known: u32, ifindex: u32, mac: Mac) -> bool {
    let Some(interface) = maps::interface(ifindex) else {
        return false;
    };
    if !may_use_mac(interface, mac) {
        return false;
    }
    if known == ifindex {
        return is_unchecked(interface);
    }
    is_same_container(known, interface)
}

/// Whether an interface is the same container's as another one.
#[inline(always)]
pub fn is_same_container(known: u32, interface: &Interface) -> bool {
    maps::interface(known).is_some_and(|other| have_one_container(interface, other))
}

#[inline(always)]
const fn have_one_container(one: &Interface, other: &Interface) -> bool {
    one.container != 0 && one.container == other.container
}
