//! What lives on: transfers through a flushed ruleset, and everything through killed processes.

use std::{
    net::SocketAddr,
    process::{Child, Stdio},
    time::Duration,
};

use netbpf_tests::{
    matrix::OWN_SERVICE,
    netns::wait_until,
    scene::Scene,
    sockets::{Conversation, Log, Servers, serve},
    topology::Family,
};

use crate::SMALL;

/// How much goes through a connection.
const TRANSFER: usize = 64 << 20;

fn servers(scene: &Scene, log: &Log) -> Vec<Servers> {
    let mut servers = vec![serve(
        scene.topology.client.path(),
        "client",
        &[OWN_SERVICE],
        log,
    )];
    for name in ["web", "app"] {
        servers.push(serve(
            &scene.container(name),
            name,
            &[80, 53, OWN_SERVICE],
            log,
        ));
    }
    servers
}

/// Connections from outside to the published port, and from a container to the outside.
fn conversations(scene: &Scene, family: Family) -> [Conversation; 2] {
    let open = |netns, addr, port| {
        let to = SocketAddr::new(addr, port);
        Conversation::open(netns, to).unwrap_or_else(|error| {
            panic!(
                "no connection to {to}: {error}\n{}",
                scene.instance.run(&["status"]).stdout
            )
        })
    };
    [
        open(scene.topology.client.path(), family.host(), 8080),
        open(&scene.container("app"), family.far(), OWN_SERVICE),
    ]
}

#[test]
fn a_flushed_ruleset_loses_nothing_of_a_transfer() {
    let scene = Scene::with(SMALL);
    let _servers = servers(&scene, &Log::default());
    let flush = || {
        scene.topology.host.nft("flush ruleset");
    };
    for family in Family::ALL {
        for conversation in conversations(&scene, family) {
            scene.topology.close_netfilter();
            conversation
                .download(TRANSFER, flush)
                .expect("a whole download");
            scene.topology.close_netfilter();
            conversation
                .upload(TRANSFER, flush)
                .expect("a whole upload");
        }
    }
    assert_eq!(scene.topology.host.run("nft list ruleset"), "");
}

#[test]
fn segments_are_cut_as_late_as_possible_on_every_path() {
    let scene = Scene::with(SMALL);
    let log = Log::default();
    let _servers = servers(&scene, &log);
    for family in Family::ALL {
        let [published, masqueraded] = conversations(&scene, family);
        let neighbour = match family {
            Family::V4 => "172.28.0.10:80".parse(),
            Family::V6 => "[fd00:28::10]:80".parse(),
        };
        let bridged = Conversation::open(&scene.container("app"), neighbour.expect("an address"))
            .expect("a connection");
        for conversation in [published, masqueraded, bridged] {
            conversation
                .upload(TRANSFER, || {})
                .expect("a whole upload");
            let (packets, bytes) = counted(&scene, conversation.local());
            assert!(bytes as usize > TRANSFER, "{bytes} bytes were counted");
            // Whole segments of the wire have less than 1500 bytes.
            assert!(bytes / packets > 6000, "{} bytes a packet", bytes / packets);
        }
    }
}

/// Packets and bytes of the original direction of the flow with this source.
fn counted(scene: &Scene, source: SocketAddr) -> (u64, u64) {
    let flows = scene.instance.json(&["conntrack", "ls"]);
    let found = flows.as_array().into_iter().flatten().find(|flow| {
        flow["original"]["src_addr"] == source.ip().to_string()
            && flow["original"]["src_port"] == source.port()
    });
    let original = &found.unwrap_or_else(|| panic!("no flow from {source} in {flows}"))["original"];
    let number = |key: &str| original[key].as_u64().unwrap_or_default();
    (number("packets").max(1), number("bytes"))
}

/// `netbpf run` in the foreground. It is killed when the guard is dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(scene: &Scene, config: &str) -> Self {
        let path = scene.instance.write_config(&scene.private(config));
        let mut command = scene.instance.command(&["run"]);
        command
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let running = Self(command.spawn().expect("netbpf run starts"));
        wait_until("the instance is active", Duration::from_secs(30), || {
            let status = scene.instance.run(&["status", "--json"]);
            status.code == Some(0) && status.stdout.contains("\"active\"")
        });
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn killing_the_process_loses_nothing_and_new_connections_work() {
    let scene = Scene::bare();
    let running = Running::start(&scene, SMALL);
    let _servers = servers(&scene, &Log::default());
    let [published, masqueraded] = conversations(&scene, Family::V4);
    let mut running = Some(running);
    published
        .download(TRANSFER, || drop(running.take()))
        .expect("a whole download");
    masqueraded.exchange().expect("a living connection");
    for family in Family::ALL {
        for conversation in conversations(&scene, family) {
            conversation.exchange().expect("a new connection");
        }
    }
    let again = scene.apply(SMALL);
    assert_eq!(again["changed"], false, "{again}");
}

#[test]
fn flows_expire_without_a_process() {
    let short = "[conntrack]\ntimeouts = { established = \"1s\", half_open = \"1s\", \
                 closing = \"1s\", udp = \"1s\", udp_stream = \"1s\", icmp = \"1s\" }\n";
    let scene = Scene::with(&format!("{short}{SMALL}"));
    let _servers = servers(&scene, &Log::default());
    for family in Family::ALL {
        for conversation in conversations(&scene, family) {
            conversation.exchange().expect("a connection");
        }
    }
    wait_until("no flow is left", Duration::from_secs(40), || {
        scene
            .instance
            .json(&["conntrack", "ls"])
            .as_array()
            .is_some_and(Vec::is_empty)
    });
}

#[test]
fn an_apply_that_is_killed_anywhere_leaves_what_was_there_and_the_next_one_finishes() {
    let more = format!(
        "{SMALL}\n[[network]]\nname = \"back\"\nsubnets = [\"172.29.0.0/24\", \"fd00:29::/64\"]\n\
         [[container]]\nname = \"job\"\nnetworks = [{{ name = \"back\" }}]\npublish = [\"8090:80\"]\n"
    );
    let scene = Scene::with(SMALL);
    let _servers = servers(&scene, &Log::default());
    let kept = conversations(&scene, Family::V4);
    let path = scene.instance.write_config(&scene.private(&more));
    let noted = scene.instance.changes_noted();
    for more in 1..=10 {
        scene.instance.kill_apply_at(&path, noted + more);
        for conversation in &kept {
            conversation
                .exchange()
                .expect("a flow that was there lives on");
        }
        for conversation in conversations(&scene, Family::V6) {
            conversation.exchange().expect("a new connection");
        }
        scene.apply(SMALL);
        assert_eq!(scene.apply(SMALL)["changed"], false);
        assert!(!scene.container("job").exists());
    }
    let finished = scene.apply(&more);
    assert_eq!(finished["changed"], true, "{finished}");
    assert_eq!(scene.apply(&more)["changed"], false);
    for conversation in &kept {
        conversation
            .exchange()
            .expect("a flow that was there lives on");
    }
}
