//! The packet's bytes: this file and those beside it alone know offsets and check bounds.
//!
//! Reads and writes go straight to the packet; what a driver left in pages is first brought into
//! the linear part. Headers are read as words of the sizes to which the kernel aligns them, for
//! BPF reads anything else byte by byte. Nothing here decides anything.
#![expect(
    unsafe_code,
    reason = "raw packet memory; each access is bounds-checked beside it"
)]

mod compose;
mod translate;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{
        bpf_skb_change_head, bpf_skb_change_type, bpf_skb_load_bytes, bpf_skb_pull_data,
    },
};
use netbpf_common::wire::{Ipv4, Ipv6, Mac};
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

/// The bits of a tag that are the id of a VLAN (IEEE 802.1Q, 9.6).
const VLAN_ID: u16 = 0x0fff;

/// `pkt_type` of a frame addressed to us, and of one addressed to another host
/// (`linux/if_packet.h`).
const PACKET_HOST: u32 = 0;
const PACKET_OTHERHOST: u32 = 3;

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
        // SAFETY: see `len`.
        unsafe { (*self.0).vlan_present != 0 && (*self.0).vlan_tci & u32::from(VLAN_ID) != 0 }
    }

    /// Whether the tag that a frame still has, behind the one that the device took off, names a
    /// VLAN.
    #[inline(always)]
    pub fn is_second_tag_of_vlan(self) -> bool {
        self.read::<u16>(EthHdr::LEN)
            .is_some_and(|control| u16::from_be(control) & VLAN_ID != 0)
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
}

/// An address from two halves, as ARP has it: its fields are aligned to two bytes only.
#[inline(always)]
const fn ipv4_of(high: u16, low: u16) -> Ipv4 {
    let ([a, b], [c, d]) = (high.to_ne_bytes(), low.to_ne_bytes());
    Ipv4(u32::from_ne_bytes([a, b, c, d]))
}
