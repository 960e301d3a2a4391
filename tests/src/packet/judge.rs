//! What is wrong with a frame, and what it says. The judge is etherparse.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// What is wrong with the checksums of a frame, made anew by etherparse; `None`: nothing.
pub fn fault(bytes: &[u8]) -> Option<String> {
    let packet = match SlicedPacket::from_ethernet(bytes) {
        Ok(packet) => packet,
        Err(error) => return Some(error.to_string()),
    };
    if let Some(NetSlice::Ipv4(ip)) = &packet.net {
        let header = ip.header().to_header();
        if header.calc_header_checksum() != header.header_checksum {
            return Some("IPv4 header checksum".to_owned());
        }
    }
    let (stored, right) = match (&packet.transport, &packet.net) {
        (Some(TransportSlice::Tcp(tcp)), Some(NetSlice::Ipv4(ip))) => (
            tcp.checksum(),
            tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())
                .ok()?,
        ),
        (Some(TransportSlice::Tcp(tcp)), Some(NetSlice::Ipv6(ip))) => (
            tcp.checksum(),
            tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())
                .ok()?,
        ),
        (Some(TransportSlice::Udp(udp)), Some(NetSlice::Ipv4(ip))) => {
            let header = udp.to_header();
            if header.checksum == 0 {
                return None;
            }
            let right = header
                .calc_checksum_ipv4_raw(
                    ip.header().source(),
                    ip.header().destination(),
                    udp.payload(),
                )
                .ok()?;
            (header.checksum, right)
        }
        (Some(TransportSlice::Udp(udp)), Some(NetSlice::Ipv6(ip))) => {
            let header = udp.to_header();
            let right = header
                .calc_checksum_ipv6_raw(
                    ip.header().source(),
                    ip.header().destination(),
                    udp.payload(),
                )
                .ok()?;
            (header.checksum, right)
        }
        (Some(TransportSlice::Icmpv4(icmp)), _) => (
            icmp.checksum(),
            icmp.icmp_type().calc_checksum(icmp.payload()),
        ),
        (Some(TransportSlice::Icmpv6(icmp)), Some(NetSlice::Ipv6(ip))) => {
            return (!icmp.is_checksum_valid(ip.header().source(), ip.header().destination()))
                .then(|| "ICMPv6 checksum".to_owned());
        }
        _ => return None,
    };
    (stored != right).then(|| format!("transport checksum {stored:#06x}, not {right:#06x}"))
}

/// A frame for people, when an assertion fails.
pub fn describe(bytes: &[u8]) -> String {
    let parsed = match SlicedPacket::from_ethernet(bytes) {
        Ok(packet) => format!("{:?} {:?} {:?}", packet.link, packet.net, packet.transport),
        Err(error) => format!("not parsed: {error}"),
    };
    let hex: Vec<String> = bytes
        .iter()
        .take(128)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{} bytes: {}\n  {parsed:.600}", bytes.len(), hex.join(" "))
}
