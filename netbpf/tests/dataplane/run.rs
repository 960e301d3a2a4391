//! The `netbpf` command itself: a `run` that other commands reach, that reads its file again, that
//! ends, and that is killed.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::net::{UnixDatagram, UnixStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use netbpf::{
    dataplane::maps::{Contents, Maps},
    host::bpffs::PinDirs,
    run,
    state::Instance,
};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use serde_json::{Value, json};

use crate::bed::{self, Bed};

const PATIENCE: Duration = Duration::from_secs(20);

/// Commands on the bed's host; the state is where the command itself puts it.
struct Commands<'a> {
    bed: &'a Bed,
    file: PathBuf,
}

impl Drop for Commands<'_> {
    fn drop(&mut self) {
        self.netbpf(&["purge"]);
    }
}

impl<'a> Commands<'a> {
    fn new(bed: &'a Bed) -> Self {
        let file = bed.dir.join("netbpf.toml");
        fs::write(&file, bed.document()).unwrap();
        Self { bed, file }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netbpf"));
        command.args(["--instance", self.bed.instance.name(), "--netns"]);
        command.arg(self.bed.dir.join("host")).args(args);
        command
    }

    fn netbpf(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn apply(&self) -> Value {
        let output = self.netbpf(&["apply", "--json", self.file.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn ports(&self) -> String {
        String::from_utf8(self.netbpf(&["port", "ls"]).stdout).unwrap()
    }

    fn publish(&self, port: &str) {
        self.write(&self.bed.document().replace("8080:80", port));
    }

    /// In one step, so that a `run` never reads half of it.
    fn write(&self, text: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.file).unwrap();
    }

    /// Starts a `run` and waits until it says that it is ready.
    fn run(&self) -> Child {
        let path = self.bed.dir.join("notify");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = self.command(&["run", self.file.to_str().unwrap()]);
        let child = command
            .env("NOTIFY_SOCKET", &path)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut text = [0; 64];
        let length = socket.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1");
        child
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
    }
}

/// Waits until a line of what a child says on standard error has `words`.
#[track_caller]
fn said(child: &mut Child, words: &str) {
    let (sender, receiver) = mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    // Reads on, lest the child end by a closed pipe.
    thread::spawn(move || stderr.lines().for_each(|line| drop(sender.send(line))));
    let mut all = Vec::new();
    while let Ok(line) = receiver.recv_timeout(PATIENCE) {
        all.push(line.unwrap());
        if all.last().unwrap().contains(words) {
            return;
        }
    }
    panic!("{words:?} is not in {all:?}");
}

#[track_caller]
fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() >= deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it does not end");
        }
    }
}

#[test]
fn living_run_carries_out_what_other_commands_ask() {
    bed::with(|bed| {
        let commands = Commands::new(bed);
        let mut child = commands.run();
        assert_eq!(commands.apply()["changed"], false);

        commands.publish("8081:80");
        signal(&child, Signal::SIGHUP);
        until("the file is read again", || {
            commands.ports().contains("8081")
        });

        commands.write("nonsense");
        signal(&child, Signal::SIGHUP);
        // It is answered after the signal, and says that the signal changed nothing.
        let committed = commands.netbpf(&["apply"]);
        assert_eq!(committed.stdout, b"nothing to change\n");
        assert!(commands.ports().contains("8081"));

        commands.publish("8082:80");
        assert_eq!(commands.apply()["changed"], true);
        assert!(commands.ports().contains("8082"));

        let second = commands.netbpf(&["run", commands.file.to_str().unwrap()]);
        assert_eq!(second.status.code(), Some(1));

        let purged = commands.netbpf(&["purge"]);
        assert!(purged.status.success(), "{purged:?}");
        assert!(child.wait().unwrap().success());
        assert!(!Instance::new(bed.instance.name()).run_dir().exists());
    });
}

#[test]
fn verbs_change_ports_by_a_living_run_and_apply_looks_at_everything() {
    bed::with(|bed| {
        let commands = Commands::new(bed);
        let verb = |args: &[&str]| {
            let output = commands.netbpf(args);
            assert!(output.status.success(), "{args:?} {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let mut child = commands.run();
        for port in ["9000:90", "9001:91"] {
            verb(&["port", "add", "web", port]);
            assert!(commands.ports().contains(&port[..4]));
        }
        verb(&["port", "rm", "web", "9000:90"]);
        assert!(!commands.ports().contains("9000"));
        assert_eq!(verb(&["apply"]), "nothing to change\n");

        // What somebody takes out of the maps comes back when everything is looked at.
        let maps = Maps::open(&PinDirs::of(bed.instance.name()).maps).unwrap();
        let whole = maps.read().unwrap();
        let lost = Contents {
            published_v4: BTreeMap::new(),
            ..whole.clone()
        };
        maps.delete(&whole, &lost, &mut |_| Ok(())).unwrap();
        assert!(verb(&["apply"]).contains("9001/tcp"));
        assert_eq!(maps.read().unwrap(), whole);

        // The verb after a kill finds all that was told to be done.
        verb(&["port", "add", "web", "9002:92"]);
        child.kill().unwrap();
        child.wait().unwrap();
        verb(&["port", "add", "web", "9003:93"]);
        for port in ["9001", "9002", "9003"] {
            assert!(commands.ports().contains(port), "{port}");
        }
        assert_eq!(verb(&["apply"]), "nothing to change\n");
    });
}

#[test]
fn run_that_is_killed_in_a_change_by_what_it_knows_leaves_it_to_the_next_verb() {
    bed::with(|bed| {
        let commands = Commands::new(bed);
        let mut child = commands.run();
        let maps = Maps::open(&PinDirs::of(bed.instance.name()).maps).unwrap();
        let before = maps.read().unwrap();
        // Where the new document goes something lies that nobody reads from: there it stops.
        let state = Instance::new(bed.instance.name()).state_dir().to_owned();
        let new = state.join("desired.new");
        mkfifo(&new, Mode::S_IRWXU).unwrap();
        let mut verb = commands.command(&["port", "add", "web", "9000:90"]);
        let verb = verb.stderr(Stdio::piped()).spawn().unwrap();
        until("the maps have the port", || maps.read().unwrap() != before);
        child.kill().unwrap();
        child.wait().unwrap();
        let told = verb.wait_with_output().unwrap();
        assert_eq!(told.status.code(), Some(1), "{told:?}");
        let told = String::from_utf8(told.stderr).unwrap();
        let shows = commands.command(&["port", "ls"]);
        let shows: Vec<_> = shows.get_args().map(|it| it.to_string_lossy()).collect();
        let why = format!(
            "it ended before it had answered; the change may or may not have been made, \
             `netbpf {}` shows which",
            shows.join(" ")
        );
        assert!(told.contains(&why), "{told}");
        assert!(!commands.ports().contains("9000"));
        fs::remove_file(&new).unwrap();

        let next = commands.netbpf(&["port", "add", "web", "9001:91"]);
        assert!(next.status.success(), "{next:?}");
        let ports = commands.ports();
        assert!(!ports.contains("9000") && ports.contains("9001"), "{ports}");
        let next = commands.netbpf(&["port", "rm", "web", "9001:91"]);
        assert!(next.status.success(), "{next:?}");
        assert_eq!(maps.read().unwrap(), before);
        assert_eq!(commands.netbpf(&["apply"]).stdout, b"nothing to change\n");
    });
}

#[test]
fn run_that_is_told_to_end_answers_those_who_have_reached_it() {
    bed::with(|bed| {
        let commands = Commands::new(bed);
        let mut child = commands.run();
        let path = Instance::new(bed.instance.name())
            .run_dir()
            .join("control.sock");
        let request = |port: &str| {
            let host = serde_json::to_value(bed.host.netns().id()).unwrap();
            let publish = json!({"container": "web", "ports": [{"text": port}]});
            let edit = json!({"edits": [{"publish": publish}], "mode": "apply"});
            format!("{}\n", json!({"host": host, "request": {"edit": edit}}))
        };
        // It can't see one before the other.
        signal(&child, Signal::SIGSTOP);
        let mut clients: Vec<UnixStream> = (0..3)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        for (client, port) in clients.iter_mut().zip(["9000:90", "9001:91"]) {
            client.write_all(request(port).as_bytes()).unwrap();
        }
        signal(&child, Signal::SIGTERM);
        signal(&child, Signal::SIGCONT);
        until("nobody else comes in", || !path.exists());
        clients[2].write_all(request("9002:92").as_bytes()).unwrap();
        for client in &mut clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("{\"done\""), "{answer}");
        }
        assert!(child.wait().unwrap().success());
        for port in ["9000", "9001", "9002"] {
            assert!(commands.ports().contains(port), "{port}");
        }
        assert_eq!(commands.netbpf(&["apply"]).stdout, b"nothing to change\n");
    });
}

#[test]
fn run_says_what_is_wrong_in_the_words_of_the_command_itself() {
    bed::with(|bed| {
        let commands = Commands::new(bed);
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = format!("{}:80", listening.local_addr().unwrap().port());
        let refused = || {
            ["8080:81", "8082:99999", &taken].map(|port| {
                let output = commands.netbpf(&["port", "add", "web", port]);
                assert!(!output.status.success(), "{port}");
                (output.status.code(), String::from_utf8(output.stderr))
            })
        };
        let mut child = commands.run();
        let by_run = refused();
        signal(&child, Signal::SIGTERM);
        assert!(child.wait().unwrap().success());
        assert_eq!(by_run, refused());
    });
}

#[test]
fn clients_that_say_nothing_or_nonsense_keep_nobody_waiting() {
    bed::with(|bed| {
        let commands = Commands::new(bed);
        let mut child = commands.run();
        let path = Instance::new(bed.instance.name())
            .run_dir()
            .join("control.sock");
        let silent: Vec<UnixStream> = (0..20)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        let mut babbling = UnixStream::connect(&path).unwrap();
        babbling.write_all(b"{}\n").unwrap();
        let mut answer = String::new();
        babbling.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("not a request"), "{answer}");

        let begin = Instant::now();
        assert_eq!(commands.apply()["changed"], false);
        assert!(begin.elapsed() < Duration::from_secs(5));
        drop(silent);
        assert!(commands.netbpf(&["purge"]).status.success());
        assert!(child.wait().unwrap().success());
    });
}

/// Whoever purges means that nothing is there afterwards, and not that it comes again.
#[test]
fn purge_ends_a_run_that_waits_for_the_lock_and_says_who_holds_it() {
    bed::with(|bed| {
        let commands = Commands::new(bed);
        assert_eq!(commands.apply()["changed"], true);
        let lock = Instance::new(bed.instance.name()).lock().unwrap();
        let mut begun = commands.command(&["run", commands.file.to_str().unwrap()]);
        let mut begun = begun.stderr(Stdio::piped()).spawn().unwrap();
        let locked = format!("is locked by process {}, waiting", std::process::id());
        said(&mut begun, &locked);
        let mut purge = commands.command(&["purge"]);
        let mut purge = purge.stderr(Stdio::piped()).spawn().unwrap();
        let run = format!("until process {} (netbpf run)", begun.id());
        let holder = format!("locked by process {}, ends", std::process::id());
        said(
            &mut purge,
            &format!("{run}, which finds the instance {holder}"),
        );
        drop(lock);
        assert!(ended(&mut purge).success());
        assert!(ended(&mut begun).success());
        assert!(!Instance::new(bed.instance.name()).run_dir().exists());
        assert_eq!(commands.ports().lines().count(), 1);
    });
}

#[test]
fn dataplane_outlives_a_run_that_ends_and_one_that_is_killed() {
    bed::with(|bed| {
        let commands = Commands::new(bed);
        let status = || -> Value {
            serde_json::from_slice(&commands.netbpf(&["status", "--json"]).stdout).unwrap()
        };
        let mut child = commands.run();
        signal(&child, Signal::SIGTERM);
        assert!(child.wait().unwrap().success());
        assert_eq!(status()["state"], "active");

        let mut child = commands.run();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(status()["state"], "active");
        commands.publish("8081:80");
        assert_eq!(commands.apply()["changed"], true);
        assert_eq!(status()["state"], "active");
    });
}

#[test]
fn document_that_can_not_be_read_is_the_command_lines_fault() {
    let error = run::read(&PathBuf::from("/nowhere/netbpf.toml")).unwrap_err();
    assert_eq!(netbpf::error::exit_code(&error), 2);
}
