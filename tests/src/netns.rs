//! Network namespaces: made under unique names, entered by threads and commands, removed on drop.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

use crate::packet::Mac;

/// Where named namespaces stand.
const RUN_NETNS: &str = "/run/netns";

/// A word that no other test of this machine has: the process id and a counter.
pub fn unique() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("nbt{}x{count}", std::process::id())
}

/// Whether a namespace outlives its guard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keep {
    No,
    Yes,
}

/// A named network namespace.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    keep: Keep,
}

impl Netns {
    /// Makes a namespace and brings its loopback up.
    ///
    /// # Panics
    ///
    /// When it can't be made.
    pub fn create(name: &str) -> Self {
        run(Command::new("ip").args(["netns", "add", name]));
        let netns = Self {
            path: Path::new(RUN_NETNS).join(name),
            keep: Keep::No,
        };
        netns.ip("link set lo up");
        netns
    }

    /// Names a namespace that somebody else made and removes.
    pub fn existing(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            keep: Keep::Yes,
        }
    }

    /// The path that stands for it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name under `/run/netns`.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Leaves it in place when the guard is dropped.
    pub fn keep(&mut self) {
        self.keep = Keep::Yes;
    }

    /// Runs `work` on a thread inside.
    ///
    /// # Panics
    ///
    /// When the namespace can't be entered, or `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                join(&self.path);
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that will run inside. `/sys` stays the caller's, so that pins keep their place.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path.display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs `ip` with space-separated arguments inside and returns what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn ip(&self, arguments: &str) -> String {
        run(self.command("ip").args(arguments.split_whitespace()))
    }

    /// Runs a program with space-separated arguments inside and returns what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a command line has a first word");
        run(self.command(program).args(words))
    }

    /// The MAC of an interface.
    ///
    /// # Panics
    ///
    /// When it has none.
    pub fn mac(&self, interface: &str) -> Mac {
        let shown = self.ip(&format!("-o link show dev {interface}"));
        let text = shown.split("link/ether ").nth(1);
        let text = text.and_then(|rest| rest.split(' ').next());
        let mut bytes = text
            .unwrap_or_else(|| panic!("{interface} has no MAC"))
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).expect("a byte"));
        std::array::from_fn(|_| bytes.next().expect("six bytes"))
    }

    /// Loads an nftables ruleset.
    ///
    /// # Panics
    ///
    /// When `nft` refuses it.
    pub fn nft(&self, ruleset: &str) {
        run(self.command("nft").arg(ruleset));
    }

    /// Writes a sysctl, by its path under `/proc/sys`.
    ///
    /// # Errors
    ///
    /// What the kernel says, for example that it has no such sysctl.
    pub fn try_set_sysctl(&self, path: &str, value: &str) -> io::Result<()> {
        self.enter(|| fs::write(Path::new("/proc/sys").join(path), value))
    }

    /// As [`Self::try_set_sysctl`].
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    pub fn set_sysctl(&self, path: &str, value: &str) {
        if let Err(error) = self.try_set_sysctl(path, value) {
            panic!(
                "failed to set {path} to {value} in {}: {error}",
                self.name()
            );
        }
    }

    /// Reads every network sysctl, one `path = value` a line, sorted.
    pub fn sysctls(&self) -> String {
        self.enter(|| {
            let mut lines = Vec::new();
            collect_sysctls(Path::new("/proc/sys/net"), &mut lines);
            lines.sort();
            lines.join("\n")
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if self.keep == Keep::Yes {
            return;
        }
        // A failure here must not hide the failure of the test.
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name()])
            .output();
    }
}

/// A MAC as `ip` writes it.
pub fn mac_words(mac: &Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Moves the calling thread into a namespace for the rest of its life.
///
/// # Panics
///
/// When the namespace can't be entered.
pub fn join(path: &Path) {
    let entered = File::open(path)
        .map_err(|error| error.to_string())
        .and_then(|file| setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string()));
    if let Err(error) = entered {
        panic!("failed to enter {}: {error}", path.display());
    }
}

/// Runs a command and returns its standard output.
///
/// # Panics
///
/// When it can't be started or fails; the message holds what it said.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?} failed with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command to its end, whatever that is.
///
/// # Panics
///
/// When it can't be started.
pub fn output(command: &mut Command) -> Output {
    match command.output() {
        Ok(output) => output,
        Err(error) => panic!("failed to start {command:?}: {error}"),
    }
}

/// Asks until the answer is yes.
///
/// # Panics
///
/// When `limit` is over before.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} in vain until {what}"
        );
        // A pause between two looks; it ends nothing by itself.
        thread::park_timeout(Duration::from_millis(10));
    }
}

fn collect_sysctls(directory: &Path, lines: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect_sysctls(&path, lines);
        } else if let Ok(value) = fs::read_to_string(&path) {
            lines.push(format!("{} = {}", path.display(), value.trim()));
        }
    }
}
