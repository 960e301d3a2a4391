//! Constants that the loader sets before it loads: the verifier prunes what they rule out.
#![expect(
    unsafe_code,
    reason = "the loader finds a constant by its unmangled name"
)]

use aya_ebpf::Global;

/// 1 where `bpf_l4_csum_replace` knows `BPF_F_IPV6` (kernel 6.16 and backports).
#[unsafe(no_mangle)]
static BPF_F_IPV6_SUPPORTED: Global<u64> = Global::new(0);

/// The flags of every route lookup: `BPF_FIB_LOOKUP_SKIP_NEIGH` where the kernel knows it (6.3).
#[unsafe(no_mangle)]
static FIB_FLAGS: Global<u64> = Global::new(0);

/// 1 where a route lookup says the source address (`BPF_FIB_LOOKUP_SRC`, 6.7).
#[unsafe(no_mangle)]
static FIB_SOURCE: Global<u64> = Global::new(0);

/// 1 where `bpf_redirect_peer` says that a packet is addressed to its receiver (6.15).
#[unsafe(no_mangle)]
static REDIRECT_PEER_SCRUBS: Global<u64> = Global::new(0);

/// The flags of every route lookup.
#[inline(always)]
pub fn fib_flags() -> u32 {
    FIB_FLAGS.load() as u32
}

/// Whether a route lookup says the source address.
#[inline(always)]
pub fn has_fib_source() -> bool {
    FIB_SOURCE.load() != 0
}

/// Whether the kernel knows `BPF_F_IPV6`.
#[inline(always)]
pub fn has_ipv6_checksum_flag() -> bool {
    BPF_F_IPV6_SUPPORTED.load() != 0
}

/// Whether `bpf_redirect_peer` says that a packet is addressed to its receiver.
#[inline(always)]
pub fn redirect_peer_scrubs() -> bool {
    REDIRECT_PEER_SCRUBS.load() != 0
}
