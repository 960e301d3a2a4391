//! Does the steps of a change, one after the other, each of which can be done again.
//!
//! What must be done and in which order is [`super::steps`]'s to say. Everything is noted in the
//! journal before it is made.

use std::{borrow::Cow, fs, net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use netbpf_common::config::GlobalConfig;

use super::{
    Fault, noted,
    steps::{Step, Todo, addresses_to_change},
    survey::{self, BridgeSeen, Survey},
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
        netns,
        route::Route,
        section, tc, undo,
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

/// The maps of a change under way.
#[derive(Debug)]
pub struct Written<'a> {
    maps: Maps,
    /// What they held, but for what was stale.
    before: Cow<'a, Contents>,
    after: Cow<'a, Contents>,
    /// Whether living flows must ask policy again.
    policy_changes: bool,
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

    fn delete_stale(&mut self) -> Result<()> {
        let survey = self.survey;
        let written = self.open()?;
        let kept = survey.without_stale(&written.before, &written.after);
        let Some(written) = &mut self.written else {
            return Ok(());
        };
        let fault = &mut *self.fault;
        written
            .maps
            .delete(&written.before, &kept, &mut |map| fault.before(map))?;
        written.before = Cow::Owned(kept);
        Ok(())
    }

    /// Puts one part of what the maps must hold; the other one stays as it was.
    fn put(&mut self, part: Part) -> Result<()> {
        self.open()?;
        let Some(written) = &self.written else {
            return Ok(());
        };
        let Written {
            maps,
            before,
            after,
            ..
        } = written;
        let fault = &mut *self.fault;
        Ok(maps.put(part, before, after, &mut |map| fault.before(map))?)
    }

    fn delete_keys(&mut self) -> Result<()> {
        self.open()?;
        let Some(written) = &self.written else {
            return Ok(());
        };
        let Written {
            maps,
            before,
            after,
            ..
        } = written;
        let fault = &mut *self.fault;
        Ok(maps.delete(before, after, &mut |map| fault.before(map))?)
    }

    fn write_config(&mut self) -> Result<()> {
        let written = self.open()?;
        let now = written.maps.config()?;
        let generation = if written.policy_changes {
            now.generation.wrapping_add(1).max(1)
        } else {
            now.generation.max(1)
        };
        let wanted = plan::config(self.model, &self.survey.facts, generation);
        if now == wanted {
            return Ok(());
        }
        let Some(written) = &mut self.written else {
            return Ok(());
        };
        Ok(written.maps.set_config(&wanted)?)
    }

    /// The maps, opened when every link is there, so that the plan can be made with its ifindex.
    fn open(&mut self) -> Result<&Written<'a>> {
        let written = match self.written.take() {
            Some(written) => written,
            None => self.written_now()?,
        };
        Ok(self.written.insert(written))
    }

    /// What was seen before the first step, where no step changes it.
    fn written_as_seen(&self) -> Result<Written<'a>> {
        let (before, after) = (&self.survey.contents, &self.survey.expected);
        Ok(Written {
            policy_changes: before.policy_changes(after),
            maps: Maps::open(&self.pins().maps)?,
            before: Cow::Borrowed(before),
            after: Cow::Borrowed(after),
        })
    }

    fn written_now(&self) -> Result<Written<'a>> {
        let maps = Maps::open(&self.pins().maps)?;
        let observed = self.host.rtnl().observe()?;
        let facts = survey::facts(self.host, self.journal.changes(), &observed)?;
        let after = plan::contents(self.model, &self.survey.links, &facts)?;
        let before = maps.read()?;
        before.check_room(&after)?;
        Ok(Written {
            policy_changes: before.policy_changes(&after),
            maps,
            before: Cow::Owned(before),
            after: Cow::Owned(after),
        })
    }
}

fn fit_inside(host: &Host, end: &plan::End) -> Result<()> {
    let netns = host.container(&end.netns)?;
    let rtnl = Rtnl::open(&netns)?;
    let link = rtnl.existing_link(&end.interface)?;
    let index = link.index;
    if link.mac != Some(end.mac) {
        rtnl.set_mac(index, end.mac)?;
    }
    let veth = host.rtnl().existing_link(&end.veth)?;
    if veth.mtu != end.mtu {
        host.rtnl().set_mtu(veth.index, end.mtu)?;
    }
    if link.mtu != end.mtu {
        rtnl.set_mtu(index, end.mtu)?;
    }
    let inside = survey::inside(&rtnl, link)?;
    let (missing, extra) = addresses_to_change(end, &inside);
    for net in extra {
        rtnl.del_address(index, net)?;
    }
    for net in missing {
        rtnl.add_address(index, net, Preference::Preferred)?;
    }
    Ok(rtnl.up(index)?)
}

/// One that moves to another end is replaced in one step, so that the container never is without.
fn fit_routes(
    host: &Host,
    prefix: &str,
    namespace: &plan::Namespace,
    ends: &[&plan::End],
) -> Result<()> {
    let netns = host.container(&namespace.path)?;
    let rtnl = Rtnl::open(&netns)?;
    let links = rtnl.links()?;
    let mut wanted: Vec<(IpAddr, u32)> = Vec::new();
    for end in ends {
        let index = rtnl.existing_link(&end.interface)?.index;
        wanted.extend(end.gateways.iter().map(|gateway| (*gateway, index)));
    }
    let there = own_default_routes(host, prefix, &rtnl, &links)?;
    let moving = || there.iter().filter(|route| !wanted.contains(route));
    for (gateway, index) in wanted.iter().filter(|route| !there.contains(route)) {
        if moving().any(|(old, _)| old.is_ipv4() == gateway.is_ipv4()) {
            rtnl.replace_default_route(*gateway, *index)?;
        } else {
            rtnl.add_default_route(*gateway, *index)?;
        }
    }
    for (gateway, index) in moving() {
        rtnl.del_default_route(*gateway, *index)?;
    }
    Ok(())
}

/// The default routes of a container by interfaces that we made, also by those that are to go.
fn own_default_routes(
    host: &Host,
    prefix: &str,
    rtnl: &Rtnl,
    links: &[Link],
) -> Result<Vec<(IpAddr, u32)>> {
    let mut own = Vec::new();
    for link in links {
        let Some(veth) = link
            .peer
            .map(|peer| host.rtnl().link_at(peer))
            .transpose()?
        else {
            continue;
        };
        let alias = veth.as_ref().and_then(|veth| veth.alias.as_deref());
        let is_marked = alias.is_some_and(|alias| alias.starts_with(prefix));
        if is_marked && survey::is_pair(veth.as_ref(), link) {
            own.push(link.index);
        }
    }
    let is_own = |index: &u32| own.contains(index);
    let routes = rtnl.routes()?.into_iter();
    Ok(routes
        .filter(Route::is_default)
        .filter_map(|route| Some((route.gateway?, *route.links.first()?)))
        .filter(|(_, index)| is_own(index))
        .collect())
}
