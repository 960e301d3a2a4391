//! Behaviour with real sockets: the real command on a hostile host, in namespaces of each test's
//! own.

mod alive;
mod bed;
mod carriers;
mod change;
mod clsact;
mod ended;
mod errors;
mod listing;
mod local;
mod networks;
mod outside;
mod paths;
mod publish;
mod purge;
mod routes;
mod senders;
mod uplinks;
mod verbs;
mod wire;

/// A small host: an ordinary network with a published web server, and a neighbour for it.
const SMALL: &str = r#"
[host]
uplinks = ["up0"]

[[network]]
name = "front"
subnets = ["172.28.0.0/24", "fd00:28::/64"]

[[container]]
name = "web"
networks = [{ name = "front", ipv4 = "172.28.0.10", ipv6 = "fd00:28::10" }]
publish = ["8080:80", "5353:53/udp"]

[[container]]
name = "app"
networks = [{ name = "front", ipv4 = "172.28.0.11", ipv6 = "fd00:28::11" }]
publish = ["8081:80"]
"#;

/// What `ip` shows, without the timers that run in bridges and in advertised routes.
fn steady(shown: &str) -> String {
    let line = |line: &str| {
        let mut words = Vec::new();
        let mut skip = false;
        for word in line.split_whitespace() {
            if !skip {
                words.push(word);
            }
            skip = !skip && (word.ends_with("_timer") || word == "expires");
        }
        words.join(" ")
    };
    shown.lines().map(line).collect::<Vec<_>>().join("\n")
}
