//! Does the steps of a change, one after the other, each of which can be done again.
//!
//! What must be done and in which order is [`super::steps`]'s to say. Everything is noted in the
//! journal before it is made.

mod inside;
mod maps;

use std::{borrow::Cow, fs, time::Duration};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use netbpf_common::config::GlobalConfig;

use self::{
    inside::{fit_inside, fit_routes},
    maps::Written,
};
use super::{
    Fault, noted,
    steps::{Step, Todo},
    survey::{BridgeSeen, Survey},
};
use crate::{
    dataplane::{
        self,
        attach::{self, Means, Place},
        maps::{Contents, Maps, Part, Sizes},
        socket,
    },
    host::{
        Host, Rtnl,
        address::Preference,
        announce,
        bpffs::{self, PinDirs},
        link::{BridgeSpec, Link, Mark, Running, VethSpec},
        neighbour::FdbEntry,
        netns, section, tc, undo,
    },
    model::Model,
    plan,
    state::{Change as Noted, Instance, Journal},
};

/// How long to wait for links that were brought up.
const RUNNING_PATIENCE: Duration = Duration::from_secs(2);

/// Does the steps.
#[derive(Debug)]
pub struct Doer<'a> {
    /// The host.
    pub host: &'a Host,
    /// The instance.
    pub instance: &'a Instance,
    /// Where each thing is noted before it is made.
    pub journal: &'a mut Journal,
    /// What is wanted.
    pub model: &'a Model,
    /// What was seen.
    pub survey: &'a Survey,
    /// Stops on purpose.
    pub fault: &'a mut Fault,
    /// The maps before and after, once every link is there.
    pub written: Option<Written<'a>>,
}

impl<'a> Doer<'a> {
    /// Does all of it, up to the first error. Gives what the maps hold then, where they were looked
    /// at anew.
    ///
    /// # Errors
    ///
    /// What failed; what was done stays done.
    pub fn run(&mut self, todo: &Todo) -> Result<Option<Contents>> {
        self.journal.forget(&todo.void)?;
        for qdisc in &self.survey.qdiscs {
            self.journal.rename_qdisc(qdisc)?;
        }
        self.journal.extend(&todo.noted)?;
        if todo.steps.iter().all(Step::leaves_links_alone) {
            self.written = Some(self.written_as_seen()?);
        }
        for step in &todo.steps {
            self.fault.before(&format!("{step:?}"))?;
            tracing::debug!(?step, "step");
            self.step(step)?;
        }
        let after = self.written.take().map(|written| written.after);
        Ok(match after {
            Some(Cow::Owned(after)) => Some(after),
            Some(Cow::Borrowed(_)) | None => None,
        })
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Load => self.load(),
            Step::Sysctl(sysctl, value) => Ok(sysctl.write(value)?),
            Step::DeleteVeth(link) => self.delete_veth(link),
            Step::Undo(noted) => self.undo(noted),
            Step::MakeBridge(index) => self.make_bridge(*index),
            Step::SettleBridge(index) => self.settle_bridge(*index),
            Step::Address(interface, net, preference) => self.address(interface, *net, *preference),
            Step::MakeNetns(index) => self.make_netns(*index),
            Step::Loopback(index) => self.loopback(*index),
            Step::MakeVeth(index) => self.make_veth(*index),
            Step::DeleteStale => self.delete_stale(),
            Step::WritePlaces => self.put(Part::Places),
            Step::Attach(place) => self.attach(place),
            Step::Up(interface) => Ok(self.host.rtnl().up(self.index(interface)?)?),
            Step::Inside(index) => self.inside(*index),
            Step::Routes(index) => self.routes(*index),
            Step::Enslave(index) => self.enslave(*index),
            Step::Fdb(index) => self.fdb(*index),
            Step::WriteFile(index) => self.write_file(*index),
            Step::AwaitRunning => self.await_running(),
            Step::Announce(index) => self.announce(*index),
            Step::WriteMappings => self.put(Part::Mappings),
            Step::Detach(pin) => Ok(attach::detach(&self.pins(), *pin)?),
            Step::AttachSocket(hook, cgroup) => Ok(socket::attach(&self.pins(), *hook, cgroup)?),
            Step::DetachSocket(hook) => Ok(socket::detach(&self.pins(), *hook)?),
            Step::DeleteKeys => self.delete_keys(),
            Step::WriteConfig => self.write_config(),
        }
    }

    fn pins(&self) -> PinDirs {
        PinDirs::of(self.instance.name())
    }

    fn index(&self, interface: &str) -> Result<u32> {
        Ok(self.host.rtnl().existing_link(interface)?.index)
    }

    fn load(&mut self) -> Result<()> {
        bpffs::ensure_mounted()?;
        let pins = self.pins();
        pins.create()?;
        let sizes = Sizes::of(self.model.conntrack.max_entries);
        dataplane::load(&pins, sizes, self.survey.links.objects())?;
        let mut maps = Maps::open(&pins.maps)?;
        // Programs that meet a packet must find a config, so it is written before the first hook.
        if maps.config()? == GlobalConfig::default() {
            maps.set_config(&plan::config(self.model, &self.survey.facts, 1))?;
        }
        Ok(())
    }

    fn delete_veth(&self, link: &Link) -> Result<()> {
        let alias = link.alias.as_deref().unwrap_or_default();
        let mac = link.mac.unwrap_or_default();
        Ok(self
            .host
            .rtnl()
            .delete_link(&link.name, &Mark { alias, mac })?)
    }

    fn undo(&mut self, noted: &Noted) -> Result<()> {
        undo::undo(self.host, noted)?;
        Ok(self.journal.forget(std::slice::from_ref(noted))?)
    }

    fn make_bridge(&mut self, index: usize) -> Result<()> {
        let bridge = &self.survey.links.bridges[index];
        let mark = Mark {
            alias: &bridge.alias,
            mac: bridge.mac,
        };
        self.journal
            .extend(&[noted::bridge(bridge, &BridgeSeen::Missing, self.survey)])?;
        self.host.rtnl().ensure_bridge(&BridgeSpec {
            name: &bridge.name,
            mark,
            mtu: bridge.mtu,
        })?;
        Ok(())
    }

    fn settle_bridge(&self, index: usize) -> Result<()> {
        let bridge = &self.survey.links.bridges[index];
        let rtnl = self.host.rtnl();
        let link = rtnl.existing_link(&bridge.name)?;
        // Also where it has this MAC: one that was never set follows the bridge's ports.
        rtnl.set_mac(link.index, bridge.mac)?;
        if link.mtu != bridge.mtu {
            rtnl.set_mtu(link.index, bridge.mtu)?;
        }
        Ok(())
    }

    fn address(&mut self, interface: &str, net: IpNet, preference: Preference) -> Result<()> {
        self.journal.extend(&[noted::address(interface, net)])?;
        Ok(self
            .host
            .rtnl()
            .add_address(self.index(interface)?, net, preference)?)
    }

    fn make_netns(&mut self, index: usize) -> Result<()> {
        let path = &self.survey.links.namespaces[index].path;
        netns::create(path)?;
        let made = self.host.container(path)?;
        Ok(self.journal.identify_netns(path, made.id())?)
    }

    fn loopback(&self, index: usize) -> Result<()> {
        let netns = self
            .host
            .container(&self.survey.links.namespaces[index].path)?;
        let rtnl = Rtnl::open(&netns)?;
        if let Some(loopback) = rtnl.links()?.iter().find(|link| link.loopback) {
            rtnl.up(loopback.index)?;
        }
        Ok(())
    }

    fn make_veth(&mut self, index: usize) -> Result<()> {
        let end = &self.survey.links.ends[index];
        self.journal.extend(&[noted::veth(end)])?;
        let netns = self.host.container(&end.netns)?;
        self.host
            .rtnl()
            .ensure_veth(&VethSpec {
                name: &end.veth,
                mark: Mark {
                    alias: &end.alias,
                    mac: end.veth_mac,
                },
                mtu: end.mtu,
                peer_netns: &netns,
                peer_name: &end.interface,
                peer_mac: end.mac,
            })
            .with_context(|| format!("container {:?}", end.container))?;
        Ok(())
    }

    fn attach(&mut self, place: &Place) -> Result<()> {
        let ifindex = self.index(&place.interface)?;
        let pins = self.pins();
        if place.is_hooked(&pins, ifindex)? {
            return Ok(());
        }
        // That of a veth goes with the veth.
        if Means::here() == Means::Clsact
            && noted::keep_qdiscs(self.survey).any(|name| name == place.interface)
            && !tc::has_clsact(ifindex)?
        {
            self.journal
                .extend(&[noted::qdisc(&place.interface, ifindex)])?;
        }
        Ok(place.attach(&pins, ifindex)?)
    }

    fn inside(&self, index: usize) -> Result<()> {
        let end = &self.survey.links.ends[index];
        fit_inside(self.host, end).with_context(|| format!("container {:?}", end.container))
    }

    fn routes(&self, index: usize) -> Result<()> {
        let links = &self.survey.links;
        let namespace = &links.namespaces[index];
        let prefix = plan::alias_prefix(self.instance.name());
        let places = self.survey.ends_of.get(&namespace.container);
        let own: Vec<&plan::End> = places
            .into_iter()
            .flatten()
            .filter_map(|place| links.ends.get(*place))
            .collect();
        fit_routes(self.host, &prefix, namespace, &own)
            .with_context(|| format!("container {:?}", namespace.container))
    }

    fn enslave(&self, index: usize) -> Result<()> {
        let end = &self.survey.links.ends[index];
        let port = self.index(&end.veth)?;
        Ok(self.host.rtnl().enslave(port, self.index(&end.bridge)?)?)
    }

    fn fdb(&self, index: usize) -> Result<()> {
        let end = &self.survey.links.ends[index];
        let port = self.index(&end.veth)?;
        Ok(self.host.rtnl().set_fdb(FdbEntry { mac: end.mac, port })?)
    }

    fn announce(&self, index: usize) -> Result<()> {
        let end = &self.survey.links.ends[index];
        let netns = self.host.container(&end.netns)?;
        Ok(announce::announce(&netns, &end.interface, end.mac)?)
    }

    fn write_file(&mut self, index: usize) -> Result<()> {
        let file = &self.survey.links.files[index];
        for directory in noted::directories(file) {
            let Noted::Directory { path } = &directory else {
                continue;
            };
            if !path.is_dir() {
                self.journal.extend(std::slice::from_ref(&directory))?;
                fs::create_dir(path)
                    .with_context(|| format!("failed to create {}", path.display()))?;
            }
        }
        Ok(section::write(&file.path, &file.section)?)
    }

    /// Until then a bridge drops what is for its new ports. A container that took its own side down
    /// must not hold up the others.
    fn await_running(&self) -> Result<()> {
        let indices = self
            .survey
            .links
            .ends
            .iter()
            .map(|end| self.index(&end.veth))
            .collect::<Result<Vec<u32>>>()?;
        if self.host.rtnl().until_running(&indices, RUNNING_PATIENCE)? == Running::NotAll {
            tracing::warn!("not every container's link carries packets");
        }
        Ok(())
    }
}
