//! Fetches what policy needs to know; the decision itself is `netbpf-common`'s.

use netbpf_common::{
    conntrack::{Entry, entry_flags, origin, way},
    endpoint::{HostAddress, Interface, Network, host_address_flags},
    family::Family,
    nat::MappingKey,
    policy::{Access, Party, decide, flags},
    tuple::{Direction, Tuple},
};

use crate::maps::{self, Half, Tables};

/// Whether a container may send from `src`: its own address, and what it needs on its own link
/// before and beside that.
#[inline(always)]
pub fn owns_source<F: Family>(interface: &Interface, src: &F::Addr, dst: &F::Addr) -> bool {
    if F::is_unspecified(src) {
        return F::is_multicast(dst);
    }
    *src == F::interface_address(interface)
        || (stays_on_link::<F>(src) && (F::is_multicast(dst) || stays_on_link::<F>(dst)))
}

/// Whether an address means something on its own link alone. IPv4's link-local addresses do not:
/// clouds serve their metadata from one, and hosts route to it.
#[inline(always)]
pub fn stays_on_link<F: Family>(addr: &F::Addr) -> bool {
    F::ADDR_BITS == 128 && F::is_link_local(addr)
}

/// The host, as the holder of one of its addresses.
#[inline(always)]
pub const fn host(address: Option<&HostAddress>) -> Party {
    match address {
        Some(address) if address.flags & host_address_flags::GATEWAY != 0 => Party::Host {
            gateway_of: address.network,
        },
        _ => Party::Host { gateway_of: 0 },
    }
}

/// A container of a network.
#[inline(always)]
pub fn container<F: Family>(id: u32, network: &Network) -> Party {
    Party::Container {
        network: id,
        flags: F::flags(network),
    }
}

/// Whether both containers of a flow are still the same, and its mapping stands.
#[inline(always)]
pub fn ends_stand<F: Tables>(half: Half<F>) -> bool {
    end_stands(half.in_endpoint, half.in_ifindex)
        && end_stands(half.out_endpoint, half.out_ifindex)
        && mapping_stands(&half)
}

#[inline(always)]
fn end_stands(endpoint: u32, ifindex: u32) -> bool {
    endpoint == 0 || maps::interface(ifindex).is_some_and(|at| at.endpoint == endpoint)
}

#[inline(always)]
fn mapping_stands<F: Tables>(half: &Entry<F>) -> bool {
    let endpoint = match half.direction() {
        Direction::Original => half.out_endpoint,
        Direction::Reply => half.in_endpoint,
    };
    half.mapping == 0
        || maps::mapping_stands(&MappingKey {
            mapping: half.mapping,
            endpoint,
        })
}

/// Whether policy, as it is now, agrees to a flow that it once agreed to. `key` is `half`'s.
#[inline(always)]
pub fn still_allows<F: Tables>(half: Half<F>, key: &Tuple<F>) -> bool {
    if !ends_stand(half) {
        return false;
    }
    let sender = Side {
        endpoint: half.in_endpoint,
        ifindex: half.in_ifindex,
    };
    let receiver = Side {
        endpoint: half.out_endpoint,
        ifindex: half.out_ifindex,
    };
    let reversed = half.partner();
    let ((from, from_key), (to, to_key)) = match half.direction() {
        Direction::Original => ((sender, key), (receiver, &reversed)),
        Direction::Reply => ((receiver, &reversed), (sender, key)),
    };
    // A flow from or to the host: the half that the host's packets have says which address.
    let (Some(from), Some(to)) = (
        from.party(from_key, half.way == way::HOST || half.in_ifindex == 0),
        to.party(to_key, half.way == way::HOST || half.in_ifindex == 0),
    ) else {
        return false;
    };
    if leaves_as_it_is(&half) && is_masqueraded(from) || has_lost_its_address(&half, key) {
        return false;
    }
    let access = if half.mapping == 0 {
        Access::Direct
    } else {
        Access::Published
    };
    decide(from, to, access).is_ok()
}

/// Whether a flow that a container began goes out with the container's own address.
#[inline(always)]
fn leaves_as_it_is<F: Family>(half: &Entry<F>) -> bool {
    half.via_ifindex != 0
        && half.direction() == Direction::Original
        && half.flags & entry_flags::REWRITE == 0
}

/// Whether a masqueraded flow has a source address that the host no longer has.
#[inline(always)]
fn has_lost_its_address<F: Tables>(half: &Entry<F>, key: &Tuple<F>) -> bool {
    let shown = match half.direction() {
        Direction::Original if half.is_masqueraded() => half.translated.src_addr,
        Direction::Reply if half.in_ifindex == origin::OUTSIDE && half.way == way::CONTAINER => {
            key.dst_addr
        }
        _ => return false,
    };
    half.flags & entry_flags::REWRITE != 0 && F::host_address(&shown).is_none()
}

/// The MTU of the network of the container to which a half leads; 0: any.
#[inline(always)]
pub fn mtu_to<F: Family>(half: &Entry<F>) -> u16 {
    if half.way != way::CONTAINER {
        return 0;
    }
    maps::interface(half.out_ifindex)
        .and_then(|interface| maps::network(interface.network))
        .map_or(0, |network| network.mtu as u16)
}

#[inline(always)]
const fn is_masqueraded(from: Party) -> bool {
    matches!(from, Party::Container { flags: of, .. } if of & flags::MASQUERADE != 0)
}

/// One end of a flow, as its entry knows it.
#[derive(Clone, Copy)]
struct Side {
    endpoint: u32,
    ifindex: u32,
}

impl Side {
    /// The end as policy sees it; `key` is the tuple of the packets that it sends.
    #[inline(always)]
    fn party<F: Tables>(self, key: &Tuple<F>, is_with_host: bool) -> Option<Party> {
        if self.endpoint != 0 {
            let interface = maps::interface(self.ifindex)?;
            let network = maps::network(interface.network)?;
            return Some(container::<F>(interface.network, network));
        }
        if is_with_host {
            return Some(host(F::host_address(&key.src_addr)));
        }
        Some(Party::Outside)
    }
}
