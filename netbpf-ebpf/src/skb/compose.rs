//! Packets of our own, made of what they answer: room, headers, checksums.

use aya_ebpf::helpers::generated::{bpf_skb_adjust_room, bpf_skb_change_tail};
use netbpf_common::{
    checksum,
    wire::{Ipv4, Ipv6},
};
use network_types::ip::Ipv4Hdr;

use super::{L3, Skb};

impl Skb {
    /// Cuts the packet to `len` bytes behind the Ethernet header and moves them back by `room`;
    /// whether it could.
    #[inline(always)]
    pub fn quote(self, len: u32, room: i32) -> bool {
        /// `BPF_ADJ_ROOM_MAC`: the room comes behind the Ethernet header.
        const BEHIND_MAC: u32 = 1;
        // SAFETY: see `len`; the helpers check lengths.
        unsafe {
            bpf_skb_change_tail(self.0, L3 as u32 + len, 0) == 0
                && bpf_skb_adjust_room(self.0, room, BEHIND_MAC, 0) == 0
        }
    }

    /// The checksum sum of `WORDS` words at `offset`, and their length in bytes.
    #[inline(always)]
    pub fn sum<const WORDS: usize>(self, offset: usize) -> Option<(u32, usize)> {
        let words: [u32; WORDS] = self.read(offset)?;
        Some((checksum::difference(&[], &words), WORDS * 4))
    }

    /// Writes a new IPv4 header in front of `payload` bytes.
    #[inline(always)]
    pub fn write_ipv4(self, src: Ipv4, dst: Ipv4, protocol: u8, payload: u16) -> bool {
        // Version 4, five words, class "internetwork control", as the kernel's own ICMP errors.
        let total_len = Ipv4Hdr::LEN as u32 + payload as u32;
        let first = (0x45c0_0000 | total_len).to_be();
        let ttl = (64 << 24 | u32::from(protocol) << 16).to_be();
        let sum = checksum::difference(&[], &[first, 0, ttl, src.0, dst.0]);
        let check = !checksum::fold(sum);
        let [t, p, _, _] = ttl.to_ne_bytes();
        let [c0, c1] = check.to_ne_bytes();
        let third = u32::from_ne_bytes([t, p, c0, c1]);
        self.write(L3, [first, 0, third, src.0, dst.0])
    }

    /// Writes a new IPv6 header in front of `payload` bytes.
    #[inline(always)]
    pub fn write_ipv6(self, src: Ipv6, dst: Ipv6, protocol: u8, payload: u16) -> bool {
        let second = (u32::from(payload) << 16 | u32::from(protocol) << 8 | 64).to_be();
        self.write(L3, [0x6000_0000_u32.to_be(), second])
            && self.write(L3 + 8, src.0)
            && self.write(L3 + 24, dst.0)
    }

    /// Writes an ICMP header in front of what sums up to `sum`; `rest` is its second word.
    #[inline(always)]
    pub fn write_icmp(self, offset: usize, icmp_type: u8, code: u8, rest: u32, sum: u32) -> bool {
        let first = u32::from_ne_bytes([icmp_type, code, 0, 0]);
        let header = checksum::difference(&[], &[first, rest.to_be()]);
        let check = !checksum::fold(checksum::add(sum, header));
        let [c0, c1] = check.to_ne_bytes();
        self.write(
            offset,
            [u32::from_ne_bytes([icmp_type, code, c0, c1]), rest.to_be()],
        )
    }
}
