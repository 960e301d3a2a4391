//! Each mistake gives its own error; what is right resolves to the model and stays.

mod errors;
mod publish;
mod publishing;
mod resolve;

use super::{Document, load};

/// A network, two containers and a service that are right.
const GOOD: &str = r#"
[[network]]
name = "front"
subnets = ["172.28.0.0/24", "fd00:28::/64"]

[[container]]
name = "web"
networks = [{ name = "front", ipv4 = "172.28.0.10" }]
publish = ["8080:80"]

[[container]]
name = "db"
networks = [{ name = "front" }]

[[service]]
name = "api"
network = "front"
vip = ["172.28.0.100", "fd00:28::100"]
ports = ["80:8080"]
backends = [{ container = "web" }, { container = "db" }]
scheduler = "random"
"#;

/// The document; panics with its errors.
fn good(text: &str) -> Document {
    match load("t.toml", text) {
        Ok(document) => document,
        Err(errors) => panic!("{errors}"),
    }
}

/// The errors of a document that is wrong.
fn errors_of(text: &str) -> Vec<String> {
    match load("t.toml", text) {
        Ok(_) => panic!("this has no error:\n{text}"),
        Err(errors) => errors.lines().to_vec(),
    }
}
