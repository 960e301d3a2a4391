//! Containers and their ends: interface names, addresses, MACs and ids.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use super::{Addresses, Holder, Kind, Resolver, earlier_end, next_id};
use crate::{
    allocations::{AutomaticChoices, EndpointAllocation, EndpointIdentity},
    config::{
        addresses::given_addresses, attachment::AttachmentSpec, container::ContainerSpec, mode,
    },
    model::{Attachment, Container, Family, Mode},
    naming,
};

impl<'d> Resolver<'d> {
    pub(super) fn containers(&mut self) -> Vec<Container> {
        let document = self.document;
        document
            .containers
            .iter()
            .map(|container| self.container(container))
            .collect()
    }

    fn container(&mut self, spec: &'d ContainerSpec) -> Container {
        let interfaces = self.interfaces(spec);
        let attachments: Vec<Attachment> = spec
            .attachments
            .iter()
            .zip(interfaces)
            .map(|(attachment, interface)| self.attachment(spec, attachment, interface))
            .collect();
        Container {
            name: spec.name.value.clone(),
            netns: self.netns(spec),
            mode: spec.mode.value.clone(),
            source_check: spec.source_check,
            attachments,
            publish: Vec::new(),
            expose: spec.expose.clone(),
            links: spec.links.iter().map(|link| link.value.clone()).collect(),
        }
    }

    /// That of the container whose stack this one shares; empty for the host's.
    fn netns(&self, spec: &ContainerSpec) -> PathBuf {
        match mode::stack_of(self.document, spec) {
            Some(stack) if stack.mode.value != Mode::Host => stack.netns.value.clone(),
            _ => PathBuf::new(),
        }
    }

    /// The names of a container's interfaces: the given ones, those that were chosen earlier, then
    /// the first `eth<N>` that are free.
    fn interfaces(&self, spec: &ContainerSpec) -> Vec<String> {
        let mut names: Vec<Option<String>> = spec
            .attachments
            .iter()
            .map(|attachment| attachment.interface.as_ref().map(|it| it.value.clone()))
            .collect();
        for (place, attachment) in spec.attachments.iter().enumerate() {
            let kept = self.kept_interface(&spec.name.value, &attachment.network.value);
            if names[place].is_none() && kept.is_some() && !names.contains(&kept) {
                names[place] = kept;
            }
        }
        for place in 0..names.len() {
            if names[place].is_none() {
                let mut all = (0..).map(|number| Some(format!("eth{number}")));
                names[place] = all.find(|name| !names.contains(name)).flatten();
            }
        }
        names.into_iter().flatten().collect()
    }

    /// What was chosen earlier, while the network is the same one.
    fn kept_interface(&self, container: &str, network: &str) -> Option<String> {
        let earlier = earlier_end(self.earlier, container, network)?;
        let id = self.next.networks.get(network);
        (id == Some(&earlier.identity.network))
            .then(|| earlier.automatic.interface.clone())
            .flatten()
    }

    fn attachment(
        &mut self,
        spec: &'d ContainerSpec,
        attachment: &'d AttachmentSpec,
        interface: String,
    ) -> Attachment {
        let name = spec.name.value.as_str();
        let network = attachment.network.value.as_str();
        let given = Addresses::from_given(given_addresses(attachment).map(|a| a.value));
        let mut addresses = given;
        let mut automatic = AutomaticChoices {
            interface: attachment.interface.is_none().then(|| interface.clone()),
            ..AutomaticChoices::default()
        };
        let holder = Holder {
            kind: Kind::Container,
            name,
            network,
        };
        for family in Family::BOTH {
            if given.get(family).is_some() {
                continue;
            }
            let chosen = self.choose(holder, family, spec.name.line);
            if let Some(address) = chosen {
                addresses.set(address);
            }
            match chosen {
                Some(IpAddr::V4(address)) => automatic.ipv4 = Some(address),
                Some(IpAddr::V6(address)) => automatic.ipv6 = Some(address),
                None => {}
            }
        }
        let mac = match &attachment.mac {
            Some(mac) => mac.value,
            None => self.choose_mac(name, network, addresses.ipv4, &mut automatic),
        };
        let identity = EndpointIdentity {
            network: self.next.networks.get(network).copied().unwrap_or_default(),
            netns: spec.netns.value.clone(),
            ipv4: addresses.ipv4,
            ipv6: addresses.ipv6,
            mac,
        };
        let endpoint = self.endpoint((name, network), identity, automatic);
        Attachment {
            endpoint,
            network: network.to_owned(),
            ipv4: addresses.ipv4,
            ipv6: addresses.ipv6,
            mac,
            interface,
            aliases: attachment.aliases.clone(),
            gw_priority: attachment.gw_priority,
        }
    }

    /// The MAC: the one that follows from the IPv4 address, else the one that was drawn earlier,
    /// else one that is drawn now from the names.
    fn choose_mac(
        &mut self,
        name: &'d str,
        network: &'d str,
        ipv4: Option<Ipv4Addr>,
        automatic: &mut AutomaticChoices,
    ) -> [u8; 6] {
        let taken = self.macs.entry(network).or_default();
        if let Some(ipv4) = ipv4 {
            let [a, b, c, d] = ipv4.octets();
            let mac = [0x02, 0x42, a, b, c, d];
            if taken.insert(mac) {
                return mac;
            }
        }
        let network_id = self.next.networks.get(network);
        let kept = earlier_end(self.earlier, name, network)
            .filter(|allocation| Some(&allocation.identity.network) == network_id)
            .and_then(|allocation| allocation.automatic.mac);
        let mac = kept.unwrap_or_else(|| {
            let mut attempts = (0..).map(|attempt| naming::container_mac(name, network, attempt));
            // Endless, and there are more MACs than containers.
            attempts.find(|mac| taken.insert(*mac)).unwrap_or_default()
        });
        automatic.mac = Some(mac);
        mac
    }

    fn endpoint(
        &mut self,
        (container, network): (&str, &str),
        identity: EndpointIdentity,
        automatic: AutomaticChoices,
    ) -> u32 {
        let earlier = earlier_end(self.earlier, container, network);
        let id = match earlier.filter(|allocation| allocation.identity == identity) {
            Some(allocation) => allocation.id,
            None => next_id(&mut self.next.last_ids.endpoint),
        };
        let allocation = EndpointAllocation {
            id,
            identity,
            automatic,
        };
        let ends = self.next.endpoints.entry(container.to_owned()).or_default();
        ends.insert(network.to_owned(), allocation);
        id
    }
}
