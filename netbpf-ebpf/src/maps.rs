//! Every map: key, value, size, who writes it; and the few ways to use them. No other file
//! declares a map or holds a pointer into one by itself.
//!
//! The sizes here are what the loader gets unless it asks for others; those of the flow table come
//! from the config. "Loader" means that programs only read.

#![expect(
    unsafe_code,
    reason = "map values are raw kernel memory; the ways to them stand here"
)]

use core::{ffi::c_void, ops::Deref};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, Queue, SkStorage, lpm_trie::Key},
    macros::btf_map,
};
use netbpf_common::{
    config::{FLAGS_OF_FLOW_TABLES, GlobalConfig},
    conntrack::{Entry, HalfOpenPlace, NewFlow, Rooms, State, Tick, Timeouts, promoted, way},
    endpoint::{Endpoint, HostAddress, Interface, MacKey, Network},
    family::{Family, V4, V6},
    nat::{HELD_PORTS_LEN, MappingKey, PortKey, PublishTarget, RESERVED_WORDS, port_index},
    packet::Packet,
    senders::{LinkKey, SCOPE_BITS, ScopedAddr, TrustedInterface},
    service::Service,
    socket::{Asked, SocketKey},
    tuple::Tuple,
    verdict::{self, Counter, DropReason, Hook},
    wire::{Ipv4, Ipv6},
};

use crate::{
    atomic,
    fragment::{FragmentKey, FragmentPorts},
    sweep::SweepTimer,
    way::{KNOWN_WAYS, KnownWay},
};

/// `BPF_F_NO_PREALLOC`: memory grows with what is in the map.
const SPARSE: usize = 1;

/// Where the loader puts in whether the flow tables have their memory from the beginning. No kernel
/// takes it as it stands here.
const MEMORY: usize = FLAGS_OF_FLOW_TABLES as usize;

/// What holds for all programs. Loader.
#[btf_map]
pub static CONFIG: Array<GlobalConfig, 1> = Array::new();

/// ifindex → what the interface is. Loader.
#[btf_map]
pub static INTERFACES: HashMap<u32, Interface, 16384, SPARSE> = HashMap::new();

/// Network id → network. Loader.
#[btf_map]
pub static NETWORKS: HashMap<u32, Network, 4096, SPARSE> = HashMap::new();

/// Container address → container end. Loader.
#[btf_map]
pub static ENDPOINTS_V4: HashMap<Ipv4, Endpoint, 16384, SPARSE> = HashMap::new();

/// As `ENDPOINTS_V4`.
#[btf_map]
pub static ENDPOINTS_V6: HashMap<Ipv6, Endpoint, 16384, SPARSE> = HashMap::new();

/// Network and MAC → container end. Loader.
#[btf_map]
pub static ENDPOINTS_BY_MAC: HashMap<MacKey, Endpoint, 16384, SPARSE> = HashMap::new();

/// Container subnets → network id. Loader.
#[btf_map]
pub static SUBNETS_V4: LpmTrie<Ipv4, u32, 4096> = LpmTrie::new();

/// As `SUBNETS_V4`.
#[btf_map]
pub static SUBNETS_V6: LpmTrie<Ipv6, u32, 4096> = LpmTrie::new();

/// The host's own addresses, gateway addresses and VIPs among them. Loader.
#[btf_map]
pub static HOST_ADDRESSES_V4: HashMap<Ipv4, HostAddress, 16384, SPARSE> = HashMap::new();

/// As `HOST_ADDRESSES_V4`.
#[btf_map]
pub static HOST_ADDRESSES_V6: HashMap<Ipv6, HostAddress, 16384, SPARSE> = HashMap::new();

/// Host address and port → container. Loader.
#[btf_map]
pub static PUBLISHED_V4: HashMap<PortKey<V4>, PublishTarget<V4>, 131_072, SPARSE> = HashMap::new();

/// As `PUBLISHED_V4`.
#[btf_map]
pub static PUBLISHED_V6: HashMap<PortKey<V6>, PublishTarget<V6>, 131_072, SPARSE> = HashMap::new();

/// VIP and port → backends. Loader.
#[btf_map]
pub static SERVICES_V4: HashMap<PortKey<V4>, Service<V4>, 4096, SPARSE> = HashMap::new();

/// As `SERVICES_V4`.
#[btf_map]
pub static SERVICES_V6: HashMap<PortKey<V6>, Service<V6>, 4096, SPARSE> = HashMap::new();

/// Mapping and prefix → whether these sources may come: `senders::listed`. Loader.
#[btf_map]
pub static SOURCES_V4: LpmTrie<ScopedAddr<V4>, u32, 65536> = LpmTrie::new();

/// As `SOURCES_V4`.
#[btf_map]
pub static SOURCES_V6: LpmTrie<ScopedAddr<V6>, u32, 65536> = LpmTrie::new();

/// Network and interface by which trusted senders come. Loader.
#[btf_map]
pub static TRUSTED_INTERFACES: HashMap<TrustedInterface, u32, 16384, SPARSE> = HashMap::new();

/// Network and prefix of trusted senders. Loader.
#[btf_map]
pub static TRUSTED_SOURCES_V4: LpmTrie<ScopedAddr<V4>, u32, 4096> = LpmTrie::new();

/// As `TRUSTED_SOURCES_V4`.
#[btf_map]
pub static TRUSTED_SOURCES_V6: LpmTrie<ScopedAddr<V6>, u32, 4096> = LpmTrie::new();

/// Which container reaches which port of another one though they can't talk otherwise. Loader.
#[btf_map]
pub static LINKS: HashMap<LinkKey, u32, 65536, SPARSE> = HashMap::new();

/// Which mapping leads to which endpoint, and whether it has lists: `nat::mapping_flags`. Loader.
#[btf_map]
pub static MAPPINGS: HashMap<MappingKey, u32, 262_144, SPARSE> = HashMap::new();

/// The host's ports that masquerade must not take: `nat::reserved_bit`. Loader.
#[btf_map]
pub static RESERVED_PORTS: Array<u64, { RESERVED_WORDS as usize }> = Array::new();

/// How many flows have a port of the host's for their own, by masquerade or because masquerade has
/// it: `nat::port_index`. Programs.
#[btf_map]
pub static HELD_PORTS: Array<u64, { HELD_PORTS_LEN as usize }> = Array::new();

/// The flow table. Programs.
#[btf_map]
pub static CONNTRACK_V4: HashMap<Tuple<V4>, Entry<V4>, 655_360, MEMORY> = HashMap::new();

/// As `CONNTRACK_V4`.
#[btf_map]
pub static CONNTRACK_V6: HashMap<Tuple<V6>, Entry<V6>, 655_360, MEMORY> = HashMap::new();

/// The ring of half-open flows; the oldest gives way. Programs.
#[btf_map]
pub static HALF_OPEN_V4: Array<HalfOpenPlace<V4>, 65536> = Array::new();

/// As `HALF_OPEN_V4`.
#[btf_map]
pub static HALF_OPEN_V6: Array<HalfOpenPlace<V6>, 65536> = Array::new();

/// The places of all other flows, by their original tuple. Programs.
#[btf_map]
pub static FLOWS_V4: Array<Tuple<V4>, 262_144> = Array::new();

/// As `FLOWS_V4`.
#[btf_map]
pub static FLOWS_V6: Array<Tuple<V6>, 262_144> = Array::new();

/// Freed places of `FLOWS_V4`. Programs.
#[btf_map]
pub static FREE_SLOTS_V4: Queue<u32, 262_144> = Queue::new();

/// Freed places of `FLOWS_V6`. Programs.
#[btf_map]
pub static FREE_SLOTS_V6: Queue<u32, 262_144> = Queue::new();

/// Counts and cursors of the rooms. Programs.
#[btf_map]
pub static ROOMS_V4: Array<Rooms, 1> = Array::new();

/// As `ROOMS_V4`.
#[btf_map]
pub static ROOMS_V6: Array<Rooms, 1> = Array::new();

/// The ports of datagrams whose first fragment was seen. Programs.
#[btf_map]
pub static FRAGMENTS_V4: LruHashMap<FragmentKey<V4>, FragmentPorts, 8192> = LruHashMap::new();

/// As `FRAGMENTS_V4`.
#[btf_map]
pub static FRAGMENTS_V6: LruHashMap<FragmentKey<V6>, FragmentPorts, 8192> = LruHashMap::new();

/// Drops and ways through the stack: `verdict::drop_counter`, `verdict::stack_counter`. Programs.
#[btf_map]
pub static COUNTERS: PerCpuArray<Counter, { verdict::COUNTERS as usize }> = PerCpuArray::new();

/// What a socket of the host's that was connected by a mapping asked for. Programs.
#[btf_map]
pub static SOCKETS: SkStorage<Asked> = SkStorage::new();

/// What a socket of the host's asked for that names an address with each datagram. Programs.
#[btf_map]
pub static ASKED: LruHashMap<SocketKey, Asked, 65536> = LruHashMap::new();

/// The packet in work. Room for what an eBPF stack of 512 bytes has none for: a program of the TC
/// hooks runs to its end before another one starts on the same CPU, so that each has it for
/// itself. Programs.
#[btf_map]
pub static PACKET_V4: PerCpuArray<Packet<V4>, 1> = PerCpuArray::new();

/// As `PACKET_V4`.
#[btf_map]
pub static PACKET_V6: PerCpuArray<Packet<V6>, 1> = PerCpuArray::new();

/// The flow that is being made. Programs.
#[btf_map]
pub static DRAFT_V4: PerCpuArray<NewFlow<V4>, 1> = PerCpuArray::new();

/// As `DRAFT_V4`.
#[btf_map]
pub static DRAFT_V6: PerCpuArray<NewFlow<V6>, 1> = PerCpuArray::new();

/// The key of the half that is being put in or looked for. Programs.
#[btf_map]
pub static KEY_V4: PerCpuArray<Tuple<V4>, 1> = PerCpuArray::new();

/// As `KEY_V4`.
#[btf_map]
pub static KEY_V6: PerCpuArray<Tuple<V6>, 1> = PerCpuArray::new();

/// The half that is being put in, or would be. Programs.
#[btf_map]
pub static ENTRY_V4: PerCpuArray<Entry<V4>, 1> = PerCpuArray::new();

/// As `ENTRY_V4`.
#[btf_map]
pub static ENTRY_V6: PerCpuArray<Entry<V6>, 1> = PerCpuArray::new();

/// Ways out of the host that were asked for just now. Programs.
#[btf_map]
pub static WAYS_V4: PerCpuArray<KnownWay<V4>, { KNOWN_WAYS as usize }> = PerCpuArray::new();

/// As `WAYS_V4`.
#[btf_map]
pub static WAYS_V6: PerCpuArray<KnownWay<V6>, { KNOWN_WAYS as usize }> = PerCpuArray::new();

/// How many ICMP errors of our own this CPU may still send. Programs.
#[btf_map]
pub static ANSWERS: PerCpuArray<Answers, 1> = PerCpuArray::new();

/// A CPU's budget of ICMP errors.
#[repr(C)]
pub struct Answers {
    /// The tick for which it holds.
    tick: Tick,
    /// How many were sent in it.
    sent: u32,
}

/// How many ICMP errors a CPU may send in a tick: about a thousand a second, as the kernel's
/// `icmp_msgs_per_sec`.
const ANSWERS_PER_TICK: u32 = 134;

/// Whether this CPU may send one more ICMP error.
#[inline(always)]
pub fn may_tell(now: Tick) -> bool {
    let Some(answers) = ANSWERS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own, see `count`.
    let answers = unsafe { &mut *answers };
    if answers.tick != now {
        answers.tick = now;
        answers.sent = 0;
    }
    answers.sent += 1;
    answers.sent <= ANSWERS_PER_TICK
}

/// The timer of the sweep. Programs.
#[btf_map]
pub static SWEEP: Array<SweepTimer, 1> = Array::new();

/// The config, as the loader last wrote it.
#[inline(always)]
pub fn config() -> &'static GlobalConfig {
    CONFIG.get(0).unwrap_or(&NO_CONFIG)
}

/// For the verifier, to which the config might be missing.
static NO_CONFIG: GlobalConfig = GlobalConfig {
    abi_version: 0,
    generation: 0,
    timeouts: Timeouts {
        established: 0,
        half_open: 0,
        closing: 0,
        udp: 0,
        udp_stream: 0,
        icmp: 0,
    },
    max_flows: 0,
    max_half_open: 0,
    netns_cookie: 0,
    flags: 0,
    pad: 0,
};

/// The interface with this index.
#[inline(always)]
pub fn interface(ifindex: u32) -> Option<&'static Interface> {
    // SAFETY: the loader alone writes, and replaces whole values; the memory of an old one stays
    // readable until the end of this run (RCU), though another key's value may be in it by then:
    // one packet that races with a change can be judged by either. So in the getters below.
    unsafe { INTERFACES.get(ifindex) }
}

/// The network with this id.
#[inline(always)]
pub fn network(id: u32) -> Option<&'static Network> {
    // SAFETY: see `interface`.
    unsafe { NETWORKS.get(id) }
}

/// The container end with this MAC on a network.
#[inline(always)]
pub fn endpoint_by_mac(key: &MacKey) -> Option<&'static Endpoint> {
    // SAFETY: see `interface`.
    unsafe { ENDPOINTS_BY_MAC.get(key) }
}

/// Whether a mapping still leads to an endpoint in a family, whose flag this is:
/// [`Family::STANDS`].
#[inline(always)]
pub fn mapping_stands(key: &MappingKey, flag: u32) -> bool {
    mapping_flags(key).is_some_and(|flags| flags & flag != 0)
}

/// The flags of a mapping that still leads to an endpoint.
#[inline(always)]
pub fn mapping_flags(key: &MappingKey) -> Option<u32> {
    // SAFETY: see `interface`.
    unsafe { MAPPINGS.get(key) }.copied()
}

/// Whether a network trusts whoever comes by an interface.
#[inline(always)]
pub fn is_trusted_interface(key: &TrustedInterface) -> bool {
    // SAFETY: see `interface`.
    unsafe { TRUSTED_INTERFACES.get(key) }.is_some()
}

/// Whether a link opens a port.
#[inline(always)]
pub fn is_linked(key: &LinkKey) -> bool {
    // SAFETY: see `interface`.
    unsafe { LINKS.get(key) }.is_some()
}

/// Whether masquerade must leave a port alone.
#[inline(always)]
pub fn is_reserved(protocol: u8, port: u16) -> bool {
    let (word, bit) = netbpf_common::nat::reserved_bit(protocol, port);
    RESERVED_PORTS.get(word).is_some_and(|bits| bits & bit != 0)
}

/// Whether a flow may have this port of the host's for its own.
#[inline(always)]
pub fn is_held(protocol: u8, port: u16) -> bool {
    HELD_PORTS
        .get(port_index(protocol, port))
        .is_some_and(|count| *count != 0)
}

/// Counts a flow more, or less, that has a port of the host's for its own.
#[inline(always)]
pub fn hold(protocol: u8, port: u16, by: i64) {
    if let Some(count) = HELD_PORTS.get_ptr_mut(port_index(protocol, port)) {
        // SAFETY: an array's value, alive with the program.
        unsafe { atomic::add(count, by as u64) }
    }
}

/// Counts a packet on this CPU.
#[inline(always)]
pub fn count(index: u32, len: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's own slot, and TC programs of one CPU run one after the other.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += u64::from(len);
        }
    }
}

/// Counts a system call that a hook at a socket refused. Other than the hooks of packets, such a
/// program can lose its CPU to another one.
#[inline(always)]
pub fn count_call(hook: Hook, reason: DropReason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(verdict::drop_counter(hook, reason)) {
        // SAFETY: an array's value, alive with the program.
        unsafe { atomic::add(&raw mut (*counter).packets, 1) }
    }
}

/// [`SOCKETS`], for the helpers.
#[inline(always)]
pub fn sockets() -> *mut c_void {
    (&raw const SOCKETS).cast_mut().cast()
}

/// What a socket asked for that names an address with each datagram.
#[inline(always)]
pub fn asked(key: &SocketKey) -> Option<&'static Asked> {
    // SAFETY: see `interface`: an entry that was recycled is another socket's for the moment, and
    // what is read of it is compared with what is known of this one.
    unsafe { ASKED.get(key) }
}

/// Forgets what a socket asked for.
#[inline(always)]
pub fn forget_asked(key: &SocketKey) {
    // That there was nothing is as good.
    let _ = ASKED.remove(key);
}

/// Notes what a socket that talks to many asked for; whether there was room.
#[inline(always)]
pub fn set_asked(key: &SocketKey, asked: &Asked) -> bool {
    ASKED.insert(key, asked, 0).is_ok()
}

/// A half of a flow, in the table.
///
/// Other CPUs may write the same entry: what changes is written in one piece.
pub struct Half<F: Family>(*mut Entry<F>);

impl<F: Family> Clone for Half<F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Family> Copy for Half<F> {}

impl<F: Family> Deref for Half<F> {
    type Target = Entry<F>;

    #[inline(always)]
    fn deref(&self) -> &Entry<F> {
        // SAFETY: the pointer came from a lookup in this run.
        unsafe { &*self.0 }
    }
}

impl<F: Family> Half<F> {
    /// Counts a packet and notes the time, if it is another one.
    #[inline(always)]
    pub fn touch(self, len: u32, now: Tick) {
        // SAFETY: see `deref`; the fields are aligned.
        unsafe {
            atomic::add(&raw mut (*self.0).packets, 1);
            atomic::add(&raw mut (*self.0).bytes, u64::from(len));
            if (*self.0).last_seen != now {
                (&raw mut (*self.0).last_seen).write_volatile(now);
            }
        }
    }

    /// Sets the state of this half.
    #[inline(always)]
    pub fn set_state(self, state: State) {
        // SAFETY: see `deref`.
        unsafe { (&raw mut (*self.0).state).write_volatile(state as u8) }
    }

    /// Claims the flow's way out of the half-open room, for one CPU alone; whether this one got
    /// it. To be asked of the original half.
    #[inline(always)]
    pub fn claim_promotion(self) -> bool {
        // `generation`, `state`, `flags`, `way` and `promoted` are one aligned word.
        const CLAIMED: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, promoted::CLAIMED]);
        const _: () = assert!(core::mem::offset_of!(Entry<V6>, generation) == 24);
        const _: () = assert!(core::mem::offset_of!(Entry<V6>, promoted) == 31);
        // SAFETY: see `deref`; only the bit of `promoted` changes.
        let before = unsafe { atomic::fetch_or((&raw mut (*self.0).generation).cast(), CLAIMED) };
        before & CLAIMED == 0
    }

    /// Sets the place of this half.
    #[inline(always)]
    pub fn set_slot(self, slot: u32) {
        // SAFETY: see `deref`.
        unsafe { (&raw mut (*self.0).slot).write_volatile(slot) }
    }

    /// Notes in this half that the flow has left the half-open room, once its place is set.
    #[inline(always)]
    pub fn set_promoted(self) {
        // SAFETY: see `deref`.
        unsafe { (&raw mut (*self.0).promoted).write_volatile(promoted::DONE) }
    }

    /// Begins the flow anew in this half; which interface to the outside is hooked, it asks anew.
    #[inline(always)]
    pub fn begin_again(self, state: u8, generation: u32, now: Tick) {
        // SAFETY: see `deref`.
        unsafe {
            (&raw mut (*self.0).packets).write_volatile(0);
            (&raw mut (*self.0).bytes).write_volatile(0);
            (&raw mut (*self.0).last_seen).write_volatile(now);
            (&raw mut (*self.0).created).write_volatile(now);
            (&raw mut (*self.0).generation).write_volatile(generation);
            if (*self.0).way == way::OUTSIDE {
                (&raw mut (*self.0).out_ifindex).write_volatile(0);
            }
            (&raw mut (*self.0).state).write_volatile(state);
        }
    }

    /// Notes that policy agreed in `generation`.
    #[inline(always)]
    pub fn set_generation(self, generation: u32) {
        // SAFETY: see `deref`.
        unsafe { (&raw mut (*self.0).generation).write_volatile(generation) }
    }

    /// Sets the MTU of the network to which this half leads.
    #[inline(always)]
    pub fn set_mtu(self, mtu: u16) {
        // SAFETY: see `deref`.
        unsafe { (&raw mut (*self.0).mtu).write_volatile(mtu) }
    }

    /// Notes the interface to the outside that was last found to be hooked.
    #[inline(always)]
    pub fn set_out_ifindex(self, ifindex: u32) {
        // SAFETY: see `deref`.
        unsafe { (&raw mut (*self.0).out_ifindex).write_volatile(ifindex) }
    }
}

/// A place of the half-open ring.
///
/// Who has it changes in one step; the key follows, and whoever reads both asks the table whether
/// the flow of that key has that ticket.
pub struct Place<F: Family>(*mut HalfOpenPlace<F>);

impl<F: Family> Place<F> {
    /// The ticket of who has it; `None`: nobody.
    #[inline(always)]
    pub fn tenant(&self) -> Option<u32> {
        // SAFETY: an array's value, alive with the program, and aligned; so below.
        let tenant = unsafe { (&raw const (*self.0).tenant).read_volatile() };
        tenant.checked_sub(1).map(|ticket| ticket as u32)
    }

    /// The key of who came last.
    #[inline(always)]
    pub fn key(&self) -> Tuple<F> {
        // SAFETY: see `tenant`.
        unsafe { (*self.0).key }
    }

    /// Moves in with a ticket; the ticket of who has to give way.
    #[inline(always)]
    pub fn enter(&self, ticket: u32) -> Option<u32> {
        // SAFETY: see `tenant`.
        let before = unsafe { atomic::exchange(&raw mut (*self.0).tenant, u64::from(ticket) + 1) };
        before.checked_sub(1).map(|ticket| ticket as u32)
    }

    /// Puts in the key of who has moved in.
    #[inline(always)]
    pub fn set_key(&self, key: &Tuple<F>) {
        // SAFETY: see `tenant`.
        unsafe { (*self.0).key = *key }
    }

    /// Moves out, unless somebody else has moved in.
    #[inline(always)]
    pub fn leave(&self, ticket: u32) {
        // SAFETY: see `tenant`.
        unsafe { atomic::replace(&raw mut (*self.0).tenant, u64::from(ticket) + 1, 0) }
    }
}

/// The shared cursors and counts of one family.
#[derive(Clone, Copy)]
pub struct RoomsRef(*mut Rooms);

impl RoomsRef {
    /// The next ticket for the half-open ring.
    #[inline(always)]
    pub fn next_half_open(self) -> u32 {
        // SAFETY: an array's value, alive with the program; so below.
        unsafe { atomic::fetch_add(&raw mut (*self.0).half_open_next, 1) as u32 }
    }

    /// How far the half-open ring was ever used, not yet wrapped.
    #[inline(always)]
    pub fn half_open_used(self) -> u64 {
        // SAFETY: see `next_half_open`.
        unsafe { (&raw const (*self.0).half_open_next).read_volatile() }
    }

    /// A place of the flows' ring that was never used before.
    #[inline(always)]
    pub fn next_flow_slot(self) -> u64 {
        // SAFETY: see `next_half_open`.
        unsafe { atomic::fetch_add(&raw mut (*self.0).flows_high_water, 1) }
    }

    /// How many places of the flows' ring were ever used.
    #[inline(always)]
    pub fn flow_slots_used(self) -> u64 {
        // SAFETY: see `next_half_open`.
        unsafe { (&raw const (*self.0).flows_high_water).read_volatile() }
    }

    /// How many flows there are beside half-open ones.
    #[inline(always)]
    pub fn flows(self) -> u64 {
        // SAFETY: see `next_half_open`.
        unsafe { (&raw const (*self.0).flows).read_volatile() }
    }

    /// One flow more.
    #[inline(always)]
    pub fn add_flow(self) {
        // SAFETY: see `next_half_open`.
        unsafe { atomic::fetch_add(&raw mut (*self.0).flows, 1) };
    }

    /// One flow less.
    #[inline(always)]
    pub fn remove_flow(self) {
        // SAFETY: see `next_half_open`.
        unsafe { atomic::fetch_add(&raw mut (*self.0).flows, u64::MAX) };
    }

    /// Moves the sweep of the flows' ring on by `by`; where it stood.
    #[inline(always)]
    pub fn sweep_flows(self, by: u64) -> u64 {
        // SAFETY: see `next_half_open`.
        unsafe { atomic::fetch_add(&raw mut (*self.0).sweep_flows, by) }
    }

    /// Moves the sweep of the half-open ring on by `by`; where it stood.
    #[inline(always)]
    pub fn sweep_half_open(self, by: u64) -> u64 {
        // SAFETY: see `next_half_open`.
        unsafe { atomic::fetch_add(&raw mut (*self.0).sweep_half_open, by) }
    }
}

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
