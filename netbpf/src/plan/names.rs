//! The names of linked containers (row I5): what stands in the hosts and the environment file that
//! `ip netns exec` gives to whoever it runs in a container's namespace.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::model::{Attachment, Container, ContainerLink, ExposedPort, Model};

/// Where `ip netns` looks for the files of a named namespace.
pub const FILES: &str = "/etc/netns";

/// The directories of named namespaces: two names of one.
const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// A file with a section of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// The container.
    pub container: String,
    /// Where it is: two levels below [`FILES`].
    pub path: PathBuf,
    /// The section, in whole lines.
    pub section: String,
}

/// The files of every container that is linked to others.
pub fn files(model: &Model) -> Vec<File> {
    let linked = model.containers.iter().filter(|it| !it.links.is_empty());
    linked
        .filter_map(|container| Some((container, directory(&container.netns)?)))
        .flat_map(|(container, directory)| {
            let file = |name: &str, section| File {
                container: container.name.clone(),
                path: directory.join(name),
                section,
            };
            [
                file("hosts", hosts(model, container)),
                file("environment", environment(model, container)),
            ]
        })
        .collect()
}

/// Where the files of a namespace are, if it has a name.
fn directory(netns: &Path) -> Option<PathBuf> {
    let parent = netns.parent()?;
    let is_named = NAMED.iter().any(|named| parent == Path::new(named));
    is_named.then(|| Path::new(FILES).join(netns.file_name().unwrap_or_default()))
}

fn hosts(model: &Model, container: &Container) -> String {
    let mut lines =
        String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for attachment in &container.attachments {
        put_names(&mut lines, attachment, vec![container.name.as_str()]);
    }
    for link in &container.links {
        if let Some(attachment) = common(model, container, link) {
            put_names(&mut lines, attachment, vec![&link.alias, &link.container]);
        }
    }
    lines
}

/// One line for each address, with the names and those of the network, each once.
fn put_names<'m>(lines: &mut String, attachment: &'m Attachment, names: Vec<&'m str>) {
    let mut all: Vec<&str> = Vec::new();
    let aliases = attachment.aliases.iter().map(String::as_str);
    for name in names.into_iter().chain(aliases) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    for address in attachment.addresses() {
        *lines += &format!("{address}\t{}\n", all.join(" "));
    }
}

/// The other container's end in the first network that both are in.
fn common<'m>(
    model: &'m Model,
    container: &Container,
    link: &ContainerLink,
) -> Option<&'m Attachment> {
    let other = model.container(&link.container)?;
    let mut own = container.attachments.iter();
    own.find_map(|attachment| other.attachment(&attachment.network))
}

/// Docker's variables of each link.
fn environment(model: &Model, container: &Container) -> String {
    let mut lines = String::new();
    for link in &container.links {
        let (Some(other), Some(attachment)) = (
            model.container(&link.container),
            common(model, container, link),
        ) else {
            continue;
        };
        let Some(address) = attachment.addresses().next() else {
            continue;
        };
        let prefix = variable(&link.alias);
        let ports = offered(other);
        if let Some(port) = ports.first() {
            lines += &format!("{prefix}_PORT={}\n", url(address, *port));
        }
        for port in &ports {
            let name = format!(
                "{prefix}_PORT_{}_{}",
                port.port,
                port.proto.name().to_ascii_uppercase()
            );
            lines += &format!("{name}={}\n", url(address, *port));
            lines += &format!("{name}_ADDR={address}\n");
            lines += &format!("{name}_PORT={}\n", port.port);
            lines += &format!("{name}_PROTO={}\n", port.proto);
        }
        lines += &format!("{prefix}_NAME=/{}/{}\n", container.name, link.alias);
    }
    lines
}

/// The ports that a container offers: those that it exposes and those that it publishes.
fn offered(container: &Container) -> BTreeSet<ExposedPort> {
    let published = container.publish.iter().map(|binding| ExposedPort {
        port: binding.container_port,
        proto: binding.proto,
    });
    published.chain(container.expose.iter().copied()).collect()
}

fn url(address: IpAddr, port: ExposedPort) -> String {
    let end = std::net::SocketAddr::new(address, port.port);
    format!("{}://{end}", port.proto)
}

/// A name as part of a variable's.
fn variable(name: &str) -> String {
    let letter = |byte: char| {
        if byte.is_ascii_alphanumeric() {
            byte
        } else {
            '_'
        }
    };
    name.to_ascii_uppercase().chars().map(letter).collect()
}
