//! The maps of which each family has its own, and the ways to use them.

#![expect(
    unsafe_code,
    reason = "map values are raw kernel memory; the ways to them stand here"
)]

use aya_ebpf::{bindings::BPF_NOEXIST, btf_maps::lpm_trie::Key};
use netbpf_common::{
    conntrack::{Entry, NewFlow},
    endpoint::{Endpoint, HostAddress},
    family::{Family, V4, V6},
    nat::{PortKey, PublishTarget},
    packet::Packet,
    senders::{SCOPE_BITS, ScopedAddr},
    service::Service,
    tuple::Tuple,
};

use super::{
    declared::*,
    half::Half,
    rooms::{Place, RoomsRef},
};
use crate::{
    fragment::{FragmentKey, FragmentPorts},
    way::KnownWay,
};

/// A family's own maps.
pub trait Tables: Family {
    /// A half of a flow, by its key.
    fn half(key: &Tuple<Self>) -> Option<Half<Self>>;
    /// Puts a half under its key unless there is one.
    fn insert_half(key: &Tuple<Self>, entry: &Entry<Self>) -> bool;
    /// Takes a half away; whether it was there.
    fn remove_half(key: &Tuple<Self>) -> bool;
    /// A place of the half-open ring.
    fn half_open_at(place: u32) -> Option<Place<Self>>;
    /// The key at a place of the flows' ring.
    fn flow_at(slot: u32) -> Option<Tuple<Self>>;
    /// Takes the key away from a place of the flows' ring.
    fn clear_flow(slot: u32);
    /// Marks a place of the flows' ring in the key that it has, or takes the mark off.
    fn mark_flow(slot: u32, mark: u16);
    /// Puts a key at a place of the flows' ring.
    fn set_flow(slot: u32, key: &Tuple<Self>) -> bool;
    /// A place of the flows' ring that was given back.
    fn take_free_slot() -> Option<u32>;
    /// Gives a place of the flows' ring back.
    fn give_free_slot(slot: u32);
    /// Cursors and counts.
    fn rooms() -> Option<RoomsRef>;
    /// The container end with this address.
    fn endpoint(addr: &Self::Addr) -> Option<&'static Endpoint>;
    /// The id of the network in whose subnet the address lies.
    fn subnet(addr: &Self::Addr) -> Option<u32>;
    /// What the host has this address for, if it has it.
    fn host_address(addr: &Self::Addr) -> Option<&'static HostAddress>;
    /// Where a published port leads.
    fn published(key: &PortKey<Self>) -> Option<&'static PublishTarget<Self>>;
    /// What the lists of a mapping say about a source.
    fn listed(source: &ScopedAddr<Self>) -> Option<u32>;
    /// Whether a network trusts a source.
    fn is_trusted_source(source: &ScopedAddr<Self>) -> bool;
    /// A service port's backends.
    fn service(key: &PortKey<Self>) -> Option<&'static Service<Self>>;
    /// The ports of a datagram, by its first fragment.
    fn fragment_ports(key: &FragmentKey<Self>) -> Option<FragmentPorts>;
    /// Leaves the ports of a first fragment for the later ones.
    fn set_fragment_ports(key: &FragmentKey<Self>, ports: FragmentPorts);
    /// This CPU's packet in work.
    fn packet() -> Option<&'static mut Packet<Self>>;
    /// This CPU's flow that is being made.
    fn draft() -> Option<&'static mut NewFlow<Self>>;
    /// The key of this CPU's half that is being put in.
    fn key() -> Option<&'static mut Tuple<Self>>;
    /// This CPU's half that is being put in.
    fn entry() -> Option<&'static mut Entry<Self>>;
    /// What this CPU remembers of a way out.
    fn known_way(index: u32) -> Option<&'static mut KnownWay<Self>>;
}

macro_rules! tables {
    (
        $family:ident, $conntrack:ident, $half_open:ident, $flows:ident, $free_slots:ident,
        $rooms:ident, $endpoints:ident, $subnets:ident, $host_addresses:ident, $published:ident,
        $sources:ident, $trusted_sources:ident, $services:ident, $fragments:ident, $packet:ident, $draft:ident,
        $key:ident, $entry:ident, $ways:ident
    ) => {
        impl Tables for $family {
            #[inline(always)]
            fn half(key: &Tuple<Self>) -> Option<Half<Self>> {
                $conntrack.get_ptr_mut(key).map(Half)
            }

            #[inline(always)]
            fn insert_half(key: &Tuple<Self>, entry: &Entry<Self>) -> bool {
                $conntrack
                    .insert(key, entry, u64::from(BPF_NOEXIST))
                    .is_ok()
            }

            #[inline(always)]
            fn remove_half(key: &Tuple<Self>) -> bool {
                $conntrack.remove(key).is_ok()
            }

            #[inline(always)]
            fn half_open_at(place: u32) -> Option<Place<Self>> {
                $half_open.get_ptr_mut(place).map(Place)
            }

            #[inline(always)]
            fn flow_at(slot: u32) -> Option<Tuple<Self>> {
                $flows.get(slot).copied()
            }

            #[inline(always)]
            fn clear_flow(slot: u32) {
                if let Some(key) = $flows.get_ptr_mut(slot) {
                    // SAFETY: an array's value, alive with the program, and nobody else's while
                    // the place is between two flows.
                    unsafe { *key = Tuple::default() }
                }
            }

            #[inline(always)]
            fn mark_flow(slot: u32, mark: u16) {
                if let Some(key) = $flows.get_ptr_mut(slot) {
                    // SAFETY: an array's value, alive with the program, and the field is aligned;
                    // whoever takes the place anew writes over the mark with its key.
                    unsafe { (&raw mut (*key).pad2).write_volatile(mark) }
                }
            }

            #[inline(always)]
            fn set_flow(slot: u32, key: &Tuple<Self>) -> bool {
                $flows.set(slot, key, 0).is_ok()
            }

            #[inline(always)]
            fn take_free_slot() -> Option<u32> {
                $free_slots.pop().ok().flatten()
            }

            #[inline(always)]
            fn give_free_slot(slot: u32) {
                // The queue has a place for every slot, so that this can't fail.
                let _ = $free_slots.push(slot, 0);
            }

            #[inline(always)]
            fn rooms() -> Option<RoomsRef> {
                $rooms.get_ptr_mut(0).map(RoomsRef)
            }

            #[inline(always)]
            fn endpoint(addr: &Self::Addr) -> Option<&'static Endpoint> {
                // SAFETY: see `interface`; so in the getters below.
                unsafe { $endpoints.get(addr) }
            }

            #[inline(always)]
            fn subnet(addr: &Self::Addr) -> Option<u32> {
                $subnets.get(&Key::new(Self::ADDR_BITS, *addr)).copied()
            }

            #[inline(always)]
            fn host_address(addr: &Self::Addr) -> Option<&'static HostAddress> {
                // SAFETY: see `endpoint`.
                unsafe { $host_addresses.get(addr) }
            }

            #[inline(always)]
            fn published(key: &PortKey<Self>) -> Option<&'static PublishTarget<Self>> {
                // SAFETY: see `endpoint`.
                unsafe { $published.get(key) }
            }

            #[inline(always)]
            fn listed(source: &ScopedAddr<Self>) -> Option<u32> {
                $sources
                    .get(&Key::new(SCOPE_BITS + Self::ADDR_BITS, *source))
                    .copied()
            }

            #[inline(always)]
            fn is_trusted_source(source: &ScopedAddr<Self>) -> bool {
                $trusted_sources
                    .get(&Key::new(SCOPE_BITS + Self::ADDR_BITS, *source))
                    .is_some()
            }

            #[inline(always)]
            fn service(key: &PortKey<Self>) -> Option<&'static Service<Self>> {
                // SAFETY: see `endpoint`.
                unsafe { $services.get(key) }
            }

            #[inline(always)]
            fn fragment_ports(key: &FragmentKey<Self>) -> Option<FragmentPorts> {
                // SAFETY: the value is one word, copied at once.
                unsafe { $fragments.get(key) }.copied()
            }

            #[inline(always)]
            fn set_fragment_ports(key: &FragmentKey<Self>, ports: FragmentPorts) {
                // An LRU map makes room by itself; where it can't, the later fragments are
                // counted as dropped.
                let _ = $fragments.insert(key, ports, 0);
            }

            #[inline(always)]
            fn packet() -> Option<&'static mut Packet<Self>> {
                // SAFETY: this CPU's own, and nobody else uses it during this run; a caller that
                // asks again has let go of what it had. So below.
                $packet.get_ptr_mut(0).map(|packet| unsafe { &mut *packet })
            }

            #[inline(always)]
            fn draft() -> Option<&'static mut NewFlow<Self>> {
                // SAFETY: see `packet`.
                $draft.get_ptr_mut(0).map(|draft| unsafe { &mut *draft })
            }

            #[inline(always)]
            fn key() -> Option<&'static mut Tuple<Self>> {
                // SAFETY: see `packet`.
                $key.get_ptr_mut(0).map(|key| unsafe { &mut *key })
            }

            #[inline(always)]
            fn entry() -> Option<&'static mut Entry<Self>> {
                // SAFETY: see `packet`.
                $entry.get_ptr_mut(0).map(|entry| unsafe { &mut *entry })
            }

            #[inline(always)]
            fn known_way(index: u32) -> Option<&'static mut KnownWay<Self>> {
                // SAFETY: see `packet`.
                $ways.get_ptr_mut(index).map(|way| unsafe { &mut *way })
            }
        }
    };
}

tables!(
    V4,
    CONNTRACK_V4,
    HALF_OPEN_V4,
    FLOWS_V4,
    FREE_SLOTS_V4,
    ROOMS_V4,
    ENDPOINTS_V4,
    SUBNETS_V4,
    HOST_ADDRESSES_V4,
    PUBLISHED_V4,
    SOURCES_V4,
    TRUSTED_SOURCES_V4,
    SERVICES_V4,
    FRAGMENTS_V4,
    PACKET_V4,
    DRAFT_V4,
    KEY_V4,
    ENTRY_V4,
    WAYS_V4
);
tables!(
    V6,
    CONNTRACK_V6,
    HALF_OPEN_V6,
    FLOWS_V6,
    FREE_SLOTS_V6,
    ROOMS_V6,
    ENDPOINTS_V6,
    SUBNETS_V6,
    HOST_ADDRESSES_V6,
    PUBLISHED_V6,
    SOURCES_V6,
    TRUSTED_SOURCES_V6,
    SERVICES_V6,
    FRAGMENTS_V6,
    PACKET_V6,
    DRAFT_V6,
    KEY_V6,
    ENTRY_V6,
    WAYS_V6
);
