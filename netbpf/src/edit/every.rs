//! What every edit leaves alone, in documents of many spellings.

use super::*;

const LISTS: [&str; 4] = [
    "publish = [\"1:1\", '2:2']\n",
    "publish = [ # ports\n  \"1:1\", # one\n  { port = \"2:2\" }, # two\n]\n",
    "publish = [\"1:1\", \"2:2\", \"\"\"\n4:4\"\"\"]\n",
    "[[container.publish]]\nport = \"1:1\"\n\n[[container.publish]]\nport = \"2:2\"\n",
];

/// Keys of the document and of a network: none, and dotted ones with others between them.
const DOTTED: [[&str; 2]; 2] = [
    ["", ""],
    [
        "host.uplinks = []\nconntrack.max_entries = 9 # few\n\n# chosen\nhost.ephemeral_ports = \"1-2\"\n",
        "gateway_mode.ipv4 = \"nat\"\n# big\nmtu = 1500\ngateway_mode.ipv6 = \"routed\" # own\n",
    ],
];

/// Documents whose lines before `# c0` and from `# c1` on no edit of `c0` is about.
fn documents() -> Vec<String> {
    let mut documents = Vec::new();
    let spellings = LISTS.iter().zip(DOTTED.iter().cycle());
    for (list, [keys, modes]) in spellings {
        let text = format!(
            "# top\n{keys}\n# nets\n[[network]]\nname = \"a\" # first\n{modes}\
             [[network]]\nname = \"b\"\n\n# c0\n\
             [[container]]\nname = \"c0\"\nnetworks = [{{ name = \"a\" }}]\n{list}\n\
             # c1\n[[container]]\nname = \"c1\"\nlabels = [\"\"\"\nx\ny\"\"\"] # many\n\
             networks = [{{ name = \"b\" }}]\npublish = [\"8:8\"]\n"
        );
        for end in ["\n", "\r\n"] {
            for last in [end, ""] {
                for mark in ["", "\u{feff}"] {
                    let text = text.trim_end().replace('\n', end);
                    documents.push(format!("{mark}{text}{last}"));
                }
            }
        }
    }
    documents
}

fn edits() -> Vec<Edit> {
    let container = || "c0".to_owned();
    vec![
        Edit::Publish {
            container: container(),
            ports: vec![Value::Text("3:3".to_owned())],
        },
        Edit::Unpublish {
            container: container(),
            ports: vec!["1:1".to_owned()],
        },
        Edit::Unpublish {
            container: container(),
            ports: vec!["2:2".to_owned()],
        },
        Edit::Connect {
            network: "b".to_owned(),
            container: container(),
            keys: Keys::default(),
        },
        Edit::Set {
            kind: Kind::Container,
            name: container(),
            keys: Keys::default().flag("source_check", Some(false)),
        },
        Edit::Remove {
            kind: Kind::Container,
            names: vec![container()],
        },
    ]
}

/// What a container of the document is called, which networks and which ports it has.
fn meaning(text: &str) -> Vec<[Vec<String>; 3]> {
    let text = text.trim_start_matches('\u{feff}');
    let document: toml::Table = toml::from_str(text).expect("a document");
    let names = |table: &toml::Value, key: &str, field: &str| {
        let values = table.get(key).and_then(toml::Value::as_array);
        let values = values.into_iter().flatten();
        let names = values.filter_map(|it| it.get(field).unwrap_or(it).as_str());
        names.map(|it| it.trim().to_owned()).collect()
    };
    let containers = document["container"].as_array().expect("a list");
    let of = |it: &toml::Value| {
        let name = it["name"].as_str().expect("a name").to_owned();
        [
            vec![name],
            names(it, "networks", "name"),
            names(it, "publish", "port"),
        ]
    };
    containers.iter().map(of).collect()
}

/// What `before` means, after the edit.
fn asked(before: &str, edit: &Edit) -> Vec<[Vec<String>; 3]> {
    let mut containers = meaning(before);
    match edit {
        Edit::Publish { .. } => containers[0][2].push("3:3".to_owned()),
        Edit::Unpublish { ports, .. } => containers[0][2].retain(|port| !ports.contains(port)),
        Edit::Connect { network, .. } => containers[0][1].push(network.clone()),
        Edit::Remove { .. } => drop(containers.remove(0)),
        _ => {}
    }
    containers
}

#[test]
fn edits_mean_what_was_asked_and_leave_other_lines_alone() {
    for before in documents() {
        for edit in edits() {
            let text = apply(&before, std::slice::from_ref(&edit)).expect("an edit");
            let mut opened = Opened::read(&before).expect("a document");
            opened.apply(&edit).expect("an edit");
            assert_eq!(opened.text(), text, "{edit:?}");
            assert_eq!(meaning(&text), asked(&before, &edit), "{edit:?}: {text:?}");
            let (head, _) = before.split_once("# c0").expect("a head");
            let tail = &before[before.find("# c1").expect("a tail")..];
            assert!(text.starts_with(head.trim_end()), "{edit:?}: {text:?}");
            assert!(text.ends_with(tail), "{edit:?}: {text:?}");
        }
    }
}

/// Documents in which lines of a key that the parser moves lie against a list that an edit changes.
const TOUCHED: [&str; 3] = [
    "host.ephemeral_ports = \"49000-49100\"\ncontainer = [\n  { name = \"web\" },\n]\nhost.uplinks = [\n  \"eth0\",\n]\n",
    "host.uplinks = [\n  \"eth0\",\n]\ncontainer = [\n  { name = \"web\" },\n]\nhost.ephemeral_ports = \"49000-49100\"\n",
    "host.uplinks = [\n  \"eth0\",\n]\ncontainer = [\n  { name = \"web\" },\n]\nhost.address_pools = [\n  { base = \"10.0.0.0/8\", size = 24 },\n]\n",
];

#[test]
fn edits_beside_values_of_several_lines_change_no_other_key() {
    for before in TOUCHED {
        let edit = Edit::Add {
            kind: Kind::Container,
            name: "db".to_owned(),
            keys: Keys::default(),
        };
        let text = apply(before, &[edit]).expect("an edit");
        let mut asked: toml::Table = toml::from_str(before).expect("a document");
        let containers = asked["container"].as_array_mut().expect("a list");
        let added: toml::Table = toml::from_str("name = \"db\"").expect("a container");
        containers.push(added.into());
        let is: toml::Table = toml::from_str(&text).expect("a document");
        assert_eq!(is, asked, "{text}");
    }
}
