//! The bed on which single programs run: `BPF_PROG_TEST_RUN`, on maps of its own.
//!
//! The object is loaded by the product's own loader, pinned where no instance looks, and filled
//! with a small world: four networks, seven containers, an uplink, published ports and services.
//! The interfaces of that world really are there, in a namespace of the bed's own, because the
//! kernel looks for routes and devices.

mod contents;
mod interfaces;
mod outcome;
mod program;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
};

use aya::maps::{Array, Map, MapData};
use netbpf::{
    dataplane::{
        self, Objects,
        maps::{Contents, Maps, Part, Sizes},
    },
    host::bpffs::{self, PinDirs},
};
use netbpf_common::{
    config::{ABI_VERSION, GlobalConfig},
    conntrack::{Rooms, Tick, Timeouts},
    verdict::{Counter, Hook},
};

use self::{
    interfaces::{bridge, make_interfaces},
    outcome::moved,
};
pub use self::{
    outcome::{Moved, Outcome},
    program::{Action, Context, Program},
    world::{
        BACKEND_PORT, CLIENT_MAC, DNS_PORT, EMPTY_PORT, GONE_PORT, LONELY_PORT, MONK_PORT, Net,
        Resident, SERVICE_PORT, UPLINK_MAC, WEB_PORT, residents, vip,
    },
};
use crate::{
    netns::{Netns, unique},
    packet::Frame,
};

/// Where a frame comes in or goes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The host side of a container's veth.
    Veth(Resident),
    /// A network's bridge.
    Bridge(Net),
    /// The uplink.
    Uplink,
    /// An interface that no instance hooks.
    Stray,
    /// The loopback interface.
    Loopback,
}

/// The loaded programs and their world.
pub struct Bed {
    netns: Netns,
    pins: PinDirs,
    maps: Maps,
    contents: Contents,
    config: GlobalConfig,
    ifindexes: Vec<(String, u32)>,
}

impl std::fmt::Debug for Bed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bed")
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A failure here must not hide the failure of the test.
        let _ = fs::remove_dir_all(&self.pins.base);
    }
}

/// Runs a test on a fresh bed, on a thread inside of the bed's namespace.
///
/// # Panics
///
/// When the bed can't be made, or the test panics.
pub fn on_bed(test: impl FnOnce(&mut Bed) + Send) {
    on_bed_of(
        Sizes {
            max_flows: 4096,
            max_half_open: 1024,
        },
        test,
    );
}

/// As [`on_bed`], with tables of these sizes.
///
/// # Panics
///
/// As [`on_bed`].
pub fn on_bed_of(sizes: Sizes, test: impl FnOnce(&mut Bed) + Send) {
    let mut bed = Bed::make(sizes);
    let inside = Netns::existing(bed.netns.path());
    inside.enter(|| test(&mut bed));
}

impl Bed {
    fn make(sizes: Sizes) -> Self {
        let id = unique();
        let netns = Netns::create(&format!("{id}-bed"));
        let ifindexes = make_interfaces(&netns);
        bpffs::ensure_mounted().expect("there is a bpffs");
        let base = Path::new(bpffs::MOUNT_POINT).join(format!("netbpf-tests-{id}"));
        let pins = PinDirs {
            maps: base.join("maps"),
            progs: base.join("progs"),
            links: base.join("links"),
            base,
        };
        pins.create().expect("directories for pins");
        if let Err(error) = dataplane::load(&pins, sizes, Objects::Ethernet) {
            let _ = fs::remove_dir_all(&pins.base);
            panic!("{error}");
        }
        let maps = Maps::open(&pins.maps).expect("the maps are pinned");
        let mut bed = Self {
            netns,
            pins,
            maps,
            contents: Contents::default(),
            config: GlobalConfig::default(),
            ifindexes,
        };
        let contents = bed.world();
        bed.set_contents(contents);
        bed.set_config(GlobalConfig {
            abi_version: ABI_VERSION,
            generation: 1,
            timeouts: timeouts(3_600_000),
            max_flows: sizes.max_flows,
            max_half_open: sizes.max_half_open,
            netns_cookie: 0,
            flags: 0,
            pad: 0,
        });
        bed
    }

    /// The namespace with the bed's interfaces.
    pub const fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Where the bed's maps are pinned.
    pub fn maps_dir(&self) -> PathBuf {
        self.pins.maps.clone()
    }

    /// The ifindex of a place.
    ///
    /// # Panics
    ///
    /// When the bed has no such interface.
    pub fn ifindex(&self, place: Place) -> u32 {
        let name = match place {
            Place::Veth(resident) => resident.veth(),
            Place::Bridge(net) => bridge(net),
            Place::Uplink => "up0".to_owned(),
            Place::Stray => "stray".to_owned(),
            Place::Loopback => "lo".to_owned(),
        };
        let found = self.ifindexes.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no interface {name}")).1
    }

    /// What the maps that the loader writes hold now.
    pub const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Changes the maps that the loader writes.
    ///
    /// # Panics
    ///
    /// When a map can't be written.
    pub fn set_contents(&mut self, new: Contents) {
        let mut step = |_: &str| Ok(());
        for part in [Part::Places, Part::Mappings] {
            self.maps
                .put(part, &self.contents, &new, &mut step)
                .expect("the maps are written");
        }
        self.maps
            .delete(&self.contents, &new, &mut step)
            .expect("the maps are written");
        self.contents = new;
    }

    /// Changes one thing in the maps that the loader writes.
    pub fn change(&mut self, change: impl FnOnce(&mut Contents)) {
        let mut contents = self.contents.clone();
        change(&mut contents);
        self.set_contents(contents);
    }

    /// Replaces the programs' config.
    ///
    /// # Panics
    ///
    /// When the map can't be written.
    pub fn set_config(&mut self, config: GlobalConfig) {
        self.maps
            .set_config(&config)
            .expect("the config is written");
        self.config = config;
    }

    /// Begins a new generation: living flows ask policy again.
    pub fn next_generation(&mut self) {
        let generation = self.config.generation + 1;
        self.set_config(GlobalConfig {
            generation,
            ..self.config
        });
    }

    /// Sets the flags of the config.
    pub fn set_flags(&mut self, flags: u32) {
        self.set_config(GlobalConfig {
            flags,
            ..self.config
        });
    }

    /// Lets all idle flows end after this many milliseconds.
    pub fn set_timeouts(&mut self, millis: u64) {
        self.set_config(GlobalConfig {
            timeouts: timeouts(millis),
            ..self.config
        });
    }

    /// All flows that can be seen.
    ///
    /// # Panics
    ///
    /// When the table can't be read.
    pub fn flows(&self) -> Vec<dataplane::conntrack::Flow> {
        dataplane::conntrack::list(&self.pins).expect("the flows are read")
    }

    /// How many halves of flows both tables hold, expired ones among them.
    ///
    /// # Panics
    ///
    /// When a table can't be read.
    pub fn halves(&self) -> usize {
        use netbpf_common::family::{V4, V6};
        let v4 = dataplane::maps::halves::<V4>(&self.pins.maps).expect("the flows are read");
        let v6 = dataplane::maps::halves::<V6>(&self.pins.maps).expect("the flows are read");
        v4.len() + v6.len()
    }

    /// How many flows have begun half open in both tables since they were made; a first packet always
    /// begins one.
    ///
    /// # Panics
    ///
    /// When the counts can't be read.
    pub fn begun(&self) -> u64 {
        ["rooms_v4", "rooms_v6"]
            .map(|pin| {
                let rooms = MapData::from_pin(self.pins.maps.join(pin)).expect("the map is pinned");
                let rooms: Array<MapData, Rooms> =
                    Array::try_from(Map::Array(rooms)).expect("the map is an array");
                rooms.get(&0, 0).expect("the rooms are read").half_open_next
            })
            .iter()
            .sum()
    }

    /// Where the bed's programs are pinned.
    pub fn programs_dir(&self) -> PathBuf {
        self.pins.progs.clone()
    }

    /// A program by its hook, for callers that run it many times.
    ///
    /// # Panics
    ///
    /// When it is not pinned.
    pub fn program(&self, hook: Hook) -> Program {
        Program::pinned(&self.pins.progs.join(hook.name()))
    }

    /// Runs a hook at a place on a frame that came into the host there.
    pub fn run(&self, hook: Hook, place: Place, frame: &Frame) -> Outcome {
        self.run_bytes(hook, place, &frame.bytes())
    }

    /// As [`Bed::run`], on raw bytes.
    pub fn run_bytes(&self, hook: Hook, place: Place, bytes: &[u8]) -> Outcome {
        let ingress = match hook {
            // The host's own packet, unless the test says otherwise.
            Hook::ToContainer | Hook::ToNetdev => 0,
            _ => self.ifindex(place),
        };
        self.run_with(
            hook,
            Context {
                ifindex: self.ifindex(place),
                ingress,
                mark: 0,
            },
            bytes,
        )
    }

    /// Runs a hook in a context.
    ///
    /// # Panics
    ///
    /// When the kernel refuses to run it.
    pub fn run_with(&self, hook: Hook, context: Context, bytes: &[u8]) -> Outcome {
        let before = self.counters();
        let (action, bytes_out, mark) = self.program(hook).run(context, bytes);
        let counted = moved(&before, &self.counters());
        Outcome {
            hook,
            action,
            sent: bytes.to_vec(),
            bytes: bytes_out,
            mark,
            counted,
        }
    }

    fn counters(&self) -> Vec<Counter> {
        dataplane::maps::counters(&self.pins.maps).expect("the counters are read")
    }
}

fn timeouts(millis: u64) -> Timeouts {
    let ticks = Tick::count_from_millis(millis);
    Timeouts {
        established: ticks,
        half_open: ticks,
        closing: ticks,
        udp: ticks,
        udp_stream: ticks,
        icmp: ticks,
    }
}
