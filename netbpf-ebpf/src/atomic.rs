//! Atomic changes. Rust's own atomics for BPF can only load and store, though the instruction
//! set has had these since version 3.
#![expect(
    unsafe_code,
    reason = "raw pointers into map values, and the instructions themselves"
)]

/// Adds to `*at` and gives what was there before.
///
/// # Safety
///
/// `at` must point to an aligned word of a live map value.
#[inline(always)]
pub unsafe fn fetch_add(at: *mut u64, by: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = by;
        // SAFETY: the caller's promise; the verifier checks the address as well.
        unsafe {
            core::arch::asm!(
                "{value} = atomic_fetch_add((u64 *)({at} + 0), {value})",
                value = inout(reg) value,
                at = in(reg) at,
            );
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        // SAFETY: the caller's promise.
        unsafe { core::sync::atomic::AtomicU64::from_ptr(at) }
            .fetch_add(by, core::sync::atomic::Ordering::Relaxed)
    }
}

/// Sets `bits` in `*at` and gives what was there before.
///
/// # Safety
///
/// As [`fetch_add`].
#[inline(always)]
pub unsafe fn fetch_or(at: *mut u64, bits: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = bits;
        // SAFETY: the caller's promise; the verifier checks the address as well.
        unsafe {
            core::arch::asm!(
                "{value} = atomic_fetch_or((u64 *)({at} + 0), {value})",
                value = inout(reg) value,
                at = in(reg) at,
            );
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        // SAFETY: the caller's promise.
        unsafe { core::sync::atomic::AtomicU64::from_ptr(at) }
            .fetch_or(bits, core::sync::atomic::Ordering::Relaxed)
    }
}

/// Adds to `*at`.
///
/// # Safety
///
/// As [`fetch_add`].
#[inline(always)]
pub unsafe fn add(at: *mut u64, by: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise; the verifier checks the address as well.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({at} + 0) += {by}",
            at = in(reg) at,
            by = in(reg) by,
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        // SAFETY: the caller's promise.
        unsafe { core::sync::atomic::AtomicU64::from_ptr(at) }
            .fetch_add(by, core::sync::atomic::Ordering::Relaxed);
    }
}
