//! Translations written into a packet, and its checksums brought in line with them.

use aya_ebpf::helpers::generated::{bpf_l4_csum_replace, bpf_skb_store_bytes};
use netbpf_common::{
    checksum,
    family::Family,
    packet::Packet,
    tuple::{Tuple, proto},
    wire::{Ipv4, Ipv6},
};

use super::{L3, Skb};

/// Flags of `bpf_l4_csum_replace` (`linux/bpf.h`).
const BPF_F_PSEUDO_HDR: u64 = 1 << 4;
const BPF_F_MARK_MANGLED_0: u64 = 1 << 5;
const BPF_F_IPV6: u64 = 1 << 7;

impl Skb {
    /// Takes `hops` from the packet's TTL and puts in the addresses, header checksum included.
    #[inline(always)]
    pub fn set_ipv4(self, src: Ipv4, dst: Ipv4, hops: u8) -> bool {
        self.set_ipv4_at(L3, src, dst, hops)
    }

    /// As [`Self::set_ipv4`], for the header at `offset`.
    #[inline(always)]
    pub fn set_ipv4_at(self, offset: usize, src: Ipv4, dst: Ipv4, hops: u8) -> bool {
        // TTL, protocol and checksum, then the two addresses.
        let Some([ttl, old_src, old_dst]) = self.read::<[u32; 3]>(offset + 8) else {
            return false;
        };
        let [t, p, c0, c1] = ttl.to_ne_bytes();
        let without_check = u32::from_ne_bytes([t, p, 0, 0]);
        let lowered = u32::from_ne_bytes([t.wrapping_sub(hops), p, 0, 0]);
        let diff =
            checksum::difference(&[without_check, old_src, old_dst], &[lowered, src.0, dst.0]);
        let [c0, c1] = checksum::update(u16::from_ne_bytes([c0, c1]), diff).to_ne_bytes();
        let first = u32::from_ne_bytes([t.wrapping_sub(hops), p, c0, c1]);
        self.write(offset + 8, [first, src.0, dst.0])
    }

    /// Takes `hops` from the packet's hop limit and puts in the addresses.
    #[inline(always)]
    pub fn set_ipv6(self, src: Ipv6, dst: Ipv6, hops: u8) -> bool {
        self.set_ipv6_at(L3, src, dst, hops)
    }

    /// As [`Self::set_ipv6`], for the header at `offset`.
    #[inline(always)]
    pub fn set_ipv6_at(self, offset: usize, src: Ipv6, dst: Ipv6, hops: u8) -> bool {
        (hops == 0 || self.lower_hop_limit(offset + 7, hops))
            && self.write(offset + 8, src.0)
            && self.write(offset + 24, dst.0)
    }

    /// Takes `hops` from the hop limit at `offset`. No checksum in the packet covers it, but the one
    /// that a device may have made over the whole packet does.
    #[inline(always)]
    fn lower_hop_limit(self, offset: usize, hops: u8) -> bool {
        const BPF_F_RECOMPUTE_CSUM: u64 = 1;
        let Some(limit) = self.read::<u8>(offset) else {
            return false;
        };
        let mut lowered = limit.wrapping_sub(hops);
        let from: *mut u8 = &mut lowered;
        // SAFETY: the helper checks the offset; `from` is one byte long.
        unsafe {
            bpf_skb_store_bytes(self.0, offset as u32, from.cast(), 1, BPF_F_RECOMPUTE_CSUM) == 0
        }
    }

    /// Translates the transport header at `l4` of a packet that an ICMP error carries, its checksum
    /// as far as it is there; the checksum difference that these bytes now have.
    #[inline(always)]
    pub fn set_inner_transport<F: Family>(
        self,
        l4: usize,
        old: &Tuple<F>,
        new: &Tuple<F>,
        pseudo_header: u32,
    ) -> Option<u32> {
        let (at, sum_at, before, after, covered) = match old.proto {
            proto::TCP => (l4, l4 + 16, ports(old), ports(new), pseudo_header),
            proto::UDP => (l4, l4 + 6, ports(old), ports(new), pseudo_header),
            proto::ICMPV6 => (l4 + 4, l4 + 2, id(old), id(new), pseudo_header),
            proto::ICMP => (l4 + 4, l4 + 2, id(old), id(new), 0),
            _ => return Some(0),
        };
        let mut diff = checksum::difference(&[before], &[after]);
        let is_written = match old.proto {
            proto::TCP | proto::UDP => self.write(at, after),
            _ => self.write(at, new.src_port.0),
        };
        if !is_written {
            return None;
        }
        // TCP's checksum may have been cut off; UDP's may be zero, which means that there is none
        // (RFC 768).
        let is_udp = old.proto == proto::UDP;
        if let Some(sum) = self.read::<u16>(sum_at).filter(|sum| !is_udp || *sum != 0) {
            let updated = match checksum::update(sum, checksum::add(diff, covered)) {
                0 if is_udp => 0xffff,
                updated => updated,
            };
            if !self.write(sum_at, updated) {
                return None;
            }
            let change = checksum::difference(&[u32::from(sum)], &[u32::from(updated)]);
            diff = checksum::add(diff, change);
        }
        Some(diff)
    }

    /// Brings the checksum of the ICMP header at `l4` in line with bytes behind it that changed by
    /// `diff` and with new `addresses`.
    #[inline(always)]
    pub fn set_icmp_sum<F: Family>(
        self,
        l4: usize,
        diff: u32,
        addresses: u32,
        ipv6_flag: bool,
    ) -> bool {
        let has_pseudo_header = F::ICMP == proto::ICMPV6;
        self.replace_sum(l4 + 2, diff, 0)
            && (!has_pseudo_header
                || addresses == 0
                || self.replace_sum(l4 + 2, addresses, flags(ipv6_flag)))
    }

    /// Brings the transport header in line with a translation: the ports of TCP and UDP, the
    /// identifier of an ICMP echo, and the checksum over them and over `addresses`, the
    /// [`checksum::difference`] of the pseudo-header.
    ///
    /// Partial checksums and segments to be cut stay what they are; a zero UDP checksum stays
    /// zero.
    #[inline(always)]
    pub fn set_transport<F: Family>(
        self,
        packet: &Packet<F>,
        to: &Tuple<F>,
        addresses: u32,
        ipv6_flag: bool,
    ) -> bool {
        let l4 = packet.l4();
        let old = packet.tuple;
        match old.proto {
            proto::TCP => {
                self.replace_sums(l4 + 16, addresses, ports(&old), ports(to), flags(ipv6_flag))
                    && self.write(l4, ports(to))
            }
            proto::UDP => {
                let flags = flags(ipv6_flag) | BPF_F_MARK_MANGLED_0;
                self.replace_sums(l4 + 6, addresses, ports(&old), ports(to), flags)
                    && self.write(l4, ports(to))
            }
            proto::ICMPV6 => {
                let (old, new) = (u32::from(old.src_port.0), u32::from(to.src_port.0));
                self.replace_sums(l4 + 2, addresses, old, new, flags(ipv6_flag))
                    && (old == new || self.write(l4 + 4, to.src_port.0))
            }
            proto::ICMP => {
                // ICMP in IPv4 has no pseudo-header.
                let (old, new) = (u32::from(old.src_port.0), u32::from(to.src_port.0));
                old == new
                    || (self.replace_sum(l4 + 2, checksum::difference(&[old], &[new]), 0)
                        && self.write(l4 + 4, to.src_port.0))
            }
            _ => true,
        }
    }

    /// Updates the checksum at `offset` for the pseudo-header and for what the header itself says.
    #[inline(always)]
    fn replace_sums(self, offset: usize, addresses: u32, old: u32, new: u32, flags: u64) -> bool {
        let mangled = flags & BPF_F_MARK_MANGLED_0;
        (addresses == 0 || self.replace_sum(offset, addresses, flags))
            && (old == new
                || self.replace_sum(offset, checksum::difference(&[old], &[new]), mangled))
    }

    #[inline(always)]
    fn replace_sum(self, offset: usize, diff: u32, flags: u64) -> bool {
        // SAFETY: the helper checks the offset; a size of zero makes `to` a difference.
        unsafe { bpf_l4_csum_replace(self.0, offset as u32, 0, u64::from(diff), flags) == 0 }
    }
}

/// The flags for a pseudo-header update. Without `BPF_F_IPV6` the kernel takes the addresses for
/// bytes that its own sum over the packet doesn't have, which is right for IPv4 only.
#[inline(always)]
const fn flags(ipv6: bool) -> u64 {
    if ipv6 {
        BPF_F_PSEUDO_HDR | BPF_F_IPV6
    } else {
        BPF_F_PSEUDO_HDR
    }
}

/// Both ports as one word, as the header has them.
#[inline(always)]
const fn ports<F: Family>(tuple: &Tuple<F>) -> u32 {
    let ([a, b], [c, d]) = (tuple.src_port.to_wire(), tuple.dst_port.to_wire());
    u32::from_ne_bytes([a, b, c, d])
}

/// An ICMP echo's identifier as a word of a checksum's sum.
#[inline(always)]
const fn id<F: Family>(tuple: &Tuple<F>) -> u32 {
    tuple.src_port.0 as u32
}
