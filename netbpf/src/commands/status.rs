//! `status`.

use anyhow::Result;

use crate::{
    cli::{Cli, Listing},
    display::{self, joined, table, yes_no},
    host::{Host, kernel},
    state::Instance,
    status::{self, Count, Sockets, Status},
};

/// `status`.
pub(super) fn status(cli: &Cli, instance: &Instance, listing: Listing) -> Result<()> {
    // Without privileges nothing would seem to be loaded.
    kernel::require()?;
    let host = Host::enter(cli.netns.as_deref())?;
    let status = status::status(&host, instance)?;
    if listing.json {
        return display::json(&status);
    }
    display::print(&shown(&status))
}

fn shown(status: &Status) -> String {
    let mut parts = vec![summary(status)];
    if !status.interfaces.is_empty() {
        parts.push(interfaces(status));
    }
    if !status.maps.is_empty() {
        parts.push(maps(status));
    }
    if !status.drops.is_empty() {
        parts.push(counts("DROPPED BY", &status.drops));
    }
    if !status.slow_path.is_empty() {
        parts.push(counts("TO THE STACK BY", &status.slow_path));
    }
    parts.join("\n")
}

fn summary(status: &Status) -> String {
    let features = status.kernel.features;
    let used = [
        ("TCX", features.tcx),
        ("BPF_FIB_LOOKUP_SKIP_NEIGH", features.fib_skip_neigh),
        ("BPF_FIB_LOOKUP_SRC", features.fib_lookup_src),
        ("BPF_F_IPV6", features.bpf_f_ipv6),
        ("REDIRECT_PEER_SCRUB", features.redirect_peer_scrub),
    ];
    let used = joined(
        used.into_iter()
            .filter(|(_, is_used)| *is_used)
            .map(|(name, _)| name),
    );
    let mut text = format!(
        "instance        {}\nversion         {}\nstate           {}\nkernel          {} ({used})\n\
         ports reserved  {}\nhost sockets    {}\n",
        status.instance,
        status.version,
        status.state.name(),
        status.kernel.release,
        yes_no(status.ports_reserved),
        sockets(&status.sockets),
    );
    let missing = status.missing.iter();
    text.extend(missing.map(|pin| format!("missing         {pin}\n")));
    if features.br_netfilter {
        text.push_str(
            "note            br_netfilter is on: netfilter sees bridged multicast and broadcast\n",
        );
    }
    if features.xfrm {
        text.push_str(
            "note            IPsec policies: what leaves the host takes its stack, which has to forward\n",
        );
    }
    text
}

fn sockets(sockets: &Sockets) -> String {
    match &sockets.cgroup {
        None => "no cgroup2: met on the loopback interface".to_owned(),
        Some(_) if sockets.hooks.is_empty() => "not hooked".to_owned(),
        Some(cgroup) => format!("{} on {}", joined(&sockets.hooks), cgroup.display()),
    }
}

fn interfaces(status: &Status) -> String {
    let rows = status.interfaces.iter().map(|interface| {
        let name = if interface.name.is_empty() {
            "(gone)"
        } else {
            interface.name.as_str()
        };
        vec![
            name.to_owned(),
            interface.ifindex.to_string(),
            interface.role.to_owned(),
            joined(&interface.hooks),
        ]
    });
    table(&["INTERFACE", "IFINDEX", "ROLE", "HOOKS"], rows)
}

fn maps(status: &Status) -> String {
    let rows = status.maps.iter().map(|map| {
        vec![
            map.name.clone(),
            joined(map.entries),
            map.max_entries.to_string(),
        ]
    });
    table(&["MAP", "ENTRIES", "MAX"], rows)
}

fn counts(head: &str, counts: &[Count]) -> String {
    let rows = counts.iter().map(|count| {
        vec![
            count.hook.to_owned(),
            count.reason.to_owned(),
            count.packets.to_string(),
            count.bytes.to_string(),
            count.message.to_owned(),
        ]
    });
    table(&[head, "REASON", "PACKETS", "BYTES", "MEANING"], rows)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        dataplane::maps::MapFill,
        status::{Features, Interface, Kernel, State},
    };

    fn absent() -> Status {
        let features = Features {
            tcx: true,
            fib_skip_neigh: true,
            fib_lookup_src: true,
            bpf_f_ipv6: false,
            redirect_peer_scrub: true,
            br_netfilter: false,
            xfrm: false,
        };
        Status {
            instance: "lab".to_owned(),
            version: "0.1.0".to_owned(),
            state: State::Absent,
            missing: Vec::new(),
            kernel: Kernel {
                release: "6.12.0".to_owned(),
                features,
            },
            ports_reserved: false,
            sockets: Sockets::default(),
            interfaces: Vec::new(),
            maps: Vec::new(),
            drops: Vec::new(),
            slow_path: Vec::new(),
        }
    }

    fn active() -> Status {
        let mut status = Status {
            state: State::Active,
            ..absent()
        };
        status.kernel.features.br_netfilter = true;
        status.interfaces.push(Interface {
            name: "eth0".to_owned(),
            ifindex: 2,
            role: "uplink",
            hooks: vec!["from_netdev", "to_netdev"],
        });
        status.maps.push(MapFill {
            name: "networks".to_owned(),
            entries: Some(3),
            max_entries: 4096,
            path: PathBuf::from("/sys/fs/bpf/netbpf/lab/maps/networks"),
        });
        status.drops.push(Count {
            hook: "from_netdev",
            reason: "direct_access",
            message: "container addresses are not reachable from outside",
            packets: 7,
            bytes: 518,
        });
        status
    }

    #[test]
    fn absent_instance_shows_its_summary() {
        assert_eq!(
            shown(&absent()),
            "instance        lab\n\
             version         0.1.0\n\
             state           absent\n\
             kernel          6.12.0 (TCX,BPF_FIB_LOOKUP_SKIP_NEIGH,BPF_FIB_LOOKUP_SRC,\
             REDIRECT_PEER_SCRUB)\n\
             ports reserved  no\n\
             host sockets    no cgroup2: met on the loopback interface\n"
        );
    }

    #[test]
    fn active_instance_shows_hooks_maps_and_drops() {
        let text = shown(&active());
        assert!(
            text.contains("note            br_netfilter is on"),
            "{text}"
        );
        let tables = "\n\
            INTERFACE  IFINDEX  ROLE    HOOKS\n\
            eth0       2        uplink  from_netdev,to_netdev\n\
            \n\
            MAP       ENTRIES  MAX\n\
            networks  3        4096\n\
            \n\
            DROPPED BY   REASON         PACKETS  BYTES  MEANING\n\
            from_netdev  direct_access  7        518    container addresses are not reachable from outside\n";
        assert!(text.ends_with(tables), "{text}");
    }

    #[test]
    fn status_has_the_contracts_fields() {
        let value = serde_json::to_value(active()).unwrap();
        assert_eq!(value["state"], "active");
        for field in ["instance", "version", "state", "kernel", "ports_reserved"] {
            assert!(value.get(field).is_some(), "{field}");
        }
        let interface = serde_json::json!({
            "name": "eth0", "ifindex": 2, "role": "uplink", "hooks": ["from_netdev", "to_netdev"],
        });
        assert_eq!(value["interfaces"], serde_json::json!([interface]));
        let map = serde_json::json!({
            "name": "networks", "entries": 3, "max_entries": 4096,
            "path": "/sys/fs/bpf/netbpf/lab/maps/networks",
        });
        assert_eq!(value["maps"], serde_json::json!([map]));
        let drop = serde_json::json!({
            "hook": "from_netdev", "reason": "direct_access",
            "message": "container addresses are not reachable from outside",
            "packets": 7, "bytes": 518,
        });
        assert_eq!(value["drops"], serde_json::json!([drop]));
    }
}
