//! The interfaces of the bed's world. The far ends of the veths stay in the same namespace: no packet
//! ever leaves by them.

use std::{io::Write as _, process::Stdio};

use super::{Net, UPLINK_MAC, residents};
use crate::{
    netns::Netns,
    packet::Mac,
    topology::{CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6},
};

pub(super) fn bridge(net: Net) -> String {
    format!("br{}", net.id())
}

/// Makes the interfaces of the world and returns their ifindexes. The far ends of the veths stay
/// in the same namespace: no packet ever leaves by them.
pub(super) fn make_interfaces(netns: &Netns) -> Vec<(String, u32)> {
    let mut batch = String::new();
    let mut line = |text: String| {
        batch.push_str(&text);
        batch.push('\n');
    };
    let mac = |mac: Mac| mac.map(|byte| format!("{byte:02x}")).join(":");
    for (name, address) in [("up0", UPLINK_MAC), ("stray", [0x02, 0xdd, 0, 0, 0, 1])] {
        line(format!(
            "link add {name} address {} type veth peer name {name}p",
            mac(address)
        ));
        line(format!("link set {name}p up"));
        line(format!("link set {name} up"));
    }
    line(format!("addr add {HOST_V4}/24 dev up0"));
    line(format!("addr add {HOST_V6}/64 dev up0 nodad"));
    line(format!("route add default via {CLIENT_V4}"));
    line(format!("-6 route add default via {CLIENT_V6}"));
    line("route add 192.88.99.0/24 dev stray scope link src 203.0.113.1".to_owned());
    line(format!(
        "-6 route add 2001:db8:99::/64 dev stray src {HOST_V6}"
    ));
    for net in Net::ALL {
        let name = bridge(net);
        line(format!(
            "link add {name} address {} type bridge",
            mac(net.bridge_mac())
        ));
        line(format!("link set {name} up"));
        line(format!("addr add {}/16 dev {name}", net.v4(1)));
        line(format!("addr add {}/64 dev {name} nodad", net.v6(1)));
    }
    for resident in residents::ALL {
        let name = resident.veth();
        line(format!("link add {name} type veth peer name {name}p"));
    }
    run_batch(netns, &batch);
    for net in Net::ALL {
        netns.set_sysctl(&format!("net/ipv4/conf/{}/forwarding", bridge(net)), "1");
        netns.set_sysctl(&format!("net/ipv6/conf/{}/forwarding", bridge(net)), "1");
    }
    ifindexes(netns)
}

/// Runs `ip` commands, each on its own: its batch mode knows no family on a line.
fn run_batch(netns: &Netns, lines: &str) {
    for (option, wants_v6) in [("-d", false), ("-6", true)] {
        let batch: String = lines
            .lines()
            .filter(|line| line.starts_with("-6 ") == wants_v6)
            .map(|line| format!("{}\n", line.trim_start_matches("-6 ")))
            .collect();
        let mut child = netns
            .command("ip")
            .args([option, "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("ip is started");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin
            .write_all(batch.as_bytes())
            .expect("ip takes its batch");
        drop(stdin);
        assert!(child.wait().expect("ip ends").success(), "{batch}");
    }
}

fn ifindexes(netns: &Netns) -> Vec<(String, u32)> {
    let shown = netns.ip("-o link show");
    let parse = |line: &str| {
        let mut parts = line.split(": ");
        let index = parts.next()?.trim().parse().ok()?;
        let name = parts.next()?.split('@').next()?.to_owned();
        Some((name, index))
    };
    shown.lines().filter_map(parse).collect()
}
