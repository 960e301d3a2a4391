//! Every map: key, value, size, who writes it. What is done with them stands beside this file.
//!
//! The sizes here are what the loader gets unless it asks for others; those of the flow table come
//! from the config. "Loader" means that programs only read.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, Queue, SkStorage},
    macros::btf_map,
};
use netbpf_common::{
    config::{FLAGS_OF_FLOW_TABLES, GlobalConfig},
    conntrack::{Entry, HalfOpenPlace, NewFlow, Rooms},
    endpoint::{Endpoint, HostAddress, Interface, MacKey, Network},
    family::{V4, V6},
    nat::{HELD_PORTS_LEN, MappingKey, PortKey, PublishTarget, RESERVED_WORDS},
    packet::Packet,
    senders::{LinkKey, ScopedAddr, TrustedInterface},
    service::Service,
    socket::{Asked, SocketKey},
    tuple::Tuple,
    verdict::{self, Counter},
    wire::{Ipv4, Ipv6},
};

use super::Answers;
use crate::{
    bridge::{KNOWN_BRIDGES, KnownBridge},
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

/// The bridges of containers' ends that were asked for just now. Programs.
#[btf_map]
pub static BRIDGES: PerCpuArray<KnownBridge, { KNOWN_BRIDGES as usize }> = PerCpuArray::new();

/// How many ICMP errors of our own this CPU may still send. Programs.
#[btf_map]
pub static ANSWERS: PerCpuArray<Answers, 1> = PerCpuArray::new();

/// The timer of the sweep. Programs.
#[btf_map]
pub static SWEEP: Array<SweepTimer, 1> = Array::new();
