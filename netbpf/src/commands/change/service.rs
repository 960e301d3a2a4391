//! `service add` and `service set`.

use std::slice;

use anyhow::Result;

use super::{Asked, number, options};
use crate::{
    cli::{Cli, ServiceAdd, ServiceKeys, ServiceSet},
    edit::{Edit, Keys, Kind, Value},
    error::Error,
    state::Instance,
};

/// `service add NAME`.
pub(in crate::commands) fn add(cli: &Cli, instance: &Instance, add: &ServiceAdd) -> Result<()> {
    let edits = vec![addition(add)?];
    let asked = Asked {
        cli,
        instance,
        changing: add.changing,
    };
    asked.carry_out(edits, slice::from_ref(&add.name))
}

fn addition(add: &ServiceAdd) -> Result<Edit, Error> {
    let backends = add.keys.backends.iter().map(|text| {
        let (container, keys) = backend(text)?;
        let entry = Keys::default().text("container", Some(container)).and(keys);
        Ok(Value::Table(entry))
    });
    // None at all are none yet: a service may wait for its backends.
    let backends = backends.collect::<Result<_, Error>>()?;
    let keys = Keys::default()
        .text("network", add.network.as_deref())
        .and(keys(&add.keys))
        .with("backends", Some(Value::List(backends)));
    Ok(Edit::Add {
        kind: Kind::Service,
        name: add.name.clone(),
        keys,
    })
}

/// The keys that a service has apart from its backends.
fn keys(keys: &ServiceKeys) -> Keys {
    Keys::default()
        .texts("vip", &keys.vips)
        .texts("ports", &keys.ports)
        .texts("publish", &keys.publish)
        .text("scheduler", keys.scheduler.as_deref())
        .text("affinity", keys.affinity.as_deref())
        .text("affinity_timeout", keys.affinity_timeout.as_deref())
        .text("endpoint_mode", keys.endpoint_mode.as_deref())
}

/// A backend's container and its other keys.
fn backend(text: &str) -> Result<(&str, Keys), Error> {
    let mut container = "";
    let mut keys = Keys::default();
    for option in options(text) {
        keys = match option {
            ("container", Some(name)) | (name, None) if name != "drain" => {
                container = name;
                keys
            }
            ("drain", None) => keys.flag("drain", Some(true)),
            ("weight", Some(weight)) => keys.with("weight", Some(number("weight", weight)?)),
            (key, _) => {
                let what = format!("backend {text:?}: unknown option {key:?}");
                return Err(Error::usage(what));
            }
        };
    }
    Ok((container, keys))
}

/// `service set NAME`.
pub(in crate::commands) fn set(cli: &Cli, instance: &Instance, set: &ServiceSet) -> Result<()> {
    let edits = changes(set)?;
    if edits.is_empty() {
        return Err(Error::usage("nothing to set: name a flag").into());
    }
    let asked = Asked {
        cli,
        instance,
        changing: set.changing,
    };
    asked.carry_out(edits, slice::from_ref(&set.name))
}

fn changes(set: &ServiceSet) -> Result<Vec<Edit>, Error> {
    let service = || set.name.clone();
    let mut edits = Vec::new();
    let keys = keys(&set.keys);
    if !keys.is_empty() {
        edits.push(Edit::Set {
            kind: Kind::Service,
            name: service(),
            keys,
        });
    }
    for text in &set.keys.backends {
        let (container, keys) = backend(text)?;
        edits.push(Edit::AddBackend {
            service: service(),
            container: container.to_owned(),
            keys,
        });
    }
    let changed = |container: &str, keys| Edit::SetBackend {
        service: service(),
        container: container.to_owned(),
        keys,
    };
    for text in &set.weights {
        let Some((container, weight)) = text.split_once('=') else {
            let what = format!("weight {text:?} is not CONTAINER=NUMBER");
            return Err(Error::usage(what));
        };
        let weight = number("weight", weight)?;
        edits.push(changed(
            container,
            Keys::default().with("weight", Some(weight)),
        ));
    }
    for (containers, drain) in [(&set.drains, true), (&set.undrains, false)] {
        let drained =
            |container: &String| changed(container, Keys::default().flag("drain", Some(drain)));
        edits.extend(containers.iter().map(drained));
    }
    edits.extend(set.rm_backends.iter().map(|container| Edit::RemoveBackend {
        service: service(),
        container: container.clone(),
    }));
    Ok(edits)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{Command, Service, Verbs},
        edit,
    };

    fn edits(line: &str) -> Result<Vec<Edit>, Error> {
        let cli = Cli::try_parse_from(line.split(' ')).expect("a command line");
        match cli.command {
            Command::Service(Verbs(Service::Add(add))) => Ok(vec![addition(&add)?]),
            Command::Service(Verbs(Service::Set(set))) => changes(&set),
            _ => panic!("{line} changes no service"),
        }
    }

    #[test]
    fn every_flag_is_a_key() {
        let text = "[[container]]\nname = \"c\"\n";
        let add = edits(
            "netbpf service add api --network front --vip 10.0.0.100 --vip fd00::100 --port \
             80:8080 --publish 8081:80 --backend a --backend b,weight=2,drain --scheduler random \
             --affinity client-ip --affinity-timeout 1h --endpoint-mode vip",
        );
        let text = edit::apply(text, &add.expect("edits")).expect("an edit");
        let service = "\n[[service]]\nname = \"api\"\nnetwork = \"front\"\n\
             vip = [\"10.0.0.100\", \"fd00::100\"]\nports = [\"80:8080\"]\npublish = [\"8081:80\"]\n\
             scheduler = \"random\"\naffinity = \"client-ip\"\naffinity_timeout = \"1h\"\n\
             endpoint_mode = \"vip\"\n";
        let backends = "backends = [{ container = \"a\" }, \
             { container = \"b\", weight = 2, drain = true }]\n";
        assert!(text.ends_with(&format!("{service}{backends}")), "{text}");
        let set = edits(
            "netbpf service set api --scheduler maglev --backend c --weight a=3 --undrain b \
             --drain c --rm-backend b",
        );
        let text = edit::apply(&text, &set.expect("edits")).expect("an edit");
        let service = service.replace("random", "maglev");
        let backends = "backends = [{ container = \"a\", weight = 3 }, \
             { container = \"c\", drain = true }]\n";
        assert!(text.ends_with(&format!("{service}{backends}")), "{text}");
    }

    #[test]
    fn what_can_not_be_meant_is_a_wrong_command_line() {
        for line in [
            "netbpf service set api --weight web",
            "netbpf service set api --weight web=heavy",
            "netbpf service add api --backend web,wait=2",
        ] {
            let error = edits(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
    }
}
