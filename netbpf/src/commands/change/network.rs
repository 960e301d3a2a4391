//! `network add`, `connect` and `disconnect`.

use std::slice;

use anyhow::Result;

use super::{Asked, options};
use crate::{
    cli::{Cli, Joining, NetworkAdd, NetworkConnect, NetworkDisconnect},
    edit::{Edit, Keys, Kind, Value},
    state::Instance,
};

/// `network add NAME`.
pub(in crate::commands) fn add(cli: &Cli, instance: &Instance, add: &NetworkAdd) -> Result<()> {
    let asked = Asked {
        cli,
        instance,
        changing: add.changing,
    };
    asked.carry_out(vec![change_of(add)], slice::from_ref(&add.name))
}

fn change_of(add: &NetworkAdd) -> Edit {
    let keys = Keys::default()
        .text("driver", add.driver.as_deref())
        .text("bridge", add.bridge.as_deref())
        .texts("subnets", &add.subnets)
        .texts("gateways", &add.gateways)
        .with("ip_range", one_or_more(&add.ip_range))
        .flag("icc", add.icc)
        .flag("internal", add.internal)
        .with("gateway_mode", add.gateway_mode.as_deref().map(mode))
        .flag("masquerade", add.masquerade)
        .number("mtu", add.mtu)
        .text("host_binding", add.host_binding.as_deref())
        .texts("trusted_interfaces", &add.trusted_interfaces)
        .texts("trusted_sources", &add.trusted_sources);
    Edit::Add {
        kind: Kind::Network,
        name: add.name.clone(),
        keys,
    }
}

fn one_or_more(texts: &[String]) -> Option<Value> {
    match texts {
        [] => None,
        [text] => Some(Value::Text(text.clone())),
        texts => Some(Value::texts(texts)),
    }
}

/// A mode, or one for each family.
fn mode(text: &str) -> Value {
    if !text.contains('=') {
        return Value::Text(text.to_owned());
    }
    let families = options(text).fold(Keys::default(), |keys, (family, mode)| {
        keys.text(family, Some(mode.unwrap_or_default()))
    });
    Value::Table(families)
}

/// The keys of an entry in `networks` that say as what a container is there.
pub(super) fn joining(joining: &Joining) -> Keys {
    Keys::default()
        .text("ipv4", joining.ip.as_deref())
        .text("ipv6", joining.ip6.as_deref())
        .text("mac", joining.mac_address.as_deref())
        .text("interface", joining.interface.as_deref())
}

/// `network connect NETWORK CONTAINER`.
pub(in crate::commands) fn connect(
    cli: &Cli,
    instance: &Instance,
    connect: &NetworkConnect,
) -> Result<()> {
    let keys = joining(&connect.joining)
        .texts("aliases", &connect.aliases)
        .number("gw_priority", connect.gw_priority);
    let edit = Edit::Connect {
        network: connect.network.clone(),
        container: connect.container.clone(),
        keys,
    };
    let asked = Asked {
        cli,
        instance,
        changing: connect.changing,
    };
    asked.carry_out(vec![edit], &[])
}

/// `network disconnect NETWORK CONTAINER`.
pub(in crate::commands) fn disconnect(
    cli: &Cli,
    instance: &Instance,
    disconnect: &NetworkDisconnect,
) -> Result<()> {
    let edit = Edit::Disconnect {
        network: disconnect.network.clone(),
        container: disconnect.container.clone(),
    };
    let asked = Asked {
        cli,
        instance,
        changing: disconnect.changing,
    };
    asked.carry_out(vec![edit], &[])
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{Command, Network, Verbs},
        edit,
    };

    fn written(line: &str) -> String {
        let cli = Cli::try_parse_from(line.split(' ')).expect("a command line");
        let Command::Network(Verbs(Network::Add(add))) = cli.command else {
            panic!("{line} adds no network")
        };
        edit::apply("", &[change_of(&add)]).expect("an edit")
    }

    #[test]
    fn every_flag_is_a_key() {
        let text = written(
            "netbpf network create front --driver bridge --bridge br0 --subnet 10.0.0.0/24 \
             --subnet fd00::/64 --gateway 10.0.0.9 --ip-range 10.0.0.128/25 --icc=false --internal \
             --gateway-mode ipv4=nat,ipv6=routed --masquerade false --mtu 1400 --host-binding \
             127.0.0.1 --trusted-interface tun0 --trusted-source 10.1.0.0/16,10.2.0.0/16",
        );
        assert_eq!(
            text,
            "[[network]]\nname = \"front\"\ndriver = \"bridge\"\nbridge = \"br0\"\n\
             subnets = [\"10.0.0.0/24\", \"fd00::/64\"]\ngateways = [\"10.0.0.9\"]\n\
             ip_range = \"10.0.0.128/25\"\nicc = false\ninternal = true\n\
             gateway_mode = { ipv4 = \"nat\", ipv6 = \"routed\" }\nmasquerade = false\n\
             mtu = 1400\nhost_binding = \"127.0.0.1\"\ntrusted_interfaces = [\"tun0\"]\n\
             trusted_sources = [\"10.1.0.0/16\", \"10.2.0.0/16\"]\n"
        );
    }

    #[test]
    fn what_is_not_said_is_not_written() {
        assert_eq!(
            written("netbpf network add front --internal=false --gateway-mode routed"),
            "[[network]]\nname = \"front\"\ninternal = false\ngateway_mode = \"routed\"\n"
        );
    }
}
