//! `container add`.

use std::{mem, slice};

use anyhow::Result;

use super::{Asked, network, number, options};
use crate::{
    cli::{Cli, ContainerAdd, Joining},
    edit::{Edit, Keys, Kind, Value},
    error::Error,
    state::Instance,
};

/// `container add NAME`.
pub(in crate::commands) fn add(cli: &Cli, instance: &Instance, add: &ContainerAdd) -> Result<()> {
    let edit = change_of(add)?;
    let asked = Asked {
        cli,
        instance,
        changing: add.changing,
    };
    asked.carry_out(vec![edit], slice::from_ref(&add.name))
}

fn change_of(add: &ContainerAdd) -> Result<Edit, Error> {
    let (modes, networks): (Vec<&str>, Vec<&str>) = add
        .networks
        .iter()
        .map(String::as_str)
        .partition(|network| is_mode(network));
    let mode = match (&add.mode, &modes[..]) {
        (None, []) => None,
        (Some(mode), []) => Some(mode.as_str()),
        (None, [mode]) if networks.is_empty() => Some(*mode),
        _ => {
            let what = "a container has one mode: none, host and container:NAME stand alone";
            return Err(Error::usage(what));
        }
    };
    let netns = add
        .container_netns
        .as_deref()
        .map(|path| path.to_string_lossy());
    let keys = Keys::default()
        .text("netns", netns.as_deref())
        .text("mode", mode)
        .flag("source_check", add.source_check)
        .with("networks", attachments(add, &networks)?)
        .texts("publish", &add.publish)
        .texts("expose", &add.expose)
        .flag("publish_all", add.publish_all.then_some(true))
        .texts("links", &add.links);
    Ok(Edit::Add {
        kind: Kind::Container,
        name: add.name.clone(),
        keys,
    })
}

/// What Docker's `--network` takes for a mode.
fn is_mode(network: &str) -> bool {
    ["none", "host"].contains(&network) || network.starts_with("container:")
}

fn attachments(add: &ContainerAdd, networks: &[&str]) -> Result<Option<Value>, Error> {
    let (mut joining, mut aliases) = (add.joining.clone(), add.aliases.clone());
    let mut entries = Vec::with_capacity(networks.len());
    for network in networks {
        // What stands beside the networks is about the first one.
        let first = (mem::take(&mut joining), mem::take(&mut aliases));
        entries.push(Value::Table(attachment(network, first.0, first.1)?));
    }
    if !network::joining(&joining).is_empty() || !aliases.is_empty() {
        return Err(Error::usage("without a network there is no address in one"));
    }
    Ok((!entries.is_empty()).then_some(Value::List(entries)))
}

/// An entry of `networks`.
fn attachment(text: &str, mut joining: Joining, mut aliases: Vec<String>) -> Result<Keys, Error> {
    let mut name = None;
    let mut gw_priority = None;
    for (key, value) in options(text) {
        let Some(value) = value else {
            name = Some(key);
            continue;
        };
        let owned = || Some(value.to_owned());
        match key {
            "name" => name = Some(value),
            "ip" => joining.ip = owned(),
            "ip6" => joining.ip6 = owned(),
            "mac-address" => joining.mac_address = owned(),
            "interface" => joining.interface = owned(),
            "alias" => aliases.push(value.to_owned()),
            "gw-priority" => gw_priority = Some(number("gw-priority", value)?),
            _ => {
                return Err(Error::usage(format!(
                    "network {text:?}: unknown option {key:?}"
                )));
            }
        }
    }
    let named = Keys::default().text("name", Some(name.unwrap_or_default()));
    Ok(named
        .and(network::joining(&joining))
        .texts("aliases", &aliases)
        .with("gw_priority", gw_priority))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{Command, Container, Verbs},
        edit,
    };

    fn written(line: &str) -> Result<String, Error> {
        let cli = Cli::try_parse_from(line.split(' ')).expect("a command line");
        let Command::Container(Verbs(Container::Add(add))) = cli.command else {
            panic!("{line} adds no container")
        };
        edit::apply("", &[change_of(&add)?])
    }

    #[test]
    fn every_flag_is_a_key() {
        let text = written(
            "netbpf container add web --network front --ip 10.0.0.7 --ip6 fd00::7 --mac-address \
             02:42:00:00:00:07 --interface eth1 --network-alias www -p 8080:80 --publish 53:53/udp \
             -P --expose 22 --link db:database --container-netns /run/netns/x --mode bridge \
             --source-check false --network name=back,ip=10.1.0.7,alias=a,alias=b,gw-priority=-1",
        );
        assert_eq!(
            text.expect("an edit"),
            "[[container]]\nname = \"web\"\nnetns = \"/run/netns/x\"\nmode = \"bridge\"\n\
             source_check = false\n\
             networks = [{ name = \"front\", ipv4 = \"10.0.0.7\", ipv6 = \"fd00::7\", \
             mac = \"02:42:00:00:00:07\", interface = \"eth1\", aliases = [\"www\"] }, \
             { name = \"back\", ipv4 = \"10.1.0.7\", aliases = [\"a\", \"b\"], \
             gw_priority = -1 }]\n\
             publish = [\"8080:80\", \"53:53/udp\"]\nexpose = [\"22\"]\npublish_all = true\n\
             links = [\"db:database\"]\n"
        );
    }

    #[test]
    fn modes_stand_where_docker_has_them() {
        for mode in ["none", "host", "container:db"] {
            let text = written(&format!("netbpf container add web --network {mode}"));
            let expected = format!("[[container]]\nname = \"web\"\nmode = \"{mode}\"\n");
            assert_eq!(text.expect("an edit"), expected);
        }
    }

    #[test]
    fn what_can_not_be_meant_is_a_wrong_command_line() {
        for line in [
            "netbpf container add web --ip 10.0.0.7",
            "netbpf container add web --network none --network front",
            "netbpf container add web --network host --mode none",
            "netbpf container add web --network name=front,speed=fast",
            "netbpf container add web --network name=front,gw-priority=high",
        ] {
            let error = written(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
    }
}
