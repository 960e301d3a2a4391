//! nftables with maps: all published ports of a family in one, looked up once a connection, and
//! established connections before everything else. There is no flow table: every packet goes
//! through the stack.

use std::io::Write as _;

use anyhow::{Context as _, Result};

use super::{
    PORT, PUBLISHED, Site, Standing, Way,
    bed::{BRIDGE, Bed},
};

/// The bed with a table.
struct Filtered(Bed);

impl Standing for Filtered {
    fn publish(&mut self, ports: u16) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new()?;
        // One transaction, also where the table is there already.
        write!(
            file,
            "table inet bench\ndelete table inet bench\n{}",
            ruleset(ports)
        )?;
        let mut nft = self.0.topology.host.command("nft");
        nft.arg("--file").arg(file.path());
        super::rules::output(&mut nft).context("nft").map(drop)
    }
}

/// A host with `ports` published ports.
///
/// # Errors
///
/// What nft says.
///
/// # Panics
///
/// When a step fails.
pub fn site(ports: u16) -> Result<Site> {
    let mut filtered = Filtered(Bed::make());
    filtered.publish(ports)?;
    Ok(filtered.0.site(Way::Published, ports, Filtered))
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
