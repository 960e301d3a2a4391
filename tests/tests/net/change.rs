//! Changes: the same twice, the difference alone, and nothing at all when something is wrong.

use std::net::SocketAddr;

use netbpf_tests::{
    matrix::OWN_SERVICE,
    scene::Scene,
    sockets::{Conversation, Log, PATIENCE, Probe, Proto, SILENCE, Seen, Servers, serve},
    topology::Family,
};

use crate::{SMALL, steady};

fn serve_all(scene: &Scene, log: &Log) -> Vec<Servers> {
    ["web", "app"]
        .iter()
        .map(|name| serve(&scene.container(name), name, &[80, 53, OWN_SERVICE], log))
        .collect()
}

/// The links, without the timers that run in them.
fn links(scene: &Scene) -> String {
    steady(&scene.topology.host.ip("-d link"))
}

fn open(scene: &Scene, family: Family, port: u16) -> Conversation {
    Conversation::open(
        scene.topology.client.path(),
        SocketAddr::new(family.host(), port),
    )
    .expect("a connection")
}

fn ask(scene: &Scene, family: Family, port: u16, log: &Log) -> Seen {
    let to = SocketAddr::new(family.host(), port);
    Probe::new(scene.topology.client.path(), Proto::Tcp, to).ask(PATIENCE, log)
}

#[test]
fn applying_twice_changes_nothing_the_second_time() {
    let scene = Scene::bare();
    let first = scene.apply(SMALL);
    assert_eq!(first["changed"], true, "{first}");
    for _ in 0..2 {
        let again = scene.apply(SMALL);
        assert_eq!(again["changed"], false, "{again}");
        assert_eq!(
            again["changes"].as_array().map(Vec::len),
            Some(0),
            "{again}"
        );
    }
    let quickstart = include_str!("../../../examples/quickstart.toml");
    scene.apply(quickstart);
    let again = scene.apply(quickstart);
    assert_eq!(again["changed"], false, "{again}");
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let scene = Scene::bare();
    let links = scene.topology.host.ip("-o link");
    let path = scene.instance.write_config(&scene.private(SMALL));
    let path = path.to_string_lossy();
    let dry = scene.instance.json(&["apply", &path, "--dry-run"]);
    assert_eq!(dry["changed"], true, "{dry}");
    assert_eq!(scene.topology.host.ip("-o link"), links);
    assert!(!scene.instance.pins().exists() && !scene.instance.state().exists());
}

#[test]
fn a_changed_document_keeps_allowed_flows_and_ends_the_others_at_once() {
    let scene = Scene::with(SMALL);
    let log = Log::default();
    let _servers = serve_all(&scene, &log);
    for family in Family::ALL {
        let (web, app) = (open(&scene, family, 8080), open(&scene, family, 8081));
        web.exchange().expect("a connection");
        app.exchange().expect("a connection");
        let changed = scene.apply(&SMALL.replace("publish = [\"8081:80\"]\n", ""));
        assert_eq!(changed["changed"], true, "{changed}");
        web.exchange()
            .expect("a flow that is still allowed lives on");
        assert!(
            app.exchange_within(SILENCE).is_err(),
            "a flow of a port that is gone lives on"
        );
        assert_eq!(ask(&scene, family, 8081, &log), Seen::Refused);
        scene.apply(SMALL);
        web.exchange()
            .expect("a flow that is still allowed lives on");
        assert!(matches!(
            ask(&scene, family, 8081, &log),
            Seen::Answered { .. }
        ));
    }
}

#[test]
fn a_port_that_is_published_on_more_addresses_keeps_its_flows() {
    let published = |v4: &str, v6: &str| {
        let ports = format!("\"{v4}:8081:80\", \"[{v6}]:8081:80\"");
        SMALL.replace("\"8081:80\"", &ports)
    };
    let [v4, v6] = Family::ALL.map(|family| family.host().to_string());
    let scene = Scene::with(&published(&v4, &v6));
    let wide = published("0.0.0.0", "::");
    let log = Log::default();
    let _servers = serve_all(&scene, &log);
    let flows = Family::ALL.map(|family| open(&scene, family, 8081));
    scene.apply(&wide);
    for flow in &flows {
        flow.exchange().expect("a flow that is still allowed");
    }
}

#[test]
fn a_document_that_is_wrong_leaves_everything_as_it_was() {
    let scene = Scene::with(SMALL);
    let log = Log::default();
    let _servers = serve_all(&scene, &log);
    let web = open(&scene, Family::V6, 8080);
    let before = links(&scene);
    for (wrong, code) in [
        (SMALL.replace("8080:80", "99999:80"), 2),
        (SMALL.replace("8081:80", "8080:80"), 2),
        (SMALL.replace("172.28.0.11", "172.29.0.11"), 2),
        (SMALL.replace("[host]", "[hosts]"), 2),
        (
            SMALL.replace("uplinks = [\"up0\"]", "uplinks = [\"up9\"]"),
            1,
        ),
        (format!("{SMALL}\n[[container]]\nname = \"web\"\n"), 2),
        (
            SMALL.replace("name = \"front\"\n", "name = \"front\"\nbridge = \"up0\"\n"),
            2,
        ),
    ] {
        let ended = scene.try_apply(&wrong).failed_with(code);
        assert!(!ended.stderr.is_empty());
        assert_eq!(links(&scene), before, "{}", ended.stderr);
        web.exchange()
            .expect("a flow that is still allowed lives on");
        assert!(matches!(
            ask(&scene, Family::V4, 8081, &log),
            Seen::Answered { .. }
        ));
    }
    assert_eq!(scene.apply(SMALL)["changed"], false);
}

#[test]
fn a_failed_first_apply_leaves_nothing_behind() {
    let scene = Scene::bare();
    // Somebody else's bridge, with somebody else's port.
    scene.topology.host.ip("link add br9 type bridge");
    scene
        .topology
        .host
        .ip("link add port9 master br9 type veth peer name peer9");
    let before = links(&scene);
    let missing = SMALL.replace("uplinks = [\"up0\"]", "uplinks = [\"up9\"]");
    let ended = scene.try_apply(&missing).failed_with(1);
    assert!(ended.stderr.contains("up9"), "{}", ended.stderr);
    let foreign = SMALL.replace("name = \"front\"\n", "name = \"front\"\nbridge = \"br9\"\n");
    let ended = scene.try_apply(&foreign).failed_with(1);
    assert!(ended.stderr.contains("br9"), "{}", ended.stderr);
    assert_eq!(links(&scene), before);
    assert!(!scene.container("web").exists());
}

#[test]
fn a_port_that_another_process_listens_on_is_refused() {
    let scene = Scene::bare();
    let taken = scene
        .topology
        .host
        .enter(|| std::net::TcpListener::bind("0.0.0.0:8080"));
    let taken = taken.expect("a listener");
    let ended = scene.try_apply(SMALL).failed_with(1);
    assert!(ended.stderr.contains("8080"), "{}", ended.stderr);
    drop(taken);
    scene.apply(SMALL);
}

#[test]
fn an_instance_belongs_to_one_namespace_and_a_container_to_one_instance() {
    let scene = Scene::with(SMALL);
    let other = Scene::bare();
    let path = scene.instance.write_config(&scene.private(SMALL));
    let elsewhere =
        netbpf_tests::product::Instance::new(scene.instance.name(), &other.topology.host);
    let mut elsewhere_guard = elsewhere;
    elsewhere_guard.keep();
    let _ = elsewhere_guard
        .run(&["apply", &path.to_string_lossy()])
        .failed_with(1);
    let _ = other
        .instance
        .run(&["apply", &path.to_string_lossy()])
        .failed_with(1);
    assert_eq!(scene.apply(SMALL)["changed"], false);
}
