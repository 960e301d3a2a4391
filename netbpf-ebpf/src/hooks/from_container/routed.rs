//! A frame from a container to its bridge's MAC: where it leads, and whether policy agrees.

use netbpf_common::{
    conntrack::{End, first_state},
    endpoint::{Endpoint, HostAddress, Interface, Network, host_address_flags},
    family::Family,
    nat::{MappingKey, PublishTarget},
    packet::Packet,
    policy::{Access, Party, decide, flags},
    verdict::{DropReason, Verdict},
    wire::Be16,
};

use super::{Sender, untranslated};
use crate::{
    conntrack::first_untranslated,
    hooks::Stages,
    maps,
    nat::{self, commit},
    policy::{self, Receiver},
    service,
    skb::Skb,
    socket, way as route,
};

/// A frame to the bridge's MAC.
#[inline(always)]
pub(super) fn routed<F: Stages>(skb: Skb, packet: &Packet<F>, sender: &Sender) -> Verdict {
    let dst = &packet.tuple.dst_addr;
    let address = F::host_address(dst);
    if let Some(address) = address
        && address.flags & host_address_flags::VIP != 0
    {
        return to_vip(packet, sender, address);
    }
    if let Some(target) = nat::published(&packet.tuple, address) {
        return to_mapped(
            packet,
            sender,
            Mapped {
                addr: target.addr,
                port: target.port,
                endpoint: target.endpoint,
                mapping: target.mapping,
                access: Access::Published,
                target: Some(target),
            },
        );
    }
    if address.is_some() {
        return to_host(skb, packet, sender, address);
    }
    if let Some(endpoint) = F::endpoint(dst) {
        return to_container(packet, sender, endpoint);
    }
    match F::subnet(dst) {
        Some(network) if network == sender.interface.network => DropReason::NoEndpoint.into(),
        Some(_) => DropReason::IsolatedNetwork.into(),
        None => to_outside(skb, packet, sender),
    }
}

/// To a virtual IP: a backend; the kernel itself answers ping; nothing else.
#[inline(always)]
fn to_vip<F: Stages>(packet: &Packet<F>, sender: &Sender, address: &HostAddress) -> Verdict {
    if address.network != sender.interface.network {
        return DropReason::IsolatedNetwork.into();
    }
    if packet.tuple.is_icmp() && packet.icmp_type == F::ECHO_REQUEST {
        return Verdict::TO_HOST;
    }
    match service::choose(&packet.tuple) {
        Ok(choice) => to_mapped(
            packet,
            sender,
            Mapped {
                addr: choice.backend.addr,
                port: choice.backend.port,
                endpoint: choice.backend.endpoint,
                mapping: choice.mapping,
                access: Access::Service,
                target: None,
            },
        ),
        Err(reason) => reason.into(),
    }
}

/// Where a mapping leads.
struct Mapped<F: Family> {
    addr: F::Addr,
    port: Be16,
    endpoint: u32,
    mapping: u32,
    access: Access,
    /// The published port, which may have lists of sources; a service has none.
    target: Option<&'static PublishTarget<F>>,
}

/// Through a mapping to the container behind it.
#[inline(always)]
fn to_mapped<F: Stages>(packet: &Packet<F>, sender: &Sender, mapped: Mapped<F>) -> Verdict {
    let Some(endpoint) = F::endpoint(&mapped.addr) else {
        return DropReason::NoEndpoint.into();
    };
    let Some(network) = maps::network(endpoint.network) else {
        return DropReason::NoEndpoint.into();
    };
    if endpoint.id != mapped.endpoint {
        return DropReason::NoEndpoint.into();
    }
    let party = policy::container::<F>(endpoint.network, network);
    if let Err(reason) = decide(sender.party::<F>(), party, mapped.access) {
        return reason.into();
    }
    if let Some(target) = mapped.target
        && endpoint.network != sender.interface.network
        && let Err(reason) = policy::listed(target, &packet.tuple.src_addr)
    {
        return reason.into();
    }
    let Some(state) = first_state(packet.tuple.proto, packet.tcp_flags) else {
        return DropReason::NoFlow.into();
    };
    let mut translated = packet.tuple.with_destination(mapped.addr, mapped.port);
    let is_itself = is_same_container(sender.interface, endpoint);
    if is_itself {
        // Its own stack would take its own address for a forgery.
        translated = translated.with_source(hairpin_source(packet, network), translated.src_port);
    }
    let Some(draft) = F::draft() else {
        return DropReason::ConntrackFull.into();
    };
    draft.begin(
        &packet.tuple,
        state,
        sender.end(),
        End::container(endpoint, network),
    );
    draft.translated = translated;
    draft.mapping = mapped.mapping;
    draft.routed = u8::from(endpoint.network != sender.interface.network);
    Verdict::commit(if is_itself {
        commit::WITH_SOURCE
    } else {
        commit::MAPPED
    })
}

/// Whether a container asks itself, by the same interface or by another one.
#[inline(always)]
fn is_same_container(sender: &Interface, endpoint: &Endpoint) -> bool {
    sender.endpoint == endpoint.id
        || maps::interface(endpoint.ifindex).is_some_and(|at| at.container == sender.container)
}

/// Whom a container sees that has reached itself: the gateway of the network where it is reached,
/// or where there is none whom it asked.
#[inline(always)]
fn hairpin_source<F: Stages>(packet: &Packet<F>, network: &Network) -> F::Addr {
    let gateway = F::gateway(network);
    if F::is_unspecified(&gateway) {
        packet.tuple.dst_addr
    } else {
        gateway
    }
}

/// To the host itself: nothing is translated, and the flow is tracked so that answers are known.
#[inline(always)]
fn to_host<F: Stages>(
    skb: Skb,
    packet: &Packet<F>,
    sender: &Sender,
    address: Option<&HostAddress>,
) -> Verdict {
    if let Err(reason) = decide(sender.party::<F>(), policy::host(address), Access::Direct) {
        return reason.into();
    }
    if answers_ended_flow(skb, packet, sender) {
        return DropReason::FlowEnded.into();
    }
    untranslated(packet, sender.end(), End::HOST)
}

/// Whether a packet is for a socket of the host's that was led to this container by a mapping that
/// is gone: the container must not go on with what the host can't.
#[inline(always)]
fn answers_ended_flow<F: Stages>(skb: Skb, packet: &Packet<F>, sender: &Sender) -> bool {
    let tuple = &packet.tuple;
    let (mut wanted, len) = F::socket_tuple(tuple);
    let led_to = F::as_peer(tuple.src_addr, tuple.src_port);
    let mapping = socket::mapping_of_receiver(skb, &mut wanted, len, tuple.proto, led_to);
    mapping != 0
        && !maps::mapping_stands(
            &MappingKey {
                mapping,
                endpoint: sender.interface.endpoint,
            },
            F::STANDS,
        )
}

/// Routed to another container's own address.
#[inline(always)]
fn to_container<F: Stages>(packet: &Packet<F>, sender: &Sender, endpoint: &Endpoint) -> Verdict {
    let Some(network) = maps::network(endpoint.network) else {
        return DropReason::NoEndpoint.into();
    };
    let asked = Receiver {
        endpoint: endpoint.id,
        network_id: endpoint.network,
        network,
    };
    if let Err(reason) = policy::own_address(packet, &sender.asker::<F>(), &asked) {
        return reason.into();
    }
    let verdict = untranslated(packet, sender.end(), End::container(endpoint, network));
    if endpoint.network != sender.interface.network
        && let Some(draft) = F::draft()
    {
        draft.routed = 1;
    }
    verdict
}

/// Out of the host: masqueraded, unless the network is not.
#[inline(always)]
fn to_outside<F: Stages>(skb: Skb, packet: &Packet<F>, sender: &Sender) -> Verdict {
    if let Err(reason) = decide(sender.party::<F>(), Party::OUTSIDE, Access::Direct) {
        return reason.into();
    }
    let via_ifindex = sender.network.bridge_ifindex;
    let masquerade = F::flags(sender.network) & flags::MASQUERADE != 0;
    let source = match route::source(skb, packet, via_ifindex) {
        Ok(source) => source,
        // Without masquerade nobody needs an address of the host.
        Err(verdict) if verdict == NO_SOURCE_ADDRESS && !masquerade => F::Addr::default(),
        Err(verdict) => return verdict,
    };
    let state = match first_untranslated(packet) {
        Some(state)
            if !masquerade || first_state(packet.tuple.proto, packet.tcp_flags).is_some() =>
        {
            state
        }
        _ => return DropReason::NoFlow.into(),
    };
    let mut translated = packet.tuple;
    if masquerade {
        translated = translated.with_source(source, packet.tuple.src_port);
    }
    let Some(draft) = F::draft() else {
        return DropReason::ConntrackFull.into();
    };
    draft.begin(&packet.tuple, state, sender.end(), End::OUTSIDE);
    draft.translated = translated;
    draft.via_ifindex = via_ifindex;
    draft.routed = 1;
    Verdict::commit(if masquerade {
        commit::WITH_SOURCE
    } else {
        commit::AS_IS
    })
}

const NO_SOURCE_ADDRESS: Verdict = Verdict::drop(DropReason::NoSourceAddress);
