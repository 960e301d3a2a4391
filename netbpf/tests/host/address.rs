//! Addresses and routes.

use std::net::{IpAddr, UdpSocket};

use ipnet::IpNet;
use netbpf::host::{
    Rtnl,
    address::{Preference, Scope},
    sysctl::{Knob, Sysctl},
};

use crate::bed::Bed;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_address_is_usable_at_once_and_added_and_deleted_twice_over() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        let bridge = bed.bridge();
        rtnl.up(bridge.index).unwrap();
        for net in [net("10.28.0.1/24"), net("fd00:28::1/64")] {
            rtnl.add_address(bridge.index, net, Preference::Preferred)
                .unwrap();
            rtnl.add_address(bridge.index, net, Preference::Preferred)
                .unwrap();
            let addresses = rtnl.addresses().unwrap();
            let found: Vec<_> = addresses.iter().filter(|found| found.net == net).collect();
            let [found] = found[..] else {
                panic!("{addresses:?}")
            };
            assert!(found.index == bridge.index && found.scope == Scope::Global);
            assert!(!found.tentative && !found.deprecated);
            UdpSocket::bind((net.addr(), 0)).unwrap();
            rtnl.del_address(bridge.index, net).unwrap();
            rtnl.del_address(bridge.index, net).unwrap();
            assert!(
                rtnl.addresses()
                    .unwrap()
                    .iter()
                    .all(|found| found.net != net)
            );
        }
    });
}

#[test]
fn a_virtual_address_is_never_a_source() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        let bridge = bed.bridge();
        rtnl.up(bridge.index).unwrap();
        let prefer = |text, preference| {
            rtnl.add_address(bridge.index, net(text), preference)
                .unwrap();
        };
        prefer("10.28.0.100/32", Preference::Never);
        prefer("fd00:28::100/128", Preference::Never);
        prefer("10.28.0.1/24", Preference::Preferred);
        prefer("fd00:28::1/64", Preference::Preferred);
        let addresses = rtnl.addresses().unwrap();
        for (vip, gateway, container) in [
            ("10.28.0.100", "10.28.0.1", "10.28.0.10:80"),
            ("fd00:28::100", "fd00:28::1", "[fd00:28::10]:80"),
        ] {
            let found = addresses
                .iter()
                .find(|found| found.addr() == ip(vip))
                .unwrap();
            assert!(found.deprecated && !found.tentative, "{found:?}");
            let unspecified = if container.starts_with('[') {
                "[::]:0"
            } else {
                "0.0.0.0:0"
            };
            let socket = UdpSocket::bind(unspecified).unwrap();
            socket.connect(container).unwrap();
            assert_eq!(socket.local_addr().unwrap().ip(), ip(gateway));
        }
    });
}

#[test]
fn loopback_and_link_local_addresses_are_told_apart() {
    Bed::with(|bed| {
        let addresses = bed.host.rtnl().addresses().unwrap();
        for (addr, scope) in [("127.0.0.1", Scope::Host), ("::1", Scope::Host)] {
            let found = addresses
                .iter()
                .find(|found| found.addr() == ip(addr))
                .unwrap();
            assert!(found.is_loopback() && found.scope == scope, "{found:?}");
        }
        assert!(addresses.iter().all(|found| !found.addr().is_multicast()));
    });
}

#[test]
fn default_routes_of_a_container_are_added_and_deleted_twice_over() {
    Bed::with(|bed| {
        let web = bed.container("web");
        let port = bed.host.rtnl().ensure_veth(&bed.veth(&web)).unwrap();
        bed.host.rtnl().up(port.index).unwrap();
        let inside = Rtnl::open(&web).unwrap();
        let eth0 = inside.existing_link("eth0").unwrap().index;
        inside.up(eth0).unwrap();
        for (own, gateway) in [
            ("10.28.0.10/24", "10.28.0.1"),
            ("fd00:28::10/64", "fd00:28::1"),
        ] {
            inside
                .add_address(eth0, net(own), Preference::Preferred)
                .unwrap();
            inside.add_default_route(ip(gateway), eth0).unwrap();
            inside.add_default_route(ip(gateway), eth0).unwrap();
        }
        let defaults = || {
            let routes = inside.routes().unwrap();
            let mut gateways: Vec<_> = routes
                .iter()
                .filter(|r| r.is_default())
                .filter_map(|r| r.gateway)
                .collect();
            gateways.sort();
            gateways
        };
        assert_eq!(defaults(), [ip("10.28.0.1"), ip("fd00:28::1")]);
        for gateway in ["10.28.0.1", "fd00:28::1"] {
            inside.del_default_route(ip(gateway), eth0).unwrap();
            inside.del_default_route(ip(gateway), eth0).unwrap();
        }
        assert_eq!(defaults(), [] as [IpAddr; 0]);
    });
}

#[test]
fn only_links_with_an_advertised_default_route_are_listed_and_keep_it() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        for (name, peer) in [("up0", "far0"), ("up1", "far1")] {
            bed.ip(&format!("link add {name} type veth peer name {peer}"));
            bed.ip(&format!("link set {peer} up"));
            bed.ip(&format!("link set {name} up"));
        }
        bed.ip("-6 address add 2001:db8:1::2/64 dev up0 nodad");
        bed.ip("-6 address add 2001:db8:2::2/64 dev up1 nodad");
        bed.ip("-6 route add default via 2001:db8:1::1 dev up0 proto ra metric 1024 expires 900");
        bed.ip("-6 route add default via 2001:db8:2::1 dev up1 proto static metric 2048");
        let up0 = rtnl.existing_link("up0").unwrap().index;
        assert_eq!(rtnl.links_with_advertised_default().unwrap(), [up0]);
        assert!(
            rtnl.routes()
                .unwrap()
                .iter()
                .any(|route| route.destination == net("2001:db8:1::/64"))
        );

        Sysctl::new(Knob::Ipv6AcceptRa, "up0").write("2").unwrap();
        let bridge = bed.bridge();
        Sysctl::new(Knob::Ipv6Forwarding, &bridge.name)
            .write("1")
            .unwrap();
        assert_eq!(rtnl.links_with_advertised_default().unwrap(), [up0]);
    });
}
