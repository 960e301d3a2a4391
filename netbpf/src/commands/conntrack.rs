//! `conntrack ls`.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::committed;
use crate::{
    cli::{FlowFilter, Listing},
    dataplane::conntrack::{self, Flow, Half},
    display::{self, Row},
    error::Error,
    host::{bpffs::PinDirs, kernel},
    state::Instance,
};

impl Row for Flow {
    const HEADS: &'static [&'static str] = &[
        "PROTO", "STATE", "EXPIRES", "ORIGINAL", "PACKETS", "BYTES", "REPLY", "PACKETS", "BYTES",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.proto.clone(),
            self.state.to_owned(),
            format!("{}s", self.expires_in_s),
            direction(&self.original),
            self.original.packets.to_string(),
            self.original.bytes.to_string(),
            direction(&self.reply),
            self.reply.packets.to_string(),
            self.reply.bytes.to_string(),
        ]
    }
}

fn direction(half: &Half) -> String {
    let end = |address: IpAddr, port: Option<u16>| match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    let id = half.id.map(|id| format!(" id {id}")).unwrap_or_default();
    let (source, destination) = (
        end(half.src_addr, half.src_port),
        end(half.dst_addr, half.dst_port),
    );
    format!("{source} -> {destination}{id}")
}

/// Which flows are wanted, with the container's name resolved to its endpoint ids.
struct Wanted<'f> {
    filter: &'f FlowFilter,
    endpoints: Option<Vec<u32>>,
}

impl Wanted<'_> {
    fn matches(&self, flow: &Flow) -> bool {
        let within = |subnet: Option<IpNet>, address: IpAddr| {
            subnet.is_none_or(|subnet| subnet.contains(&address))
        };
        let has_end = |endpoints: &Vec<u32>| {
            endpoints.contains(&flow.from_endpoint) || endpoints.contains(&flow.to_endpoint)
        };
        within(self.filter.src, flow.original.src_addr)
            && within(self.filter.dst, flow.original.dst_addr)
            && self
                .filter
                .proto
                .as_deref()
                .is_none_or(|proto| is_proto(flow, proto))
            && self.endpoints.as_ref().is_none_or(has_end)
    }
}

/// Whether a flow has that protocol; `icmp` is that of both families.
fn is_proto(flow: &Flow, proto: &str) -> bool {
    flow.proto.eq_ignore_ascii_case(proto)
        || (proto.eq_ignore_ascii_case("icmp") && flow.proto == "icmpv6")
}

/// `conntrack ls`.
pub(super) fn ls(instance: &Instance, filter: &FlowFilter, listing: Listing) -> Result<()> {
    let endpoints = match &filter.container {
        None => None,
        Some(name) => Some(endpoints_of(instance, name)?),
    };
    let wanted = Wanted { filter, endpoints };
    // Without privileges nothing would seem to be loaded.
    kernel::require()?;
    let mut flows = conntrack::list(&PinDirs::of(instance.name()))
        .context("failed to read the connection table")?;
    flows.retain(|flow| wanted.matches(flow));
    display::list(&flows, listing)
}

fn endpoints_of(instance: &Instance, name: &str) -> Result<Vec<u32>> {
    let model = committed::model(instance)?;
    let container = model.container(name);
    let container = container.ok_or_else(|| Error::host(format!("no such container: {name}")))?;
    let attachments = container.attachments.iter();
    Ok(attachments.map(|attachment| attachment.endpoint).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::flow;

    fn count(flows: &[Flow], filter: FlowFilter, endpoint: Option<u32>) -> usize {
        let wanted = Wanted {
            filter: &filter,
            endpoints: endpoint.map(|endpoint| vec![endpoint]),
        };
        flows.iter().filter(|flow| wanted.matches(flow)).count()
    }

    #[test]
    fn filters_must_all_hold() {
        let all = FlowFilter::default;
        let flows = [
            flow(1, 7),
            Flow {
                proto: "icmpv6".to_owned(),
                ..flow(1, 8)
            },
        ];
        assert_eq!(count(&flows, all(), None), 2);
        let src = |text: &str| Some(text.parse().unwrap());
        assert_eq!(
            count(
                &flows,
                FlowFilter {
                    src: src("172.28.0.0/24"),
                    ..all()
                },
                None
            ),
            2
        );
        assert_eq!(
            count(
                &flows,
                FlowFilter {
                    src: src("172.28.0.9/32"),
                    ..all()
                },
                None
            ),
            0
        );
        assert_eq!(
            count(
                &flows,
                FlowFilter {
                    dst: src("172.28.0.100/32"),
                    ..all()
                },
                None
            ),
            2
        );
        let proto = |proto: &str| FlowFilter {
            proto: Some(proto.to_owned()),
            ..all()
        };
        assert_eq!(count(&flows, proto("TCP"), None), 1);
        assert_eq!(count(&flows, proto("icmp"), None), 1);
        assert_eq!(count(&flows, proto("udp"), None), 0);
        assert_eq!(count(&flows, all(), Some(7)), 1);
        assert_eq!(count(&flows, proto("icmp"), Some(7)), 0);
    }

    #[test]
    fn table_shows_both_directions() {
        assert_eq!(
            display::table(Flow::HEADS, [flow(1, 7).cells()]),
            "PROTO  STATE        EXPIRES  ORIGINAL                             PACKETS  BYTES  \
             REPLY                                 PACKETS  BYTES\n\
             tcp    ESTABLISHED  86400s   172.28.0.2:40000 -> 172.28.0.100:80  3        180    \
             172.28.0.10:8080 -> 172.28.0.2:40000  2        120\n"
        );
    }
}
