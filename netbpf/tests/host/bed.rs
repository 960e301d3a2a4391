//! A host in a namespace of its own, and containers, on a thread that nobody else uses.

use std::{path::PathBuf, process::Command, thread};

use netbpf::host::{
    Host, Mac, Netns,
    link::{BridgeSpec, Link, Mark, VethSpec},
    netns,
};
use tempfile::TempDir;

pub const BRIDGE_MAC: Mac = [0x02, 0xaa, 0, 0, 0, 1];
pub const BRIDGE_MARK: Mark<'_> = Mark {
    alias: "netbpf:test:network:front",
    mac: BRIDGE_MAC,
};
pub const PORT_MAC: Mac = [0x02, 0xbb, 0, 0, 0, 1];
pub const PORT_MARK: Mark<'_> = Mark {
    alias: "netbpf:test:container:web",
    mac: PORT_MAC,
};
pub const WEB_MAC: Mac = [0x02, 0x42, 10, 28, 0, 10];

pub struct Bed {
    pub host: Host,
    pub dir: TempDir,
}

impl Bed {
    /// Runs `test` on a thread that is inside the bed's host.
    pub fn with(test: impl FnOnce(&Self) + Send) {
        thread::scope(|scope| {
            let run = || {
                let dir = TempDir::with_prefix("nbhost").unwrap();
                let path = dir.path().join("host");
                netns::create(&path).unwrap();
                let host = Host::enter(path.to_str()).unwrap();
                let bed = Self { host, dir };
                bed.ip("link set lo up");
                test(&bed);
            };
            if let Err(panic) = scope.spawn(run).join() {
                std::panic::resume_unwind(panic);
            }
        });
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn container(&self, name: &str) -> Netns {
        netns::create(&self.path(name)).unwrap();
        self.host.container(&self.path(name)).unwrap()
    }

    pub fn bridge(&self) -> Link {
        let spec = BridgeSpec {
            name: "nb-front",
            mark: BRIDGE_MARK,
            mtu: 1500,
        };
        self.host.rtnl().ensure_bridge(&spec).unwrap()
    }

    /// The spec of a veth pair between the host and `web`.
    pub fn veth<'a>(&self, web: &'a Netns) -> VethSpec<'a> {
        VethSpec {
            name: "nbv00000001",
            mark: PORT_MARK,
            mtu: 1500,
            peer_netns: web,
            peer_name: "eth0",
            peer_mac: WEB_MAC,
        }
    }

    /// Runs `ip ARGS` in the host and returns what it printed.
    pub fn ip(&self, args: &str) -> String {
        let output = Command::new("ip").args(args.split(' ')).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {args}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for entry in self.dir.path().read_dir().into_iter().flatten().flatten() {
            // An ordinary file is no mount point; it goes with the directory.
            if Netns::open(&entry.path()).is_ok_and(|found| found.is_some()) {
                let _ = netns::delete(&entry.path());
            }
        }
    }
}
