//! `network ls`.

use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;
use serde::Serialize;

use super::committed;
use crate::{
    cli::Listing,
    display::{self, Row, joined, yes_no},
    model::{Family, Network},
    state::Instance,
};

/// A network as it is listed.
#[derive(Serialize)]
pub(super) struct NetworkRow<'m> {
    pub name: &'m str,
    driver: &'static str,
    pub bridge: &'m str,
    subnets: &'m [IpNet],
    gateways: &'m [IpAddr],
    icc: bool,
    internal: bool,
    gateway_mode: Modes,
    masquerade: bool,
    mtu: u16,
}

/// Gateway modes as the config writes them: one word, or one for each family.
#[derive(Serialize)]
#[serde(untagged)]
enum Modes {
    Both(&'static str),
    Each {
        ipv4: &'static str,
        ipv6: &'static str,
    },
}

impl Modes {
    fn of(network: &Network) -> Self {
        let [ipv4, ipv6] =
            [Family::V4, Family::V6].map(|family| network.gateway_mode(family).name());
        match (network.subnet_v4(), network.subnet_v6()) {
            (Some(_), Some(_)) if ipv4 != ipv6 => Self::Each { ipv4, ipv6 },
            (None, _) => Self::Both(ipv6),
            _ => Self::Both(ipv4),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Both(mode) => (*mode).to_owned(),
            Self::Each { ipv4, ipv6 } => format!("{ipv4},{ipv6}"),
        }
    }
}

impl<'m> NetworkRow<'m> {
    pub fn of(network: &'m Network) -> Self {
        Self {
            name: &network.name,
            driver: "bridge",
            bridge: &network.bridge,
            subnets: &network.subnets,
            gateways: &network.gateways,
            icc: network.icc,
            internal: network.internal,
            gateway_mode: Modes::of(network),
            masquerade: network.masquerade,
            mtu: network.mtu,
        }
    }
}

impl Row for NetworkRow<'_> {
    const HEADS: &'static [&'static str] = &[
        "NAME",
        "BRIDGE",
        "SUBNETS",
        "GATEWAYS",
        "ICC",
        "INTERNAL",
        "GATEWAY MODE",
        "MASQUERADE",
        "MTU",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_owned(),
            self.bridge.to_owned(),
            joined(self.subnets),
            joined(self.gateways),
            yes_no(self.icc).to_owned(),
            yes_no(self.internal).to_owned(),
            self.gateway_mode.words(),
            yes_no(self.masquerade).to_owned(),
            self.mtu.to_string(),
        ]
    }
}

/// `network ls`.
pub(super) fn ls(instance: &Instance, listing: Listing) -> Result<()> {
    let model = committed::model(instance)?;
    let rows: Vec<_> = model.networks.iter().map(NetworkRow::of).collect();
    display::list(&rows, listing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands::testing::model, model::GatewayMode};

    #[test]
    fn rows_have_the_contracts_fields() {
        let model = model();
        let row = serde_json::to_value(NetworkRow::of(&model.networks[0])).unwrap();
        let expected = serde_json::json!({
            "name": "front", "driver": "bridge", "bridge": "nb-front",
            "subnets": ["172.28.0.0/24", "fd00:28::/64"],
            "gateways": ["172.28.0.1", "fd00:28::1"],
            "icc": true, "internal": false, "gateway_mode": "nat", "masquerade": true, "mtu": 1500,
        });
        assert_eq!(row, expected);
    }

    #[test]
    fn modes_that_differ_by_family_are_an_object() {
        let mut model = model();
        model.networks[0].gateway_mode_v6 = GatewayMode::Routed;
        let row = NetworkRow::of(&model.networks[0]);
        assert!(row.cells().contains(&"nat,routed".to_owned()));
        let row = serde_json::to_value(row).unwrap();
        let expected = serde_json::json!({ "ipv4": "nat", "ipv6": "routed" });
        assert_eq!(row["gateway_mode"], expected);
    }

    #[test]
    fn table_shows_the_network() {
        let model = model();
        let cells = model
            .networks
            .iter()
            .map(|network| NetworkRow::of(network).cells());
        assert_eq!(
            display::table(NetworkRow::HEADS, cells),
            "NAME   BRIDGE    SUBNETS                     GATEWAYS               ICC  INTERNAL  GATEWAY MODE  MASQUERADE  MTU\n\
             front  nb-front  172.28.0.0/24,fd00:28::/64  172.28.0.1,fd00:28::1  yes  no        nat           yes         1500\n"
        );
    }
}
