//! `container ls`.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use anyhow::Result;
use serde::Serialize;

use super::committed;
use crate::{
    cli::Listing,
    display::{self, Row, joined},
    model::{Attachment, Container},
    naming,
    state::Instance,
};

/// A container as it is listed.
#[derive(Serialize)]
pub(super) struct ContainerRow<'m> {
    pub name: &'m str,
    /// `null` for the host's own.
    netns: Option<&'m Path>,
    mode: String,
    pub networks: Vec<AttachmentRow<'m>>,
}

/// A container's end as it is listed.
#[derive(Serialize)]
pub(super) struct AttachmentRow<'m> {
    pub name: &'m str,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    mac: String,
    interface: &'m str,
    pub host_interface: String,
}

impl<'m> ContainerRow<'m> {
    pub fn of(instance: &str, container: &'m Container) -> Self {
        Self {
            name: &container.name,
            netns: Some(container.netns.as_path()).filter(|path| path.is_absolute()),
            mode: container.mode.to_string(),
            networks: container
                .attachments
                .iter()
                .map(|attachment| AttachmentRow::of(instance, &container.name, attachment))
                .collect(),
        }
    }
}

impl<'m> AttachmentRow<'m> {
    fn of(instance: &str, container: &str, attachment: &'m Attachment) -> Self {
        Self {
            name: &attachment.network,
            ipv4: attachment.ipv4,
            ipv6: attachment.ipv6,
            mac: attachment.mac.map(|byte| format!("{byte:02x}")).join(":"),
            interface: &attachment.interface,
            host_interface: naming::veth(instance, container, &attachment.network),
        }
    }
}

impl Row for ContainerRow<'_> {
    const HEADS: &'static [&'static str] = &[
        "NAME",
        "NETWORK",
        "IPV4",
        "IPV6",
        "MAC",
        "INTERFACE",
        "HOST INTERFACE",
        "NETNS",
    ];

    fn cells(&self) -> Vec<String> {
        let each = |cell: fn(&AttachmentRow<'_>) -> String| joined(self.networks.iter().map(cell));
        vec![
            self.name.to_owned(),
            each(|network| network.name.to_owned()),
            each(|network| joined(network.ipv4)),
            each(|network| joined(network.ipv6)),
            each(|network| network.mac.clone()),
            each(|network| network.interface.to_owned()),
            each(|network| network.host_interface.clone()),
            self.netns
                .map_or_else(String::new, |netns| netns.display().to_string()),
        ]
    }
}

/// `container ls`.
pub(super) fn ls(instance: &Instance, listing: Listing) -> Result<()> {
    let model = committed::model(instance)?;
    let rows: Vec<_> = model
        .containers
        .iter()
        .map(|container| ContainerRow::of(instance.name(), container))
        .collect();
    display::list(&rows, listing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::model;

    #[test]
    fn rows_have_the_contracts_fields() {
        let model = model();
        let row = serde_json::to_value(ContainerRow::of("lab", &model.containers[0])).unwrap();
        let expected = serde_json::json!({
            "name": "web", "netns": "/run/netns/web", "mode": "bridge",
            "networks": [{
                "name": "front", "ipv4": "172.28.0.10", "ipv6": "fd00:28::2",
                "mac": "02:42:ac:1c:00:0a", "interface": "eth0",
                "host_interface": naming::veth("lab", "web", "front"),
            }],
        });
        assert_eq!(row, expected);
    }

    #[test]
    fn table_shows_the_container() {
        let model = model();
        let cells = ContainerRow::of("lab", &model.containers[0]).cells();
        let [name, network, ipv4, ipv6, mac, interface, _, netns] = cells.as_slice() else {
            panic!("{cells:?}")
        };
        assert_eq!(
            [name, network, ipv4, ipv6],
            ["web", "front", "172.28.0.10", "fd00:28::2"]
        );
        assert_eq!(
            [mac, interface, netns],
            ["02:42:ac:1c:00:0a", "eth0", "/run/netns/web"]
        );
        assert_eq!(cells.len(), ContainerRow::HEADS.len());
    }
}
