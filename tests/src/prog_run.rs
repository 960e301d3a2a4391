//! The bed on which single programs run: `BPF_PROG_TEST_RUN`, on maps of its own.
//!
//! The object is loaded by the product's own loader, pinned where no instance looks, and filled
//! with a small world: four networks, seven containers, an uplink, published ports and services.
//! The interfaces of that world really are there, in a namespace of the bed's own, because the
//! kernel looks for routes and devices.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
};

use aya::programs::{ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions};
use netbpf::{
    dataplane::{
        self, Objects,
        maps::{Contents, Maps, Part, Sizes, SubnetKey},
    },
    host::bpffs::{self, PinDirs},
};
use netbpf_common::{
    config::{ABI_VERSION, GlobalConfig},
    conntrack::{Tick, Timeouts},
    endpoint::{
        Endpoint, HostAddress, Interface, MacKey, Network, host_address_flags, network_flags, role,
    },
    nat::{
        MappingKey, PortKey, PublishTarget,
        mapping_flags::{STANDS_V4, STANDS_V6},
    },
    service::{Backend, Service},
    tuple::proto,
    verdict::{COUNTERS_PER_HOOK, Counter, DropReason, Hook, StackReason},
    wire::{self, Be16, Ipv4, Ipv6},
};

use crate::{
    netns::{Netns, unique},
    packet::{self, Frame, Mac},
    topology::{CLIENT_V4, CLIENT_V6, Family, HOST_V4, HOST_V6},
};

/// What a program returned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// `TCX_NEXT`: to the next program, then the stack or the wire.
    Next,
    /// `TC_ACT_REDIRECT`: taken by a redirect helper.
    Redirect,
    /// `TC_ACT_SHOT`: dropped.
    Shot,
}

impl Action {
    /// Reads a return value.
    ///
    /// # Panics
    ///
    /// When it is none that our programs may return.
    fn of(value: u32) -> Self {
        match value as i32 {
            -1 => Self::Next,
            7 => Self::Redirect,
            2 => Self::Shot,
            other => panic!("a program returned {other}"),
        }
    }
}

/// The networks of the bed's world.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Net {
    /// An ordinary one.
    Front = 1,
    /// One with `icc = false`.
    Quiet = 2,
    /// An internal one.
    Vault = 3,
    /// One with `masquerade = false`.
    Open = 4,
}

impl Net {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Front, Self::Quiet, Self::Vault, Self::Open];

    const fn id(self) -> u32 {
        self as u32
    }

    const fn flags(self) -> u32 {
        const MASQUERADE: u32 = network_flags::MASQUERADE_V4 | network_flags::MASQUERADE_V6;
        match self {
            Self::Front => network_flags::ICC | MASQUERADE,
            Self::Quiet => MASQUERADE,
            Self::Vault => network_flags::ICC | network_flags::INTERNAL | MASQUERADE,
            Self::Open => network_flags::ICC,
        }
    }

    const fn v4(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(172, 27 + self as u8, 0, host)
    }

    const fn v6(self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x27 + self as u16, 0, 0, 0, 0, 0, host as u16)
    }

    /// An address of its subnet.
    pub const fn addr(self, family: Family, host: u8) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4(host)),
            Family::V6 => IpAddr::V6(self.v6(host)),
        }
    }

    /// Its gateway address.
    pub const fn gateway(self, family: Family) -> IpAddr {
        self.addr(family, 1)
    }

    /// Its bridge's MAC.
    pub const fn bridge_mac(self) -> Mac {
        [0x02, 0xbb, 0, 0, 0, self as u8]
    }
}

/// A container of the bed's world.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resident {
    /// Its network.
    pub net: Net,
    /// The last part of its addresses.
    pub host: u8,
}

/// Containers of the bed's world.
pub mod residents {
    use super::{Net, Resident};

    /// In the ordinary network; its ports are published.
    pub const WEB: Resident = Resident {
        net: Net::Front,
        host: 10,
    };
    /// In the ordinary network.
    pub const DB: Resident = Resident {
        net: Net::Front,
        host: 11,
    };
    /// In the network without talk; a port is published.
    pub const MONK: Resident = Resident {
        net: Net::Quiet,
        host: 10,
    };
    /// In the network without talk.
    pub const NUN: Resident = Resident {
        net: Net::Quiet,
        host: 11,
    };
    /// In the internal network.
    pub const GOLD: Resident = Resident {
        net: Net::Vault,
        host: 10,
    };
    /// In the internal network.
    pub const SILVER: Resident = Resident {
        net: Net::Vault,
        host: 11,
    };
    /// In the network that is not masqueraded.
    pub const TENT: Resident = Resident {
        net: Net::Open,
        host: 10,
    };

    /// All of them.
    pub const ALL: [Resident; 7] = [WEB, DB, MONK, NUN, GOLD, SILVER, TENT];
}

impl Resident {
    /// Its endpoint id.
    pub const fn endpoint(self) -> u32 {
        self.net as u32 * 100 + self.host as u32
    }

    /// Its address.
    pub const fn addr(self, family: Family) -> IpAddr {
        self.net.addr(family, self.host)
    }

    /// Its address and a port.
    pub const fn at(self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.addr(family), port)
    }

    /// Its MAC.
    pub const fn mac(self) -> Mac {
        [0x02, 0xcc, 0, 0, self.net as u8, self.host]
    }

    fn veth(self) -> String {
        format!("v{}", self.endpoint())
    }

    /// A frame of this container to the router that its bridge is.
    pub fn routes(self, frame: Frame) -> Frame {
        frame.macs(self.mac(), self.net.bridge_mac())
    }

    /// A frame of this container to another one on the same bridge.
    pub fn bridges(self, to: Self, frame: Frame) -> Frame {
        frame.macs(self.mac(), to.mac())
    }
}

/// The uplink's MAC.
pub const UPLINK_MAC: Mac = [0x02, 0xaa, 0, 0, 0, 1];
/// The MAC of the client behind the uplink.
pub const CLIENT_MAC: Mac = [0x02, 0xaa, 0, 0, 0, 2];

/// `8080/tcp` on every host address leads to port 80 of [`residents::WEB`].
pub const WEB_PORT: (u16, u16) = (8080, 80);
/// `5353/udp` on every host address leads to port 53 of [`residents::WEB`].
pub const DNS_PORT: (u16, u16) = (5353, 53);
/// `8081/tcp` on every host address leads to port 80 of [`residents::MONK`].
pub const MONK_PORT: (u16, u16) = (8081, 80);
/// `9090/tcp` and `/udp` of the ordinary network's VIP lead to its two containers.
pub const SERVICE_PORT: u16 = 9090;
/// The port of the backends.
pub const BACKEND_PORT: u16 = 90;
/// A service port of the ordinary network's VIP that leads to [`residents::WEB`] alone.
pub const LONELY_PORT: u16 = 9091;
/// A service port without backends.
pub const EMPTY_PORT: u16 = 9092;
/// A published port whose container is gone.
pub const GONE_PORT: u16 = 8099;

const WEB_MAPPING: u32 = 1;
const DNS_MAPPING: u32 = 2;
const MONK_MAPPING: u32 = 3;
const SERVICE_MAPPING: u32 = 4;
const LONELY_MAPPING: u32 = 5;
const EMPTY_MAPPING: u32 = 6;
const GONE_MAPPING: u32 = 7;

/// The VIP of the ordinary network.
pub const fn vip(family: Family) -> IpAddr {
    Net::Front.addr(family, 100)
}

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
        if let Err(error) = dataplane::load(&pins, sizes, Objects::All) {
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

/// A loaded program.
#[derive(Debug)]
pub struct Program(SchedClassifier);

/// What a program is told beside the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The interface whose hook runs.
    pub ifindex: u32,
    /// The interface by which the packet came into the host; 0: the host made it.
    pub ingress: u32,
    /// The packet's mark.
    pub mark: u32,
}

/// The size of `struct __sk_buff`, and where in it the fields stand that a test run takes
/// (`linux/bpf.h`).
mod sk_buff {
    pub const SIZE: usize = 192;
    pub const MARK: usize = 8;
    pub const INGRESS_IFINDEX: usize = 36;
    pub const IFINDEX: usize = 40;
}

impl Program {
    /// A program by its pin.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn pinned(path: &Path) -> Self {
        Self(SchedClassifier::from_pin(path).expect("the program is pinned"))
    }

    /// What the kernel says about it.
    ///
    /// # Panics
    ///
    /// When it says nothing.
    pub fn info(&self) -> ProgramInfo {
        self.0.info().expect("a program that is loaded")
    }

    /// Runs it once: what it returned, the packet's bytes, the packet's mark.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    pub fn run(&self, context: Context, bytes: &[u8]) -> (Action, Vec<u8>, u32) {
        let mut ctx_in = [0; sk_buff::SIZE];
        let mut put = |at: usize, value: u32| {
            ctx_in[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        put(sk_buff::MARK, context.mark);
        put(sk_buff::INGRESS_IFINDEX, context.ingress);
        put(sk_buff::IFINDEX, context.ifindex);
        let (mut ctx_out, mut data_out) = ([0; sk_buff::SIZE], vec![0; bytes.len() + 256]);
        let result = self.0.test_run(TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut data_out),
            ctx_in: Some(&ctx_in),
            ctx_out: Some(&mut ctx_out),
            ..TestRunOptions::new()
        });
        let result = match result {
            Ok(result) => result,
            Err(error) => panic!("the kernel refuses {} bytes: {error:?}", bytes.len()),
        };
        data_out.truncate(result.data_size_out as usize);
        let mark = &ctx_out[sk_buff::MARK..sk_buff::MARK + 4];
        let mark = u32::from_ne_bytes(mark.try_into().expect("four bytes"));
        (Action::of(result.return_value), data_out, mark)
    }
}

/// A counter that moved, and by how many packets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Moved {
    /// `from_netdev drop malformed`.
    pub counter: String,
    /// By how many packets.
    pub packets: u64,
    /// By how many bytes.
    pub bytes: u64,
}

/// What became of a frame.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The hook that ran.
    pub hook: Hook,
    /// What it returned.
    pub action: Action,
    /// The bytes that went in.
    pub sent: Vec<u8>,
    /// The bytes that came out.
    pub bytes: Vec<u8>,
    /// The mark that came out.
    pub mark: u32,
    /// Every counter that moved.
    pub counted: Vec<Moved>,
}

impl Outcome {
    /// Demands that the frame was redirected as `expected`, and nothing counted.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn redirects(&self, expected: &Frame) {
        self.did(Action::Redirect, &expected.bytes(), 0);
        assert_eq!(packet::fault(&self.bytes), None);
    }

    /// Demands that the frame was redirected as `expected`, with the mark of what the host says to
    /// itself, and nothing counted.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn redirects_from_local(&self, expected: &Frame) {
        let mark = netbpf_common::config::MARK_FROM_LOCAL;
        self.did(Action::Redirect, &expected.bytes(), mark);
        assert_eq!(packet::fault(&self.bytes), None);
    }

    /// Demands that the frame was let through as it came, without a mark, and nothing counted.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn passes(&self) {
        self.did(Action::Next, &self.sent.clone(), 0);
    }

    /// Demands that the frame was let through as it came, marked for the host's stack.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn goes_to_host(&self) {
        self.goes_to_host_as(&self.sent.clone());
    }

    /// Demands that the frame was let through as `expected`, marked for the host's stack.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn goes_to_host_as(&self, expected: &[u8]) {
        self.did(Action::Next, expected, netbpf_common::config::MARK_TO_HOST);
    }

    #[track_caller]
    fn did(&self, action: Action, expected: &[u8], mark: u32) {
        assert_eq!(
            (self.action, &self.counted),
            (action, &Vec::new()),
            "{}",
            self.words()
        );
        assert!(
            self.bytes == expected,
            "{}\nexpected {}",
            self.words(),
            packet::describe(expected)
        );
        assert_eq!(self.mark, mark, "{}", self.words());
    }

    /// Demands that the frame was dropped for this reason, which alone was counted, and that its
    /// bytes are as they came, but for one whose translation failed in the middle.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn drops(&self, reason: DropReason) {
        let counted = vec![self.one(&drop_name(self.hook, reason))];
        assert_eq!(
            (self.action, &self.counted),
            (Action::Shot, &counted),
            "{}",
            self.words()
        );
        assert!(
            self.bytes == self.sent || reason == DropReason::NotTranslatable,
            "{}",
            self.words()
        );
    }

    /// Demands that the frame went to the stack as it came, for this reason, which alone was
    /// counted.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn takes_the_stack(&self, reason: StackReason) {
        let counted = vec![self.one(&stack_name(self.hook, reason))];
        assert_eq!(
            (self.action, &self.counted),
            (Action::Next, &counted),
            "{}",
            self.words()
        );
        assert!(self.bytes == self.sent, "{}", self.words());
    }

    /// Demands that the packet was counted for this reason alone, whatever became of it.
    ///
    /// # Panics
    ///
    /// When anything else was counted.
    #[track_caller]
    pub fn counts(&self, reason: StackReason) {
        let counted = vec![self.one(&stack_name(self.hook, reason))];
        assert_eq!(self.counted, counted, "{}", self.words());
    }

    /// As [`Self::counts`], for a drop of which the sender is told.
    ///
    /// # Panics
    ///
    /// When anything else was counted.
    #[track_caller]
    pub fn counts_drop(&self, reason: DropReason) {
        let counted = vec![self.one(&drop_name(self.hook, reason))];
        assert_eq!(self.counted, counted, "{}", self.words());
    }

    /// The bytes that came out, redirected with right checksums and nothing counted, as the value
    /// of a frame like `like` with the source that they have. For translations that pick a port.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn redirects_from(&self, like: &Frame, addr: IpAddr) -> Frame {
        let at = 14
            + like.ip_header_len()
            + usize::from(matches!(like.body, packet::Body::Echo { .. })) * 4;
        let port = self
            .bytes
            .get(at..at + 2)
            .map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
        let expected = like.clone().from(SocketAddr::new(addr, port));
        self.redirects(&expected);
        expected
    }

    fn one(&self, counter: &str) -> Moved {
        Moved {
            counter: counter.to_owned(),
            packets: 1,
            bytes: self.sent.len() as u64,
        }
    }

    fn words(&self) -> String {
        let mut words = String::new();
        let _ = write!(
            words,
            "{} returned {:?}, counted {:?}, mark {:#x}\n     got {}\n    sent {}",
            self.hook.name(),
            self.action,
            self.counted,
            self.mark,
            packet::describe(&self.bytes),
            packet::describe(&self.sent)
        );
        words
    }
}

fn drop_name(hook: Hook, reason: DropReason) -> String {
    format!("{} drop {}", hook.name(), reason.name())
}

fn stack_name(hook: Hook, reason: StackReason) -> String {
    format!("{} stack {}", hook.name(), reason.name())
}

fn moved(before: &[Counter], after: &[Counter]) -> Vec<Moved> {
    let name = |index: usize| {
        let hook = Hook::ALL[index / COUNTERS_PER_HOOK as usize];
        let within = index % COUNTERS_PER_HOOK as usize;
        match DropReason::ALL.get(within) {
            Some(reason) => drop_name(hook, *reason),
            None => stack_name(hook, StackReason::ALL[within - DropReason::ALL.len()]),
        }
    };
    before
        .iter()
        .zip(after)
        .enumerate()
        .filter(|(_, (before, after))| before != after)
        .map(|(index, (before, after))| Moved {
            counter: name(index),
            packets: after.packets - before.packets,
            bytes: after.bytes - before.bytes,
        })
        .collect()
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

fn bridge(net: Net) -> String {
    format!("br{}", net.id())
}

/// Makes the interfaces of the world and returns their ifindexes. The far ends of the veths stay
/// in the same namespace: no packet ever leaves by them.
fn make_interfaces(netns: &Netns) -> Vec<(String, u32)> {
    let mut batch = String::new();
    let mut line = |text: String| {
        batch.push_str(&text);
        batch.push('\n');
    };
    let mac = |mac: Mac| mac.map(|byte| format!("{byte:02x}")).join(":");
    for (name, address) in [("up0", UPLINK_MAC), ("stray", [0x02, 0xdd, 0, 0, 0, 1])] {
        line(format!(
            "link add {name} address {} type veth peer name {name}p",
            mac(address)
        ));
        line(format!("link set {name}p up"));
        line(format!("link set {name} up"));
    }
    line(format!("addr add {HOST_V4}/24 dev up0"));
    line(format!("addr add {HOST_V6}/64 dev up0 nodad"));
    line(format!("route add default via {CLIENT_V4}"));
    line(format!("-6 route add default via {CLIENT_V6}"));
    line("route add 192.88.99.0/24 dev stray scope link src 203.0.113.1".to_owned());
    line(format!(
        "-6 route add 2001:db8:99::/64 dev stray src {HOST_V6}"
    ));
    for net in Net::ALL {
        let name = bridge(net);
        line(format!(
            "link add {name} address {} type bridge",
            mac(net.bridge_mac())
        ));
        line(format!("link set {name} up"));
        line(format!("addr add {}/16 dev {name}", net.v4(1)));
        line(format!("addr add {}/64 dev {name} nodad", net.v6(1)));
    }
    for resident in residents::ALL {
        let name = resident.veth();
        line(format!("link add {name} type veth peer name {name}p"));
    }
    run_batch(netns, &batch);
    for net in Net::ALL {
        netns.set_sysctl(&format!("net/ipv4/conf/{}/forwarding", bridge(net)), "1");
        netns.set_sysctl(&format!("net/ipv6/conf/{}/forwarding", bridge(net)), "1");
    }
    ifindexes(netns)
}

/// Runs `ip` commands, each on its own: its batch mode knows no family on a line.
fn run_batch(netns: &Netns, lines: &str) {
    for (option, wants_v6) in [("-d", false), ("-6", true)] {
        let batch: String = lines
            .lines()
            .filter(|line| line.starts_with("-6 ") == wants_v6)
            .map(|line| format!("{}\n", line.trim_start_matches("-6 ")))
            .collect();
        let mut child = netns
            .command("ip")
            .args([option, "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("ip is started");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin
            .write_all(batch.as_bytes())
            .expect("ip takes its batch");
        drop(stdin);
        assert!(child.wait().expect("ip ends").success(), "{batch}");
    }
}

fn ifindexes(netns: &Netns) -> Vec<(String, u32)> {
    let shown = netns.ip("-o link show");
    let parse = |line: &str| {
        let mut parts = line.split(": ");
        let index = parts.next()?.trim().parse().ok()?;
        let name = parts.next()?.split('@').next()?.to_owned();
        Some((name, index))
    };
    shown.lines().filter_map(parse).collect()
}

impl Bed {
    fn world(&self) -> Contents {
        let mut contents = Contents::default();
        contents.interfaces.insert(
            self.ifindex(Place::Uplink),
            Interface {
                role: role::UPLINK,
                mac: wire::Mac::from_wire(UPLINK_MAC),
                ..Interface::default()
            },
        );
        contents
            .host_addresses_v4
            .insert(HOST_V4.into(), HostAddress::default());
        contents
            .host_addresses_v6
            .insert(HOST_V6.into(), HostAddress::default());
        for net in Net::ALL {
            self.add_network(&mut contents, net);
        }
        for resident in residents::ALL {
            self.add_container(&mut contents, resident);
        }
        add_ports(&mut contents);
        add_services(&mut contents);
        contents
    }

    fn add_network(&self, contents: &mut Contents, net: Net) {
        let ifindex = self.ifindex(Place::Bridge(net));
        contents.interfaces.insert(
            ifindex,
            Interface {
                role: role::BRIDGE,
                mac: wire::Mac::from_wire(net.bridge_mac()),
                network: net.id(),
                ..Interface::default()
            },
        );
        contents.networks.insert(
            net.id(),
            Network {
                flags: net.flags(),
                bridge_ifindex: ifindex,
                bridge_mac: wire::Mac::from_wire(net.bridge_mac()),
                gateway_v4: net.v4(1).into(),
                gateway_v6: net.v6(1).into(),
                ..Network::default()
            },
        );
        let (v4, v6) = (Ipv4::from(net.v4(0)), Ipv6::from(net.v6(0)));
        contents.subnets_v4.insert(
            SubnetKey {
                prefix_len: 16,
                addr: v4,
            },
            net.id(),
        );
        contents.subnets_v6.insert(
            SubnetKey {
                prefix_len: 64,
                addr: v6,
            },
            net.id(),
        );
        let gateway = HostAddress {
            flags: host_address_flags::GATEWAY,
            network: net.id(),
        };
        contents.host_addresses_v4.insert(net.v4(1).into(), gateway);
        contents.host_addresses_v6.insert(net.v6(1).into(), gateway);
    }

    fn add_container(&self, contents: &mut Contents, resident: Resident) {
        let (net, host) = (resident.net, resident.host);
        let ifindex = self.ifindex(Place::Veth(resident));
        contents.interfaces.insert(
            ifindex,
            Interface {
                role: role::CONTAINER,
                flags: 0,
                mac: wire::Mac::from_wire(resident.mac()),
                network: net.id(),
                endpoint: resident.endpoint(),
                container: resident.endpoint(),
                address_v4: net.v4(host).into(),
                address_v6: net.v6(host).into(),
            },
        );
        let endpoint = Endpoint {
            id: resident.endpoint(),
            network: net.id(),
            ifindex,
            mac: wire::Mac::from_wire(resident.mac()),
            pad: [0; 2],
        };
        contents.endpoints_v4.insert(net.v4(host).into(), endpoint);
        contents.endpoints_v6.insert(net.v6(host).into(), endpoint);
        let key = MacKey {
            network: net.id(),
            mac: wire::Mac::from_wire(resident.mac()),
            pad: [0; 2],
        };
        contents.endpoints_by_mac.insert(key, endpoint);
    }
}

fn add_ports(contents: &mut Contents) {
    let ports = [
        (WEB_PORT, proto::TCP, residents::WEB, WEB_MAPPING),
        (DNS_PORT, proto::UDP, residents::WEB, DNS_MAPPING),
        (MONK_PORT, proto::TCP, residents::MONK, MONK_MAPPING),
        (
            (GONE_PORT, 80),
            proto::TCP,
            Resident {
                net: Net::Front,
                host: 99,
            },
            GONE_MAPPING,
        ),
    ];
    for ((host_port, container_port), proto, to, mapping) in ports {
        let (port, endpoint) = (Be16::new(container_port), to.endpoint());
        contents.published_v4.insert(
            PortKey {
                addr: Ipv4::UNSPECIFIED,
                port: Be16::new(host_port),
                proto,
                pad: 0,
            },
            PublishTarget {
                addr: to.net.v4(to.host).into(),
                port,
                flags: 0,
                mapping,
                endpoint,
            },
        );
        contents.published_v6.insert(
            PortKey {
                addr: Ipv6::UNSPECIFIED,
                port: Be16::new(host_port),
                proto,
                pad: 0,
            },
            PublishTarget {
                addr: to.net.v6(to.host).into(),
                port,
                flags: 0,
                mapping,
                endpoint,
            },
        );
        contents
            .mappings
            .insert(MappingKey { mapping, endpoint }, STANDS_V4 | STANDS_V6);
    }
}

fn add_services(contents: &mut Contents) {
    let vip_address = HostAddress {
        flags: host_address_flags::VIP,
        network: Net::Front.id(),
    };
    let (v4, v6) = (
        Ipv4::from(Net::Front.v4(100)),
        Ipv6::from(Net::Front.v6(100)),
    );
    contents.host_addresses_v4.insert(v4, vip_address);
    contents.host_addresses_v6.insert(v6, vip_address);
    let both: &[Resident] = &[residents::WEB, residents::DB];
    let services = [
        (SERVICE_PORT, both, SERVICE_MAPPING),
        (LONELY_PORT, &both[..1], LONELY_MAPPING),
        (EMPTY_PORT, &[], EMPTY_MAPPING),
    ];
    for (port, backends, mapping) in services {
        for proto in [proto::TCP, proto::UDP] {
            let port = Be16::new(port);
            let mut service_v4 = Service {
                mapping,
                count: backends.len() as u32,
                ..Service::default()
            };
            let mut service_v6 = Service {
                mapping,
                count: backends.len() as u32,
                ..Service::default()
            };
            for (at, backend) in backends.iter().enumerate() {
                let (endpoint, port) = (backend.endpoint(), Be16::new(BACKEND_PORT));
                let (net, host) = (backend.net, backend.host);
                service_v4.backends[at] = Backend {
                    addr: net.v4(host).into(),
                    port,
                    pad: 0,
                    endpoint,
                };
                service_v6.backends[at] = Backend {
                    addr: net.v6(host).into(),
                    port,
                    pad: 0,
                    endpoint,
                };
                contents
                    .mappings
                    .insert(MappingKey { mapping, endpoint }, STANDS_V4 | STANDS_V6);
            }
            contents.services_v4.insert(
                PortKey {
                    addr: v4,
                    port,
                    proto,
                    pad: 0,
                },
                service_v4,
            );
            contents.services_v6.insert(
                PortKey {
                    addr: v6,
                    port,
                    proto,
                    pad: 0,
                },
                service_v6,
            );
        }
    }
}
