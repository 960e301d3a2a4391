//! What edits do to a document.

mod ports;

use super::*;

const DOCUMENT: &str = r#"# The host of the shop.

# Everything public is here.
[[network]]
name = "front" # the one with the door
subnets = ["172.28.0.0/24"]

# Below: what runs.

# The shop.
[[container]]
name = "web"
networks = [{ name = "front", ipv4 = "172.28.0.10" }]
publish = [
    "8080:80", # plain
    { port = "8443:443", allow = ["198.51.100.0/24"] },
]

[[container]]
name = "app"
links = ["web:shop"]
networks = [{ name = "front" }]

[[service]]
name = "api"
network = "front"
ports = ["80:8080"]
backends = [{ container = "web" }]
"#;

fn edited(edit: Edit) -> String {
    apply(DOCUMENT, &[edit]).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(edit: Edit) -> String {
    match apply(DOCUMENT, &[edit]) {
        Ok(text) => panic!("was done:\n{text}"),
        Err(error) => {
            assert_eq!(error.exit_code(), 1, "{error}");
            error.to_string()
        }
    }
}

/// The lines that an edit took away and those that it added.
fn difference(edit: Edit) -> (String, String) {
    let text = edited(edit);
    let lines_without = |one: &str, other: &str| {
        let mut others: Vec<&str> = other.lines().collect();
        let mut left = Vec::new();
        for line in one.lines().filter(|line| !line.is_empty()) {
            match others.iter().position(|other| *other == line) {
                Some(index) => drop(others.remove(index)),
                None => left.push(line),
            }
        }
        left.join("\n")
    };
    (
        lines_without(DOCUMENT, &text),
        lines_without(&text, DOCUMENT),
    )
}

fn name(text: &str) -> String {
    text.to_owned()
}

fn network_back() -> Edit {
    Edit::Add {
        kind: Kind::Network,
        name: name("back"),
        keys: Keys::default()
            .texts("subnets", &[name("10.9.0.0/24"), name("fd09::/64")])
            .flag("internal", Some(true))
            .number("mtu", Some(1400)),
    }
}

fn remove(kind: Kind, names: &[&str]) -> Edit {
    Edit::Remove {
        kind,
        names: names.iter().map(|text| name(text)).collect(),
    }
}

fn connect(network: &str, container: &str, keys: Keys) -> Edit {
    Edit::Connect {
        network: name(network),
        container: name(container),
        keys,
    }
}

#[test]
fn nothing_changes_without_an_edit() {
    assert_eq!(apply(DOCUMENT, &[]).expect("an edit"), DOCUMENT);
}

#[test]
fn a_new_network_stands_after_the_others() {
    let text = edited(network_back());
    let (before, after) = DOCUMENT.split_once("\n# Below").expect("two parts");
    let new = "\n[[network]]\nname = \"back\"\nsubnets = [\"10.9.0.0/24\", \"fd09::/64\"]\n\
               internal = true\nmtu = 1400\n";
    assert_eq!(text, format!("{before}{new}\n# Below{after}"));
}

#[test]
fn an_empty_state_gets_its_first_network() {
    let text = apply("", &[network_back()]).expect("an edit");
    assert!(text.starts_with("[[network]]\nname = \"back\"\n"), "{text}");
}

#[test]
fn a_list_that_is_written_inline_stays_so() {
    let text = "network = [{ name = \"a\" }]\n";
    let edited = apply(text, &[network_back(), remove(Kind::Network, &["a"])]).expect("an edit");
    assert_eq!(
        edited,
        "network = [{ name = \"back\", subnets = [\"10.9.0.0/24\", \"fd09::/64\"], \
         internal = true, mtu = 1400 }]\n"
    );
}

#[test]
fn what_is_there_is_not_added_and_what_is_not_is_not_found() {
    let back = network_back();
    let text = edited(back.clone());
    let again = apply(&text, &[back]).expect_err("it is there");
    assert_eq!(again.to_string(), "network with name back already exists");
    assert_eq!(refused(remove(Kind::Network, &["x"])), "no such network: x");
    assert_eq!(refused(remove(Kind::Service, &["x"])), "no such service: x");
    assert_eq!(
        refused(connect("x", "web", Keys::default())),
        "no such network: x"
    );
    assert_eq!(
        refused(connect("front", "x", Keys::default())),
        "no such container: x"
    );
    assert_eq!(
        refused(connect("front", "web", Keys::default())),
        "endpoint with name web already exists in network front"
    );
}

#[test]
fn what_is_in_use_stays() {
    assert_eq!(
        refused(remove(Kind::Network, &["front"])),
        "network front has active endpoints (container \"web\", container \"app\", service \"api\")"
    );
    assert_eq!(
        refused(remove(Kind::Container, &["web"])),
        "container web is in use (by container \"app\", service \"api\")"
    );
    let service_first = [
        remove(Kind::Service, &["api"]),
        remove(Kind::Container, &["web", "app"]),
        remove(Kind::Network, &["front"]),
    ];
    let text = apply(DOCUMENT, &service_first).expect("an edit");
    assert_eq!(text, "# The host of the shop.\n\n# Below: what runs.\n");
}

#[test]
fn what_goes_takes_its_own_comment_and_no_other() {
    let (gone, new) = difference(remove(Kind::Container, &["app"]));
    assert_eq!(new, "");
    assert!(
        gone.starts_with("[[container]]\nname = \"app\"\n"),
        "{gone}"
    );
    let after = apply(
        DOCUMENT,
        &[
            remove(Kind::Service, &["api"]),
            remove(Kind::Container, &["app"]),
            remove(Kind::Container, &["web"]),
        ],
    )
    .expect("an edit");
    assert!(after.contains("# Below: what runs."), "{after}");
    assert!(!after.contains("# The shop."), "{after}");
}

#[test]
fn a_container_enters_and_leaves_networks() {
    let keys = Keys::default()
        .text("ipv4", Some("10.9.0.7"))
        .number("gw_priority", Some(1));
    let text = apply(DOCUMENT, &[network_back(), connect("back", "web", keys)]).expect("an edit");
    let both = "networks = [{ name = \"front\", ipv4 = \"172.28.0.10\" }, \
                { name = \"back\", ipv4 = \"10.9.0.7\", gw_priority = 1 }]\n";
    assert!(text.contains(both), "{text}");
    let disconnect = |network: &str| Edit::Disconnect {
        network: name(network),
        container: name("web"),
    };
    let text = apply(&text, &[disconnect("front")]).expect("an edit");
    let one = "networks = [{ name = \"back\", ipv4 = \"10.9.0.7\", gw_priority = 1 }]\n";
    assert!(text.contains(one), "{text}");
    let last = apply(&text, &[disconnect("back")]).expect_err("it is the last one");
    assert!(
        last.to_string()
            .starts_with("network back is the only one of container web"),
        "{last}"
    );
    let absent = apply(&text, &[disconnect("front")]).expect_err("it has left");
    assert_eq!(
        absent.to_string(),
        "container web is not connected to network front"
    );
}

#[test]
fn networks_that_are_tables_of_their_own_are_understood() {
    let text = "[[network]]\nname = \"a\"\n\n[[container]]\nname = \"web\"\n\
                [[container.networks]]\nname = \"a\"\n\n[[container]]\nname = \"app\"\n\
                networks = [{ name = \"a\" }]\n";
    let text = apply(
        text,
        &[network_back(), connect("back", "web", Keys::default())],
    );
    let text = text.expect("an edit");
    assert!(
        text.contains(
            "[[container.networks]]\nname = \"a\"\n\n[[container.networks]]\nname = \"back\"\n\n\
             [[container]]\nname = \"app\"\n"
        ),
        "{text}"
    );
}

#[test]
fn a_service_gets_changes_and_loses_backends() {
    let service = || name("api");
    let add = Edit::AddBackend {
        service: service(),
        container: name("app"),
        keys: Keys::default().number("weight", Some(2)),
    };
    let drain = Edit::SetBackend {
        service: service(),
        container: name("web"),
        keys: Keys::default().flag("drain", Some(true)),
    };
    let text = apply(DOCUMENT, &[add, drain]).expect("an edit");
    let both = "backends = [{ container = \"web\", drain = true }, \
                { container = \"app\", weight = 2 }]\n";
    assert!(text.contains(both), "{text}");
    let without = Edit::RemoveBackend {
        service: service(),
        container: name("web"),
    };
    let text = apply(&text, &[without]).expect("an edit");
    assert!(
        text.contains("backends = [{ container = \"app\", weight = 2 }]\n"),
        "{text}"
    );
    let set = Edit::Set {
        kind: Kind::Service,
        name: service(),
        keys: Keys::default().text("scheduler", Some("random")),
    };
    let text = edited(set);
    assert!(
        text.ends_with("\"web\" }]\nscheduler = \"random\"\n"),
        "{text}"
    );
    let missing = Edit::RemoveBackend {
        service: service(),
        container: name("app"),
    };
    assert_eq!(
        refused(missing),
        "container app is no backend of service api"
    );
}

#[test]
fn an_edit_is_the_same_after_a_journey() {
    let edits = vec![
        network_back(),
        connect(
            "front",
            "web",
            Keys::default().texts("aliases", &[name("a")]),
        ),
    ];
    let line = serde_json::to_string(&edits).expect("JSON");
    let back: Vec<Edit> = serde_json::from_str(&line).expect("edits");
    assert_eq!(back, edits);
}

#[test]
fn comments_further_above_stay_whatever_ends_their_lines() {
    let document = DOCUMENT.replace('\n', "\r\n");
    let edits = [
        remove(Kind::Service, &["api"]),
        remove(Kind::Container, &["app", "web"]),
    ];
    let plain = apply(DOCUMENT, &edits).expect("an edit");
    assert!(plain.contains("# Below: what runs."), "{plain}");
    let text = apply(&document, &edits).expect("an edit");
    assert_eq!(text, plain.replace('\n', "\r\n"));
}
