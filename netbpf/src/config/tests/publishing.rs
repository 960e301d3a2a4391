//! Which ports of the host what is published gets, and keeps.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use proptest::prelude::*;

use super::{errors_of, good};
use crate::{
    allocations::Allocations,
    config::Surroundings,
    model::{Model, PortBinding, Proto},
};

/// A document with a network of both families and `c0`, `c1` ..., which publish these.
fn document(host: &str, network: &str, containers: &[&str]) -> String {
    let mut text = format!(
        "[host]\n{host}\n[[network]]\nname = \"front\"\nsubnets = [\"172.28.0.0/16\", \
         \"fd00:28::/64\"]\n{network}\n"
    );
    for (index, publishes) in containers.iter().enumerate() {
        text += &format!(
            "[[container]]\nname = \"c{index}\"\nnetworks = [{{ name = \"front\" }}]\n{publishes}\n"
        );
    }
    text
}

fn publish(containers: &[&str]) -> String {
    let publishes: Vec<String> = containers
        .iter()
        .map(|publishes| format!("publish = [{publishes}]"))
        .collect();
    let publishes: Vec<&str> = publishes.iter().map(String::as_str).collect();
    document("ephemeral_ports = \"49000-49004\"", "", &publishes)
}

fn resolved(text: &str, earlier: &Allocations) -> (Model, Allocations) {
    match good(text).resolve(earlier) {
        Ok(resolved) => resolved,
        Err(errors) => panic!("{errors}"),
    }
}

fn shown(binding: &PortBinding) -> String {
    let PortBinding {
        host_ip,
        host_port,
        container_port,
        proto,
        ..
    } = binding;
    let host_ip = host_ip.map_or_else(String::new, |address| format!("{address} "));
    let host_port = host_port.map_or_else(|| "-".to_owned(), |port| port.to_string());
    format!("{host_ip}{host_port} > {container_port}/{proto}")
}

/// What every container publishes.
fn bindings(model: &Model) -> Vec<String> {
    let all = model.containers.iter().flat_map(|it| &it.publish);
    all.map(shown).collect()
}

#[track_caller]
fn gets(text: &str, expected: &[&str]) {
    assert_eq!(
        bindings(&resolved(text, &Allocations::default()).0),
        expected
    );
}

#[test]
fn exact_ports_come_before_ranges_and_ranges_before_ephemeral_ones() {
    gets(
        &publish(&["\"80\", \"49000-49002:81\"", "\"49000:80\", \"80/udp\""]),
        &[
            "49002 > 80/tcp",
            "49001 > 81/tcp",
            "49000 > 80/tcp",
            "49000 > 80/udp",
        ],
    );
}

#[test]
fn range_for_one_port_gives_its_first_free_one() {
    gets(
        &publish(&["\"8000-8010:80\"", "\"8000-8010:80\", \"8001:81\""]),
        &["8000 > 80/tcp", "8002 > 80/tcp", "8001 > 81/tcp"],
    );
}

#[test]
fn addresses_of_one_port_share_the_choice() {
    gets(
        &publish(&[
            "\"127.0.0.1:49000:80\"",
            "\"127.0.0.1::80\", \"198.51.100.1::80\", \"[::1]::80\"",
        ]),
        &[
            "127.0.0.1 49000 > 80/tcp",
            "127.0.0.1 49001 > 80/tcp",
            "198.51.100.1 49001 > 80/tcp",
            "::1 49001 > 80/tcp",
        ],
    );
}

#[test]
fn same_publish_twice_gets_two_ports() {
    gets(
        &publish(&["\"80\", \"80\", \"127.0.0.1::80\""]),
        &[
            "49000 > 80/tcp",
            "49001 > 80/tcp",
            "127.0.0.1 49002 > 80/tcp",
        ],
    );
}

#[test]
fn a_choice_for_every_address_is_free_on_each() {
    gets(
        &publish(&[
            "\"[2001:db8::1]:49000:80\"",
            "\"198.51.100.1:49001:80\"",
            "\"81\"",
        ]),
        &[
            "2001:db8::1 49000 > 80/tcp",
            "198.51.100.1 49001 > 80/tcp",
            "49002 > 81/tcp",
        ],
    );
}

#[test]
fn choice_stays_until_its_owner_goes() {
    let (model, first) = resolved(
        &publish(&["\"80\"", "\"80\", \"8000-8010:81\""]),
        &Allocations::default(),
    );
    assert_eq!(
        bindings(&model),
        ["49000 > 80/tcp", "49001 > 80/tcp", "8000 > 81/tcp"]
    );

    // A newcomer before them takes nothing of theirs.
    let text = publish(&[
        "\"82\", \"80\"",
        "\"80\", \"8000-8010:82\", \"8000-8010:81\"",
    ]);
    let (model, second) = resolved(&text, &first);
    let now = [
        "49002 > 82/tcp",
        "49000 > 80/tcp",
        "49001 > 80/tcp",
        "8001 > 82/tcp",
        "8000 > 81/tcp",
    ];
    assert_eq!(bindings(&model), now);
    let mappings: BTreeSet<u32> = model
        .containers
        .iter()
        .flat_map(|it| &it.publish)
        .map(|it| it.mapping)
        .collect();
    assert_eq!(mappings.len(), 5);

    // The next one is after the last one, not the one that came free.
    let (model, third) = resolved(&publish(&["", "\"80\""]), &second);
    assert_eq!(bindings(&model), ["49001 > 80/tcp"]);
    let (model, _) = resolved(&publish(&["\"80\"", "\"80\""]), &third);
    assert_eq!(bindings(&model), ["49003 > 80/tcp", "49001 > 80/tcp"]);
}

#[test]
fn mapping_keeps_its_id_with_its_port() {
    let text = publish(&["\"80\", \"8000-8010:81\", \"9000:82\""]);
    let (before, allocations) = resolved(&text, &Allocations::default());
    let json = serde_json::to_string(&allocations).unwrap();
    let (after, again) = resolved(&text, &serde_json::from_str(&json).unwrap());
    assert_eq!((before, allocations), (after, again));
}

#[test]
fn mapping_that_answers_on_more_addresses_keeps_its_id() {
    let id = |model: &Model| model.containers[0].publish[0].mapping;
    let mut before = resolved(
        &publish(&["\"198.51.100.1:80:80\""]),
        &Allocations::default(),
    );
    for wider in ["\"0.0.0.0:80:80\"", "\"80:80\""] {
        let after = resolved(&publish(&[wider]), &before.1);
        assert_eq!(id(&after.0), id(&before.0), "{wider}");
        before = after;
    }
    // Flows by an address that goes would be no different from the others.
    for other in ["\"[::]:80:80\"", "\"80:81\"", "\"81:80\"", "\"80:80/udp\""] {
        let after = resolved(&publish(&[other]), &before.1);
        assert_ne!(id(&after.0), id(&before.0), "{other}");
    }
    // Of two that become one, one goes on.
    let apart = "\"0.0.0.0:80:80\", \"[::]:80:80\"";
    let (_, two) = resolved(&publish(&[apart]), &before.1);
    let (one, _) = resolved(&publish(&["\"80:80\""]), &two);
    assert_eq!(id(&one), two.mappings[0].id);
}

#[test]
fn port_that_somebody_keeps_is_refused_to_whoever_names_it() {
    let (_, first) = resolved(&publish(&["\"80\""]), &Allocations::default());
    let errors = good(&publish(&["\"80\"", "\"49000:80\""]))
        .resolve(&first)
        .unwrap_err();
    assert_eq!(
        errors.lines(),
        [
            "t.toml:14: container \"c1\": publish \"49000:80\": Bind for 0.0.0.0:49000 failed: port is already allocated (by container \"c0\")"
        ]
    );
    // Without the keeper it is free.
    let (model, _) = resolved(&publish(&["", "\"49000:80\""]), &first);
    assert_eq!(bindings(&model), ["49000 > 80/tcp"]);
}

#[test]
fn range_without_a_free_port_is_refused_in_dockers_words() {
    let all = publish(&["\"80-84\"", "\"80/udp\"", "\"80\""]);
    assert_eq!(
        errors_of(&all),
        ["t.toml:18: container \"c2\": publish \"80\": all ports are allocated"]
    );
    assert_eq!(
        errors_of(&publish(&[
            "\"8000-8001:80\", \"8000-8001:80\", \"8000-8001:80\""
        ])),
        ["t.toml:10: container \"c0\": publish \"8000-8001:80\": all ports are allocated"]
    );
}

#[test]
fn range_that_is_refused_takes_no_port_from_others() {
    let conflict = "\"8000-8001:80-81\"";
    // Neither from who takes one of a range, nor from who names one.
    for other in ["\"8000-8001:90\"", "\"8001:90\""] {
        assert_eq!(
            errors_of(&publish(&["\"8000:80\"", conflict, other])),
            [
                "t.toml:14: container \"c1\": publish \"8000-8001:80-81\": Bind for 0.0.0.0:8000 failed: port is already allocated (by container \"c0\")"
            ]
        );
    }
    // What is written twice is still refused, and so is who meets what stands.
    let twice = errors_of(&publish(&[
        "\"8000:80\", \"8000:80\"",
        "\"8001:81\"",
        "\"8001:90\"",
    ]));
    assert_eq!(twice.len(), 2, "{twice:?}");
    // What is wrong without it as well is named.
    let too_many = "\"8000-8001:90\", \"8000-8001:91\"";
    let errors = errors_of(&publish(&["\"8000:80\"", conflict, too_many]));
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[1].contains("\"8000-8001:91\": all ports are allocated"));
}

#[test]
fn new_choices_keep_off_what_the_host_has() {
    let text = publish(&["\"80\", \"8000-8010:81\"", "\"49003:80\""]);
    let taken: BTreeSet<(SocketAddr, Proto)> = [
        ("[::]:49001".parse().unwrap(), Proto::Tcp),
        ("0.0.0.0:8000".parse().unwrap(), Proto::Tcp),
        ("0.0.0.0:8001".parse().unwrap(), Proto::Udp),
        ("127.0.0.1:49002".parse().unwrap(), Proto::Tcp),
    ]
    .into();
    let surroundings = Surroundings {
        reserved_ports: &[(49000, 49000), (8000, 8010)],
        is_taken: &|address, proto| taken.contains(&(address, proto)),
        ..Surroundings::UNKNOWN
    };
    let (model, allocations) = good(&text)
        .resolve_on(&Allocations::default(), surroundings)
        .unwrap();
    assert_eq!(
        bindings(&model),
        ["49002 > 80/tcp", "8001 > 81/tcp", "49003 > 80/tcp"]
    );
    // Nobody asks the host about what was chosen.
    let surroundings = Surroundings {
        reserved_ports: &[(1, 65535)],
        is_taken: &|_, _| true,
        ..Surroundings::UNKNOWN
    };
    let (again, _) = good(&text).resolve_on(&allocations, surroundings).unwrap();
    assert_eq!(bindings(&again), bindings(&model));
}

#[test]
fn publish_all_publishes_what_is_exposed_and_not_published() {
    gets(
        &document(
            "",
            "",
            &[
                "expose = [\"80-82\", \"53/udp\", \"82\"]\npublish_all = true\npublish = [\"8080:81\"]",
            ],
        ),
        &[
            "8080 > 81/tcp",
            "49000 > 80/tcp",
            "49001 > 82/tcp",
            "49000 > 53/udp",
        ],
    );
    gets(&document("", "", &["expose = [\"80\"]"]), &[]);
}

#[test]
fn default_binding_is_used_where_a_publish_names_no_address() {
    let publishes = "publish = [\"8080:80\", \"127.0.0.1:81:81\", \"[::1]:82:82\"]";
    let with = |binding: &str| document("", &format!("host_binding = \"{binding}\""), &[publishes]);
    let rest = ["127.0.0.1 81 > 81/tcp", "::1 82 > 82/tcp"];
    for (binding, first) in [
        ("0.0.0.0", "8080 > 80/tcp"),
        ("::", ":: 8080 > 80/tcp"),
        ("198.51.100.1", "198.51.100.1 8080 > 80/tcp"),
        ("127.0.0.1", "127.0.0.1 8080 > 80/tcp"),
        ("2001:db8::1", "2001:db8::1 8080 > 80/tcp"),
    ] {
        gets(&with(binding), &[first, rest[0], rest[1]]);
    }
    assert_eq!(
        errors_of(&with("ff02::1")),
        ["t.toml:6: network \"front\": host_binding \"ff02::1\" is a multicast address"]
    );
}

#[test]
fn lists_are_of_subnets_and_addresses_of_both_families() {
    let text = publish(&[
        "{ port = \"2222-2223:22-23\", allow = [\"198.51.100.0/24\", \"2001:db8::7\"], deny = [\"198.51.100.9\"] }, { port = \"80:80\" }",
    ]);
    let (model, _) = resolved(&text, &Allocations::default());
    let lists = |index: usize| {
        let PortBinding { allow, deny, .. } = &model.containers[0].publish[index];
        let words = |list: &[ipnet::IpNet]| {
            list.iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        format!("{} | {}", words(allow), words(deny))
    };
    assert_eq!(
        lists(0),
        "198.51.100.0/24 2001:db8::7/128 | 198.51.100.9/32"
    );
    assert_eq!(lists(1), lists(0));
    assert_eq!(lists(2), " | ");
}

#[test]
fn lists_that_say_nothing_or_two_things_are_refused() {
    let text = publish(&[
        "{ port = \"22:22\", allow = [\"10.0.0.0/8\", \"10.0.0.1/8\", \"x\", \"10.0.0.0/8\"], deny = [\"10.0.0.0/8\", 7], drop = [] }, { allow = [] }, { port = \"80:\" }",
    ]);
    let mut errors = errors_of(&text);
    errors.sort();
    let scope = "t.toml:10: container \"c0\": publish";
    assert_eq!(
        errors,
        [
            format!("{scope} \"80:\": container port is missing"),
            format!("{scope}: allow \"10.0.0.0/8\" is already there, or in the other list"),
            format!("{scope}: allow \"10.0.0.1/8\" has host bits set; the subnet is 10.0.0.0/8"),
            format!("{scope}: allow \"x\" is not a subnet in CIDR notation or an address"),
            format!("{scope}: deny \"10.0.0.0/8\" is already there, or in the other list"),
            format!("{scope}: deny: each must be a string, not an integer"),
            format!("{scope}: port is missing"),
            format!("{scope}: unknown key \"drop\""),
        ]
    );
}

#[test]
fn ephemeral_ports_are_a_range() {
    for (text, why) in [
        ("", "port is missing"),
        ("49000-", "the range of ports \"49000-\" has no last one"),
        (
            "50000-49000",
            "the range of ports \"50000-49000\" is reversed",
        ),
        ("0-1", "port 0 is not in 1-65535"),
    ] {
        let host = format!("ephemeral_ports = \"{text}\"");
        assert_eq!(
            errors_of(&document(&host, "", &[])),
            [format!(
                "t.toml:2: host: ephemeral_ports \"{text}\" is not FIRST PORT-LAST PORT: {why}"
            )]
        );
    }
    gets(
        &document("ephemeral_ports = \"7\"", "", &["publish = [\"80\"]"]),
        &["7 > 80/tcp"],
    );
}

#[test]
fn what_is_exposed_has_no_host_port() {
    let mut errors = errors_of(&document(
        "",
        "",
        &["expose = [\"80:80\", \"x\", \"9-8\", \"53/sctp\"]"],
    ));
    errors.sort();
    let scope = "t.toml:10: container \"c0\": expose";
    assert_eq!(
        errors,
        [
            format!("{scope} \"53/sctp\": sctp is not supported"),
            format!("{scope} \"80:80\": a host port is for publish"),
            format!("{scope} \"9-8\": the range of container ports \"9-8\" is reversed"),
            format!("{scope} \"x\": container port \"x\" is not a number"),
        ]
    );
}

/// Everything that a binding answers on.
fn answers(binding: &PortBinding) -> Vec<(Option<IpAddr>, u16, Proto)> {
    let port = binding.host_port.unwrap();
    let wild: [IpAddr; 2] = ["0.0.0.0".parse().unwrap(), "::".parse().unwrap()];
    match binding.host_ip {
        None => wild.map(|it| (Some(it), port, binding.proto)).to_vec(),
        Some(_) => vec![(binding.host_ip, port, binding.proto)],
    }
}

fn any_publish() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        Just(""),
        Just("0.0.0.0:"),
        Just("[::]:"),
        Just("127.0.0.1:"),
        Just("127.0.0.2:"),
        Just("[::1]:"),
    ];
    let ports = prop_oneof![Just(""), Just("49001"), Just("49000-49003")];
    (
        host,
        ports,
        80..83u16,
        prop_oneof![Just("tcp"), Just("udp")],
    )
        .prop_map(|(host, ports, container, proto)| match (host, ports) {
            ("", "") => format!("\"{container}/{proto}\""),
            _ => format!("\"{host}{ports}:{container}/{proto}\""),
        })
}

fn any_publishes() -> impl Strategy<Value = Vec<String>> {
    let one = prop::collection::vec(any_publish(), 0..3).prop_map(|all| all.join(", "));
    prop::collection::vec(one, 1..4)
}

proptest! {
    #[test]
    fn no_port_is_given_twice_and_a_choice_stays(first in any_publishes(), second in any_publishes()) {
        let text = |all: &[String]| publish(&all.iter().map(String::as_str).collect::<Vec<_>>());
        let Ok(document) = crate::config::load("t.toml", &text(&first)) else { return Ok(()) };
        let (before, allocations) = document.resolve(&Allocations::default()).unwrap();
        for model in [Some(before.clone()), crate::config::load("t.toml", &text(&second)).ok().and_then(|it| it.resolve(&allocations).ok()).map(|it| it.0)].into_iter().flatten() {
            let all: Vec<_> = model.containers.iter().flat_map(|it| &it.publish).flat_map(answers).collect();
            for (index, one) in all.iter().enumerate() {
                for other in &all[..index] {
                    let meet = one.0 == other.0
                        || one.0.unwrap().is_ipv4() == other.0.unwrap().is_ipv4()
                            && (one.0.unwrap().is_unspecified() || other.0.unwrap().is_unspecified());
                    prop_assert!(!(meet && (one.1, one.2) == (other.1, other.2)), "{one:?} {other:?}");
                }
            }
        }
        prop_assert_eq!(document.resolve(&allocations).unwrap().0, before);
    }
}

#[test]
fn routed_family_needs_no_host_port() {
    let with = |modes: &str| {
        let publishes = "publish = [\"8080:80\", \"81\", \"127.0.0.1:82:82\", \"[::]:83:83\"]";
        document("", &format!("gateway_mode = {modes}"), &[publishes])
    };
    gets(
        &with("{ ipv4 = \"nat\", ipv6 = \"routed\" }"),
        &[
            "0.0.0.0 8080 > 80/tcp",
            ":: - > 80/tcp",
            "0.0.0.0 49000 > 81/tcp",
            ":: - > 81/tcp",
            "127.0.0.1 82 > 82/tcp",
            ":: - > 83/tcp",
        ],
    );
    gets(
        &with("\"routed\""),
        &[
            "- > 80/tcp",
            "- > 81/tcp",
            "0.0.0.0 - > 82/tcp",
            ":: - > 83/tcp",
        ],
    );
}
