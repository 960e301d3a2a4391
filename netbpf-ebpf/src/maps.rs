//! Every map: key, value, size, who writes it. No other file declares one.
//!
//! The sizes here are what the loader gets unless it asks for others; those of the flow table come
//! from the config. "Loader" means that programs only read.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, Queue},
    macros::btf_map,
};
use netbpf_common::{
    config::GlobalConfig,
    conntrack::{Entry, Rooms},
    endpoint::{Endpoint, HostAddress, Interface, MacKey, Network},
    family::{V4, V6},
    nat::{MappingKey, PortKey, PublishTarget, RESERVED_WORDS},
    service::Service,
    tuple::Tuple,
    verdict::{COUNTERS, Counter},
    wire::{Ipv4, Ipv6},
};

use crate::{fragment::{FragmentKey, FragmentPorts}, sweep::SweepTimer};

/// `BPF_F_NO_PREALLOC`: memory grows with what is in the map.
const SPARSE: usize = 1;

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

/// Which mapping leads to which endpoint, for flows that ask again. Loader.
#[btf_map]
pub static MAPPINGS: HashMap<MappingKey, u32, 262_144, SPARSE> = HashMap::new();

/// The host's ports that masquerade must not take: `nat::reserved_bit`. Loader.
#[btf_map]
pub static RESERVED_PORTS: Array<u64, { RESERVED_WORDS as usize }> = Array::new();

/// The flow table. Programs.
#[btf_map]
pub static CONNTRACK_V4: HashMap<Tuple<V4>, Entry<V4>, 655_360, SPARSE> = HashMap::new();

/// As `CONNTRACK_V4`.
#[btf_map]
pub static CONNTRACK_V6: HashMap<Tuple<V6>, Entry<V6>, 655_360, SPARSE> = HashMap::new();

/// The ring of half-open flows, by their original tuple; the oldest gives way. Programs.
#[btf_map]
pub static HALF_OPEN_V4: Array<Tuple<V4>, 65536> = Array::new();

/// As `HALF_OPEN_V4`.
#[btf_map]
pub static HALF_OPEN_V6: Array<Tuple<V6>, 65536> = Array::new();

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
pub static COUNTERS: PerCpuArray<Counter, { COUNTERS as usize }> = PerCpuArray::new();

/// The timer of the sweep. Programs.
#[btf_map]
pub static SWEEP: Array<SweepTimer, 1> = Array::new();
