//! Changes by hand: each verb on a living host, with traffic, through `run` and without.

use std::net::SocketAddr;

use netbpf_tests::{
    scene::Scene,
    sockets::{Conversation, Log, PATIENCE, Probe, Proto, Seen, Servers, serve},
    topology::Family,
};
use serde_json::Value;

use crate::alive::Running;

/// What a user wrote, with words of his own.
const WRITTEN: &str = r#"
# The host behind the shop.
[host]
uplinks = ["up0"] # the only cable

# Who is let in.
[[network]]
name = "front"
subnets = ["172.28.0.0/24", "fd00:28::/64"]

[[container]]
name = "app" # never renamed
networks = [{ name = "front", ipv4 = "172.28.0.11", ipv6 = "fd00:28::11" }]
"#;

/// The document. What the user wrote stands in it still, line by line and in its order.
fn document(scene: &Scene) -> String {
    let text = std::fs::read_to_string(scene.instance.state().join("desired.toml"));
    let text = text.expect("a document");
    let mut lines = text.lines();
    for written in scene.private(WRITTEN).lines() {
        assert!(lines.any(|line| line == written), "{written:?} of {text}");
    }
    text
}

fn ok(scene: &Scene, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    scene.instance.run(&words).succeeded().stdout
}

fn refused(scene: &Scene, line: &str, code: i32, why: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let ended = scene.instance.run(&words).failed_with(code);
    assert!(ended.stderr.contains(why), "{line}: {}", ended.stderr);
    assert!(!ended.stderr.contains("toml"), "{line}: {}", ended.stderr);
}

/// A container of this scene, as a command line.
fn add_container(scene: &Scene, name: &str, flags: &str) -> String {
    let netns = scene.container(name);
    let netns = netns.display();
    ok(
        scene,
        &format!("container add {name} --container-netns {netns} {flags}"),
    )
}

fn names(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().into_iter().flatten();
    rows.filter_map(|row| row["name"].as_str()).collect()
}

fn open(scene: &Scene, family: Family, port: u16) -> Conversation {
    let to = SocketAddr::new(family.host(), port);
    Conversation::open(scene.topology.client.path(), to).expect("a connection")
}

fn ask(scene: &Scene, family: Family, port: u16, log: &Log) -> Seen {
    let to = SocketAddr::new(family.host(), port);
    Probe::new(scene.topology.client.path(), Proto::Tcp, to).ask(PATIENCE, log)
}

fn serve_web(scene: &Scene, log: &Log) -> Servers {
    serve(&scene.container("web"), "web", &[80, 53], log)
}

/// Every verb, one after the other, while a connection of somebody else goes on.
fn every_verb(scene: &Scene, meanwhile: fn(&Scene)) {
    let log = Log::default();
    assert_eq!(
        ok(
            scene,
            "network add back --subnet 10.88.0.0/24 --subnet fd00:88::/64"
        ),
        "back\n"
    );
    let flags = "--network back --ip 10.88.0.10 --ip6 fd00:88::10 -p 8080:80";
    assert_eq!(add_container(scene, "web", flags), "web\n");
    let servers = serve_web(scene, &log);
    let kept = Family::ALL.map(|family| open(scene, family, 8080));
    meanwhile(scene);
    assert_eq!(
        ok(scene, "port add web 8081:80 5353:53/udp"),
        "80/tcp -> 0.0.0.0:8081\n80/tcp -> [::]:8081\n53/udp -> 0.0.0.0:5353\n53/udp -> [::]:5353\n"
    );
    for family in Family::ALL {
        assert!(matches!(
            ask(scene, family, 8081, &log),
            Seen::Answered { .. }
        ));
    }
    assert_eq!(ok(scene, "port rm web 8081:80/TCP"), "");
    for family in Family::ALL {
        assert_eq!(ask(scene, family, 8081, &log), Seen::Refused);
    }
    let service = "service add api --network back --vip 10.88.0.100 --port 80:80 --backend web \
                   --scheduler random";
    assert_eq!(ok(scene, service), "api\n");
    refused(
        scene,
        "container rm web",
        1,
        "container web is in use (by service \"api\")",
    );
    assert_eq!(ok(scene, "service rm api"), "api\n");
    for conversation in &kept {
        conversation
            .exchange()
            .expect("a flow that nothing is about");
    }
    drop(servers);
    assert_eq!(ok(scene, "container rm web"), "web\n");
    for conversation in &kept {
        assert!(conversation.exchange().is_err(), "a flow of what is gone");
    }
    assert_eq!(ok(scene, "network rm back"), "back\n");
    assert_eq!(document(scene), scene.private(WRITTEN));
    assert_eq!(names(&scene.instance.json(&["network", "ls"])), ["front"]);
    assert_eq!(names(&scene.instance.json(&["container", "ls"])), ["app"]);
}

fn refusals(scene: &Scene) {
    let before = document(scene);
    let links = scene.topology.host.ip("-o link");
    for (line, code, why) in [
        (
            "network add back",
            1,
            "network with name back already exists",
        ),
        ("network add b/d", 2, "name \"b/d\""),
        (
            "network add new --subnet banana",
            2,
            "network \"new\": subnet \"banana\"",
        ),
        (
            "network add new --subnet 10.88.0.0/16",
            1,
            "network \"new\": subnet 10.88.0.0/16",
        ),
        ("network add new --mtu big", 2, "--mtu"),
        ("network rm nope", 1, "no such network: nope"),
        ("network rm back nope", 1, "no such network: nope"),
        (
            "network rm back",
            1,
            "network back has active endpoints (container \"web\")",
        ),
        ("network connect nope web", 1, "no such network: nope"),
        ("network connect back nope", 1, "no such container: nope"),
        (
            "network connect back web",
            1,
            "endpoint with name web already exists in network back",
        ),
        (
            "network disconnect front web",
            1,
            "container web is not connected to network front",
        ),
        (
            "network disconnect back web",
            1,
            "network back is the only one of container web",
        ),
        (
            "container add app --network front",
            1,
            "container with name app already exists",
        ),
        ("container add new --network nope", 1, "nope"),
        ("container rm nope", 1, "no such container: nope"),
        (
            "port add app 8080:80",
            1,
            "Bind for 0.0.0.0:8080 failed: port is already allocated (by container",
        ),
        ("port add web 99999:80", 2, "99999"),
        ("port add nope 80:80", 1, "no such container: nope"),
        (
            "port rm web 80:80",
            1,
            "container web does not publish 80:80",
        ),
        ("service rm nope", 1, "no such service: nope"),
        (
            "service set nope --scheduler random",
            1,
            "no such service: nope",
        ),
        ("service set nope", 2, "nothing to set"),
    ] {
        refused(scene, line, code, why);
    }
    let dry = ok(scene, "network add dry --subnet 10.89.0.0/24 --dry-run");
    assert!(dry.starts_with("+ network dry"), "{dry}");
    assert!(dry.ends_with("this was a dry run\n"), "{dry}");
    let dry = scene
        .instance
        .json(&["port", "rm", "web", "8080:80", "--dry-run"]);
    assert_eq!(dry["changed"], true, "{dry}");
    assert_eq!(document(scene), before);
    assert_eq!(scene.topology.host.ip("-o link"), links);
}

#[test]
fn every_verb_changes_a_living_host_and_nothing_else() {
    let scene = Scene::with(WRITTEN);
    every_verb(&scene, refusals);
    assert_eq!(scene.apply(WRITTEN)["changed"], false);
}

#[test]
fn every_verb_does_the_same_through_a_living_run() {
    let scene = Scene::bare();
    let _running = Running::start(&scene, WRITTEN);
    let refused_there = |scene: &Scene| {
        refused(
            scene,
            "network rm back",
            1,
            "network back has active endpoints",
        );
        refused(
            scene,
            "network add new --subnet banana",
            2,
            "subnet \"banana\"",
        );
    };
    every_verb(&scene, refused_there);
}

/// Many commands at once; all of them take effect.
fn at_once(scene: &Scene) {
    let add = |number: u16| {
        let name = format!("n{number}");
        let subnet = format!("10.90.{number}.0/24");
        let mut command = scene
            .instance
            .command(&["network", "add", &name, "--subnet", &subnet]);
        let command = command.stdout(std::process::Stdio::null());
        command.spawn().expect("netbpf starts")
    };
    let children: Vec<_> = (0..4).map(add).collect();
    for mut child in children {
        assert!(child.wait().expect("it ends").success());
    }
    let rows = scene.instance.json(&["network", "ls"]);
    let mut found = names(&rows);
    found.sort_unstable();
    assert_eq!(found, ["front", "n0", "n1", "n2", "n3"]);
    ok(scene, "network rm n0 n1 n2 n3");
    assert_eq!(document(scene), scene.private(WRITTEN));
}

#[test]
fn writers_at_once_all_take_effect() {
    let scene = Scene::with(WRITTEN);
    at_once(&scene);
    drop(scene);
    let scene = Scene::bare();
    let _running = Running::start(&scene, WRITTEN);
    at_once(&scene);
}

#[test]
fn a_verb_that_was_killed_is_taken_back_by_the_next_one() {
    let scene = Scene::with(WRITTEN);
    let links = scene.topology.host.ip("-o link");
    let noted = scene.instance.changes_noted();
    let netns = scene.container("web").display().to_string();
    let mut command = scene
        .instance
        .command(&["container", "add", "web", "--network", "front"]);
    command.args(["--container-netns", &netns]);
    scene.instance.kill_at(command, noted + 1);
    assert_eq!(document(&scene), scene.private(WRITTEN));
    let dry = ok(&scene, "network add new --subnet 10.89.0.0/24 --dry-run");
    assert!(!dry.contains("web"), "{dry}");
    assert_eq!(scene.topology.host.ip("-o link"), links);
    assert!(!scene.container("web").exists());
    assert_eq!(add_container(&scene, "web", "--network front"), "web\n");
}

#[test]
fn ports_of_a_container_with_the_host_s_network_are_discarded_in_words() {
    let scene = Scene::with(WRITTEN);
    ok(&scene, "container add front-door --network host");
    for port in ["8080:80", "8081:81"] {
        let arguments = ["port", "add", "front-door", port];
        let ended = scene.instance.run(&arguments).succeeded();
        let why = format!(
            "container \"front-door\": publish \"{port}\" has no effect: published ports are \
             discarded when using host network mode"
        );
        assert!(ended.stderr.contains(&why), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

/// A routed network has no port of the host, so that older ports and new ones look the same, and
/// one that was published before is not added.
#[test]
fn a_port_is_told_alone_although_the_maps_were_lost() {
    let scene = Scene::with(WRITTEN);
    let flags = "--network back --ip 10.88.0.10 --ip6 fd00:88::10 -p 8081:92 -p 8083:91";
    for (mode, told) in [
        ("routed", ""),
        ("ipv4=nat,ipv6=routed", "92/tcp -> 0.0.0.0:49000\n"),
    ] {
        let network = format!(
            "network add back --subnet 10.88.0.0/24 --subnet fd00:88::/64 --gateway-mode {mode}"
        );
        ok(&scene, &network);
        add_container(&scene, "web", flags);
        std::fs::remove_dir_all(scene.instance.pins().join("maps")).expect("pins");
        assert_eq!(ok(&scene, "port add web 92"), told, "{mode}");
        assert_eq!(ok(&scene, "port add web 8090:93/udp").lines().count(), 2);
        ok(&scene, "container rm web");
        ok(&scene, "network rm back");
    }
}
