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

/// Puts `value` into `*at` and gives what was there before.
///
/// # Safety
///
/// As [`fetch_add`].
#[inline(always)]
pub unsafe fn exchange(at: *mut u64, value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: the caller's promise; the verifier checks the address as well.
        unsafe {
            core::arch::asm!(
                "{value} = xchg_64({at} + 0, {value})",
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
            .swap(value, core::sync::atomic::Ordering::Relaxed)
    }
}

/// Puts `new` into `*at` if `old` is there.
///
/// # Safety
///
/// As [`fetch_add`].
#[inline(always)]
pub unsafe fn replace(at: *mut u64, old: u64, new: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise; the verifier checks the address as well.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({at} + 0, r0, {new})",
            at = in(reg) at,
            new = in(reg) new,
            inout("r0") old => _,
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: the caller's promise.
        let word = unsafe { AtomicU64::from_ptr(at) };
        // Whoever came in between stays.
        let _ = word.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
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
