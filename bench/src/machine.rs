//! What the figures were taken on.

use std::{fs, process::Command, thread};

use serde::{Deserialize, Serialize};

/// The machine, as far as it matters for a figure.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The CPU's name.
    pub cpu: String,
    /// How many of them.
    pub cpus: usize,
    /// What chooses their frequency.
    pub governor: String,
    /// Whether a hypervisor says that it is there.
    pub virtual_machine: bool,
    /// The load average of the last minute when the run began.
    pub load: String,
    /// The releases of the peers' programs, in their own words.
    pub tools: Vec<String>,
}

/// Programs of the peers.
const TOOLS: [&str; 4] = ["dockerd", "iptables-nft", "iptables-legacy", "nft"];

impl Machine {
    /// Looks. What can't be read is said to be unknown.
    pub fn look() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: field(&info, "model name"),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            virtual_machine: field(&info, "flags")
                .split_whitespace()
                .any(|flag| flag == "hypervisor"),
            load: line("/proc/loadavg")
                .split_whitespace()
                .next()
                .unwrap_or("unknown")
                .to_owned(),
            tools: TOOLS.map(version).to_vec(),
        }
    }
}

fn version(program: &str) -> String {
    let said = Command::new(program).arg("--version").output();
    said.ok()
        .and_then(|said| {
            Some(
                String::from_utf8_lossy(&said.stdout)
                    .lines()
                    .next()?
                    .to_owned(),
            )
        })
        .unwrap_or_else(|| format!("{program} is not here"))
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn field(info: &str, name: &str) -> String {
    info.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map_or_else(
            || "unknown".to_owned(),
            |(_, value)| value.trim().to_owned(),
        )
}
