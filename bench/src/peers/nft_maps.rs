//! nftables at its best: published ports in one map and one set, looked up once a connection, and
//! established connections before everything else.

use super::{
    PORT, PUBLISHED, Site, Way,
    bed::{BRIDGE, Bed},
};

/// A host with `ports` published ports.
///
/// # Panics
///
/// When a step fails.
pub fn site(ports: u16) -> Site {
    let bed = Bed::make();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), ruleset(ports)).expect("the ruleset is written");
    bed.topology
        .host
        .run(&format!("nft --file {}", file.path().display()));
    bed.site(Way::Published, ports)
}

fn ruleset(ports: u16) -> String {
    let elements = |container: &str| {
        (0..ports)
            .map(|at| format!("{} : {container} . {}", PUBLISHED + at, PORT + at))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (v4, v6) = (elements("172.28.0.10"), elements("fd00:28::a"));
    format!(
        "table inet bench {{
            map published4 {{ type inet_service : ipv4_addr . inet_service; elements = {{ {v4} }}; }}
            map published6 {{ type inet_service : ipv6_addr . inet_service; elements = {{ {v6} }}; }}
            chain prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                iifname \"{BRIDGE}\" return
                fib daddr type local dnat ip to tcp dport map @published4
                fib daddr type local dnat ip6 to tcp dport map @published6
            }}
            chain output {{
                type nat hook output priority -100; policy accept;
                fib daddr type local dnat ip to tcp dport map @published4
                fib daddr type local dnat ip6 to tcp dport map @published6
            }}
            chain postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                iifname \"{BRIDGE}\" oifname != \"{BRIDGE}\" masquerade
            }}
            chain forward {{
                type filter hook forward priority filter; policy drop;
                ct state vmap {{ established : accept, related : accept, invalid : drop }}
                iifname \"{BRIDGE}\" accept
                oifname \"{BRIDGE}\" ct status dnat accept
            }}
        }}"
    )
}
