//! Veth pairs, and that two containers on a bridge reach each other at once.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use ipnet::IpNet;
use netbpf::host::{
    Error, Netns, Rtnl,
    address::Preference,
    link::{Mark, Running, VethSpec},
};

use crate::bed::{Bed, PORT_MAC, PORT_MARK, WEB_MAC};

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_pair_is_made_once_down_and_free_and_deleted_once() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        let web = bed.container("web");
        let inside = Rtnl::open(&web).unwrap();
        let spec = VethSpec {
            mtu: 1400,
            ..bed.veth(&web)
        };

        let port = rtnl.ensure_veth(&spec).unwrap();
        assert!(!port.up && port.master.is_none());
        assert_eq!((port.mac, port.mtu), (Some(PORT_MAC), 1400));
        assert_eq!(port.alias.as_deref(), Some(PORT_MARK.alias));
        let peer = inside.existing_link("eth0").unwrap();
        assert!(!peer.up);
        assert_eq!((peer.mac, peer.mtu), (Some(WEB_MAC), 1400));
        assert_eq!((port.peer, peer.peer), (Some(peer.index), Some(port.index)));
        assert!(rtnl.has_peer_in(&port, &web).unwrap());
        assert_eq!(rtnl.ensure_veth(&spec).unwrap(), port);

        let bridge = bed.bridge();
        rtnl.enslave(port.index, bridge.index).unwrap();
        rtnl.enslave(port.index, bridge.index).unwrap();
        rtnl.up(port.index).unwrap();
        rtnl.up(port.index).unwrap();
        let port = rtnl.existing_link(&port.name).unwrap();
        assert!(port.up && port.master == Some(bridge.index));

        rtnl.delete_link(&port.name, &PORT_MARK).unwrap();
        rtnl.delete_link(&port.name, &PORT_MARK).unwrap();
        assert!(inside.link("eth0").unwrap().is_none());
    });
}

#[test]
fn a_port_gets_no_link_local_address() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        let web = bed.container("web");
        let port = rtnl.ensure_veth(&bed.veth(&web)).unwrap();
        rtnl.up(port.index).unwrap();
        let inside = Rtnl::open(&web).unwrap();
        inside
            .up(inside.existing_link("eth0").unwrap().index)
            .unwrap();
        assert_eq!(
            rtnl.until_running(&[port.index], PATIENCE).unwrap(),
            Running::All
        );
        // The container's own comes with the carrier, and the host's would have come with it.
        while inside.addresses().unwrap().is_empty() {
            std::thread::yield_now();
        }
        assert!(
            rtnl.addresses()
                .unwrap()
                .iter()
                .all(|address| address.index != port.index)
        );
    });
}

#[test]
fn a_name_taken_in_the_container_leaves_nothing_on_the_host() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        let web = bed.container("web");
        let spec = bed.veth(&web);
        let other = Mark {
            alias: "theirs",
            mac: [2, 0, 0, 0, 0, 9],
        };
        rtnl.ensure_veth(&VethSpec {
            name: "theirs",
            mark: other,
            ..spec
        })
        .unwrap();
        let before = rtnl.links().unwrap();
        let error = rtnl.ensure_veth(&spec).unwrap_err();
        assert!(error.to_string().contains("with eth0 in "), "{error}");
        assert_eq!(rtnl.links().unwrap(), before);
    });
}

#[test]
fn a_pair_that_leads_to_another_namespace_is_made_anew() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        let (old, new) = (bed.container("old"), bed.container("new"));
        let first = rtnl.ensure_veth(&bed.veth(&old)).unwrap();
        let second = rtnl.ensure_veth(&bed.veth(&new)).unwrap();
        assert_ne!(first.index, second.index);
        assert!(Rtnl::open(&old).unwrap().link("eth0").unwrap().is_none());
        assert!(Rtnl::open(&new).unwrap().link("eth0").unwrap().is_some());
    });
}

#[test]
fn a_strangers_link_under_our_name_is_left_alone() {
    Bed::with(|bed| {
        let web = bed.container("web");
        bed.ip("link add nbv00000001 type veth peer name elsewhere");
        let refused = bed.host.rtnl().ensure_veth(&bed.veth(&web));
        assert!(matches!(refused, Err(Error::Foreign(_))));
        bed.ip("link show elsewhere");
    });
}

#[test]
fn containers_of_a_bridge_reach_each_other_at_once_in_both_families() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        let bridge = bed.bridge();
        rtnl.up(bridge.index).unwrap();
        let containers = [1, 2].map(|number| {
            let netns = bed.container(&format!("c{number}"));
            let name = format!("nbv0000000{number}");
            let alias = format!("netbpf:test:container:c{number}");
            let spec = VethSpec {
                name: &name,
                mark: Mark {
                    alias: &alias,
                    mac: [2, 0xbb, 0, 0, 0, number],
                },
                peer_mac: [2, 0x42, 0, 0, 0, number],
                ..bed.veth(&netns)
            };
            let port = rtnl.ensure_veth(&spec).unwrap();
            rtnl.enslave(port.index, bridge.index).unwrap();
            rtnl.up(port.index).unwrap();
            configure(&netns, number);
            let running = rtnl.until_running(&[port.index], PATIENCE).unwrap();
            assert_eq!(running, Running::All);
            netns
        });
        let [first, second] = &containers;
        for address in ["10.28.0.2:80", "[fd00:28::2]:80"] {
            assert_eq!(
                ask(first, second, address.parse().unwrap()),
                "hello",
                "{address}"
            );
        }
    });
}

fn configure(netns: &Netns, number: u8) {
    let inside = Rtnl::open(netns).unwrap();
    let eth0 = inside.existing_link("eth0").unwrap();
    inside.up(eth0.index).unwrap();
    for net in [
        format!("10.28.0.{number}/24"),
        format!("fd00:28::{number}/64"),
    ] {
        let net: IpNet = net.parse().unwrap();
        inside
            .add_address(eth0.index, net, Preference::Preferred)
            .unwrap();
    }
}

fn ask(from: &Netns, to: &Netns, address: SocketAddr) -> String {
    let listener = to.run(|| TcpListener::bind(address).unwrap()).unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(900)).unwrap();
    let mut client = from.run(connect).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"hello").unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}
