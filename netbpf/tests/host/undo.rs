//! What was noted is taken back, and nothing else.

use netbpf::{
    host::{
        Observed, Rtnl,
        address::Preference,
        netns,
        sysctl::{Knob, Sysctl},
        undo::undo_all,
    },
    state::{AdoptedBridge, Change, Origin},
};

use crate::bed::{BRIDGE_MARK, Bed, PORT_MARK};

/// What a user sees of the host, in an order that does not depend on indices.
fn seen(bed: &Bed) -> Vec<String> {
    let Observed {
        links,
        addresses,
        routes,
        fdb,
    } = bed.host.rtnl().observe().unwrap();
    assert!(fdb.is_empty());
    let mut seen: Vec<String> = links.iter().map(|link| format!("{link:?}")).collect();
    seen.extend(addresses.iter().map(|address| format!("{address:?}")));
    seen.extend(routes.iter().map(|route| format!("{route:?}")));
    seen.sort();
    seen
}

fn bridge_change() -> Change {
    Change::Bridge {
        name: "nb-front".into(),
        alias: BRIDGE_MARK.alias.into(),
        mac: BRIDGE_MARK.mac,
    }
}

fn veth_change() -> Change {
    Change::Veth {
        name: "nbv00000001".into(),
        alias: PORT_MARK.alias.into(),
        mac: PORT_MARK.mac,
        container: "web".into(),
    }
}

#[test]
fn a_network_and_a_container_are_taken_back_twice_over() {
    Bed::with(|bed| {
        let before = seen(bed);
        let web = bed.container("web");
        let rtnl = bed.host.rtnl();
        let bridge = bed.bridge();
        let port = rtnl.ensure_veth(&bed.veth(&web)).unwrap();
        rtnl.enslave(port.index, bridge.index).unwrap();
        rtnl.up(bridge.index).unwrap();
        rtnl.up(port.index).unwrap();
        let net = "10.28.0.1/24".parse().unwrap();
        rtnl.add_address(bridge.index, net, Preference::Preferred)
            .unwrap();
        let sysctl = Sysctl::new(Knob::Ipv4Forwarding, "nb-front");
        sysctl.write("1").unwrap();

        let changes = [
            bridge_change(),
            Change::Address {
                interface: "nb-front".into(),
                net,
            },
            Change::Sysctl {
                sysctl,
                old: "0".into(),
            },
            Change::Netns {
                container: "web".into(),
                path: bed.path("web"),
                id: Some(web.id()),
                origin: Origin::Made,
            },
            veth_change(),
        ];
        for _ in 0..2 {
            let failures = undo_all(&bed.host, &changes);
            assert!(failures.is_empty(), "{failures:?}");
            assert_eq!(seen(bed), before);
            assert!(!bed.path("web").exists());
        }
    });
}

#[test]
fn an_adopted_bridge_and_namespace_get_back_what_was_theirs() {
    Bed::with(|bed| {
        bed.ip("link add nb-front mtu 1400 type bridge");
        bed.ip("address add 172.20.0.1/16 dev nb-front");
        let web = bed.container("web");
        let before = seen(bed);
        let rtnl = bed.host.rtnl();
        let bridge = rtnl.existing_link("nb-front").unwrap();
        let (theirs, ours) = (
            "172.20.0.1/16".parse().unwrap(),
            "10.28.0.1/24".parse().unwrap(),
        );
        let old = Sysctl::new(Knob::Ipv4Forwarding, "nb-front");
        let changes = [
            Change::AdoptedBridge(AdoptedBridge {
                name: bridge.name,
                mac: bridge.mac.unwrap(),
                mtu: bridge.mtu,
                up: bridge.up,
                addresses: vec![theirs],
                index: 0,
            }),
            Change::Address {
                interface: "nb-front".into(),
                net: ours,
            },
            Change::Sysctl {
                sysctl: old.clone(),
                old: "0".into(),
            },
            Change::Netns {
                container: "web".into(),
                path: bed.path("web"),
                id: Some(web.id()),
                origin: Origin::Adopted,
            },
            veth_change(),
        ];
        let port = rtnl.ensure_veth(&bed.veth(&web)).unwrap();
        rtnl.enslave(port.index, bridge.index).unwrap();
        rtnl.up(bridge.index).unwrap();
        rtnl.add_address(bridge.index, ours, Preference::Preferred)
            .unwrap();
        old.write("1").unwrap();

        let failures = undo_all(&bed.host, &changes);
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(seen(bed), before);
        assert_eq!(old.read().unwrap().as_deref(), Some("0"));
        assert!(Rtnl::open(&web).unwrap().link("eth0").unwrap().is_none());
        assert!(bed.path("web").exists());
    });
}

#[test]
fn an_error_is_collected_and_the_rest_goes_on() {
    Bed::with(|bed| {
        let web = bed.container("web");
        bed.host.rtnl().ensure_veth(&bed.veth(&web)).unwrap();
        bed.ip("link add nb-front type bridge");
        let failures = undo_all(&bed.host, &[veth_change(), bridge_change()]);
        let [failure] = &failures[..] else {
            panic!("{failures:?}")
        };
        assert_eq!(failure.change, bridge_change());
        assert!(bed.host.rtnl().link("nbv00000001").unwrap().is_none());
    });
}

#[test]
fn a_namespace_that_replaced_ours_stays() {
    Bed::with(|bed| {
        let ours = bed.container("web").id();
        netns::delete(&bed.path("web")).unwrap();
        // Keeps the number of the first from being given out again.
        bed.container("other");
        let theirs = bed.container("web");
        assert_ne!(theirs.id(), ours);
        let change = Change::Netns {
            container: "web".into(),
            path: bed.path("web"),
            id: Some(ours),
            origin: Origin::Made,
        };
        assert!(undo_all(&bed.host, &[change]).is_empty());
        assert!(bed.path("web").exists());
    });
}
