//! `port add` and `port rm`.

use anyhow::Result;

use super::Asked;
use crate::{
    cli::{Cli, PortAdd, PortRm},
    commands::port,
    edit::{Edit, Keys, Value},
    state::Instance,
};

/// `port add CONTAINER SPEC…`: prints the new ports as `docker port` would, for a host port may
/// have been chosen.
pub(in crate::commands) fn add(cli: &Cli, instance: &Instance, add: &PortAdd) -> Result<()> {
    let asked = Asked {
        cli,
        instance,
        changing: add.changing,
    };
    let report = asked.report(vec![change_of(add)])?;
    asked.show(&report, || Ok(port::lines_of_new(&add.container, &report)))
}

fn change_of(add: &PortAdd) -> Edit {
    let is_plain = add.allow.is_empty() && add.deny.is_empty();
    let port = |spec: &String| {
        if is_plain {
            return Value::Text(spec.clone());
        }
        let keys = Keys::default()
            .text("port", Some(spec))
            .texts("allow", &add.allow)
            .texts("deny", &add.deny);
        Value::Table(keys)
    };
    Edit::Publish {
        container: add.container.clone(),
        ports: add.specs.iter().map(port).collect(),
    }
}

/// `port rm CONTAINER SPEC…`.
pub(in crate::commands) fn rm(cli: &Cli, instance: &Instance, rm: &PortRm) -> Result<()> {
    let edit = Edit::Unpublish {
        container: rm.container.clone(),
        ports: rm.specs.clone(),
    };
    let asked = Asked {
        cli,
        instance,
        changing: rm.changing,
    };
    asked.carry_out(vec![edit], &[])
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Command, Port, Verbs};

    fn ports(line: &str) -> Vec<Value> {
        let cli = Cli::try_parse_from(line.split(' ')).expect("a command line");
        let Command::Port(Verbs(Port::Add(add))) = cli.command else {
            panic!("{line} adds no port")
        };
        match change_of(&add) {
            Edit::Publish { ports, .. } => ports,
            edit => panic!("{edit:?}"),
        }
    }

    #[test]
    fn lists_of_sources_make_a_table() {
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(
            ports("netbpf port add web 8080:80 53:53/udp"),
            [text("8080:80"), text("53:53/udp")]
        );
        let table = Keys::default()
            .text("port", Some("22:22"))
            .texts("allow", &["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()]);
        assert_eq!(
            ports("netbpf port add web 22:22 --allow 10.0.0.0/8 --allow fd00::/8"),
            [Value::Table(table)]
        );
    }
}
