//! Fetches what policy needs to know; the decision itself is `netbpf-common`'s.

use netbpf_common::{
    conntrack::{Entry, entry_flags, origin, way},
    endpoint::{HostAddress, Network, host_address_flags},
    family::Family,
    nat::{MappingKey, PublishTarget, target_flags},
    packet::Packet,
    policy::{Access, Party, Role, decide, flags},
    senders::{LinkKey, ScopedAddr, TrustedInterface, admits},
    tuple::{Direction, Tuple},
    verdict::DropReason,
};

use crate::{
    maps::{self, Half, Tables},
    nat, source,
};

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
        Some(address) if address.flags & host_address_flags::GATEWAY != 0 => {
            Party::host(address.network)
        }
        _ => Party::host(0),
    }
}

/// A container of a network.
#[inline(always)]
pub fn container<F: Family>(id: u32, network: &Network) -> Party {
    Party::container(id, F::flags(network))
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
        || maps::mapping_stands(
            &MappingKey {
                mapping: half.mapping,
                endpoint,
            },
            F::STANDS,
        )
}

/// A container as the one that is asked for.
pub struct Receiver<'a> {
    /// Its endpoint id.
    pub endpoint: u32,
    /// Its network's id.
    pub network_id: u32,
    /// Its network.
    pub network: &'a Network,
}

/// Who asks for a container's own address.
pub struct Asker {
    /// As policy sees it.
    pub party: Party,
    /// A container's endpoint id; 0: none.
    pub endpoint: u32,
    /// The interface by which it comes to other networks: its own bridge, or one to the outside.
    pub ifindex: u32,
}

/// Whether a packet that begins a flow may go to a container's own address.
///
/// # Errors
///
/// The reason why it may not.
#[inline(always)]
pub fn own_address<F: Tables>(
    packet: &Packet<F>,
    from: &Asker,
    to: &Receiver<'_>,
) -> Result<(), DropReason> {
    // Of ICMP a routed network opens echo requests alone.
    if packet.tuple.is_icmp() && packet.icmp_type != F::ECHO_REQUEST {
        let party = container::<F>(to.network_id, to.network);
        return decide(from.party, party, Access::Direct);
    }
    flow_to_own_address(&packet.tuple, from, to)
}

/// As [`own_address`], for the tuple of a flow's first packet.
#[inline(always)]
fn flow_to_own_address<F: Tables>(
    tuple: &Tuple<F>,
    from: &Asker,
    to: &Receiver<'_>,
) -> Result<(), DropReason> {
    let party = container::<F>(to.network_id, to.network);
    if from.party.is_of(to.network_id) {
        return decide(from.party, party, neighbours_access(tuple, from, to));
    }
    let of = F::flags(to.network);
    if of & flags::ROUTED != 0 && tuple.is_icmp() {
        return decide(from.party, party, Access::Opened);
    }
    if of & (flags::ROUTED | flags::TRUSTED) != 0
        && let Some(target) = nat::own_port(tuple)
        && target.endpoint == to.endpoint
        && (of & flags::ROUTED != 0
            || is_trusted::<F>(from.ifindex, &tuple.src_addr, to.network_id))
    {
        decide(from.party, party, Access::Opened)?;
        return listed(target, &tuple.src_addr);
    }
    decide(from.party, party, Access::Direct)
}

/// How a container reaches another one of its network.
#[inline(always)]
fn neighbours_access<F: Tables>(tuple: &Tuple<F>, from: &Asker, to: &Receiver<'_>) -> Access {
    if F::flags(to.network) & flags::ICC != 0 {
        return Access::Direct;
    }
    let link = LinkKey {
        from_endpoint: from.endpoint,
        to_endpoint: to.endpoint,
        port: tuple.dst_port,
        proto: tuple.proto,
        pad: 0,
    };
    if maps::is_linked(&link) {
        Access::Linked
    } else {
        Access::Direct
    }
}

/// Whether a network trusts who comes by an interface with a source.
#[inline(always)]
fn is_trusted<F: Tables>(ifindex: u32, src: &F::Addr, network: u32) -> bool {
    maps::is_trusted_interface(&TrustedInterface { network, ifindex })
        || F::is_trusted_source(&ScopedAddr {
            scope: network,
            addr: *src,
        })
}

/// Whether the lists of a mapping let a source in. They are about the outside and other networks,
/// not about the receiver's neighbours.
///
/// # Errors
///
/// [`DropReason::SourceDenied`].
#[inline(always)]
pub fn listed<F: Tables>(target: &PublishTarget<F>, src: &F::Addr) -> Result<(), DropReason> {
    if target.flags & target_flags::LISTED == 0 {
        return Ok(());
    }
    let flags = maps::mapping_flags(&MappingKey {
        mapping: target.mapping,
        endpoint: target.endpoint,
    });
    let source = ScopedAddr {
        scope: target.mapping,
        addr: *src,
    };
    match flags {
        Some(flags) if admits(flags, F::listed(&source)) => Ok(()),
        _ => Err(DropReason::SourceDenied),
    }
}

/// Whether policy, as it is now, agrees to a flow that it once agreed to. `key` is `half`'s.
#[inline(always)]
pub fn still_allows<F: Tables>(half: Half<F>, key: &Tuple<F>) -> bool {
    if !ends_stand(half) {
        return false;
    }
    let partner = half.partner();
    let (original, first) = match half.direction() {
        Direction::Original => (half, key),
        Direction::Reply => match F::half(&partner) {
            Some(original) => (original, &partner),
            None => return false,
        },
    };
    let Some(from) = asker(original, first) else {
        return false;
    };
    if has_lost_its_address(&half, key) {
        return false;
    }
    match original.way {
        way::CONTAINER => reaches_container(original, first, &from),
        way::HOST => {
            let to = host(F::host_address(&original.translated.dst_addr));
            decide(from.party, to, Access::Direct).is_ok()
        }
        _ => {
            let is_rewritten = original.flags & entry_flags::REWRITE != 0;
            decide(from.party, Party::OUTSIDE, Access::Direct).is_ok()
                && (original.in_endpoint == 0 || is_rewritten == is_masqueraded(from.party))
        }
    }
}

/// Who began a flow, by its original half and first packet.
#[inline(always)]
fn asker<F: Tables>(original: Half<F>, first: &Tuple<F>) -> Option<Asker> {
    if original.in_endpoint != 0 {
        let interface = maps::interface(original.in_ifindex)?;
        let network = maps::network(interface.network)?;
        // An end that was unchecked may be checked by now.
        if !source::may_use_mac(interface, original.in_mac)
            || !source::may_send::<F>(interface, &first.src_addr, &first.dst_addr)
        {
            return None;
        }
        return Some(Asker {
            party: container::<F>(interface.network, network),
            endpoint: original.in_endpoint,
            ifindex: network.bridge_ifindex,
        });
    }
    let is_local = original.flags & entry_flags::LOCAL != 0;
    let party = if original.in_ifindex == origin::HOST || is_local {
        host(F::host_address(&first.src_addr))
    } else {
        Party::OUTSIDE
    };
    Some(Asker {
        party,
        endpoint: 0,
        ifindex: original.via_ifindex,
    })
}

/// Whether a flow may go on to a container, as it began.
#[inline(always)]
fn reaches_container<F: Tables>(original: Half<F>, first: &Tuple<F>, from: &Asker) -> bool {
    let Some(interface) = maps::interface(original.out_ifindex) else {
        return false;
    };
    let Some(network) = maps::network(interface.network) else {
        return false;
    };
    let to = Receiver {
        endpoint: original.out_endpoint,
        network_id: interface.network,
        network,
    };
    // What the host's own processes ask for was settled where they did, by an address of its own.
    if from.party.role == Role::Host {
        let asked = &first.dst_addr;
        return original.flags & entry_flags::REWRITE == 0
            || F::is_loopback(asked)
            || F::host_address(asked).is_some();
    }
    if original.mapping == 0 {
        return flow_to_own_address(first, from, &to).is_ok();
    }
    let party = container::<F>(to.network_id, to.network);
    let address = F::host_address(&first.dst_addr);
    if address.is_some_and(|address| address.flags & host_address_flags::VIP != 0) {
        return decide(from.party, party, Access::Service).is_ok();
    }
    let Some(target) = nat::published(first, address) else {
        return false;
    };
    target.mapping == original.mapping
        && target.endpoint == to.endpoint
        && decide(from.party, party, Access::Published).is_ok()
        && (from.party.is_of(to.network_id) || listed(target, &first.src_addr).is_ok())
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
    from.flags & flags::MASQUERADE != 0
}
