//! The subnets of networks: what the document gives, then what was chosen earlier, then the first
//! free blocks of the pools.

use ipnet::IpNet;

use super::{Resolver, pools};
use crate::{
    config::{Surroundings, blocks::Blocks, network::NetworkSpec, values},
    model::Family,
};

impl Resolver<'_> {
    /// The subnets of each network: given, kept, or the first free ones.
    pub(super) fn subnets(&mut self, surroundings: Surroundings<'_>) -> Vec<Vec<IpNet>> {
        let (document, earlier) = (self.document, self.earlier);
        let pools = pools(document);
        let mut blocks = Blocks::new(&pools, surroundings.occupied);
        let given = document.networks.iter().flat_map(NetworkSpec::subnets);
        // Those of networks that go are still there while newcomers come.
        let kept = earlier.subnets.values().flatten();
        for subnet in given.map(|subnet| subnet.value).chain(kept.copied()) {
            blocks.take(subnet);
        }
        let all = document.networks.iter();
        all.map(|network| {
            if !network.are_subnets_chosen {
                return network.subnets().iter().map(|it| it.value).collect();
            }
            let name = &network.name.value;
            let subnets = match earlier.subnets.get(name) {
                Some(kept) => self.still_free(network, kept),
                None => self.choose_subnets(network, &mut blocks),
            };
            self.next.subnets.insert(name.clone(), subnets.clone());
            subnets
        })
        .collect()
    }

    /// What a network keeps, which another one must not want.
    fn still_free(&mut self, network: &NetworkSpec, kept: &[IpNet]) -> Vec<IpNet> {
        let name = &network.name.value;
        for other in &self.document.networks {
            for given in other.subnets() {
                if let Some(kept) = kept
                    .iter()
                    .find(|kept| values::overlap(**kept, given.value))
                {
                    let what = format!(
                        "network {:?}: subnet {} overlaps {kept}, which network {name:?} was given \
                         automatically and keeps",
                        other.name.value, given.value
                    );
                    self.findings.error(given.line, what);
                }
            }
        }
        kept.to_vec()
    }

    /// One of each family that the pools have.
    fn choose_subnets(&mut self, network: &NetworkSpec, blocks: &mut Blocks<'_>) -> Vec<IpNet> {
        let mut subnets = Vec::new();
        let scope = format!("network {:?}", network.name.value);
        let line = network.name.line;
        if Family::BOTH.iter().all(|family| !blocks.has(*family)) {
            let what = format!("{scope}: there is no address pool to take a subnet from");
            self.findings.error(line, what);
        }
        for family in Family::BOTH {
            if !blocks.has(family) {
                continue;
            }
            let block = blocks.next_free(family);
            if block.is_none() {
                let family = family.name();
                let what = format!(
                    "{scope}: every {family} block of the address pools overlaps a network, or a \
                     route or address of the host"
                );
                self.findings.error(line, what);
            }
            subnets.extend(block);
        }
        subnets
    }
}
