//! What a change costs where ten thousand ports are published: all of them at once, one more, one
//! less; by a command that does it itself, and by one that asks a living `run`.

use std::{
    fmt::Write as _,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netbpf_tests::{netns, product::Instance, topology::Topology};

use super::Choice;
use crate::{
    peers,
    rounds::Pace,
    row::{About, Absent, Direction, Row, SUBJECT, Series, Target},
    stop,
};

/// How many ports stand.
const PORTS: u16 = 10_000;
/// The first of them on the host.
const FIRST: u16 = 10_000;
/// The one that comes and goes.
const ONE_MORE: &str = "60000:80";

/// The rows of changes.
///
/// # Errors
///
/// When the user ends the run, or what the command says.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for by in [By::Itself, By::Run] {
        let works = Work::ALL.map(|work| about(work, by));
        if works.iter().any(|about| choice.has(&about.id)) {
            let measured = peers::set_up(|| Standing::set_up(choice, by))
                .and_then(|standing| standing.measure(&choice.pace));
            let (samples, why) = match measured {
                Ok(samples) => (samples, None),
                Err(error) => (Samples::default(), Some(format!("{error:#}"))),
            };
            stop::check()?;
            let chosen = works
                .into_iter()
                .zip(samples)
                .filter(|(it, _)| choice.has(&it.id));
            rows.extend(chosen.map(|(about, samples)| row(about, samples, why.clone())));
        }
    }
    Ok(rows)
}

/// Milliseconds, for each [`Work`].
type Samples = [Vec<f64>; 3];

/// Who carries the change out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum By {
    Itself,
    Run,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
enum Work {
    Apply,
    Add,
    Remove,
}

impl Work {
    const ALL: [Self; 3] = [Self::Apply, Self::Add, Self::Remove];
}

fn about(work: Work, by: By) -> About {
    let (by, how) = match by {
        By::Itself => ("alone", "the command itself"),
        By::Run => ("run", "a living run"),
    };
    let (name, what, bound) = match work {
        Work::Apply => ("apply", "apply 10,000 published ports", 1000.0),
        Work::Add => ("add", "add one port to 10,000", 5.0),
        Work::Remove => ("remove", "remove one port of 10,000", 5.0),
    };
    About {
        id: format!("change/{name}/{by}"),
        title: format!("{what}, by {how}"),
        unit: "ms",
        direction: Direction::LowerIsBetter,
        targets: vec![Target::within(bound)],
    }
}

fn row(about: About, samples: Vec<f64>, why: Option<String>) -> Row {
    let absent = why.map(|reason| Absent {
        name: SUBJECT.to_owned(),
        reason,
    });
    let series = Series {
        name: SUBJECT.to_owned(),
        samples,
    };
    Row {
        about,
        series: if absent.is_none() {
            vec![series]
        } else {
            Vec::new()
        },
        absent: absent.into_iter().collect(),
        notes: vec![
            "from the start of the command's process to its end; each port is an entry of its \
             own, published in both families"
                .to_owned(),
        ],
    }
}

/// An instance with four containers. The instance goes before the host it stands on.
struct Standing {
    run: Option<Child>,
    instance: Instance,
    topology: Topology,
}

impl Drop for Standing {
    fn drop(&mut self) {
        if let Some(run) = &mut self.run {
            // A failure here must not hide what was measured.
            let _ = run.kill();
            let _ = run.wait();
        }
    }
}

impl Standing {
    fn set_up(choice: &Choice, by: By) -> Result<Self> {
        let topology = Topology::create();
        let instance = Instance::new(&topology.id, &topology.host).with_binary(&choice.netbpf);
        let mut standing = Self {
            run: None,
            instance,
            topology,
        };
        standing.apply(0)?;
        if by == By::Run {
            standing.start()?;
        }
        Ok(standing)
    }

    fn start(&mut self) -> Result<()> {
        let mut run = self.instance.command(&["run"]);
        run.stdout(Stdio::null()).stderr(Stdio::null());
        self.run = Some(run.spawn().context("netbpf run")?);
        let socket = self.instance.run_dir().join("control.sock");
        netns::wait_until("netbpf run listens", Duration::from_secs(20), || {
            socket.exists()
        });
        Ok(())
    }

    fn measure(&self, pace: &Pace) -> Result<Samples> {
        let mut samples = Samples::default();
        let add = ["--quiet", "port", "add", "c0", ONE_MORE];
        let remove = ["--quiet", "port", "rm", "c0", ONE_MORE];
        for _ in 0..pace.rounds {
            stop::check()?;
            self.apply(0)?;
            samples[0].push(self.apply(PORTS)?);
            samples[1].push(self.time(&add)?);
            samples[2].push(self.time(&remove)?);
        }
        Ok(samples)
    }

    fn apply(&self, ports: u16) -> Result<f64> {
        let path = self.instance.write_config(&self.config(ports));
        self.time(&["--quiet", "apply", &path.to_string_lossy()])
    }

    fn time(&self, arguments: &[&str]) -> Result<f64> {
        let mut command = self.instance.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let begin = Instant::now();
        let ended = command.spawn()?.wait_with_output()?;
        let took = begin.elapsed();
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(
            ended.status.success(),
            "netbpf {}: {said}",
            arguments.join(" ")
        );
        Ok(took.as_secs_f64() * 1e3)
    }

    /// Four containers that share the ports among them.
    fn config(&self, ports: u16) -> String {
        const CONTAINERS: u16 = 4;
        let mut text = "[[network]]\nname = \"front\"\n\
             subnets = [\"172.28.0.0/24\", \"fd00:28::/64\"]\n"
            .to_owned();
        for container in 0..CONTAINERS {
            let id = &self.topology.id;
            // Writing to a string never fails.
            let _ = write!(
                text,
                "[[container]]\nname = \"c{container}\"\nnetns = \"/run/netns/{id}-c{container}\"\n\
                 networks = [{{ name = \"front\" }}]\npublish = ["
            );
            for port in (container..ports).step_by(usize::from(CONTAINERS)) {
                let _ = write!(text, "\"{}:{}\", ", FIRST + port, 1000 + port);
            }
            text.push_str("]\n");
        }
        text
    }
}
