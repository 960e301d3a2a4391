//! What goes or moves takes its flows along: no stale entry leads to a container that is gone, to
//! one that has its address now, or to one that does not have the port any more (row P20).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
};

use netbpf_tests::{
    netns::Netns,
    scene::Scene,
    sockets::{Conversation, Log, PATIENCE, Probe, Proto, SILENCE, Seen, Servers, Talk, serve},
    topology::Family,
};

use crate::SMALL;

/// The port that is asked by datagrams.
const NAMES: u16 = 5353;

fn serves(scene: &Scene, name: &str, log: &Log) -> Servers {
    serve(&scene.container(name), name, &[80, 53], log)
}

fn published(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.host(), port)
}

/// How many flows have one of these addresses at either end.
fn flows_of(scene: &Scene, addresses: [&str; 2]) -> usize {
    let listed = scene.instance.json(&["conntrack", "ls"]);
    let flows = listed.as_array().cloned().unwrap_or_default();
    let is_of = |flow: &&serde_json::Value| {
        ["original", "reply"].iter().any(|half| {
            let half = &flow[half];
            let has = |field: &str| {
                let at = half[field].as_str().unwrap_or_default();
                addresses.contains(&at)
            };
            has("src_addr") || has("dst_addr")
        })
    };
    flows.iter().filter(is_of).count()
}

#[test]
fn a_removed_container_takes_its_flows_and_its_host_side_with_it() {
    const APP: [&str; 2] = ["172.28.0.11", "fd00:28::11"];
    let config = SMALL.replace("\"8081:80\"", "\"8081:80\", \"8081:80/udp\"");
    let scene = Scene::with(&config);
    let log = Log::default();
    // The servers stay: what ends the flows is not that nobody answers.
    let _servers = ["web", "app"].map(|name| serves(&scene, name, &log));
    let client = scene.topology.client.path();
    let connect = |family, port| Conversation::open(client, published(family, port));
    let mut flows = Family::ALL.map(|family| {
        let web = connect(family, 8080).expect("a connection");
        let app = connect(family, 8081).expect("a connection");
        (web, app, Talk::open(client, published(family, 8081)))
    });
    for (web, app, talk) in &mut flows {
        web.exchange().expect("a connection");
        app.exchange().expect("a connection");
        assert!(talk.exchange(PATIENCE).is_some());
    }
    assert_eq!(flows_of(&scene, APP), 4);
    let without_app = SMALL.split("[[container]]\nname = \"app\"").next();
    scene.apply(without_app.unwrap_or_default());
    let rows = scene.instance.json(&["container", "ls"]);
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    assert!(!scene.container("app").exists());
    for (web, app, talk) in &mut flows {
        assert!(
            app.exchange_within(SILENCE).is_err(),
            "a connection lives on"
        );
        assert_eq!(talk.exchange(SILENCE), None, "a conversation lives on");
        web.exchange().expect("who stays keeps its flows");
    }
    assert_eq!(flows_of(&scene, APP), 0);
    for family in Family::ALL {
        for proto in [Proto::Tcp, Proto::Udp] {
            let probe = Probe::new(client, proto, published(family, 8081));
            assert_eq!(probe.ask(PATIENCE, &log), Seen::Refused, "{probe:?}");
        }
    }
}

/// A client's socket that asks the published port again and again.
struct Asker {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Asker {
    fn open(netns: &Path, family: Family) -> Self {
        let any = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = Netns::existing(netns).enter(|| UdpSocket::bind(SocketAddr::new(any, 0)));
        Self {
            socket: socket.expect("a socket is bound"),
            to: published(family, NAMES),
        }
    }

    /// Asks until it is answered: by whom, and the questions that it took.
    fn answered(&self, questions: &mut Vec<u64>) -> Option<String> {
        /// The first packet of a flow that is over ends it, the next one begins another.
        const TRIES: usize = 3;
        let patience = Some(SILENCE);
        self.socket
            .set_read_timeout(patience)
            .expect("a time limit");
        for _ in 0..TRIES {
            let token = netbpf_tests::sockets::token();
            questions.push(token);
            let question = format!("probe {token}");
            // A refusal of an earlier question is told here.
            let _ = self.socket.send_to(question.as_bytes(), self.to);
            let mut buffer = [0; 256];
            let Ok((length, from)) = self.socket.recv_from(&mut buffer) else {
                continue;
            };
            assert_eq!(from, self.to, "the answer comes from whom was asked");
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            return answer.split_whitespace().next().map(str::to_owned);
        }
        None
    }
}

/// Demands that the same sockets are answered by `app` alone from now on.
fn only_app_hears(askers: &[Asker; 2], log: &Log) {
    for asker in askers {
        let mut questions = Vec::new();
        for _ in 0..3 {
            let by = asker.answered(&mut questions);
            assert_eq!(by.as_deref(), Some("app"), "{}", asker.to);
        }
        for token in questions {
            if let Some((by, _)) = log.read(token) {
                assert_eq!(by, "app", "{}", asker.to);
            }
        }
    }
}

/// Opens a socket in each family that `web` answers.
fn led_to_web(scene: &Scene) -> [Asker; 2] {
    Family::ALL.map(|family| {
        let asker = Asker::open(scene.topology.client.path(), family);
        let by = asker.answered(&mut Vec::new());
        assert_eq!(by.as_deref(), Some("web"), "{family:?}");
        asker
    })
}

/// The document with the port at `app` in the place of `web`.
fn moved() -> String {
    SMALL
        .replace(", \"5353:53/udp\"", "")
        .replace("\"8081:80\"", "\"8081:80\", \"5353:53/udp\"")
}

#[test]
fn a_published_port_that_moves_takes_the_clients_of_its_datagrams_along() {
    let scene = Scene::with(SMALL);
    let log = Log::default();
    let _servers = ["web", "app"].map(|name| serves(&scene, name, &log));
    let askers = led_to_web(&scene);
    scene.apply(&moved());
    only_app_hears(&askers, &log);
}

#[test]
fn a_container_with_the_address_of_one_that_is_gone_hears_none_of_its_datagrams() {
    let scene = Scene::with(SMALL);
    let log = Log::default();
    let servers = ["web", "app"].map(|name| serves(&scene, name, &log));
    let askers = led_to_web(&scene);
    // Its addresses, its port on the host's side unpublished, and nothing else of it.
    scene.apply(
        &moved()
            .replace("name = \"web\"", "name = \"heir\"")
            .replace("publish = [\"8080:80\"]", "publish = []"),
    );
    let _heir = serves(&scene, "heir", &log);
    for addr in ["172.28.0.10:53", "[fd00:28::10]:53"] {
        let to = addr.parse().expect("an address");
        let near = Probe::new(&scene.container("app"), Proto::Udp, to).ask(PATIENCE, &log);
        assert!(
            matches!(&near, Seen::Answered { by, .. } if by == "heir"),
            "{near}"
        );
    }
    only_app_hears(&askers, &log);
    drop(servers);
}
