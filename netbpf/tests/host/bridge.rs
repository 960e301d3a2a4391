//! Bridges: ours, somebody else's, and what is no bridge.

use netbpf::host::{
    Error,
    link::{BridgeFound, BridgeSpec},
    neighbour::FdbEntry,
};

use crate::bed::{BRIDGE_MAC, BRIDGE_MARK, Bed, PORT_MARK, WEB_MAC};

const OURS: &str = "netbpf:test:";

#[test]
fn a_bridge_is_made_once_with_its_mark_and_deleted_once() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        let made = bed.bridge();
        assert!(made.is_bridge() && made.is_ethernet() && !made.up);
        assert_eq!(made.mac, Some(BRIDGE_MAC));
        assert_eq!(made.alias.as_deref(), Some(BRIDGE_MARK.alias));
        assert_eq!(bed.bridge(), made);
        let found = rtnl.find_bridge(&BRIDGE_MARK, "nb-front", OURS).unwrap();
        assert_eq!(found, BridgeFound::Ours(made));

        rtnl.delete_link("nb-front", &BRIDGE_MARK).unwrap();
        rtnl.delete_link("nb-front", &BRIDGE_MARK).unwrap();
        let found = rtnl.find_bridge(&BRIDGE_MARK, "nb-front", OURS).unwrap();
        assert_eq!(found, BridgeFound::Missing);
    });
}

#[test]
fn a_bridge_keeps_its_mtu_and_mac_with_and_without_ports() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        let spec = BridgeSpec {
            name: "nb-front",
            mark: BRIDGE_MARK,
            mtu: 9000,
        };
        let bridge = rtnl.ensure_bridge(&spec).unwrap();
        assert_eq!(bridge.mtu, 9000);
        let web = bed.container("web");
        let port = rtnl.ensure_veth(&bed.veth(&web)).unwrap();
        rtnl.enslave(port.index, bridge.index).unwrap();
        assert_eq!(rtnl.existing_link("nb-front").unwrap().mtu, 9000);
        rtnl.delete_link(&port.name, &PORT_MARK).unwrap();
        let after = rtnl.existing_link("nb-front").unwrap();
        assert_eq!((after.mtu, after.mac), (9000, Some(BRIDGE_MAC)));

        let smaller = BridgeSpec { mtu: 1400, ..spec };
        assert_eq!(rtnl.ensure_bridge(&smaller).unwrap().mtu, 1400);
    });
}

#[test]
fn a_bridge_whose_alias_a_kill_prevented_is_ours() {
    Bed::with(|bed| {
        bed.ip("link add nb-front address 02:aa:00:00:00:01 type bridge");
        let found = bed
            .host
            .rtnl()
            .find_bridge(&BRIDGE_MARK, "nb-front", OURS)
            .unwrap();
        assert!(matches!(found, BridgeFound::Ours(_)));
        assert_eq!(bed.bridge().alias.as_deref(), Some(BRIDGE_MARK.alias));
    });
}

#[test]
fn a_strangers_empty_bridge_may_be_adopted_but_never_deleted() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        bed.ip("link add nb-front type bridge");
        let found = rtnl.find_bridge(&BRIDGE_MARK, "nb-front", OURS).unwrap();
        assert!(matches!(found, BridgeFound::Adoptable(_)));
        let refused = rtnl.delete_link("nb-front", &BRIDGE_MARK);
        assert!(matches!(refused, Err(Error::Foreign(_))));
        let spec = BridgeSpec {
            name: "nb-front",
            mark: BRIDGE_MARK,
            mtu: 1500,
        };
        assert!(matches!(rtnl.ensure_bridge(&spec), Err(Error::Foreign(_))));
        assert!(rtnl.link("nb-front").unwrap().is_some());
    });
}

#[test]
fn a_bridge_with_a_strangers_port_is_refused_by_the_ports_name() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        let bridge = bed.bridge();
        bed.ip("link add theirs type veth peer name elsewhere");
        bed.ip("link set theirs master nb-front");
        let error = rtnl
            .find_bridge(&BRIDGE_MARK, "nb-front", OURS)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "bridge nb-front has a port that is not ours: theirs"
        );
        assert_eq!(error.exit_code(), 1);
        let port = rtnl.existing_link("theirs").unwrap();
        assert_eq!(port.master, Some(bridge.index));
        rtnl.release(port.index).unwrap();
        rtnl.release(port.index).unwrap();
        assert!(rtnl.find_bridge(&BRIDGE_MARK, "nb-front", OURS).is_ok());
    });
}

#[test]
fn what_is_no_bridge_is_refused_by_its_kind() {
    Bed::with(|bed| {
        bed.ip("link add nb-front type veth peer name elsewhere");
        let error = bed
            .host
            .rtnl()
            .find_bridge(&BRIDGE_MARK, "nb-front", OURS)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "nb-front exists and is no bridge but a veth"
        );
        let error = bed
            .host
            .rtnl()
            .find_bridge(&BRIDGE_MARK, "lo", OURS)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "lo exists and is no bridge but a physical interface"
        );
    });
}

#[test]
fn a_forwarding_entry_is_set_and_forgotten_twice_over() {
    Bed::with(|bed| {
        let rtnl = bed.host.rtnl();
        let bridge = bed.bridge();
        let web = bed.container("web");
        let port = rtnl.ensure_veth(&bed.veth(&web)).unwrap();
        rtnl.enslave(port.index, bridge.index).unwrap();
        assert_eq!(rtnl.fdb().unwrap(), []);

        let entry = FdbEntry {
            mac: WEB_MAC,
            port: port.index,
        };
        rtnl.set_fdb(entry).unwrap();
        rtnl.set_fdb(entry).unwrap();
        assert_eq!(rtnl.fdb().unwrap(), [entry]);
        rtnl.del_fdb(entry).unwrap();
        rtnl.del_fdb(entry).unwrap();
        assert_eq!(rtnl.fdb().unwrap(), []);
    });
}
