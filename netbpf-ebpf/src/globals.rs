//! Constants that the loader sets before it loads: the verifier prunes what they rule out.
#![expect(
    unsafe_code,
    reason = "the loader finds a constant by its unmangled name"
)]

use aya_ebpf::Global;

/// 1 where `bpf_l4_csum_replace` knows `BPF_F_IPV6` (kernel 6.16 and backports).
#[unsafe(no_mangle)]
static BPF_F_IPV6_SUPPORTED: Global<u64> = Global::new(0);

/// Whether the kernel knows `BPF_F_IPV6`.
#[inline(always)]
pub fn has_ipv6_checksum_flag() -> bool {
    BPF_F_IPV6_SUPPORTED.load() != 0
}
