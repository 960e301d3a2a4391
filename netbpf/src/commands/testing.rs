//! A model and a flow for the tests of what commands print.

use crate::{
    allocations::Allocations,
    config,
    dataplane::conntrack::{Flow, Half},
    model::Model,
};

const DOCUMENT: &str = r#"
[[network]]
name = "front"
subnets = ["172.28.0.0/24", "fd00:28::/64"]

[[container]]
name = "web"
networks = [{ name = "front", ipv4 = "172.28.0.10" }]
publish = ["8080:80", "[2001:db8::1]:5353:53/udp"]

[[container]]
name = "db"
networks = [{ name = "front" }]

[[service]]
name = "api"
network = "front"
vip = ["172.28.0.100", "fd00:28::100"]
ports = ["80:8080"]
backends = [{ container = "web" }, { container = "db" }]
scheduler = "random"
"#;

/// A network with two containers and a service.
pub(super) fn model() -> Model {
    let resolved = config::load("t.toml", DOCUMENT)
        .and_then(|document| document.resolve(&Allocations::default()));
    match resolved {
        Ok((model, _)) => model,
        Err(errors) => panic!("{errors}"),
    }
}

/// A flow of that mapping to that endpoint.
pub(super) fn flow(mapping: u32, to_endpoint: u32) -> Flow {
    let half = |source: ([u8; 4], u16), destination: ([u8; 4], u16), packets| Half {
        src_addr: source.0.into(),
        src_port: Some(source.1),
        dst_addr: destination.0.into(),
        dst_port: Some(destination.1),
        id: None,
        packets,
        bytes: packets * 60,
    };
    let client = ([172, 28, 0, 2], 40000);
    Flow {
        proto: "tcp".to_owned(),
        state: "ESTABLISHED",
        original: half(client, ([172, 28, 0, 100], 80), 3),
        reply: half(([172, 28, 0, 10], 8080), client, 2),
        expires_in_s: 86400,
        mapping,
        from_endpoint: 2,
        to_endpoint,
    }
}
