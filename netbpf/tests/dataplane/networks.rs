//! Containers on several networks and on none: what changes on a living one.

use std::process::Command;

use netbpf::{
    host::Netns,
    reconcile::{self, Fault, Mode},
};

use crate::bed::{self, Bed, TABLES};

/// A container that may be on two networks; `attached` are its networks.
fn document(bed: &Bed, attached: &[&str]) -> String {
    let dir = bed.dir.display();
    format!(
        r#"{TABLES}
[[network]]
name = "front"
subnets = ["172.28.0.0/24", "fd00:28::/64"]

[[network]]
name = "back"
subnets = ["172.29.0.0/24", "fd00:29::/64"]

[[container]]
name = "web"
netns = "{dir}/web"
networks = [{}]
publish = ["8080:80"]

[[container]]
name = "alone"
netns = "{dir}/alone"
mode = "none"

[[container]]
name = "side"
mode = "container:web"
"#,
        attached.join(", ")
    )
}

const FRONT: &str = "{ name = \"front\" }";
const BACK: &str = "{ name = \"back\" }";
const BACK_FIRST: &str = "{ name = \"back\", gw_priority = 1 }";

fn apply_twice(bed: &Bed, document: &str) {
    bed.apply(document);
    let again = bed.apply(document);
    assert!(!again.changed, "{again:#?}");
}

fn inside(bed: &Bed, container: &str, command: &str) -> String {
    let net = format!("--net={}", bed.dir.join(container).display());
    let output = Command::new("nsenter")
        .arg(net)
        .args(command.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn default_routes(bed: &Bed) -> [String; 2] {
    ["ip -4 route show default", "ip -6 route show default"]
        .map(|command| inside(bed, "web", command).trim().to_owned())
}

/// The number of an interface, which another one of the same name would not have.
fn number(bed: &Bed, interface: &str) -> String {
    let shown = inside(bed, "web", &format!("ip -o link show dev {interface}"));
    shown.split(':').next().unwrap_or_default().to_owned()
}

fn leads_by(routes: &[String; 2], subnet: u8, interface: &str) -> bool {
    let [v4, v6] = routes;
    v4.starts_with(&format!("default via 172.{subnet}.0.1 dev {interface}"))
        && v6.starts_with(&format!("default via fd00:{subnet}::1 dev {interface}"))
        && v4.lines().chain(v6.lines()).count() == 2
}

#[test]
fn network_comes_and_goes_on_a_living_container() {
    bed::with(|bed| {
        let before = bed.snapshot();
        apply_twice(bed, &document(bed, &[FRONT]));
        assert!(leads_by(&default_routes(bed), 28, "eth0"));
        let front = number(bed, "eth0");

        apply_twice(bed, &document(bed, &[FRONT, BACK]));
        assert!(leads_by(&default_routes(bed), 28, "eth0"));
        let back = number(bed, "eth1");

        apply_twice(bed, &document(bed, &[FRONT, BACK_FIRST]));
        let routes = default_routes(bed);
        assert!(leads_by(&routes, 29, "eth1"), "{routes:?}");

        apply_twice(bed, &document(bed, &[FRONT, BACK]));
        let routes = default_routes(bed);
        assert!(leads_by(&routes, 28, "eth0"), "{routes:?}");
        assert_eq!(
            (number(bed, "eth0"), number(bed, "eth1")),
            (front, back.clone())
        );

        apply_twice(bed, &document(bed, &[BACK]));
        let routes = default_routes(bed);
        assert!(leads_by(&routes, 29, "eth1"), "{routes:?}");
        assert_eq!(number(bed, "eth1"), back);

        reconcile::purge(&bed.host, &bed.instance).unwrap();
        bed::assert_same(&before, &bed.snapshot(), "in the end");
    });
}

#[test]
fn container_without_network_has_only_a_loopback_interface_that_is_up() {
    bed::with(|bed| {
        apply_twice(bed, &document(bed, &[FRONT]));
        let links = inside(bed, "alone", "ip -o -br link");
        assert_eq!(links.lines().count(), 1, "{links}");
        assert!(links.contains("LOOPBACK,UP"), "{links}");
        assert!(!bed.dir.join("side").exists());

        inside(bed, "alone", "ip link set lo down");
        assert!(bed.apply(&document(bed, &[FRONT])).changed);
        assert!(inside(bed, "alone", "ip -o -br link").contains("LOOPBACK,UP"));

        let gone = document(bed, &[FRONT]).replace("mode = \"none\"", "mode = \"host\"");
        let gone = gone.replace(&format!("netns = \"{}/alone\"\n", bed.dir.display()), "");
        apply_twice(bed, &gone);
        assert!(Netns::open(&bed.dir.join("alone")).unwrap().is_none());
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn gateway_that_does_not_get_to_move_stays_where_it_was() {
    bed::with(|bed| {
        apply_twice(bed, &document(bed, &[FRONT, BACK]));
        let routes = default_routes(bed);
        let moved = document(bed, &[FRONT, BACK_FIRST]);
        let mut step = 0;
        while let Err(error) = bed.try_apply(&moved, Mode::Apply, Fault::Fail(step)) {
            assert!(format!("{error:#}").contains("taken back"), "{error:#}");
            assert_eq!(default_routes(bed), routes, "failed before step {step}");
            step += 1;
        }
        assert!(step > 2, "{step} steps");
        assert!(leads_by(&default_routes(bed), 29, "eth1"));
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

/// The addresses of the bridge of an automatic network.
fn bridge_addresses(bed: &Bed) -> String {
    bed.ip("-br address show dev nb-auto")
}

#[test]
fn automatic_subnets_keep_off_what_the_host_reaches() {
    bed::with(|bed| {
        let automatic = format!("{TABLES}[[network]]\nname = \"auto\"\n");
        bed.ip("address add 172.16.5.1/24 dev far0");
        bed.ip("route add 172.17.0.0/16 via 198.51.100.9 dev up0");
        bed.ip("route add 0.0.0.0/1 via 198.51.100.9 dev up0");
        bed.ip("-6 route add unreachable fd00:6e62::/64");
        bed.ip("-6 route add fd00:6e62:0:1::/64 dev up0");
        apply_twice(bed, &automatic);
        let addresses = bridge_addresses(bed);
        assert!(addresses.contains("172.18.0.1/16"), "{addresses}");
        assert!(addresses.contains("fd00:6e62:0:2::1/64"), "{addresses}");

        // What the host reaches later does not move a network that stands.
        bed.ip("route add 172.18.7.0/24 via 198.51.100.9 dev up0");
        apply_twice(bed, &automatic);
        let second = format!("{automatic}[[network]]\nname = \"more\"\n");
        apply_twice(bed, &second);
        assert_eq!(bridge_addresses(bed), addresses);
        assert!(
            bed.ip("-br address show dev nb-more")
                .contains("172.19.0.1/16")
        );

        let used_up = format!(
            "[host]\naddress_pools = [{{ base = \"172.16.0.0/14\", size = 16 }}]\n{second}\
             [[network]]\nname = \"none\"\n"
        );
        let error = bed
            .try_apply(&used_up, Mode::Apply, Fault::None)
            .unwrap_err();
        assert!(
            format!("{error:#}").contains("network \"none\": every IPv4 block"),
            "{error:#}"
        );
        assert_eq!(netbpf::error::exit_code(&error), 1);
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn given_subnet_may_lie_in_a_wider_route_but_not_hold_one() {
    bed::with(|bed| {
        let given = format!("{TABLES}[[network]]\nname = \"auto\"\nsubnets = [\"10.1.0.0/16\"]\n");
        bed.ip("route add 10.1.2.0/24 via 198.51.100.9 dev up0");
        let error = bed.try_apply(&given, Mode::Apply, Fault::None).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "network \"auto\": subnet 10.1.0.0/16 overlaps the route to 10.1.2.0/24 by up0"
        );
        assert_eq!(netbpf::error::exit_code(&error), 1);
        bed.ip("route del 10.1.2.0/24");
        bed.ip("route add 10.0.0.0/8 via 198.51.100.9 dev up0");
        apply_twice(bed, &given);
        assert!(bridge_addresses(bed).contains("10.1.0.1/16"));
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}
