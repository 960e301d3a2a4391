//! Every path between every two places, on the examples and on a host with the rarer settings.

use netbpf_tests::{
    matrix::{self, Bench},
    scene::Scene,
};

/// Applies a config and tries every path.
fn every_path_is_as_expected(config: &str) {
    every_path_of(&Scene::with(config));
}

/// Tries every path of a scene.
fn every_path_of(scene: &Scene) {
    let tried = Bench::set_up(&scene.topology, &scene.instance).try_everything();
    let wrong: Vec<_> = tried
        .iter()
        .filter(|one| !one.is_as_expected)
        .cloned()
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} paths:\n{}\n{}",
        wrong.len(),
        tried.len(),
        matrix::table(&wrong),
        scene.instance.run(&["status"]).stdout
    );
}

#[test]
fn every_path_of_the_quickstart_is_as_expected() {
    every_path_is_as_expected(include_str!("../../../examples/quickstart.toml"));
}

/// Where the host's stack forwards whatever it is given, only what netbpf drops itself is blocked.
#[test]
fn every_path_is_as_expected_on_a_host_that_forwards_everything() {
    let scene = Scene::bare();
    scene.topology.open_forwarding();
    scene.apply(include_str!("../../../examples/quickstart.toml"));
    every_path_of(&scene);
}

#[test]
fn every_path_is_as_expected_in_every_gateway_mode() {
    every_path_is_as_expected(include_str!("../../../examples/gateways.toml"));
}

#[test]
fn every_path_is_as_expected_with_links_and_trusted_sources() {
    every_path_is_as_expected(include_str!("../../../examples/senders.toml"));
}

#[test]
fn every_path_is_as_expected_in_every_form_of_publishing() {
    every_path_is_as_expected(include_str!("../../../examples/publishing.toml"));
}

#[test]
fn every_path_is_as_expected_with_several_networks() {
    every_path_is_as_expected(include_str!("../../../examples/several-networks.toml"));
}

#[test]
fn every_path_is_as_expected_without_masquerade_and_with_host_addresses() {
    every_path_is_as_expected(
        r#"
[[network]]
name = "open"
subnets = ["172.28.0.0/24", "fd00:28::/64"]
masquerade = false
mtu = 1400

[[network]]
name = "front"
subnets = ["172.29.0.0/24", "fd00:29::/64"]
gateways = ["172.29.0.254", "fd00:29::fe"]

[[network]]
name = "legacy"
subnets = ["172.30.0.0/24"]

[[network]]
name = "shut"
subnets = ["172.31.0.0/24", "fd00:31::/64"]
internal = true
icc = false

[[container]]
name = "tent"
networks = [{ name = "open" }]
publish = ["8080:80", "8080:80/udp"]

[[container]]
name = "web"
networks = [{ name = "front" }]
publish = ["203.0.113.1:8081:80", "[2001:db8:113::1]:8081:80"]

[[container]]
name = "old"
networks = [{ name = "legacy" }]
publish = ["8083:80", "203.0.113.1:8084:84/udp"]

[[container]]
name = "cell1"
networks = [{ name = "shut" }]

[[container]]
name = "cell2"
networks = [{ name = "shut" }]

[[service]]
name = "self"
network = "front"
ports = ["80:8080", "80:8080/udp"]
backends = [{ container = "web" }]
scheduler = "random"

[[service]]
name = "quiet"
network = "shut"
ports = ["80:8080"]
backends = [{ container = "cell1" }, { container = "cell2" }]
scheduler = "random"
"#,
    );
}
