//! Docker and iptables, whose changes are timed among as many ports.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use netbpf_tests::netns::{Netns, unique};

use super::{Contender, PORTS, Sample, time};
use crate::{
    peers::{
        DOCKER_LEGACY, DOCKER_NFT, Sites,
        docker::Daemon,
        rules::{Change, Saved, output},
        set_up,
    },
    rounds::Pace,
};

/// Both ways to carry rules, and both ways to change them: each by Docker's own command, and by
/// iptables alone.
pub fn contenders<'s>(sites: &'s Sites, pace: &Pace) -> Vec<Contender<'s>> {
    [
        (DOCKER_NFT, "iptables-nft"),
        (DOCKER_LEGACY, "iptables-legacy"),
    ]
    .into_iter()
    .flat_map(|(site, backend)| {
        let rounds = pace.slow_rounds;
        let daemon = || daemon(sites, site);
        let standing = set_up(|| daemon()?.rules());
        let rules = || (standing.as_ref().cloned()).map_err(|error| anyhow!("{error:#}"));
        [
            make(&format!("docker run -p and rm, {backend}"), rounds, || {
                docker_run(daemon()?)
            }),
            make(&format!("{backend}, one by one"), rounds, || {
                one_by_one(daemon()?, rules()?)
            }),
            at_once(&format!("{backend}-restore"), pace, rules()),
        ]
    })
    .collect()
}

type Sampler<'s> = Box<dyn FnMut() -> Result<Sample> + 's>;

fn make<'s>(
    name: &str,
    rounds: usize,
    sampler: impl FnOnce() -> Result<Sampler<'s>>,
) -> Contender<'s> {
    let mut contender = Contender::new(name, rounds, || Ok(Sample::default()));
    contender.sampler = set_up(sampler).map_err(|error| format!("{error:#}"));
    contender
}

fn daemon<'s>(sites: &'s Sites, name: &str) -> Result<&'s Daemon> {
    let site = sites.site(name)?;
    site.guard.docker().context("no dockerd")
}

/// A container with a published port comes and goes.
fn docker_run(daemon: &Daemon) -> Result<Sampler<'_>> {
    Ok(Box::new(|| {
        Ok(Sample {
            apply: None,
            add: Some(time(|| daemon.run_one_more())?),
            remove: Some(time(|| daemon.remove_one_more())?),
        })
    }))
}

/// The rules of one port come and go, those that dockerd writes for it.
fn one_by_one(daemon: &Daemon, rules: Saved) -> Result<Sampler<'_>> {
    Ok(Box::new(move || {
        let commands = |change| rules.one_by_one(daemon.host(), change, PORTS);
        Ok(Sample {
            apply: None,
            add: Some(time(|| run(commands(Change::Add)))?),
            remove: Some(time(|| run(commands(Change::Remove)))?),
        })
    }))
}

fn run(commands: Vec<Command>) -> Result<()> {
    commands
        .into_iter()
        .try_for_each(|mut command| output(&mut command).map(drop))
}

/// All rules at once, on a host that has nothing else; and as many as time allows one by one.
fn at_once<'s>(name: &str, pace: &Pace, rules: Result<Saved>) -> Contender<'s> {
    let mut note = None;
    let mut contender = make(name, pace.slow_rounds, || {
        let rules = rules?;
        let host = Netns::create(&unique());
        note = Some(some_one_by_one(name, &rules, &host, pace.one_by_one)?);
        Ok(Box::new(move || {
            Ok(Sample {
                apply: Some(time(|| rules.restore(&host))?),
                ..Sample::default()
            })
        }))
    });
    contender.note = note;
    contender
}

/// How many ports iptables adds one by one within a time, on a host that has none, in words.
fn some_one_by_one(name: &str, rules: &Saved, host: &Netns, time: Duration) -> Result<String> {
    rules.without_ports().restore(host)?;
    let (began, mut ports) = (Instant::now(), 0);
    while ports < PORTS && began.elapsed() < time {
        run(rules.one_by_one(host, Change::Add, ports))?;
        ports += 1;
    }
    let (backend, seconds) = (
        name.trim_end_matches("-restore"),
        began.elapsed().as_secs_f64(),
    );
    Ok(format!(
        "{backend}, one by one: the first {ports} ports of {PORTS} took {seconds:.1} s; what one \
         more takes among all of them stands in the rows of one port"
    ))
}
