//! netbpf, whose changes are timed: by a command that does them itself, and by one that asks a
//! living `run`.

use std::{
    fmt::Write as _,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netbpf_tests::{netns, product::Instance, topology::Topology};

use super::{By, PORTS, Sample};

/// The first of the ports on the host.
const FIRST: u16 = 10_000;
/// The one that comes and goes.
const ONE_MORE: &str = "60000:80";

/// An instance with four containers. The instance goes before the host it stands on.
pub struct Subject {
    run: Option<Child>,
    instance: Instance,
    topology: Topology,
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(run) = &mut self.run {
            // A failure here must not hide what was measured.
            let _ = run.kill();
            let _ = run.wait();
        }
    }
}

impl Subject {
    /// Makes it, and lets a `run` live there if changes are to go by one.
    ///
    /// # Errors
    ///
    /// What the command says.
    ///
    /// # Panics
    ///
    /// When the machines can't be made.
    pub fn set_up(netbpf: &Path, by: By) -> Result<Self> {
        let topology = Topology::create();
        let instance = Instance::new(&topology.id, &topology.host).with_binary(netbpf);
        let mut subject = Self {
            run: None,
            instance,
            topology,
        };
        subject.apply(0)?;
        if by == By::Run {
            subject.start()?;
        }
        Ok(subject)
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

    /// All ports at once, from none; one more; that one less.
    ///
    /// # Errors
    ///
    /// What the command says.
    pub fn sample(&self) -> Result<Sample> {
        self.apply(0)?;
        Ok(Sample {
            apply: Some(self.apply(PORTS)?),
            add: Some(self.time(&["--quiet", "port", "add", "c0", ONE_MORE])?),
            remove: Some(self.time(&["--quiet", "port", "rm", "c0", ONE_MORE])?),
        })
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
