//! The machines around a test: a host that is as hostile as a host can be to forwarding, and the
//! outside that it has an uplink to. Containers are made by `netbpf` itself.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::{Netns, unique, wait_until};

/// The host's uplink.
pub const UPLINK: &str = "up0";

/// The host's address on the uplink, IPv4.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The host's address on the uplink, IPv6.
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1);
/// The client's address on the same link, IPv4.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The client's address on the same link, IPv6.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 2);
/// An address beyond the client, reached by the default route, IPv4.
pub const FAR_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// An address beyond the client, reached by the default route, IPv6.
pub const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x10);
/// A second address beyond the client, IPv4.
pub const STRANGER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);
/// A second address beyond the client, IPv6.
pub const STRANGER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x66);

/// An address family.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    const fn choose(self, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(v4),
            Self::V6 => IpAddr::V6(v6),
        }
    }

    /// The host's address on the uplink.
    pub const fn host(self) -> IpAddr {
        self.choose(HOST_V4, HOST_V6)
    }

    /// The client's address on the uplink's link.
    pub const fn client(self) -> IpAddr {
        self.choose(CLIENT_V4, CLIENT_V6)
    }

    /// The address beyond the client.
    pub const fn far(self) -> IpAddr {
        self.choose(FAR_V4, FAR_V6)
    }

    /// The second address beyond the client.
    pub const fn stranger(self) -> IpAddr {
        self.choose(STRANGER_V4, STRANGER_V6)
    }

    /// No address.
    pub const fn unspecified(self) -> IpAddr {
        self.choose(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)
    }

    /// `IPv4` or `IPv6`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// A host and a client outside of it.
#[derive(Debug)]
pub struct Topology {
    /// The word that all names of this topology begin with.
    pub id: String,
    /// The host.
    pub host: Netns,
    /// The client, which is also every machine beyond it.
    pub client: Netns,
}

impl Topology {
    /// Makes both, links them, and closes the host to every forwarding that netfilter and the
    /// stack know: forwarding off in both families, bridged packets through netfilter, a forward
    /// chain that drops, and an IPv6 default route that is lost where forwarding is switched on.
    ///
    /// # Panics
    ///
    /// When a step fails.
    pub fn create() -> Self {
        let id = unique();
        let host = Netns::create(&format!("{id}-host"));
        let client = Netns::create(&format!("{id}-client"));
        let topology = Self { id, host, client };
        topology.link();
        topology.close_forwarding();
        topology
    }

    fn link(&self) {
        let (host, client) = (&self.host, &self.client);
        host.ip(&format!(
            "link add {UPLINK} type veth peer name eth0 netns {}",
            client.name()
        ));
        host.ip(&format!("addr add {HOST_V4}/24 dev {UPLINK}"));
        host.ip(&format!("addr add {HOST_V6}/64 dev {UPLINK} nodad"));
        client.ip(&format!("addr add {CLIENT_V4}/24 dev eth0"));
        client.ip(&format!("addr add {CLIENT_V6}/64 dev eth0 nodad"));
        for (end, interface) in [(host, UPLINK), (client, "eth0")] {
            // Nobody else is on this link, so that its ends need not spend seconds asking.
            end.set_sysctl(&format!("net/ipv6/conf/{interface}/accept_dad"), "0");
        }
        // It refuses whom it must however often it is asked.
        for path in ["net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"] {
            client.set_sysctl(path, "0");
        }
        for addr in [FAR_V4, STRANGER_V4] {
            client.ip(&format!("addr add {addr}/32 dev lo"));
        }
        for addr in [FAR_V6, STRANGER_V6] {
            client.ip(&format!("addr add {addr}/128 dev lo nodad"));
        }
        host.ip(&format!("link set {UPLINK} up"));
        client.ip("link set eth0 up");
        host.ip(&format!("route add default via {CLIENT_V4}"));
        for end in [host, client] {
            wait_until(
                "the link-local addresses are no longer tentative",
                Duration::from_secs(10),
                || {
                    let shown = end.ip("-6 addr show");
                    shown.contains("fe80::") && !shown.contains("tentative")
                },
            );
        }
        self.advertise_router();
    }

    /// The host has its IPv6 default route from a router advertisement of the client's, as most
    /// hosts have it: the kernel forgets such a route where forwarding is switched on without care.
    fn advertise_router(&self) {
        // Who doesn't forward says so in neighbour advertisements, and is a router no longer.
        self.client.set_sysctl("net/ipv6/conf/eth0/forwarding", "1");
        self.client.enter(|| send_router_advertisement("eth0"));
        wait_until(
            "the host has taken the advertised route",
            Duration::from_secs(10),
            || self.host.ip("-6 route show default").contains("proto ra"),
        );
    }

    fn close_forwarding(&self) {
        let host = &self.host;
        host.set_sysctl("net/ipv4/ip_forward", "0");
        host.set_sysctl("net/ipv6/conf/all/forwarding", "0");
        for family in ["iptables", "ip6tables", "arptables"] {
            // Without br_netfilter there is nothing to switch on, and nothing in the way.
            let _ = host.try_set_sysctl(&format!("net/bridge/bridge-nf-call-{family}"), "1");
        }
        self.close_netfilter();
    }

    /// Opens the host to every forwarding, as one that routes for others is: what netbpf does not
    /// drop itself now goes on.
    pub fn open_forwarding(&self) {
        let host = &self.host;
        host.nft("flush ruleset");
        host.set_sysctl(&format!("net/ipv6/conf/{UPLINK}/accept_ra"), "2");
        host.set_sysctl("net/ipv4/ip_forward", "1");
        host.set_sysctl("net/ipv6/conf/all/forwarding", "1");
        for family in ["iptables", "ip6tables", "arptables"] {
            let _ = host.try_set_sysctl(&format!("net/bridge/bridge-nf-call-{family}"), "0");
        }
    }

    /// Puts a forward chain that drops in the place of whatever ruleset there is.
    ///
    /// # Panics
    ///
    /// When `nft` refuses.
    pub fn close_netfilter(&self) {
        self.host.nft(
            "flush ruleset; table inet hostile { chain forward { \
             type filter hook forward priority 0; policy drop; }; }",
        );
    }

    /// Leaves both namespaces in place.
    pub fn keep(&mut self) {
        self.host.keep();
        self.client.keep();
    }

    /// Gives the client a route to `subnet` through the host, as a neighbour on the same link can
    /// have it without asking anybody.
    pub fn route_from_client(&self, subnet: &str) {
        let family = if subnet.contains(':') {
            Family::V6
        } else {
            Family::V4
        };
        self.client
            .ip(&format!("route replace {subnet} via {}", family.host()));
    }
}

/// Sends a router advertisement (RFC 4861, 4.2) to all nodes of a link.
fn send_router_advertisement(interface: &str) {
    /// The longest lifetime of a default router.
    const LIFETIME: [u8; 2] = u16::to_be_bytes(9000);
    /// The kernel fills the checksum in.
    const CHECKSUM: [u8; 2] = [0; 2];
    const HOP_LIMIT: u8 = 64;
    const FLAGS: u8 = 0;
    let ifindex = nix::net::if_::if_nametoindex(interface).expect(interface);
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).expect("raw ICMPv6");
    // A receiver believes nobody further away than its own link.
    socket.set_multicast_hops_v6(255).expect("hops");
    socket.set_multicast_if_v6(ifindex).expect("interface");
    let head = [
        134,
        0,
        CHECKSUM[0],
        CHECKSUM[1],
        HOP_LIMIT,
        FLAGS,
        LIFETIME[0],
        LIFETIME[1],
    ];
    let timers = [0; 8];
    let all_nodes = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, ifindex);
    socket
        .send_to(&[head, timers].concat(), &SocketAddr::V6(all_nodes).into())
        .expect("the advertisement is sent");
}

/// A config file whose containers live in namespaces that begin with `id`, so that the same file
/// can be used by many tests at once.
pub fn with_private_namespaces(config: &str, id: &str) -> String {
    let mut text = String::new();
    let mut in_container = false;
    for line in config.lines() {
        let bare = line.trim();
        if bare.starts_with('[') {
            in_container = bare.starts_with("[[container]]");
        }
        let key = bare.split('=').next().unwrap_or_default().trim();
        if in_container && key == "netns" {
            continue;
        }
        text.push_str(line);
        text.push('\n');
        if in_container && key == "name" && has_own_namespace(rest_of(config, line)) {
            let name = bare.split('"').nth(1).unwrap_or_default();
            text.push_str(&format!("netns = \"/run/netns/{id}-{name}\"\n"));
        }
    }
    text
}

/// What stands after a line of a text.
fn rest_of<'t>(text: &'t str, line: &str) -> &'t str {
    let end = line.as_ptr() as usize + line.len() - text.as_ptr() as usize;
    text.get(end..).unwrap_or_default()
}

/// Whether the container that goes on with `rest` has a namespace that a config can name.
fn has_own_namespace(rest: &str) -> bool {
    let own = rest.split("\n[").next().unwrap_or_default();
    let mut modes = own
        .lines()
        .filter_map(|line| line.trim().strip_prefix("mode = "));
    !modes.any(|mode| mode.starts_with("\"container:") || mode.starts_with("\"host"))
}
