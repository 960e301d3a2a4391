//! A host in a namespace of its own with one uplink, and an instance that acts on it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use netbpf::{
    host::{Host, Netns, bpffs::PinDirs, netns},
    reconcile::{self, Fault, Mode, Options, Report, Reservations, Source},
    state::Instance,
};
use tempfile::TempDir;

/// Small tables, so that loading is quick.
pub const TABLES: &str = "[conntrack]\nmax_entries = 1024\n";

pub struct Bed {
    pub host: Host,
    pub instance: Instance,
    pub dir: PathBuf,
}

/// Makes a host with one uplink and runs `test` on a thread that is inside it.
pub fn with(test: impl FnOnce(&Bed) + Send) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = TempDir::with_prefix("nbdataplane").unwrap();
    let name = format!("nbdp{}-{number}", std::process::id());
    let cleanup = Cleanup {
        dir: dir.path().to_owned(),
        name: name.clone(),
    };
    netns::create(&dir.path().join("host")).unwrap();
    inside(dir.path(), &name, |bed| {
        bed.ip("link set lo up");
        bed.ip("link add up0 type veth peer name far0");
        // Link-local addresses would come a moment later, with a detection that takes its time.
        bed.ip("link set up0 addrgenmode none");
        bed.ip("link set far0 addrgenmode none");
        bed.ip("address add 198.51.100.1/24 dev up0");
        bed.ip("address add 2001:db8::1/64 dev up0 nodad");
        bed.ip("link set far0 up");
        bed.ip("link set up0 up");
        let index = |name| bed.host.rtnl().existing_link(name).unwrap().index;
        let pair = [index("up0"), index("far0")];
        bed.host
            .rtnl()
            .until_running(&pair, Duration::from_secs(5))
            .unwrap();
        // The kernel gives the address its route a moment after the link is up.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !bed
            .ip("-6 route show table local")
            .contains("local 2001:db8::1 ")
        {
            assert!(Instant::now() < deadline, "up0 does not come up");
        }
        test(bed);
    });
    drop(cleanup);
}

/// Runs `test` on a thread of its own inside the host that `dir` has.
pub fn inside(dir: &Path, name: &str, test: impl FnOnce(&Bed) + Send) {
    thread::scope(|scope| {
        let run = || {
            let host = Host::enter(dir.join("host").to_str()).unwrap();
            let instance = Instance::under(dir, name);
            test(&Bed {
                host,
                instance,
                dir: dir.to_owned(),
            });
        };
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

struct Cleanup {
    dir: PathBuf,
    name: String,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let _ = PinDirs::of(&self.name).remove();
        for entry in self.dir.read_dir().into_iter().flatten().flatten() {
            if Netns::open(&entry.path()).is_ok_and(|found| found.is_some()) {
                let _ = netns::delete(&entry.path());
            }
        }
    }
}

impl Bed {
    /// A document with two networks, three containers, published ports and a service.
    pub fn document(&self) -> String {
        let dir = self.dir.display();
        format!(
            r#"{TABLES}
[host]
uplinks = ["up0"]

[[network]]
name = "front"
subnets = ["172.28.0.0/24", "fd00:28::/64"]

[[network]]
name = "back"
subnets = ["172.29.0.0/24"]
internal = true
icc = false

[[container]]
name = "web"
netns = "{dir}/web"
networks = [{{ name = "front", ipv4 = "172.28.0.10", ipv6 = "fd00:28::10" }}]
publish = ["8080:80", "198.51.100.1:5353:53/udp"]

[[container]]
name = "web2"
netns = "{dir}/web2"
networks = [{{ name = "front" }}]

[[container]]
name = "db"
netns = "{dir}/db"
networks = [{{ name = "back" }}]

[[service]]
name = "api"
network = "front"
scheduler = "random"
vip = ["172.28.0.100", "fd00:28::100"]
ports = ["80:8080"]
backends = [{{ container = "web" }}, {{ container = "web2" }}]
"#
        )
    }

    pub fn source(text: &str) -> Source {
        Source {
            path: "netbpf.toml".to_owned(),
            text: text.to_owned(),
        }
    }

    pub fn try_apply(&self, text: &str, mode: Mode, fault: Fault) -> anyhow::Result<Report> {
        let options = Options { mode, fault };
        reconcile::apply(
            &self.host,
            &self.instance,
            Some(&Self::source(text)),
            options,
            &mut Reservations::momentary(),
        )
    }

    pub fn apply(&self, text: &str) -> Report {
        self.try_apply(text, Mode::Apply, Fault::None)
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    pub fn ip(&self, args: &str) -> String {
        run("ip", args)
    }

    /// Everything that a purge must leave as it was. Counters and ages are left out.
    pub fn snapshot(&self) -> String {
        let netns: Vec<String> = self
            .dir
            .read_dir()
            .unwrap()
            .flatten()
            .filter(|entry| Netns::open(&entry.path()).is_ok_and(|found| found.is_some()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        let mut netns = netns;
        netns.sort();
        let mut text = vec![
            without_sizes(&self.ip("-d link")),
            without_sizes(&self.ip("address")),
            without_multicast(&self.ip("route show table all")),
            without_multicast(&self.ip("-6 route show table all")),
            run("bridge", "fdb"),
            netns.join(" "),
            format!("pins: {}", PinDirs::of(self.instance.name()).exist()),
            format!("state: {}", self.instance.state_dir().exists()),
            format!("run: {}", self.instance.run_dir().exists()),
        ];
        for name in ["up0", "far0", "lo", "all", "default"] {
            for knob in ["ipv4/conf/NAME/forwarding", "ipv6/conf/NAME/forwarding"] {
                let path = format!("/proc/sys/net/{}", knob.replace("NAME", name));
                text.push(format!("{path} {}", fs::read_to_string(&path).unwrap()));
            }
        }
        text.join("\n")
    }

    /// What must be the same whenever the same document stands: without numbers that the kernel
    /// counts up.
    pub fn shape(&self) -> String {
        let mut text = vec![
            sorted(&self.ip("-br link")),
            sorted(&self.ip("-br address")),
        ];
        for name in ["web", "web2", "db"] {
            let path = self.dir.join(name);
            if Netns::open(&path).is_ok_and(|found| found.is_some()) {
                let inside = format!("--net={} ip -br address", path.display());
                text.push(format!("{name}: {}", sorted(&run("nsenter", &inside))));
                let routes = format!("--net={} ip route", path.display());
                text.push(run("nsenter", &routes));
            }
        }
        let status = netbpf::status::status(&self.host, &self.instance).unwrap();
        let interfaces: Vec<String> = status
            .interfaces
            .iter()
            .map(|it| format!("{} {} {:?}", it.name, it.role, it.hooks))
            .collect();
        let mut interfaces = interfaces;
        interfaces.sort();
        text.push(interfaces.join("\n"));
        text.push(format!("{:?}", status.state));
        text.join("\n")
    }
}

/// Panics with the lines that differ.
#[track_caller]
pub fn assert_same(before: &str, after: &str, when: &str) {
    let missing = before
        .lines()
        .filter(|line| !after.lines().any(|other| other == *line));
    let extra = after
        .lines()
        .filter(|line| !before.lines().any(|other| other == *line));
    let missing: Vec<&str> = missing.collect();
    let extra: Vec<&str> = extra.collect();
    assert!(
        before == after,
        "{when}: gone: {missing:#?}, come: {extra:#?}"
    );
}

fn run(command: &str, args: &str) -> String {
    let output = Command::new(command)
        .args(args.split(' '))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {args}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Lines in an order of their own, without `@if7`: the number of a peer in another namespace.
fn sorted(text: &str) -> String {
    let first = |line: &str| line.split('@').next().unwrap_or(line).to_owned();
    let rest = |line: &str| {
        line.split_once(' ')
            .map_or("", |(_, rest)| rest)
            .trim()
            .to_owned()
    };
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| format!("{} {}", first(line), rest(line)))
        .collect();
    lines.sort();
    lines.join("\n")
}

/// A link gets its multicast route when it first carries packets, and keeps it.
fn without_multicast(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("multicast"))
        .collect();
    lines.join("\n")
}

fn without_sizes(text: &str) -> String {
    text.lines()
        // What follows are timers, and sizes that a bridge keeps at the least that its ports had.
        .map(|line| line.split(" numtxqueues").next().unwrap_or(line))
        .map(|line| line.split(" forward_delay").next().unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}
