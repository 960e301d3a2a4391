//! Automatic choices: made once, kept until their owner goes, never given to two.

use std::net::IpAddr;

use super::{GOOD, errors_of, good};
use crate::{
    allocations::Allocations,
    config::Surroundings,
    model::{Container, Model, Network, Proto},
};

/// Resolves with earlier choices; panics with the errors.
fn resolve(text: &str, earlier: &Allocations) -> (Model, Allocations) {
    match good(text).resolve(earlier) {
        Ok(resolved) => resolved,
        Err(errors) => panic!("{errors}"),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn good_document_resolves_to_the_model() {
    let (model, _) = resolve(GOOD, &Allocations::default());
    let network = &model.networks[0];
    assert_eq!(
        (network.id, network.bridge.as_str(), network.mtu),
        (1, "nb-front", 1500)
    );
    assert_eq!(network.gateways, [ip("172.28.0.1"), ip("fd00:28::1")]);
    assert!(network.icc && network.masquerade && !network.internal);

    let web = &model.containers[0];
    assert_eq!(web.netns.to_str(), Some("/run/netns/web"));
    assert_eq!(web.attachments[0].endpoint, 1);
    assert_eq!(web.attachments[0].interface, "eth0");
    assert_eq!(web.attachments[0].mac, [0x02, 0x42, 172, 28, 0, 10]);
    assert!(
        web.attachments[0]
            .addresses()
            .eq([ip("172.28.0.10"), ip("fd00:28::2")])
    );
    let publish = &web.publish[0];
    assert_eq!(
        (publish.mapping, publish.host_ip, publish.proto),
        (1, None, Proto::Tcp)
    );
    assert_eq!(
        (publish.host_port, publish.container_port),
        (Some(8080), 80)
    );

    let db = &model.containers[1];
    assert!(
        db.attachments[0]
            .addresses()
            .eq([ip("172.28.0.2"), ip("fd00:28::3")])
    );

    let api = &model.services[0];
    assert_eq!(api.vips, [ip("172.28.0.100"), ip("fd00:28::100")]);
    assert_eq!(
        (
            api.ports[0].mapping,
            api.ports[0].port,
            api.ports[0].target_port
        ),
        (2, 80, 8080)
    );
    assert_eq!(api.backends, ["web", "db"]);
}

#[test]
fn resolving_twice_changes_nothing() {
    let first = resolve(GOOD, &Allocations::default());
    let second = resolve(GOOD, &first.1);
    assert_eq!(first, second);
}

#[test]
fn allocations_survive_json() {
    let (_, allocations) = resolve(GOOD, &Allocations::default());
    let json = serde_json::to_string(&allocations).unwrap();
    assert_eq!(
        serde_json::from_str::<Allocations>(&json).unwrap(),
        allocations
    );
}

#[test]
fn newcomer_does_not_move_anybody() {
    let (before, allocations) = resolve(GOOD, &Allocations::default());
    let newcomer = "[[container]]\nname = \"aaa\"\nnetworks = [{ name = \"front\" }]\n";
    let text = GOOD.replacen("[[container]]", &format!("{newcomer}[[container]]"), 1);
    let (after, _) = resolve(&text, &allocations);
    assert_eq!(after.containers[1..], before.containers);
    assert_eq!(after.services, before.services);
    assert!(
        after.containers[0].attachments[0]
            .addresses()
            .eq([ip("172.28.0.3"), ip("fd00:28::4")])
    );
    assert_eq!(after.containers[0].attachments[0].endpoint, 3);
}

#[test]
fn ids_are_never_used_again() {
    let (_, allocations) = resolve(GOOD, &Allocations::default());
    let (empty, allocations) = resolve("", &allocations);
    assert_eq!(empty, Model::default());
    let (again, _) = resolve(GOOD, &allocations);
    assert_eq!(again.networks[0].id, 2);
    assert_eq!(again.containers[0].attachments[0].endpoint, 3);
    assert_eq!(again.containers[0].publish[0].mapping, 3);
    assert_eq!(again.services[0].ports[0].mapping, 4);
}

#[test]
fn another_address_or_namespace_or_mac_is_another_endpoint() {
    let (_, allocations) = resolve(GOOD, &Allocations::default());
    let address = "ipv4 = \"172.28.0.10\"";
    for change in [
        "ipv4 = \"172.28.0.11\"",
        "ipv4 = \"172.28.0.10\", ipv6 = \"fd00:28::77\"",
        "ipv4 = \"172.28.0.10\", mac = \"02:00:00:00:00:01\"",
    ] {
        let (model, _) = resolve(&GOOD.replace(address, change), &allocations);
        assert_eq!(model.containers[0].attachments[0].endpoint, 3, "{change}");
        assert_eq!(model.containers[0].publish[0].mapping, 1, "{change}");
    }
    let moved = GOOD.replace(
        "name = \"web\"\n",
        "name = \"web\"\nnetns = \"/run/netns/w\"\n",
    );
    assert_eq!(
        resolve(&moved, &allocations).0.containers[0].attachments[0].endpoint,
        3
    );
    let renamed = GOOD.replace(address, "ipv4 = \"172.28.0.10\", interface = \"lan0\"");
    assert_eq!(
        resolve(&renamed, &allocations).0.containers[0].attachments[0].endpoint,
        1
    );
}

#[test]
fn another_port_is_another_mapping() {
    let (_, allocations) = resolve(GOOD, &Allocations::default());
    for change in ["8081:80", "8080:81", "8080:80/udp", "0.0.0.0:8080:80"] {
        let (model, _) = resolve(
            &GOOD.replace("8080:80\"", &format!("{change}\"")),
            &allocations,
        );
        assert_eq!(model.containers[0].publish[0].mapping, 3, "{change}");
    }
}

#[test]
fn service_keeps_its_mapping_unless_a_vip_goes() {
    let vips = "vip = [\"172.28.0.100\", \"fd00:28::100\"]";
    let single = GOOD.replace(vips, "vip = \"172.28.0.100\"");
    let (before, allocations) = resolve(&single, &Allocations::default());
    let (grown, allocations) = resolve(GOOD, &allocations);
    assert_eq!(grown.services[0].ports, before.services[0].ports);
    let (shrunk, _) = resolve(&single, &allocations);
    assert_ne!(
        shrunk.services[0].ports[0].mapping,
        before.services[0].ports[0].mapping
    );
}

#[test]
fn automatic_vips_come_after_containers_and_stay() {
    let text = GOOD.replace("vip = [\"172.28.0.100\", \"fd00:28::100\"]\n", "");
    let (before, allocations) = resolve(&text, &Allocations::default());
    assert_eq!(
        before.services[0].vips,
        [ip("172.28.0.3"), ip("fd00:28::4")]
    );
    let newcomer = "[[container]]\nname = \"c\"\nnetworks = [{ name = \"front\" }]\n";
    let (after, _) = resolve(&format!("{newcomer}{text}"), &allocations);
    assert_eq!(after.services, before.services);
}

#[test]
fn address_that_somebody_keeps_is_not_given_away() {
    let (_, allocations) = resolve(GOOD, &Allocations::default());
    let text = GOOD.replace("172.28.0.10\"", "172.28.0.2\"");
    let errors = good(&text).resolve(&allocations).unwrap_err();
    assert_eq!(
        errors.lines(),
        [
            "t.toml:12: container \"db\": address 172.28.0.2, which it was given automatically and \
          keeps, is wanted by container \"web\""
        ]
    );
}

#[test]
fn kept_address_goes_with_its_subnet() {
    let (_, allocations) = resolve(GOOD, &Allocations::default());
    let text = GOOD.replace("172.28.0.", "172.29.0.");
    let (model, _) = resolve(&text, &allocations);
    assert_eq!(
        model.containers[1].attachments[0].ipv4,
        Some([172, 29, 0, 2].into())
    );
    assert_eq!(model.networks[0].id, 1);
}

#[test]
fn container_without_ipv4_draws_its_mac_once() {
    let text = "[[network]]\nname = \"a\"\nsubnets = [\"fd00:1::/64\"]\n\
                [[container]]\nname = \"c\"\nnetworks = [{ name = \"a\" }]\n";
    let (first, allocations) = resolve(text, &Allocations::default());
    let mac = first.containers[0].attachments[0].mac;
    assert_eq!(mac[0], 0x02);
    assert_eq!(allocations.endpoints["c"]["a"].automatic.mac, Some(mac));
    assert_eq!(resolve(text, &allocations).0, first);
}

#[test]
fn given_mac_makes_the_automatic_one_step_aside() {
    let text = "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\n\
                [[container]]\nname = \"c\"\nnetworks = [{ name = \"a\" }]\n\
                [[container]]\nname = \"d\"\n\
                networks = [{ name = \"a\", mac = \"02:42:0a:00:00:02\" }]\n";
    let (model, _) = resolve(text, &Allocations::default());
    let macs: Vec<_> = model
        .containers
        .iter()
        .map(|c| c.attachments[0].mac)
        .collect();
    assert_eq!(macs[1], [0x02, 0x42, 10, 0, 0, 2]);
    assert_ne!(macs[0], macs[1]);
}

#[test]
fn point_to_point_subnet_has_room_for_one_container() {
    let text = "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/31\", \"fd00:1::/127\"]\n\
                [[container]]\nname = \"c\"\nnetworks = [{ name = \"a\" }]\n";
    let (model, _) = resolve(text, &Allocations::default());
    assert_eq!(model.networks[0].gateways, [ip("10.0.0.0"), ip("fd00:1::")]);
    assert!(
        model.containers[0].attachments[0]
            .addresses()
            .eq([ip("10.0.0.1"), ip("fd00:1::1")])
    );
    let full = format!("{text}[[container]]\nname = \"d\"\nnetworks = [{{ name = \"a\" }}]\n");
    assert_eq!(
        errors_of(&full),
        [
            "t.toml:8: container \"d\": no address of 10.0.0.0/31 is free",
            "t.toml:8: container \"d\": no address of fd00:1::/127 is free",
        ]
    );
}

#[test]
fn given_gateway_frees_the_first_address() {
    let text = "[[network]]\nname = \"a\"\nsubnets = [\"10.0.0.0/24\"]\n\
                gateways = [\"10.0.0.254\"]\n\
                [[container]]\nname = \"c\"\nnetworks = [{ name = \"a\" }]\n";
    let (model, _) = resolve(text, &Allocations::default());
    assert_eq!(model.networks[0].gateways, [ip("10.0.0.254")]);
    assert_eq!(
        model.containers[0].attachments[0].ipv4,
        Some([10, 0, 0, 1].into())
    );
}

/// A second network, and `web` on both.
fn on_two_networks(of_back: &str) -> String {
    let back = "[[network]]\nname = \"back\"\nsubnets = [\"10.0.0.0/24\"]\n";
    let both = format!("ipv4 = \"172.28.0.10\" }}, {{ name = \"back\"{of_back} }}]");
    let text = GOOD.replace("ipv4 = \"172.28.0.10\" }]", &both);
    format!("{text}{back}")
}

fn interfaces(model: &Model) -> Vec<&str> {
    let attachments = model.containers[0].attachments.iter();
    attachments.map(|it| it.interface.as_str()).collect()
}

#[test]
fn container_on_two_networks_has_an_endpoint_in_each() {
    let text = on_two_networks(", aliases = [\"www\"], gw_priority = -1");
    let (model, allocations) = resolve(&text, &Allocations::default());
    let [front, back] = model.containers[0].attachments.as_slice() else {
        panic!("{model:#?}")
    };
    assert_eq!((front.endpoint, back.endpoint), (1, 2));
    assert_eq!((back.ipv4, back.ipv6), (Some([10, 0, 0, 2].into()), None));
    assert_eq!(
        (back.aliases.as_slice(), back.gw_priority),
        (&["www".to_owned()][..], -1)
    );
    assert_eq!(interfaces(&model), ["eth0", "eth1"]);
    assert_eq!(resolve(&text, &allocations).0, model);
}

#[test]
fn network_that_comes_or_goes_disturbs_no_other() {
    let (before, allocations) = resolve(GOOD, &Allocations::default());
    let (both, allocations) = resolve(&on_two_networks(""), &allocations);
    assert_eq!(
        both.containers[0].attachments[0],
        before.containers[0].attachments[0]
    );
    let alone = on_two_networks("").replace("{ name = \"front\", ipv4 = \"172.28.0.10\" }, ", "");
    let without_service = alone.replace("{ container = \"web\" }, ", "");
    let (after, _) = resolve(&without_service, &allocations);
    assert_eq!(
        after.containers[0].attachments[..],
        both.containers[0].attachments[1..]
    );
    assert_eq!(interfaces(&after), ["eth1"]);
}

#[test]
fn automatic_interface_steps_aside_for_a_given_one() {
    let text = on_two_networks(", interface = \"eth0\"");
    let (model, _) = resolve(&text, &Allocations::default());
    assert_eq!(interfaces(&model), ["eth1", "eth0"]);
}

#[test]
fn joined_container_has_the_namespace_and_nothing_of_its_own() {
    let text = format!(
        "{GOOD}[[container]]\nname = \"a\"\nmode = \"container:b\"\n\
         [[container]]\nname = \"b\"\nmode = \"container:web\"\n\
         [[container]]\nname = \"h\"\nmode = \"host\"\npublish = [\"81:80\"]\n\
         [[container]]\nname = \"n\"\nmode = \"none\"\nexpose = []\n"
    );
    let document = good(&text);
    assert_eq!(
        document.warnings(),
        [
            "t.toml:31: container \"h\": publish \"81:80\" has no effect: published ports are discarded when using host network mode"
        ]
    );
    let (model, _) = resolve(&text, &Allocations::default());
    let shown: Vec<(String, &str)> = model.containers[2..]
        .iter()
        .map(|it| (it.mode.to_string(), it.netns.to_str().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            ("container:b".to_owned(), "/run/netns/web"),
            ("container:web".to_owned(), "/run/netns/web"),
            ("host".to_owned(), ""),
            ("none".to_owned(), "/run/netns/n"),
        ]
    );
    let bare = |it: &Container| it.attachments.is_empty() && it.publish.is_empty();
    assert!(model.containers[2..].iter().all(bare));
}

#[test]
fn links_name_the_container_and_what_it_is_called() {
    let text = GOOD.replace(
        "publish = [",
        "links = [\"db:database\", \"db\"]\npublish = [",
    );
    let (model, _) = resolve(&text, &Allocations::default());
    let links: Vec<(&str, &str)> = model.containers[0]
        .links
        .iter()
        .map(|link| (link.container.as_str(), link.alias.as_str()))
        .collect();
    assert_eq!(links, [("db", "database"), ("db", "db")]);
}

/// The subnets of each network, where the host has `occupied`.
fn subnets_beside(
    text: &str,
    earlier: &Allocations,
    occupied: &[&str],
) -> Result<(Vec<String>, Allocations), String> {
    let occupied: Vec<_> = occupied.iter().map(|net| net.parse().unwrap()).collect();
    let surroundings = Surroundings {
        occupied: &occupied,
        ..Surroundings::UNKNOWN
    };
    let resolved = good(text).resolve_on(earlier, surroundings);
    let (model, allocations) = resolved.map_err(|errors| errors.to_string())?;
    let networks = model.networks.iter();
    let shown = |network: &Network| {
        let subnets: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
        subnets.join(" ")
    };
    Ok((networks.map(shown).collect(), allocations))
}

const AUTOMATIC: &str = "[[network]]\nname = \"a\"\n[[network]]\nname = \"b\"\nsubnets = []\n";

#[test]
fn automatic_subnets_are_the_first_blocks_that_nobody_has() {
    let given = "[[network]]\nname = \"g\"\nsubnets = [\"172.17.3.0/24\"]\n";
    let text = format!("{AUTOMATIC}{given}");
    let none = Allocations::default();
    let (subnets, allocations) = subnets_beside(&text, &none, &[]).unwrap();
    assert_eq!(
        subnets,
        [
            "172.16.0.0/16 fd00:6e62::/64",
            "172.18.0.0/16 fd00:6e62:0:1::/64",
            "172.17.3.0/24",
        ]
    );
    let occupied = ["172.16.0.0/12", "fd00:6e62::/56"];
    let (kept, _) = subnets_beside(&text, &allocations, &occupied).unwrap();
    assert_eq!(kept, subnets);
    let (others, _) = subnets_beside(&text, &none, &["172.16.9.9/32", "fd00:6e62::/56"]).unwrap();
    assert_eq!(
        others[..2],
        [
            "172.18.0.0/16 fd00:6e62:0:100::/64",
            "172.19.0.0/16 fd00:6e62:0:101::/64",
        ]
    );
}

#[test]
fn automatic_subnet_goes_with_its_network_and_not_to_one_that_comes_at_once() {
    let (_, allocations) = subnets_beside(AUTOMATIC, &Allocations::default(), &[]).unwrap();
    let renamed = AUTOMATIC.replace("\"a\"", "\"c\"");
    let (subnets, allocations) = subnets_beside(&renamed, &allocations, &[]).unwrap();
    assert_eq!(
        subnets,
        [
            "172.18.0.0/16 fd00:6e62:0:2::/64",
            "172.17.0.0/16 fd00:6e62:0:1::/64",
        ]
    );
    let with_d = format!("{renamed}[[network]]\nname = \"d\"\n");
    let (subnets, _) = subnets_beside(&with_d, &allocations, &[]).unwrap();
    assert_eq!(subnets[2], "172.16.0.0/16 fd00:6e62::/64");
}

#[test]
fn pools_can_be_others_and_can_be_used_up() {
    let pools = "[host]\naddress_pools = [{ base = \"10.9.0.0/23\", size = 24 }]\n";
    let text = format!("{pools}{AUTOMATIC}");
    let none = Allocations::default();
    let (subnets, _) = subnets_beside(&text, &none, &[]).unwrap();
    assert_eq!(subnets, ["10.9.0.0/24", "10.9.1.0/24"]);
    let error = subnets_beside(&text, &none, &["10.9.1.128/25"]).unwrap_err();
    assert_eq!(
        error,
        "t.toml:6: network \"b\": every IPv4 block of the address pools overlaps a network, or a \
         route or address of the host"
    );
    let empty = format!("[host]\naddress_pools = []\n{AUTOMATIC}");
    assert_eq!(
        errors_of(&empty)[0],
        "t.toml:4: network \"a\": there is no address pool to take a subnet from"
    );
}

#[test]
fn automatic_subnet_that_another_network_wants_is_not_given_away() {
    let (_, allocations) = subnets_beside(AUTOMATIC, &Allocations::default(), &[]).unwrap();
    let text = format!("{AUTOMATIC}[[network]]\nname = \"g\"\nsubnets = [\"172.17.3.0/24\"]\n");
    assert_eq!(
        subnets_beside(&text, &allocations, &[]).unwrap_err(),
        "t.toml:8: network \"g\": subnet 172.17.3.0/24 overlaps 172.17.0.0/16, which network \"b\" \
         was given automatically and keeps"
    );
}

#[test]
fn automatic_addresses_come_from_the_range() {
    let text = GOOD.replace(
        "\"fd00:28::/64\"]",
        "\"fd00:28::/64\"]\nip_range = [\"172.28.0.128/25\", \"fd00:28::ff00/120\"]",
    );
    let (model, _) = resolve(&text, &Allocations::default());
    let db = &model.containers[1].attachments[0];
    assert!(db.addresses().eq([ip("172.28.0.128"), ip("fd00:28::ff01")]));
    let network = &model.networks[0];
    assert_eq!(network.gateways, [ip("172.28.0.1"), ip("fd00:28::1")]);
    assert_eq!(network.ip_range.len(), 2);
}

#[test]
fn container_of_an_internal_network_has_no_mapping() {
    let text = GOOD.replace(
        "name = \"front\"\nsubnets",
        "name = \"front\"\ninternal = true\nsubnets",
    );
    let (model, _) = resolve(&text, &Allocations::default());
    assert!(model.networks[0].internal);
    assert!(model.containers[0].publish.is_empty());
}

#[test]
fn host_and_conntrack_settings_arrive() {
    let (model, _) = resolve(
        "[host]\nuplinks = [\"eth0\", \"wg0\"]\n[conntrack]\nmax_entries = 1000\n\
         timeouts = { established = \"1h30m\", udp = \"500ms\" }\n",
        &Allocations::default(),
    );
    assert_eq!(
        model.host.uplinks,
        Some(vec!["eth0".to_owned(), "wg0".to_owned()])
    );
    assert_eq!(model.conntrack.max_entries, 1000);
    assert_eq!(model.conntrack.timeouts.established.as_secs(), 5400);
    assert_eq!(model.conntrack.timeouts.udp.as_millis(), 500);
    assert_eq!(model.conntrack.timeouts.half_open.as_secs(), 60);
}

#[test]
fn every_example_is_valid() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut count = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let document = crate::config::load(&path.display().to_string(), &text);
        match document {
            Ok(document) => assert_eq!(document.warnings(), [""; 0]),
            Err(errors) => panic!("{errors}"),
        }
        count += 1;
    }
    assert!(count > 0, "{examples} has no example");
}
