//! What can be seen from outside of the programs: listings, status, pins, bpftool.

use std::process::Command;

use netbpf_tests::{
    matrix::OWN_SERVICE,
    netns,
    product::Instance,
    scene::Scene,
    sockets::{Log, PATIENCE, Probe, Proto, serve},
    topology::Family,
};

use crate::SMALL;

#[test]
fn the_listings_have_the_contracts_fields() {
    let scene = Scene::with(include_str!("../../../examples/quickstart.toml"));
    let has = |arguments: &[&str], keys: &[&str]| {
        let rows = scene.instance.json(arguments);
        let rows = rows
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![rows.clone()]);
        assert!(!rows.is_empty(), "{arguments:?} lists nothing");
        for row in rows {
            for key in keys {
                assert!(row.get(*key).is_some(), "{arguments:?}: no {key} in {row}");
            }
        }
    };
    has(
        &["network", "ls"],
        &[
            "name",
            "driver",
            "bridge",
            "subnets",
            "gateways",
            "icc",
            "internal",
            "gateway_mode",
            "masquerade",
            "mtu",
        ],
    );
    has(&["container", "ls"], &["name", "netns", "mode", "networks"]);
    has(
        &["port", "ls"],
        &[
            "container",
            "service",
            "network",
            "proto",
            "host_ip",
            "host_port",
            "container_ip",
            "container_port",
            "allow",
            "deny",
        ],
    );
    has(
        &["service", "ls"],
        &[
            "name",
            "network",
            "vips",
            "ports",
            "scheduler",
            "affinity",
            "backends",
        ],
    );
    has(
        &["status"],
        &[
            "instance",
            "version",
            "state",
            "kernel",
            "ports_reserved",
            "interfaces",
            "maps",
            "drops",
        ],
    );
    let status = scene.instance.json(&["status"]);
    assert_eq!(status["state"], "active", "{status}");
    assert_eq!(status["instance"], scene.instance.name());
}

#[test]
fn the_flow_table_is_listed_with_addresses_counts_and_states() {
    let scene = Scene::with(SMALL);
    let log = Log::default();
    let _web = serve(&scene.container("web"), "web", &[80, 53], &log);
    for family in Family::ALL {
        let to = std::net::SocketAddr::new(family.host(), 5353);
        let probe = Probe::new(scene.topology.client.path(), Proto::Udp, to);
        assert!(probe.ask(PATIENCE, &log).to_string().contains("web"));
    }
    let flows = scene.instance.json(&["conntrack", "ls"]);
    let flows = flows.as_array().expect("a list");
    assert_eq!(flows.len(), 2, "{flows:?}");
    for flow in flows {
        assert_eq!(
            (&flow["proto"], &flow["state"]),
            (&"udp".into(), &"REPLIED".into()),
            "{flow}"
        );
        assert_eq!(flow["original"]["dst_port"], 5353);
        assert_eq!(flow["reply"]["src_port"], 53);
        for half in ["original", "reply"] {
            assert_eq!(flow[half]["packets"], 1, "{flow}");
            assert!(flow[half]["bytes"].as_u64() > Some(40), "{flow}");
        }
        assert!(flow["expires_in_s"].as_u64() <= Some(30), "{flow}");
    }
}

#[test]
fn a_drop_is_named_in_status() {
    let scene = Scene::with(SMALL);
    let log = Log::default();
    scene.topology.route_from_client("172.28.0.0/24");
    let to = std::net::SocketAddr::new("172.28.0.10".parse().expect("an address"), OWN_SERVICE);
    Probe::new(scene.topology.client.path(), Proto::Udp, to)
        .ask(netbpf_tests::sockets::SILENCE, &log);
    let status = scene.instance.json(&["status"]);
    let drop = status["drops"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|drop| drop["hook"] == "from_netdev" && drop["reason"] == "direct_access");
    let drop = drop.unwrap_or_else(|| panic!("no such drop in {status}"));
    assert_eq!(drop["packets"], 1, "{drop}");
    assert!(
        drop["message"]
            .as_str()
            .is_some_and(|message| message.len() > 10)
    );
}

/// Whether bpftool can be run here; where it can't, the test has nothing to ask.
fn has_bpftool() -> bool {
    let found = Command::new("bpftool").arg("version").output().is_ok();
    if !found {
        eprintln!("skipped: there is no bpftool here");
    }
    found
}

#[test]
fn bpftool_shows_named_programs_and_maps_with_field_names() {
    if !has_bpftool() {
        return;
    }
    let scene = Scene::with(SMALL);
    let log = Log::default();
    let _web = serve(&scene.container("web"), "web", &[80, 53], &log);
    for family in Family::ALL {
        let to = std::net::SocketAddr::new(family.host(), 5353);
        Probe::new(scene.topology.client.path(), Proto::Udp, to).ask(PATIENCE, &log);
    }
    let maps = scene.instance.pins().join("maps");
    let dump = |map: &str| {
        let path = maps.join(map);
        netns::run(
            Command::new("bpftool")
                .args(["map", "dump", "pinned"])
                .arg(path),
        )
    };
    for (map, fields) in [
        (
            "conntrack_v4",
            &["src_addr", "dst_port", "packets", "last_seen", "translated"][..],
        ),
        (
            "conntrack_v6",
            &["src_addr", "dst_port", "packets", "last_seen", "translated"],
        ),
        ("published_v4", &["addr", "port", "mapping", "endpoint"]),
        ("networks", &["flags", "bridge_ifindex", "gateway_v4"]),
        ("interfaces", &["role", "network", "endpoint"]),
        ("config", &["abi_version", "generation", "established"]),
    ] {
        let shown = dump(map);
        for field in fields {
            assert!(
                shown.contains(&format!("\"{field}\"")),
                "{map} has no {field}: {shown}"
            );
        }
    }
    let attached = scene.topology.host.run("bpftool net show");
    // bpftool knows TCX since 7.3; before that it shows nothing at all here.
    let knows_tcx = attached.contains("tcx");
    for hook in [
        "from_container",
        "to_container",
        "from_netdev",
        "to_netdev",
        "from_bridge",
    ] {
        assert!(
            !knows_tcx || attached.contains(hook),
            "{hook} is not in {attached}"
        );
        let pin = scene.instance.pins().join("progs").join(hook);
        let shown = netns::run(
            Command::new("bpftool")
                .args(["prog", "show", "pinned"])
                .arg(pin),
        );
        assert!(shown.contains(&format!("name {hook}")), "{shown}");
    }
}

#[test]
fn netns_option_names_the_host_from_elsewhere() {
    let scene = Scene::with(SMALL);
    let elsewhere = netns::Netns::create(&format!("{}-elsewhere", scene.topology.id));
    let mut command = elsewhere.command(netbpf_tests::product::binary());
    command
        .args(["--instance", scene.instance.name(), "--netns"])
        .arg(scene.topology.host.path())
        .args(["network", "ls"]);
    assert!(netns::run(&mut command).contains("front"));
}

#[test]
fn one_thing_is_shown_whole() {
    let scene = Scene::with(include_str!("../../../examples/several-networks.toml"));
    let inspect = |kind: &str, name: &str| scene.instance.json(&[kind, "inspect", name])[0].clone();
    let app = inspect("container", "app");
    assert_eq!(app["name"], "app");
    assert_eq!(app["state"], "up");
    assert_eq!(app["networks"].as_array().unwrap().len(), 3);
    assert_eq!(app["interfaces"].as_array().unwrap().len(), 3);
    assert_eq!(app["endpoints"][1]["gw_priority"], 1);
    assert_eq!(app["ports"][0]["host_port"], 8081);
    assert_eq!(app["services"][0], "jobs");
    let middle = inspect("network", "middle");
    assert_eq!(middle["gateway_mode"], "nat");
    assert_eq!(middle["interface"]["name"], "nb-middle");
    let members = middle["containers"].as_array().unwrap();
    let names: Vec<_> = members.iter().map(|member| &member["container"]).collect();
    assert_eq!(names, ["proxy", "app", "worker"]);
    assert_eq!(
        inspect("service", "jobs")["mappings"][0]["container_port"],
        8080
    );
    let ended = scene
        .instance
        .run(&["container", "inspect", "app", "nobody"]);
    assert_eq!(
        ended.failed_with(1).stderr,
        "netbpf: no such container: nobody\n"
    );
    let quiet = scene
        .instance
        .run(&["--quiet", "network", "ls"])
        .succeeded();
    assert_eq!(quiet.stdout, "public\nmiddle\ndata\n");
}

#[test]
fn what_later_issues_bring_is_refused() {
    let scene = Scene::bare();
    for text in [
        "[metrics]\nlisten = \"127.0.0.1:9723\"\n",
        "[[network]]\nname = \"a\"\n[[service]]\nname = \"b\"\nnetwork = \"a\"\n\
         ports = [\"80\"]\nbackends = []\nscheduler = \"maglev\"\n",
    ] {
        let path = scene.instance.write_config(text);
        let ended = scene
            .instance
            .run(&["check", &path.to_string_lossy()])
            .failed_with(2);
        assert!(
            ended.stderr.contains("not supported yet"),
            "{}",
            ended.stderr
        );
    }
    for arguments in [&["monitor"][..], &["explain", "--from", "a", "--to", "b"]] {
        let ended = scene.instance.run(arguments).failed_with(2);
        assert!(
            ended.stderr.contains("not supported yet"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn an_environment_that_rules_out_what_nobody_knows_is_a_wrong_command_line() {
    let mut scene = Scene::bare();
    let instance = Instance::new(&scene.topology.id, &scene.topology.host);
    scene.instance.keep();
    scene.instance = instance.without("tcx,bpf");
    let ended = scene.instance.run(&["status"]).failed_with(2);
    let why = "NETBPF_WITHOUT names \"bpf\": it can name tcx, ";
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
}
