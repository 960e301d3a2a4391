//! What edits do to the list of published ports.

use super::*;

#[test]
fn ports_come_and_go_on_lines_of_their_own() {
    let publish = Edit::Publish {
        container: name("web"),
        ports: vec![
            Value::Text(name("53:53/udp")),
            Value::Table(
                Keys::default()
                    .text("port", Some("22:22"))
                    .texts("deny", &[name("0.0.0.0/0")]),
            ),
        ],
    };
    let (gone, new) = difference(publish.clone());
    assert_eq!(gone, "");
    assert_eq!(
        new,
        "    \"53:53/udp\",\n    { port = \"22:22\", deny = [\"0.0.0.0/0\"] },"
    );
    let unpublish = |ports: &[&str]| Edit::Unpublish {
        container: name("web"),
        ports: ports.iter().map(|text| name(text)).collect(),
    };
    let text = apply(
        DOCUMENT,
        &[
            publish,
            unpublish(&["53:53/UDP", "8443:443", "8080:80/tcp"]),
        ],
    )
    .expect("an edit");
    assert!(
        text.contains("{ port = \"22:22\", deny = [\"0.0.0.0/0\"] },\n]"),
        "{text}"
    );
    assert!(!text.contains("# plain"), "{text}");
    let text = edited(unpublish(&["8443:443"]));
    assert!(text.contains("\"8080:80\", # plain\n]"), "{text}");
    let text = edited(unpublish(&["8080:80"]));
    assert!(
        text.contains("publish = [\n    { port = \"8443:443\""),
        "{text}"
    );
    assert_eq!(
        refused(unpublish(&["8080:81"])),
        "container web does not publish 8080:81"
    );
    let (gone, new) = difference(unpublish(&["8443:443", "8080:80"]));
    assert!(gone.starts_with("publish = ["), "{gone}");
    assert_eq!(new, "");
}

fn with_publish(publish: &str) -> String {
    format!("[[container]]\nname = \"c0\"\n{publish}")
}

fn come_and_go(publish: &str, come: &[&str], go: &[&str]) -> String {
    let come = Edit::Publish {
        container: name("c0"),
        ports: come.iter().map(|text| Value::Text(name(text))).collect(),
    };
    let go = Edit::Unpublish {
        container: name("c0"),
        ports: go.iter().map(|text| name(text)).collect(),
    };
    apply(&with_publish(publish), &[come, go]).expect("an edit")
}

#[test]
fn the_comment_behind_the_bracket_is_not_the_first_port_s() {
    let list = "publish = [ # ports\n  \"1:1\", # one\n  \"2:2\", # two\n]\n";
    let text = come_and_go(list, &[], &["1:1"]);
    let left = "publish = [ # ports\n  \"2:2\", # two\n]\n";
    assert_eq!(text, with_publish(left));
}

#[test]
fn ports_that_are_tables_of_their_own_come_and_go() {
    let table = |port: &str| format!("[[container.publish]]\nport = \"{port}\"\n");
    let text = come_and_go(&table("1:1"), &["2:2"], &[]);
    let both = format!("{}\n{}", table("1:1"), table("2:2"));
    assert_eq!(text, with_publish(&both));
    let document = [Edit::Publish {
        container: name("c0"),
        ports: vec![Value::Table(
            Keys::default()
                .text("port", Some("3:3"))
                .texts("deny", &[name("::/0")]),
        )],
    }];
    let text = apply(&text, &document).expect("an edit");
    assert!(
        text.ends_with("port = \"3:3\"\ndeny = [\"::/0\"]\n"),
        "{text}"
    );
}

#[test]
fn a_list_that_comes_into_an_inline_container_has_its_comma_close() {
    let edit = Edit::Publish {
        container: name("c0"),
        ports: vec![Value::Text(name("1:1"))],
    };
    let text = apply("container = [{ name = \"c0\" }]\n", &[edit]).expect("an edit");
    let wanted = "container = [{ name = \"c0\", publish = [\"1:1\"] }]\n";
    assert_eq!(text, wanted);
}

#[test]
fn comma_stays_on_the_line_that_it_stands_on() {
    let document = |list: &str| format!("[[container]]\nname = \"web\"\npublish = [\n{list}]\n");
    let before = document("  \"1:1\"\n  , \"2:2\"\n  , # last\n");
    let publish = Edit::Publish {
        container: name("web"),
        ports: vec![Value::Text(name("3:3"))],
    };
    let unpublish = |port| Edit::Unpublish {
        container: name("web"),
        ports: vec![name(port)],
    };
    let after = apply(&before, &[publish]).expect("an edit");
    let three = "  \"1:1\"\n  , \"2:2\"\n  , # last\n  \"3:3\",\n";
    assert_eq!(after, document(three));
    assert_eq!(apply(&after, &[unpublish("3:3")]).expect("an edit"), before);
}
