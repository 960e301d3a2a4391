//! Docker itself: a real dockerd in the host's namespace, which writes its own rules and makes its
//! own containers. Its images hold a static busybox and nothing else.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netbpf_tests::{
    netns::{Netns, wait_until},
    topology::{Family, Topology},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{
    CONTAINERS_V4, CONTAINERS_V6, PORT, PUBLISHED, SUBNET_V4, SUBNET_V6, Site, Standing, Way,
    rules, topology,
};

/// How many ports dockerd itself publishes; what is above is multiplied in the form of these, for
/// dockerd takes minutes for thousands.
pub const BY_DOCKERD: u16 = 100;

/// The image of all containers.
const IMAGE: &str = "bench";
/// How long one command of docker's may take, in seconds.
const LIMIT: &str = "120";
/// How long dockerd may take to end.
const END: Duration = Duration::from_secs(20);
/// The container that comes and goes.
const ONE_MORE: &str = "one-more";

/// Which part of the kernel carries the rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Backend {
    /// nf_tables.
    Nft,
    /// xtables.
    Legacy,
}

impl Backend {
    /// The program of this backend for a command like `iptables` or `ip6tables-restore`.
    pub fn program(self, command: &str) -> String {
        let (family, rest) = command.split_once('-').unwrap_or((command, ""));
        let backend = match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        };
        [family, backend, rest]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("-")
    }
}

/// Who carries connections to loopback addresses of the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proxy {
    /// A process for each published port: Docker's default.
    Process,
    /// Rules.
    Rules,
}

/// A host on which Docker stands, with two containers on one network; `ports` ports of the first
/// are published, [`BY_DOCKERD`] at most.
///
/// # Errors
///
/// What dockerd or its client says.
///
/// # Panics
///
/// When the machines can't be made.
pub fn site(backend: Backend, proxy: Proxy, ports: u16) -> Result<Site> {
    let daemon = Daemon::start(topology(), backend, proxy)?;
    daemon.import_image()?;
    daemon.docker(&[
        "network", "create", "--ipv6", "--subnet", SUBNET_V4, "--subnet", SUBNET_V6, "front",
    ])?;
    ensure!(
        ports <= BY_DOCKERD,
        "{ports} ports are too many for dockerd"
    );
    let last = ports - 1;
    let publish = format!("{PUBLISHED}-{}:{PORT}-{}", PUBLISHED + last, PORT + last);
    let containers = [
        daemon.run_container(0, &["--publish", &publish])?,
        daemon.run_container(1, &[])?,
    ];
    for family in Family::ALL {
        super::wait_for(&containers[0], family.host());
    }
    Ok(Site {
        containers,
        host: daemon.topology.host.path().to_owned(),
        client: daemon.topology.client.path().to_owned(),
        way: Way::Published,
        ports,
        guard: Box::new(daemon),
    })
}

impl Standing for Daemon {
    /// Publishes more ports by the rules that dockerd would write for them.
    fn publish(&mut self, ports: u16) -> Result<()> {
        rules::multiply(&self.topology.host, self.backend, 0..ports)?;
        Ok(())
    }

    fn docker(&self) -> Option<&Daemon> {
        Some(self)
    }
}

/// A running dockerd. It goes before its directory and the host.
pub struct Daemon {
    process: Child,
    directory: TempDir,
    topology: Topology,
    backend: Backend,
}

impl Daemon {
    /// Starts a container with one published port beside those that are there.
    ///
    /// # Errors
    ///
    /// What docker says.
    pub fn run_one_more(&self) -> Result<()> {
        let run = ["run", "--detach", "--name", ONE_MORE, "--network", "front"];
        let rest = [
            "--publish",
            "60000:80",
            IMAGE,
            "/bin/busybox",
            "sleep",
            "86400",
        ];
        self.docker(&[&run[..], &rest].concat()).map(drop)
    }

    /// Removes that container.
    ///
    /// # Errors
    ///
    /// What docker says.
    pub fn remove_one_more(&self) -> Result<()> {
        self.docker(&["rm", "--force", ONE_MORE]).map(drop)
    }

    /// The rules of all published ports, as they stand.
    ///
    /// # Errors
    ///
    /// What the programs say.
    pub fn rules(&self) -> Result<rules::Saved> {
        rules::Saved::of(&self.topology.host, self.backend)
    }

    /// The host's namespace.
    pub const fn host(&self) -> &Netns {
        &self.topology.host
    }

    fn start(topology: Topology, backend: Backend, proxy: Proxy) -> Result<Self> {
        let directory = tempfile::tempdir().context("no temporary directory")?;
        let at = |name: &str| directory.path().join(name);
        let programs = at("programs");
        choose_backend(&programs, backend)?;
        let log = fs::File::create(at("log")).context("no log for dockerd")?;
        let process = topology
            .host
            .command("dockerd")
            .env("PATH", with_first(&programs))
            .arg("--host")
            .arg(socket(directory.path()))
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .args(["--iptables=true", "--ip6tables=true", "--experimental"])
            .arg(format!("--userland-proxy={}", proxy == Proxy::Process))
            .arg("--storage-driver=vfs")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("failed to start dockerd")?;
        let mut daemon = Self {
            process,
            directory,
            topology,
            backend,
        };
        daemon.wait_until_it_answers()?;
        Ok(daemon)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let mut ended = false;
        let limit = Duration::from_secs(20);
        let socket = self.directory.path().join("docker.sock");
        wait_until("dockerd answers or ends", limit, || {
            ended = !matches!(self.process.try_wait(), Ok(None));
            ended || (socket.exists() && self.docker(&["version"]).is_ok())
        });
        ensure!(!ended, "dockerd ended: {}", self.last_words());
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        log.lines().last().unwrap_or_default().to_owned()
    }

    fn docker(&self, arguments: &[&str]) -> Result<String> {
        // What dockerd leaves unanswered must not keep the bench for ever.
        let output = Command::new("timeout")
            .args(["--kill-after=5", LIMIT, "docker", "--host"])
            .arg(socket(self.directory.path()))
            .args(arguments)
            .output()
            .context("failed to start docker")?;
        ensure!(
            output.status.success(),
            "docker {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn import_image(&self) -> Result<()> {
        let root = self.directory.path().join("root");
        let archive = self.directory.path().join("root.tar");
        fs::create_dir_all(root.join("bin"))?;
        fs::copy("/bin/busybox", root.join("bin/busybox")).context("no static busybox")?;
        let packed = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&archive)
            .arg(".")
            .status()
            .context("failed to start tar")?;
        ensure!(packed.success(), "tar failed: {packed}");
        self.docker(&["import", &archive.to_string_lossy(), IMAGE])?;
        Ok(())
    }

    /// Runs a container and returns the path of its namespace.
    fn run_container(&self, number: usize, options: &[&str]) -> Result<PathBuf> {
        let name = format!("c{number}");
        let (v4, v6) = (
            CONTAINERS_V4[number].to_string(),
            CONTAINERS_V6[number].to_string(),
        );
        let network = ["--network", "front", "--ip", &v4, "--ip6", &v6];
        let command = [IMAGE, "/bin/busybox", "sleep", "86400"];
        let run = ["run", "--detach", "--name", &name];
        self.docker(&[&run[..], &network, options, &command].concat())?;
        let key = "{{.NetworkSettings.SandboxKey}}";
        Ok(self.docker(&["inspect", "--format", key, &name])?.into())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The rules go with the host. Taking them away one by one among thousands takes minutes.
        for name in ["iptables", "ip6tables"] {
            let program = self.directory.path().join("programs").join(name);
            let _ = fs::remove_file(&program);
            let _ = symlink("/bin/true", &program);
        }
        // What can't be ended here must not keep the rest from going.
        let _ = self.docker(&["rm", "--force", "c0", "c1", ONE_MORE]);
        let _ = i32::try_from(self.process.id()).map(|id| kill(Pid::from_raw(id), Signal::SIGTERM));
        let began = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) && began.elapsed() < END {
            // A pause between two looks; it ends nothing by itself.
            thread::park_timeout(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn socket(directory: &Path) -> String {
    format!("unix://{}/docker.sock", directory.display())
}

/// Puts programs of the backend where dockerd looks for `iptables`.
fn choose_backend(programs: &Path, backend: Backend) -> Result<()> {
    fs::create_dir_all(programs)?;
    for name in ["iptables", "ip6tables"] {
        let program = backend.program(name);
        let found = env::split_paths(&with_first(Path::new("/usr/sbin")))
            .map(|directory| directory.join(&program))
            .find(|path| path.exists())
            .with_context(|| format!("{program} is not installed"))?;
        symlink(found, programs.join(name))?;
    }
    Ok(())
}

fn with_first(directory: &Path) -> std::ffi::OsString {
    let rest = env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(directory.to_owned()).chain(env::split_paths(&rest));
    env::join_paths(all).unwrap_or(rest)
}
