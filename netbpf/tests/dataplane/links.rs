//! The files that name linked containers: written, kept true, taken away.

use std::{
    fs,
    path::{Path, PathBuf},
};

use netbpf::{host::netns, reconcile};

use crate::bed::{self, TABLES};

/// A namespace among the named ones, for only those have such files. Gone when it is dropped.
struct Named(String);

impl Named {
    fn new(name: &str) -> Self {
        Self(format!("nbln{}-{name}", std::process::id()))
    }

    fn netns(&self) -> PathBuf {
        Path::new(netns::NAMED).join(&self.0)
    }

    fn directory(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.0)
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.directory().join(name)).unwrap()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = netns::delete(&self.netns());
        let _ = fs::remove_dir_all(self.directory());
    }
}

fn document(web: &Named, db: &Path, links: &str) -> String {
    format!(
        r#"{TABLES}
[[network]]
name = "front"
subnets = ["172.28.0.0/24", "fd00:28::/64"]
icc = false

[[container]]
name = "web"
netns = "{}"
networks = [{{ name = "front", ipv4 = "172.28.0.10", ipv6 = "fd00:28::10" }}]
links = [{links}]

[[container]]
name = "db"
netns = "{}"
networks = [{{ name = "front", ipv4 = "172.28.0.11", ipv6 = "fd00:28::11", aliases = ["sql"] }}]
publish = ["5432:5432", "53:53/udp"]
"#,
        web.netns().display(),
        db.display()
    )
}

#[test]
fn linked_container_has_names_and_variables_that_follow_and_go() {
    bed::with(|bed| {
        let had_files = Path::new("/etc/netns").exists();
        let web = Named::new("web");
        let linked = document(&web, &bed.dir.join("db"), "\"db:the-db\"");
        bed.apply(&linked);
        assert!(!bed.apply(&linked).changed);
        let hosts = web.file("hosts");
        assert!(hosts.contains("172.28.0.10\tweb\n"), "{hosts}");
        assert!(hosts.contains("172.28.0.11\tthe-db db sql\n"), "{hosts}");
        assert!(hosts.contains("fd00:28::11\tthe-db db sql\n"), "{hosts}");
        let variables = web.file("environment");
        let lines: Vec<&str> = variables.lines().collect();
        assert_eq!(
            lines[1..lines.len() - 1],
            [
                "THE_DB_PORT=udp://172.28.0.11:53",
                "THE_DB_PORT_53_UDP=udp://172.28.0.11:53",
                "THE_DB_PORT_53_UDP_ADDR=172.28.0.11",
                "THE_DB_PORT_53_UDP_PORT=53",
                "THE_DB_PORT_53_UDP_PROTO=udp",
                "THE_DB_PORT_5432_TCP=tcp://172.28.0.11:5432",
                "THE_DB_PORT_5432_TCP_ADDR=172.28.0.11",
                "THE_DB_PORT_5432_TCP_PORT=5432",
                "THE_DB_PORT_5432_TCP_PROTO=tcp",
                "THE_DB_NAME=/web/the-db",
            ]
        );

        let moved = linked.replace("172.28.0.11", "172.28.0.12");
        fs::write(
            web.directory().join("hosts"),
            format!("{hosts}10.9.9.9 mine\n"),
        )
        .unwrap();
        bed.apply(&moved);
        let hosts = web.file("hosts");
        assert!(hosts.contains("172.28.0.12\tthe-db db sql\n"), "{hosts}");
        assert!(!hosts.contains("172.28.0.11"), "{hosts}");
        assert!(hosts.ends_with("\n10.9.9.9 mine\n"), "{hosts}");

        fs::remove_file(web.directory().join("environment")).unwrap();
        assert!(bed.apply(&moved).changed);
        assert!(web.file("environment").contains("THE_DB_NAME"));

        bed.apply(&document(&web, &bed.dir.join("db"), ""));
        assert_eq!(web.file("hosts"), "10.9.9.9 mine\n");
        assert!(!web.directory().join("environment").exists());

        // A directory that somebody put something into is theirs from then on.
        fs::remove_dir_all(web.directory()).unwrap();
        if !had_files {
            fs::remove_dir("/etc/netns").unwrap();
        }
        bed.apply(&linked);
        reconcile::purge(&bed.host, &bed.instance).unwrap();
        assert!(!web.directory().exists());
        assert!(had_files || !Path::new("/etc/netns").exists());
    });
}
