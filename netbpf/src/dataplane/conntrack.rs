//! The flow table for people and scripts: halves joined to flows, time left, names.
//!
//! Reads only. Ending flows is the programs' work: who frees a flow's place must also hand it back.

use std::{collections::BTreeMap, net::IpAddr};

use netbpf_common::{
    config::GlobalConfig,
    conntrack::{Entry, State, Tick},
    family::{Family, V4, V6},
    tuple::{Direction, Tuple, proto},
};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::{
    Error,
    maps::{self, FlowTable},
};
use crate::host::bpffs::PinDirs;

/// One direction of a flow, as its packets come in.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Half {
    /// Source address.
    pub src_addr: IpAddr,
    /// Source port; none for ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_port: Option<u16>,
    /// Destination address.
    pub dst_addr: IpAddr,
    /// Destination port; none for ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst_port: Option<u16>,
    /// The identifier of an ICMP echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u16>,
    /// Packets of this direction.
    pub packets: u64,
    /// Bytes of this direction, with link-layer headers.
    pub bytes: u64,
}

/// One flow.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Flow {
    /// `tcp`, `udp`, `icmp`, `icmpv6` or the protocol's number.
    pub proto: String,
    /// netfilter's name of its state.
    pub state: &'static str,
    /// The direction of its first packet.
    pub original: Half,
    /// The other direction.
    pub reply: Half,
    /// Seconds until it ends if nothing more is seen of it.
    pub expires_in_s: u64,
    /// The mapping that translated it; 0: none.
    pub mapping: u32,
    /// The endpoint id of the sender of its first packet; 0: not a container.
    pub from_endpoint: u32,
    /// The endpoint id of the receiver; 0: not a container.
    pub to_endpoint: u32,
}

/// Every living flow, IPv4 before IPv6, by the original tuple.
///
/// # Errors
///
/// A failed system call; nothing loaded is no error.
pub fn list(pins: &PinDirs) -> Result<Vec<Flow>, Error> {
    let dir = &pins.maps;
    let Some(config) = maps::read_config(dir)? else {
        return Ok(Vec::new());
    };
    let now = now()?;
    let mut flows = join::<V4>(&maps::halves(dir)?, now, &config);
    flows.extend(join::<V6>(&maps::halves(dir)?, now, &config));
    Ok(flows)
}

/// The programs' clock.
fn now() -> Result<Tick, Error> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_err(Error::Clock)?;
    let nanos = time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64;
    Ok(Tick::from_nanos(nanos))
}

/// Families, with addresses as the standard library has them.
pub trait Address: Family {
    /// The address in the standard library's type.
    fn address(addr: Self::Addr) -> IpAddr;
}

impl Address for V4 {
    fn address(addr: Self::Addr) -> IpAddr {
        IpAddr::V4(addr.into())
    }
}

impl Address for V6 {
    fn address(addr: Self::Addr) -> IpAddr {
        IpAddr::V6(addr.into())
    }
}

fn join<F: Address + FlowTable>(
    halves: &BTreeMap<Tuple<F>, Entry<F>>,
    now: Tick,
    config: &GlobalConfig,
) -> Vec<Flow>
where
    Tuple<F>: Ord,
{
    halves
        .iter()
        .filter(|(_, entry)| entry.direction() == Direction::Original)
        .filter_map(|(tuple, entry)| {
            let partner = entry.partner();
            flow(tuple, entry, &partner, halves.get(&partner), now, config)
        })
        .collect()
}

/// `None` for a flow that has ended and only waits to be swept.
fn flow<F: Address>(
    tuple: &Tuple<F>,
    entry: &Entry<F>,
    partner_tuple: &Tuple<F>,
    partner: Option<&Entry<F>>,
    now: Tick,
    config: &GlobalConfig,
) -> Option<Flow> {
    // A half without its partner is being made or unmade this moment.
    let partner = partner?;
    let left = ticks_left(tuple.proto, entry, now, config).max(ticks_left(
        tuple.proto,
        partner,
        now,
        config,
    ));
    Some(Flow {
        proto: proto_name(tuple.proto),
        state: State::from_u8(entry.state).name(),
        original: half(tuple, entry),
        reply: half(partner_tuple, partner),
        expires_in_s: (u64::from(left?) << Tick::SHIFT) / 1_000_000_000,
        mapping: entry.mapping,
        from_endpoint: entry.in_endpoint,
        to_endpoint: entry.out_endpoint,
    })
}

fn ticks_left<F: Family>(
    protocol: u8,
    entry: &Entry<F>,
    now: Tick,
    config: &GlobalConfig,
) -> Option<u32> {
    let timeout = State::from_u8(entry.state).timeout(protocol, &config.timeouts);
    timeout.checked_sub(now.since(entry.last_seen))
}

fn half<F: Address>(tuple: &Tuple<F>, entry: &Entry<F>) -> Half {
    let has_ports = matches!(tuple.proto, proto::TCP | proto::UDP);
    Half {
        src_addr: F::address(tuple.src_addr),
        src_port: has_ports.then(|| tuple.src_port.get()),
        dst_addr: F::address(tuple.dst_addr),
        dst_port: has_ports.then(|| tuple.dst_port.get()),
        id: tuple.is_icmp().then(|| tuple.src_port.get()),
        packets: entry.packets,
        bytes: entry.bytes,
    }
}

/// The name of a protocol; its number where netbpf has no name for it.
pub fn proto_name(protocol: u8) -> String {
    match protocol {
        proto::TCP => "tcp".to_owned(),
        proto::UDP => "udp".to_owned(),
        proto::ICMP => "icmp".to_owned(),
        proto::ICMPV6 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use netbpf_common::{
        conntrack::{Timeouts, entry_flags},
        wire::{Be16, Ipv4},
    };

    use super::*;

    fn config() -> GlobalConfig {
        let timeouts = Timeouts {
            udp: 100,
            udp_stream: 1000,
            ..Timeouts::default()
        };
        GlobalConfig {
            timeouts,
            ..GlobalConfig::default()
        }
    }

    /// A masqueraded UDP flow whose halves were last seen at the given ticks.
    fn halves(original_seen: u32, reply_seen: u32) -> BTreeMap<Tuple<V4>, Entry<V4>> {
        let original = Tuple {
            src_addr: Ipv4::from_wire([172, 28, 0, 2]),
            dst_addr: Ipv4::from_wire([198, 51, 100, 9]),
            src_port: Be16::new(4000),
            dst_port: Be16::new(53),
            proto: proto::UDP,
            ..Tuple::default()
        };
        let translated = original.with_source(Ipv4::from_wire([198, 51, 100, 1]), Be16::new(40000));
        let state = State::Replied as u8;
        let entry = Entry {
            packets: 2,
            bytes: 200,
            state,
            last_seen: Tick(original_seen),
            translated,
            ..Entry::default()
        };
        let partner = Entry {
            packets: 1,
            bytes: 90,
            state,
            flags: entry_flags::REPLY,
            last_seen: Tick(reply_seen),
            translated: original.reversed(),
            ..Entry::default()
        };
        BTreeMap::from([(original, entry), (translated.reversed(), partner)])
    }

    #[test]
    fn both_halves_become_one_flow_that_lives_as_long_as_the_younger_one() {
        let flows = join(&halves(0, 60), Tick(120), &config());
        let [flow] = flows.as_slice() else {
            panic!("one flow, not {flows:?}")
        };
        assert_eq!(flow.state, "REPLIED");
        assert_eq!((flow.original.packets, flow.reply.packets), (2, 1));
        assert_eq!(flow.reply.dst_addr, IpAddr::from([198, 51, 100, 1]));
        assert_eq!(flow.reply.dst_port, Some(40000));
        // 40 of 100 ticks are left.
        assert_eq!(flow.expires_in_s, (40_u64 << Tick::SHIFT) / 1_000_000_000);
    }

    #[test]
    fn flow_that_both_sides_left_is_not_listed() {
        assert!(join(&halves(0, 10), Tick(111), &config()).is_empty());
    }
}
