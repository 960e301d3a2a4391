//! What proptest draws: addresses, tuples, ends and flows of either family.
//!
//! Only tests have this module. Draws are of any value that a packet could bring, not of plausible
//! ones alone.

use proptest::prelude::*;

use crate::{
    conntrack::{End, NewFlow, State, origin, way},
    family::{Family, V4, V6},
    tuple::{Direction, Tuple, proto},
    wire::{Be16, Ipv4, Ipv6, Mac},
};

/// A family whose addresses can be drawn.
pub trait Draw: Family {
    /// Any address.
    fn addr() -> BoxedStrategy<Self::Addr>;
}

impl Draw for V4 {
    fn addr() -> BoxedStrategy<Ipv4> {
        any::<[u8; 4]>().prop_map(Ipv4::from_wire).boxed()
    }
}

impl Draw for V6 {
    fn addr() -> BoxedStrategy<Ipv6> {
        any::<[u8; 16]>().prop_map(Ipv6::from_wire).boxed()
    }
}

/// Any port.
pub fn port() -> impl Strategy<Value = Be16> {
    any::<u16>().prop_map(Be16::new)
}

/// Any MAC.
pub fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac::from_wire)
}

/// The protocols that netbpf knows, and others.
pub fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![
        Just(proto::TCP),
        Just(proto::UDP),
        Just(proto::ICMP),
        Just(proto::ICMPV6),
        any::<u8>(),
    ]
}

/// The tuple of a packet: an ICMP echo has its identifier in both places.
pub fn tuple<F: Draw>() -> impl Strategy<Value = Tuple<F>> {
    (F::addr(), F::addr(), port(), port(), protocol()).prop_map(
        |(src_addr, dst_addr, src_port, dst_port, proto)| Tuple {
            src_addr,
            dst_addr,
            src_port,
            dst_port: if proto == F::ICMP { src_port } else { dst_port },
            proto,
            ..Tuple::default()
        },
    )
}

/// Any state.
pub fn state() -> impl Strategy<Value = State> {
    prop::sample::select(State::ALL.as_slice())
}

/// Either direction.
pub fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Original), Just(Direction::Reply)]
}

/// The host, the outside, or a container.
pub fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::HOST), Just(End::OUTSIDE), container()]
}

fn container() -> impl Strategy<Value = End> {
    (1..origin::OUTSIDE, 1_u32.., mac(), mac(), any::<u16>()).prop_map(
        |(ifindex, endpoint, mac, gateway_mac, mtu)| End {
            way: way::CONTAINER,
            ifindex,
            endpoint,
            mac,
            gateway_mac,
            mtu,
        },
    )
}

/// A flow that nothing translates, or whose source, destination or both are translated.
pub fn flow<F: Draw>() -> impl Strategy<Value = NewFlow<F>> {
    let source = prop::option::of((F::addr(), port()));
    let destination = prop::option::of((F::addr(), port()));
    (
        (tuple::<F>(), source, destination),
        (state(), end(), end()),
        (any::<u32>(), any::<u32>(), any::<u32>(), 0..=1_u8),
    )
        .prop_map(|((tuple, source, destination), (state, from, to), rest)| {
            let mut flow = NewFlow::default();
            flow.begin(&tuple, state, from, to);
            if let Some((addr, port)) = destination.filter(|_| !tuple.is_icmp()) {
                flow.translated = flow.translated.with_destination(addr, port);
            }
            if let Some((addr, port)) = source {
                flow.translated = flow.translated.with_source(addr, port);
            }
            (
                flow.mapping,
                flow.via_ifindex,
                flow.ingress_ifindex,
                flow.routed,
            ) = rest;
            flow
        })
}
