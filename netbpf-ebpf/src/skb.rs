//! The packet's bytes: the only file that knows offsets and checks bounds.
//!
//! Reads and writes go straight to the packet; what a driver left in pages is first brought into
//! the linear part. Headers are read as words of the sizes to which the kernel aligns them, for
//! BPF reads anything else byte by byte. Nothing here decides anything.
#![expect(
    unsafe_code,
    reason = "raw packet memory; each access is bounds-checked beside it"
)]

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{
        bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_head, bpf_skb_change_tail,
        bpf_skb_change_type, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
    },
};
use netbpf_common::{
    checksum,
    family::Family,
    packet::Packet,
    tuple::{Tuple, proto},
    wire::{Ipv4, Ipv6, Mac},
};
use network_types::{
    arp::ArpHdr,
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
};

use crate::LINK_HEADER;

/// Where the network header starts.
pub const L3: usize = LINK_HEADER;

/// Headers that are brought into the linear part at once: Ethernet, IPv4 and TCP without options.
/// No more than a small packet has of them: TCP keeps its payload in pages, and pulling one byte of
/// that copies all headers, for the sender still holds the packet. What is longer is pulled where
/// it is read.
const USUAL_HEADERS: usize = L3 + Ipv4Hdr::LEN + TcpHdr::LEN;

/// The furthest offset at which a header may start, which keeps the verifier's sums small.
const MAX_OFFSET: usize = 0x7ff;

/// `pkt_type` of a frame addressed to us, and of one addressed to another host
/// (`linux/if_packet.h`).
const PACKET_HOST: u32 = 0;
const PACKET_OTHERHOST: u32 = 3;

/// Flags of `bpf_l4_csum_replace` (`linux/bpf.h`).
const BPF_F_PSEUDO_HDR: u64 = 1 << 4;
const BPF_F_MARK_MANGLED_0: u64 = 1 << 5;
const BPF_F_IPV6: u64 = 1 << 7;

/// A packet in a hook.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Skb(*mut __sk_buff);

/// The Ethernet header's meaning.
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// Destination MAC.
    pub dst: Mac,
    /// Source MAC.
    pub src: Mac,
    /// EtherType in host order.
    pub ether_type: u16,
}

/// What an ARP packet for IPv4 over Ethernet says (RFC 826).
#[derive(Clone, Copy)]
pub struct Arp {
    /// Operation in host order: 1 request, 2 reply.
    pub operation: u16,
    /// Sender MAC.
    pub sender_mac: Mac,
    /// Sender address.
    pub sender: Ipv4,
    /// Target address.
    pub target: Ipv4,
}

/// The fields of an IPv4 header that anybody needs, checked for nothing.
#[derive(Clone, Copy)]
pub struct Ipv4Fields {
    /// The IP version.
    pub version: u8,
    /// Header length in bytes.
    pub header_len: u8,
    /// Total length in host order.
    pub total_len: u16,
    /// Identification, host order.
    pub id: u16,
    /// Flags and fragment offset, host order.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub proto: u8,
    /// Source address.
    pub src: Ipv4,
    /// Destination address.
    pub dst: Ipv4,
}

/// The fields of an IPv6 header that anybody needs, checked for nothing.
#[derive(Clone, Copy)]
pub struct Ipv6Fields {
    /// The IP version.
    pub version: u8,
    /// Payload length in host order.
    pub payload_len: u16,
    /// Next header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: Ipv6,
    /// Destination address.
    pub dst: Ipv6,
}

impl Skb {
    /// Wraps a program's context.
    #[inline(always)]
    pub const fn new(skb: *mut __sk_buff) -> Self {
        Self(skb)
    }

    /// The context, for helpers.
    #[inline(always)]
    pub const fn as_ptr(self) -> *mut __sk_buff {
        self.0
    }

    /// The length of the whole packet with its Ethernet header, if it has one, in bytes.
    #[inline(always)]
    pub fn len(self) -> u32 {
        // SAFETY: the context is valid for the whole run of a program; so in every getter below.
        unsafe { (*self.0).len }
    }

    /// The interface whose hook runs.
    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.0).ifindex }
    }

    /// The interface by which the packet came into the host; 0: the host made it.
    #[inline(always)]
    pub fn ingress_ifindex(self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// Payload bytes per segment of a packet that will be cut; 0: it won't.
    #[inline(always)]
    pub fn gso_size(self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.0).gso_size }
    }

    /// Whether the device took a tag off that names a VLAN. Id 0 names none: such a tag has a
    /// priority alone (IEEE 802.1Q, 9.6).
    #[inline(always)]
    pub fn has_vlan(self) -> bool {
        const VLAN_ID: u32 = 0x0fff;
        // SAFETY: see `len`.
        unsafe { (*self.0).vlan_present != 0 && (*self.0).vlan_tci & VLAN_ID != 0 }
    }

    /// Whether the packet has any VLAN tag beside its bytes.
    #[inline(always)]
    pub fn is_tagged(self) -> bool {
        // SAFETY: see `len`.
        unsafe { (*self.0).vlan_present != 0 }
    }

    /// Whether the frame is addressed to another host, and seen here only by a promiscuous device.
    #[inline(always)]
    pub fn is_for_other_host(self) -> bool {
        // SAFETY: see `len`.
        unsafe { (*self.0).pkt_type == PACKET_OTHERHOST }
    }

    /// The host's socket that sent the packet; null: none did.
    #[inline(always)]
    pub fn socket(self) -> *mut bpf_sock {
        // SAFETY: see `len`.
        unsafe { (&raw const (*self.0).__bindgen_anon_2.sk).read_volatile() }
    }

    /// The packet's mark.
    #[inline(always)]
    pub fn mark(self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.0).mark }
    }

    /// Sets the packet's mark.
    #[inline(always)]
    pub fn set_mark(self, mark: u32) {
        // SAFETY: see `len`; TC programs may write the mark.
        unsafe { (*self.0).mark = mark }
    }

    /// Says that the frame is addressed to whoever receives it.
    #[inline(always)]
    pub fn address_to_receiver(self) {
        // SAFETY: see `len`; the helper takes any packet type up to PACKET_OTHERHOST.
        unsafe {
            if (*self.0).pkt_type != PACKET_HOST {
                bpf_skb_change_type(self.0, PACKET_HOST);
            }
        }
    }

    /// Brings the usual headers into the linear part, where a driver left them in pages.
    #[inline(always)]
    pub fn pull_headers(self) {
        let len = self.len();
        let want = if len < USUAL_HEADERS as u32 {
            len
        } else {
            USUAL_HEADERS as u32
        };
        // SAFETY: see `len`; the helper checks the length against the packet.
        unsafe {
            if (*self.0).data as usize + want as usize > (*self.0).data_end as usize {
                bpf_skb_pull_data(self.0, want);
            }
        }
    }

    /// Where `T` lies at `offset`, if the packet has that many bytes.
    #[inline(always)]
    fn at<T>(self, offset: usize) -> Option<*mut T> {
        if offset > MAX_OFFSET {
            return None;
        }
        // SAFETY: see `len`; the pointer is used only if it lies inside the linear part.
        unsafe {
            let start = (*self.0).data as usize + offset;
            if start + size_of::<T>() <= (*self.0).data_end as usize {
                return Some(start as *mut T);
            }
            if bpf_skb_pull_data(self.0, (offset + size_of::<T>()) as u32) != 0 {
                return None;
            }
            let start = (*self.0).data as usize + offset;
            (start + size_of::<T>() <= (*self.0).data_end as usize).then_some(start as *mut T)
        }
    }

    /// Reads a header at `offset`.
    #[inline(always)]
    fn read<T: Copy>(self, offset: usize) -> Option<T> {
        // SAFETY: inside the packet, whose headers are aligned as T is; any bytes are a valid T.
        self.at::<T>(offset).map(|at| unsafe { at.read() })
    }

    /// Writes `value` at `offset`; whether it could.
    #[inline(always)]
    fn write<T: Copy>(self, offset: usize, value: T) -> bool {
        // SAFETY: as in `read`.
        self.at::<T>(offset)
            .map(|at| unsafe { at.write(value) })
            .is_some()
    }

    /// The Ethernet header.
    #[inline(always)]
    pub fn ethernet(self) -> Option<Ethernet> {
        let [a, b, c, d, e, f, ether_type] = self.read::<[u16; EthHdr::LEN / 2]>(0)?;
        Some(Ethernet {
            dst: Mac([a, b, c]),
            src: Mac([d, e, f]),
            ether_type: u16::from_be(ether_type),
        })
    }

    /// The EtherType in host order, which the kernel knows where no header says it.
    #[inline(always)]
    pub fn ether_type(self) -> Option<u16> {
        if L3 == 0 {
            // SAFETY: see `len`; the field holds the EtherType in wire order.
            return Some(u16::from_be(unsafe { (*self.0).protocol } as u16));
        }
        self.ethernet().map(|ethernet| ethernet.ether_type)
    }

    /// Whether the frame goes to everybody on the link.
    #[inline(always)]
    pub fn is_to_everybody(self) -> bool {
        L3 != 0
            && self
                .ethernet()
                .is_some_and(|ethernet| ethernet.dst.is_group())
    }

    /// Addresses the frame. A packet without Ethernet header gets one first, and no offset of this
    /// file holds any more; whether it could.
    #[inline(always)]
    pub fn address(self, ether_type: u16, dst: Mac, src: Mac) -> bool {
        let (Mac([a, b, c]), Mac([d, e, f])) = (dst, src);
        if L3 != 0 {
            return self.write(0, [a, b, c, d, e, f]);
        }
        // SAFETY: see `len`; the helper makes room and clears it.
        let has_room = unsafe { bpf_skb_change_head(self.0, EthHdr::LEN as u32, 0) == 0 };
        has_room && self.write(0, [a, b, c, d, e, f, ether_type.to_be()])
    }

    /// The ARP packet, if it is one for IPv4 over Ethernet.
    #[inline(always)]
    pub fn arp(self) -> Option<Arp> {
        let words: [u16; ArpHdr::LEN / 2] = self.read(L3)?;
        // Hardware type Ethernet, protocol IPv4, address lengths 6 and 4.
        if words[0] != 1_u16.to_be()
            || words[1] != 0x0800_u16.to_be()
            || words[2] != 0x0604_u16.to_be()
        {
            return None;
        }
        Some(Arp {
            operation: u16::from_be(words[3]),
            sender_mac: Mac([words[4], words[5], words[6]]),
            sender: ipv4_of(words[7], words[8]),
            target: ipv4_of(words[12], words[13]),
        })
    }

    /// The packet's IPv4 header.
    #[inline(always)]
    pub fn ipv4(self) -> Option<Ipv4Fields> {
        self.ipv4_at(L3)
    }

    /// The IPv4 header at `offset`.
    #[inline(always)]
    pub fn ipv4_at(self, offset: usize) -> Option<Ipv4Fields> {
        let [a, b, c, src, dst] = self.read::<[u32; Ipv4Hdr::LEN / 4]>(offset)?;
        let (a, b, c) = (u32::from_be(a), u32::from_be(b), u32::from_be(c));
        Some(Ipv4Fields {
            version: (a >> 28) as u8,
            header_len: (a >> 22) as u8 & 0x3c,
            total_len: a as u16,
            id: (b >> 16) as u16,
            fragment: b as u16,
            ttl: (c >> 24) as u8,
            proto: (c >> 16) as u8,
            src: Ipv4(src),
            dst: Ipv4(dst),
        })
    }

    /// The packet's IPv6 header.
    #[inline(always)]
    pub fn ipv6(self) -> Option<Ipv6Fields> {
        self.ipv6_at(L3)
    }

    /// The IPv6 header at `offset`.
    #[inline(always)]
    pub fn ipv6_at(self, offset: usize) -> Option<Ipv6Fields> {
        let words: [u32; Ipv6Hdr::LEN / 4] = self.read(offset)?;
        let (a, b) = (u32::from_be(words[0]), u32::from_be(words[1]));
        Some(Ipv6Fields {
            version: (a >> 28) as u8,
            payload_len: (b >> 16) as u16,
            next_header: (b >> 8) as u8,
            hop_limit: b as u8,
            src: Ipv6([words[2], words[3], words[4], words[5]]),
            dst: Ipv6([words[6], words[7], words[8], words[9]]),
        })
    }

    /// Eight bytes at `offset`: the fixed part of an IPv6 extension header, or of UDP or ICMP.
    #[inline(always)]
    pub fn eight_bytes(self, offset: usize) -> Option<[u16; 4]> {
        self.read(offset)
    }

    /// Two bytes at `offset`: the beginning of an IPv4 option.
    #[inline(always)]
    pub fn two_bytes(self, offset: usize) -> Option<[u8; 2]> {
        let mut bytes = [0; 2];
        // SAFETY: the helper writes as many bytes as the array has, or none.
        let result =
            unsafe { bpf_skb_load_bytes(self.0.cast(), offset as u32, (&raw mut bytes).cast(), 2) };
        (result == 0).then_some(bytes)
    }

    /// The first fourteen bytes of a TCP header: ports, numbers, data offset, flags.
    #[inline(always)]
    pub fn tcp(self, offset: usize) -> Option<[u16; 7]> {
        self.read(offset)
    }

    /// The sixteen bytes after the fixed part of an ICMPv6 message: the target of neighbour
    /// discovery (RFC 4861, 4.3).
    #[inline(always)]
    pub fn neighbour_target(self, icmp: usize) -> Option<Ipv6> {
        self.read(icmp + 8).map(Ipv6)
    }

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

/// An address from two halves, as ARP has it: its fields are aligned to two bytes only.
#[inline(always)]
const fn ipv4_of(high: u16, low: u16) -> Ipv4 {
    let ([a, b], [c, d]) = (high.to_ne_bytes(), low.to_ne_bytes());
    Ipv4(u32::from_ne_bytes([a, b, c, d]))
}
