//! The layout of everything that loader and programs share, as it stands in pinned maps.

use core::mem::offset_of;

use crate::{
    config::{ABI_VERSION, GlobalConfig},
    conntrack::{Entry, HalfOpenPlace, Rooms, State, Timeouts, entry_flags, origin, way},
    endpoint::{
        Endpoint, HostAddress, Interface, MacKey, Network, host_address_flags, interface_flags,
        network_flags, role,
    },
    family::{V4, V6},
    nat::{MappingKey, PortKey, PublishTarget, mapping_flags, target_flags},
    senders::{LinkKey, SCOPE_BITS, ScopedAddr, TrustedInterface, listed},
    service::{Backend, MAX_BACKENDS, Service},
    socket::{Asked, Peer, SocketKey},
    tuple::Tuple,
    verdict::{COUNTERS_PER_HOOK, Counter, Hook},
    wire::{Be16, Ipv4, Ipv6, Mac},
};

/// The version whose layout is written down here.
const VERSION: u32 = 1;

const BUMP: &str =
    "a shared layout changed: raise ABI_VERSION, then write the new layout down here";

/// Asserts a struct's size and the offset of each of its fields; all fields must be named.
macro_rules! layout {
    ($type:ty: $size:literal { $($field:ident @ $offset:literal),+ $(,)? }) => {{
        // Names every field: one that is new does not compile.
        fn _all_fields(value: &$type) {
            type Shared = $type;
            let Shared { $($field: _),+ } = value;
        }
        assert_eq!(size_of::<$type>(), $size, "size of {}: {BUMP}", stringify!($type));
        $(assert_eq!(
            offset_of!($type, $field),
            $offset,
            "offset of {}.{}: {BUMP}",
            stringify!($type),
            stringify!($field),
        );)+
    }};
}

#[test]
fn the_layout_written_down_is_that_of_this_version() {
    assert_eq!(
        ABI_VERSION, VERSION,
        "write the new version's layout down here"
    );
}

#[test]
fn wire_values_have_the_size_of_their_bytes() {
    assert_eq!(size_of::<Be16>(), 2, "{BUMP}");
    assert_eq!(size_of::<Ipv4>(), 4, "{BUMP}");
    assert_eq!(size_of::<Ipv6>(), 16, "{BUMP}");
    assert_eq!(size_of::<Mac>(), 6, "{BUMP}");
}

#[test]
fn config_keeps_its_layout() {
    layout!(GlobalConfig: 56 {
        abi_version @ 0, generation @ 4, timeouts @ 8, max_flows @ 32, max_half_open @ 36,
        netns_cookie @ 40, flags @ 48, pad @ 52,
    });
    layout!(Timeouts: 24 {
        established @ 0, half_open @ 4, closing @ 8, udp @ 12, udp_stream @ 16, icmp @ 20,
    });
}

#[test]
fn conntrack_keeps_its_layout() {
    layout!(Tuple<V4>: 16 {
        src_addr @ 0, dst_addr @ 4, src_port @ 8, dst_port @ 10, proto @ 12, pad @ 13, pad2 @ 14,
    });
    layout!(Tuple<V6>: 40 {
        src_addr @ 0, dst_addr @ 16, src_port @ 32, dst_port @ 34, proto @ 36, pad @ 37, pad2 @ 38,
    });
    layout!(Entry<V4>: 96 {
        packets @ 0, bytes @ 8, last_seen @ 16, created @ 20, generation @ 24, state @ 28,
        flags @ 29, way @ 30, promoted @ 31, slot @ 32, in_ifindex @ 36, out_ifindex @ 40,
        in_endpoint @ 44, out_endpoint @ 48, mapping @ 52, in_mac @ 56, out_dst_mac @ 62,
        out_src_mac @ 68, mtu @ 74, translated @ 76, via_ifindex @ 92,
    });
    layout!(Entry<V6>: 120 {
        packets @ 0, bytes @ 8, last_seen @ 16, created @ 20, generation @ 24, state @ 28,
        flags @ 29, way @ 30, promoted @ 31, slot @ 32, in_ifindex @ 36, out_ifindex @ 40,
        in_endpoint @ 44, out_endpoint @ 48, mapping @ 52, in_mac @ 56, out_dst_mac @ 62,
        out_src_mac @ 68, mtu @ 74, translated @ 76, via_ifindex @ 116,
    });
    layout!(HalfOpenPlace<V4>: 24 { tenant @ 0, key @ 8 });
    layout!(HalfOpenPlace<V6>: 48 { tenant @ 0, key @ 8 });
    layout!(Rooms: 40 {
        half_open_next @ 0, flows_high_water @ 8, flows @ 16, sweep_flows @ 24,
        sweep_half_open @ 32,
    });
}

#[test]
fn endpoints_keep_their_layout() {
    layout!(Interface: 40 {
        role @ 0, flags @ 1, mac @ 2, network @ 8, endpoint @ 12, container @ 16,
        address_v4 @ 20, address_v6 @ 24,
    });
    layout!(Network: 40 {
        flags @ 0, bridge_ifindex @ 4, bridge_mac @ 8, pad @ 14, gateway_v4 @ 16, gateway_v6 @ 20,
        mtu @ 36,
    });
    layout!(Endpoint: 20 { id @ 0, network @ 4, ifindex @ 8, mac @ 12, pad @ 18 });
    layout!(MacKey: 12 { network @ 0, mac @ 4, pad @ 10 });
    layout!(HostAddress: 8 { flags @ 0, network @ 4 });
}

#[test]
fn mappings_keep_their_layout() {
    layout!(PortKey<V4>: 8 { addr @ 0, port @ 4, proto @ 6, pad @ 7 });
    layout!(PortKey<V6>: 20 { addr @ 0, port @ 16, proto @ 18, pad @ 19 });
    layout!(PublishTarget<V4>: 16 { addr @ 0, port @ 4, flags @ 6, mapping @ 8, endpoint @ 12 });
    layout!(PublishTarget<V6>: 28 {
        addr @ 0, port @ 16, flags @ 18, mapping @ 20, endpoint @ 24,
    });
    layout!(MappingKey: 8 { mapping @ 0, endpoint @ 4 });
}

#[test]
fn senders_keep_their_layout() {
    assert_eq!(SCOPE_BITS, 32, "{BUMP}");
    layout!(ScopedAddr<V4>: 8 { scope @ 0, addr @ 4 });
    layout!(ScopedAddr<V6>: 20 { scope @ 0, addr @ 4 });
    layout!(TrustedInterface: 8 { network @ 0, ifindex @ 4 });
    layout!(LinkKey: 12 { from_endpoint @ 0, to_endpoint @ 4, port @ 8, proto @ 10, pad @ 11 });
}

#[test]
fn services_keep_their_layout() {
    assert_eq!(MAX_BACKENDS, 128, "{BUMP}");
    layout!(Backend<V4>: 12 { addr @ 0, port @ 4, pad @ 6, endpoint @ 8 });
    layout!(Backend<V6>: 24 { addr @ 0, port @ 16, pad @ 18, endpoint @ 20 });
    layout!(Service<V4>: 1544 { mapping @ 0, count @ 4, backends @ 8 });
    layout!(Service<V6>: 3080 { mapping @ 0, count @ 4, backends @ 8 });
}

#[test]
fn what_sockets_asked_for_keeps_its_layout() {
    layout!(Peer: 20 { addr @ 0, port @ 16, pad @ 18 });
    layout!(Asked: 48 { asked @ 0, led_to @ 20, mapping @ 40, endpoint @ 44 });
    layout!(SocketKey: 32 { cookie @ 0, led_to @ 8, pad @ 28 });
}

#[test]
fn counters_keep_their_layout() {
    layout!(Counter: 16 { packets @ 0, bytes @ 8 });
    assert_eq!(Hook::ALL.len(), 14, "{BUMP}");
    assert_eq!(COUNTERS_PER_HOOK, 39, "{BUMP}");
}

#[test]
fn numbers_in_shared_fields_keep_their_meaning() {
    assert_eq!(
        State::ALL.map(|state| state as u8),
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        "{BUMP}"
    );
    assert_eq!(
        [way::HOST, way::CONTAINER, way::OUTSIDE, way::LOCAL],
        [1, 2, 3, 4],
        "{BUMP}"
    );
    assert_eq!([origin::HOST, origin::OUTSIDE], [0, u32::MAX], "{BUMP}");
    assert_eq!(
        [role::CONTAINER, role::BRIDGE, role::UPLINK, role::LOOPBACK],
        [1, 2, 3, 4],
        "{BUMP}"
    );
    assert_eq!(
        [host_address_flags::VIP, host_address_flags::GATEWAY],
        [1, 2],
        "{BUMP}"
    );
    let entry = [
        entry_flags::REPLY,
        entry_flags::REWRITE,
        entry_flags::ROUTED,
        entry_flags::LOCAL,
    ];
    assert_eq!(entry, [1, 2, 4, 8], "{BUMP}");
    assert_eq!(
        [target_flags::LISTED, target_flags::ALSO_V6],
        [1, 2],
        "{BUMP}"
    );
    let network = [
        network_flags::ICC,
        network_flags::INTERNAL,
        network_flags::MASQUERADE_V4,
        network_flags::MASQUERADE_V6,
        network_flags::UNPROTECTED_V4,
        network_flags::UNPROTECTED_V6,
        network_flags::ROUTED_V4,
        network_flags::ROUTED_V6,
        network_flags::TRUSTED,
    ];
    assert_eq!(network, [1, 2, 4, 8, 16, 32, 64, 128, 256], "{BUMP}");
    let mapping = [
        mapping_flags::STANDS_V4,
        mapping_flags::LISTED,
        mapping_flags::HAS_ALLOW,
        mapping_flags::STANDS_V6,
    ];
    assert_eq!(mapping, [1, 2, 4, 8], "{BUMP}");
    assert_eq!([listed::ALLOW, listed::DENY], [1, 2], "{BUMP}");
    assert_eq!(interface_flags::SOURCE_UNCHECKED, 1, "{BUMP}");
}
