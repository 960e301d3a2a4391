//! How it grows: networks with ten containers each, 100, 300 and 1,000 of them.
//!
//! What is left out is what only the kernel's own links cost: no namespace, bridge or veth is made.
//! The plan is what `apply --dry-run` makes on a host that has none of them; the maps are written
//! and packets run on a bed, whose own small world they stand beside.

mod many;

use std::{
    fs,
    os::fd::AsRawFd as _,
    path::Path,
    process::{Child, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapData;
use netbpf::dataplane::maps::Contents;
use netbpf_tests::{product::Instance, topology::Topology};
use nix::libc;

use self::many::{contents, document, extend};
use super::{
    Choice,
    hooks::{Watch, WatchedCosts},
};
use crate::{
    budget::{Budget, OVER},
    hooks::{Case, Lab, Way, in_lab},
    peers,
    rounds::Pace,
    row::{About, Direction, Row, SUBJECT, Series, Target},
    stop,
};

/// How many networks: the last is the one that rows are about.
const SIZES: [usize; 3] = [100, 300, 1000];
/// The bed's own world, beside which they stand.
const SMALL: &str = "4 networks";
/// The row of the maps' memory.
const MAPS: &str = "scale/maps/memory";
/// How many containers each of them has.
const CONTAINERS: usize = 10;

/// The rows of growth.
///
/// # Errors
///
/// When the user ends the run, or what the command and the kernel say.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if choice.has("scale/plan/time") || choice.has("scale/plan/memory") {
        rows.extend(timed("plan", || plan_rows(choice))?);
    }
    let (maps, cases) = (choice.has(MAPS), packet_cases(choice));
    if maps || !cases.is_empty() {
        rows.extend(choice.with_budget(|budget| on_bed(maps, cases, choice.pace, budget))?);
    }
    Ok(rows)
}

/// The rows for which maps are filled.
fn on_bed(maps: bool, cases: Vec<Case>, pace: Pace, budget: &mut Budget) -> Result<Vec<Row>> {
    // Half as many of each size.
    let Some(mut rounds) = budget.work_with_set_up(pace.hook_rounds / 2) else {
        let maps = maps.then(about_maps).into_iter();
        let abouts = maps.chain(cases.into_iter().map(about_packet));
        return Ok(abouts.map(|about| Row::unmeasured(about, OVER)).collect());
    };
    let [small, middle, great] = SIZES.map(contents);
    let contents = [small?, middle?, great?];
    in_lab(cases, |lab| {
        let mut rows = Vec::new();
        if maps {
            rows.push(timed("maps", || maps_row(lab, &contents))?);
        }
        let [.., great] = &contents;
        let mut may_begin = || budget.another(&mut rounds);
        rows.extend(timed("packet", || {
            packet_rows(pace, lab, great, &mut may_begin)
        })?);
        Ok(rows)
    })
}

fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let done = work();
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("bench: scale/{what} is measured in {seconds:.1} s");
    done
}

fn name(networks: usize) -> String {
    format!("{networks} networks")
}

/// The row whose subject is the greatest size, the smallest of which is multiplied by the bound.
fn row(about: About, samples: [Vec<f64>; 3]) -> Row {
    let [small, middle, great] = samples;
    let series = |name: String, samples| Series { name, samples };
    Row {
        about,
        series: vec![
            series(SUBJECT.to_owned(), great),
            series(name(SIZES[1]), middle),
            series(name(SIZES[0]), small),
        ],
        absent: Vec::new(),
        notes: vec![format!(
            "netbpf: {} networks with {CONTAINERS} containers each; linear is {} times the first \
             size",
            SIZES[2],
            factor()
        )],
    }
}

/// How many times the smallest size the greatest one is.
const fn factor() -> f64 {
    SIZES[2] as f64 / SIZES[0] as f64
}

fn about(id: &str, title: &str, unit: &str) -> About {
    About {
        id: id.to_owned(),
        title: title.to_owned(),
        unit: unit.to_owned(),
        direction: Direction::LowerIsBetter,
        targets: vec![Target::at_most(factor(), &name(SIZES[0]))],
    }
}

fn plan_rows(choice: &Choice) -> Result<Vec<Row>> {
    let abouts = about_plan();
    let planned = choice.pace.slow_rounds;
    let Some(mut rounds) = choice.with_budget(|budget| budget.work(planned)) else {
        let rows = abouts.map(|about| Row::unmeasured(about, OVER));
        return Ok(rows.into());
    };
    let (mut times, mut memories): ([Vec<f64>; 3], [Vec<f64>; 3]) = Default::default();
    let topology = peers::set_up(|| Ok(Topology::create()))?;
    let instance = Instance::new(&topology.id, &topology.host).with_binary(&choice.netbpf);
    for _ in 0..planned {
        if !choice.with_budget(|budget| budget.another(&mut rounds)) {
            break;
        }
        for (at, size) in SIZES.into_iter().enumerate() {
            stop::check()?;
            let path = instance.write_config(&document(size));
            let mut command = instance.command(&["--quiet", "apply", "--dry-run"]);
            command
                .arg(path)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let begin = Instant::now();
            let memory = peak_memory(command.spawn()?)?;
            times[at].push(begin.elapsed().as_secs_f64() * 1e3);
            memories[at].push(memory);
        }
    }
    let [time, memory] = abouts;
    Ok(vec![row(time, times), row(memory, memories)])
}

fn about_plan() -> [About; 2] {
    let what = "read, resolve, plan and compare 1,000 networks with 10 containers each";
    let memory = format!("{what}: the most memory that the command has");
    [
        about("scale/plan/time", what, "ms"),
        about("scale/plan/memory", &memory, "MiB"),
    ]
}

/// The most memory that a process had at once, in MiB, once it has ended well.
fn peak_memory(child: Child) -> Result<f64> {
    let (mut status, pid) = (0, i32::try_from(child.id())?);
    #[expect(unsafe_code, reason = "nobody else tells what one child has used")]
    // SAFETY: both are written by the kernel; all zero is a value of `rusage`.
    let (reaped, usage) = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        (libc::wait4(pid, &raw mut status, 0, &raw mut usage), usage)
    };
    ensure!(
        reaped == pid && status == 0,
        "apply --dry-run ended with {status}"
    );
    Ok(usage.ru_maxrss as f64 / 1024.0)
}

fn maps_row(lab: &mut Lab<'_>, sizes: &[Contents; 3]) -> Result<Row> {
    let mut samples: [Vec<f64>; 3] = Default::default();
    let directory = lab.bed().maps_dir();
    let small = lab.bed().contents().clone();
    let before = memory(&directory)?;
    for (contents, samples) in sizes.iter().zip(&mut samples) {
        stop::check()?;
        lab.bed_mut()
            .change(|world| extend(world, contents.clone()));
        samples.push((memory(&directory)? - before) as f64 / 1024.0);
        lab.bed_mut().set_contents(small.clone());
    }
    Ok(row(about_maps(), samples))
}

fn about_maps() -> About {
    let title = "memory that 1,000 networks with 10 containers each add to the maps";
    about(MAPS, title, "KiB")
}

/// What is chosen of the cases of single hooks.
fn packet_cases(choice: &Choice) -> Vec<Case> {
    let mut cases = Case::all();
    // That one asks no map.
    cases.retain(|case| case.way != Way::ToHost && choice.has(&packet_id(*case)));
    cases
}

fn packet_id(case: Case) -> String {
    format!("scale/packet/{}", case.name())
}

fn about_packet(case: Case) -> About {
    About {
        id: packet_id(case),
        title: format!("{} with 1,000 networks of 10 containers", case.name()),
        unit: "ns".to_owned(),
        direction: Direction::LowerIsBetter,
        targets: vec![Target::at_most(1.03, SMALL)],
    }
}

/// A packet costs on full maps what it costs on small ones.
fn packet_rows(
    pace: Pace,
    lab: &mut Lab<'_>,
    great: &Contents,
    may_begin: &mut impl FnMut() -> bool,
) -> Result<Vec<Row>> {
    if lab.cases().is_empty() {
        return Ok(Vec::new());
    }
    let mut watch = Watch::new(lab, pace)?;
    let small = lab.bed().contents().clone();
    let mut full = small.clone();
    extend(&mut full, great.clone());
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for round in 0..pace.hook_rounds / 2 {
        if !may_begin() {
            break;
        }
        // What was last comes first again, so that neither is always the later one.
        for times in [round, round + 1] {
            if times.is_multiple_of(2) {
                lab.bed_mut().set_contents(small.clone());
                few.push(watch.round(lab)?);
            } else {
                lab.bed_mut().set_contents(full.clone());
                many.push(watch.round(lab)?);
            }
        }
    }
    lab.bed_mut().set_contents(small);
    let disturbed = watch.words();
    let row = |(at, case): (usize, &Case)| {
        let series = |name: &str, rounds: &[WatchedCosts]| Series {
            name: name.to_owned(),
            samples: rounds.iter().map(|round| round.cases[at]).collect(),
        };
        Row {
            about: about_packet(*case),
            series: vec![series(SUBJECT, &many), series(SMALL, &few)],
            absent: Vec::new(),
            notes: vec![disturbed.clone()],
        }
    };
    Ok(lab.cases().iter().enumerate().map(row).collect())
}

/// What the kernel counts for the maps of a directory, in bytes.
fn memory(maps: &Path) -> Result<u64> {
    let mut bytes = 0;
    for pin in fs::read_dir(maps)? {
        let map = MapData::from_pin(pin?.path())?;
        let number = std::os::fd::AsFd::as_fd(map.fd()).as_raw_fd();
        let told = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
        let line = told.lines().find_map(|line| line.strip_prefix("memlock:"));
        let locked: u64 = line.context("no memlock of a map")?.trim().parse()?;
        bytes += locked;
    }
    Ok(bytes)
}
