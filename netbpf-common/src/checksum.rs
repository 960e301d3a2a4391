//! Internet checksums: RFC 1071 (sum) and RFC 1624 (incremental update).
//!
//! Sums are over 32-bit words in wire order, which the ones' complement sum allows (RFC 1071, 2B).

/// The ones' complement difference between old and new words, as
/// `bpf_l4_csum_replace` takes it with a size of zero.
#[inline(always)]
pub fn difference(old: &[u32], new: &[u32]) -> u32 {
    let mut sum = 0_u64;
    for word in old {
        sum += u64::from(!word);
    }
    for word in new {
        sum += u64::from(*word);
    }
    // Two folds: the sum of a few dozen words has at most a few carry bits.
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum as u32
}

/// The ones' complement sum of two differences.
#[inline(always)]
pub fn add(a: u32, b: u32) -> u32 {
    let sum = u64::from(a) + u64::from(b);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// Folds a 32-bit partial sum to the 16 bits of a checksum field, not inverted.
#[inline(always)]
pub fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The checksum field after a change whose [`difference`] is `diff` (RFC 1624, equation 3).
/// `check` and the result are as the field has them.
#[inline(always)]
pub fn update(check: u16, diff: u32) -> u16 {
    let sum = u64::from(!check) + u64::from(diff);
    let sum = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
    !fold(sum)
}

#[cfg(test)]
mod tests;
