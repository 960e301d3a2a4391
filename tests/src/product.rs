//! The real `netbpf` command, run on a host of the tests under an instance name of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::netns::Netns;

/// The command under test: `NETBPF_BIN`, or what stands beside the running test.
///
/// # Panics
///
/// When there is none.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("NETBPF_BIN") {
        return path.into();
    }
    let this = env::current_exe().expect("the running test has a path");
    // A test lies in target/<profile>/deps, a command in target/<profile>.
    let found = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("netbpf"))
        .find(|path| path.is_file());
    match found {
        Some(path) => path,
        None => panic!(
            "there is no netbpf command beside {}: build it with `cargo build -p netbpf`, or name it in NETBPF_BIN",
            this.display()
        ),
    }
}

/// How the command ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Demands success.
    ///
    /// # Panics
    ///
    /// With everything that the command said, when it failed.
    #[must_use]
    pub fn succeeded(self) -> Self {
        assert_eq!(
            self.code,
            Some(0),
            "stdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Demands an exit code other than success.
    ///
    /// # Panics
    ///
    /// With everything that the command said, when it ended otherwise.
    #[must_use]
    pub fn failed_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        self
    }
}

/// One instance of netbpf on one host. Dropping it purges the instance.
#[derive(Debug)]
pub struct Instance {
    name: String,
    host: PathBuf,
    binary: Option<PathBuf>,
    without: String,
    directory: tempfile::TempDir,
    purge_on_drop: bool,
}

impl Instance {
    /// An instance that has not yet done anything.
    ///
    /// # Panics
    ///
    /// When there is no temporary directory to write config files to.
    pub fn new(name: &str, host: &Netns) -> Self {
        Self {
            name: name.to_owned(),
            host: host.path().to_owned(),
            binary: None,
            without: String::new(),
            directory: tempfile::tempdir().expect("a temporary directory"),
            purge_on_drop: true,
        }
    }

    /// The same instance, run by another command than [`binary`].
    #[must_use]
    pub fn with_binary(mut self, binary: &Path) -> Self {
        self.binary = Some(binary.to_owned());
        self
    }

    /// The same instance, as on a kernel that lacks these features: words of
    /// `netbpf::host::kernel::Features`, separated by commas.
    #[must_use]
    pub fn without(mut self, features: &str) -> Self {
        self.without = features.to_owned();
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Leaves it in place when the guard is dropped.
    pub fn keep(&mut self) {
        self.purge_on_drop = false;
    }

    /// Where its pins stand.
    pub fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf/netbpf").join(&self.name)
    }

    /// Where its state stands.
    pub fn state(&self) -> PathBuf {
        Path::new("/var/lib/netbpf").join(&self.name)
    }

    /// Where its lock and socket stand.
    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run/netbpf").join(&self.name)
    }

    /// The command with `arguments`, started on the host but not yet run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let binary = self.binary.clone().unwrap_or_else(binary);
        let mut command = Netns::existing(&self.host).command(binary);
        command.args(["--instance", &self.name]).args(arguments);
        if !self.without.is_empty() {
            command.env("NETBPF_WITHOUT", &self.without);
        }
        command
    }

    /// Runs the command to its end.
    ///
    /// # Panics
    ///
    /// When it can't be started.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        match command.output() {
            Ok(output) => Ended::of(&output),
            Err(error) => panic!("failed to start {command:?}: {error}"),
        }
    }

    /// Runs the command with `--json` and reads what it printed.
    ///
    /// # Panics
    ///
    /// When it fails or prints no JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(&[arguments, &["--json"]].concat()).succeeded();
        match serde_json::from_str(&ended.stdout) {
            Ok(value) => value,
            Err(error) => panic!("{arguments:?} printed no JSON ({error}): {}", ended.stdout),
        }
    }

    /// How many changes the journal lists.
    pub fn changes_noted(&self) -> usize {
        let journal = fs::read_to_string(self.state().join("journal.jsonl")).unwrap_or_default();
        let notes = journal
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let made = notes.map(|note: Value| note["made"].as_array().map_or(0, Vec::len));
        made.sum()
    }

    /// Starts to apply a config and kills that once the journal lists `changes`, unless it has
    /// ended before.
    ///
    /// # Panics
    ///
    /// When the command can't be started or killed.
    pub fn kill_apply_at(&self, config: &Path, changes: usize) {
        let mut command = self.command(&["apply"]);
        command.arg(config);
        self.kill_at(command, changes);
    }

    /// Starts a command of this instance and kills that once the journal lists `changes`, unless it
    /// has ended before.
    ///
    /// # Panics
    ///
    /// When the command can't be started or killed.
    pub fn kill_at(&self, mut command: Command, changes: usize) {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("netbpf starts");
        while self.changes_noted() < changes
            && child.try_wait().expect("its state is known").is_none()
        {
            std::thread::yield_now();
        }
        child.kill().expect("it is killed or has ended");
        child.wait().expect("it has ended");
    }

    /// Writes a config file and returns its path.
    ///
    /// # Panics
    ///
    /// When it can't be written.
    pub fn write_config(&self, text: &str) -> PathBuf {
        let path = self.directory.path().join("netbpf.toml");
        fs::write(&path, text).expect("the config file is written");
        path
    }

    /// Applies a config file, whatever comes of it.
    pub fn try_apply(&self, text: &str) -> Ended {
        let path = self.write_config(text);
        self.run(&["apply", &path.to_string_lossy()])
    }

    /// Applies a config file and returns what it says it changed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn apply(&self, text: &str) -> Value {
        let path = self.write_config(text);
        self.json(&["apply", &path.to_string_lossy()])
    }

    /// Purges it.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn purge(&self) {
        let _ = self.run(&["purge"]).succeeded();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.purge_on_drop {
            // A failure here must not hide the failure of the test.
            let _ = self.command(&["purge"]).output();
        }
    }
}
