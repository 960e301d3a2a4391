//! A host with a bridge and two containers, made by hand: the kernel's bridge and routing, no
//! filter, no translation, no tracking of connections.

use netbpf_tests::{
    netns::Netns,
    topology::{Family, Topology},
};

use super::{CONTAINERS_V4, CONTAINERS_V6, Site, Standing, Way, topology};

/// The bridge.
pub const BRIDGE: &str = "br0";

/// The machines.
#[derive(Debug)]
pub struct Bed {
    /// The two containers.
    pub containers: [Netns; 2],
    /// The host and the machine outside.
    pub topology: Topology,
}

impl Standing for Bed {}

impl Bed {
    /// Makes them.
    ///
    /// # Panics
    ///
    /// When a step fails.
    pub fn make() -> Self {
        let topology = topology();
        let containers = [0, 1].map(|number| Netns::create(&format!("{}-c{number}", topology.id)));
        let bed = Self {
            containers,
            topology,
        };
        bed.bridge();
        for number in [0, 1] {
            bed.join(number);
        }
        bed
    }

    fn bridge(&self) {
        let host = &self.topology.host;
        host.set_sysctl("net/ipv4/ip_forward", "1");
        host.set_sysctl("net/ipv6/conf/all/forwarding", "1");
        for family in ["iptables", "ip6tables", "arptables"] {
            // Without br_netfilter there is nothing to switch off.
            let _ = host.try_set_sysctl(&format!("net/bridge/bridge-nf-call-{family}"), "0");
        }
        host.ip(&format!("link add {BRIDGE} type bridge"));
        host.ip(&format!("addr add 172.28.0.1/24 dev {BRIDGE}"));
        host.ip(&format!("addr add fd00:28::1/64 dev {BRIDGE} nodad"));
        host.ip(&format!("link set {BRIDGE} up"));
    }

    fn join(&self, number: usize) {
        let (host, container) = (&self.topology.host, &self.containers[number]);
        host.ip(&format!(
            "link add veth{number} type veth peer name eth0 netns {}",
            container.name()
        ));
        host.ip(&format!("link set veth{number} master {BRIDGE} up"));
        let (v4, v6) = (CONTAINERS_V4[number], CONTAINERS_V6[number]);
        container.ip(&format!("addr add {v4}/24 dev eth0"));
        container.ip(&format!("addr add {v6}/64 dev eth0 nodad"));
        container.ip("link set eth0 up");
        container.ip("route add default via 172.28.0.1");
        container.ip("route add default via fd00:28::1");
    }

    /// What stands on them, once the network lets everything through, guarded by what `whole` makes
    /// of this.
    pub fn site<S: Standing + 'static>(
        self,
        way: Way,
        ports: u16,
        whole: impl FnOnce(Self) -> S,
    ) -> Site {
        let containers = self.containers.each_ref().map(|it| it.path().to_owned());
        for family in Family::ALL {
            super::wait_for(&containers[0], family.host());
        }
        Site {
            containers,
            host: self.topology.host.path().to_owned(),
            client: self.topology.client.path().to_owned(),
            way,
            ports,
            guard: Box::new(whole(self)),
        }
    }
}

/// The kernel's bridge and routing alone; so many ports of the first container are asked from
/// elsewhere.
///
/// # Panics
///
/// When a step fails.
pub fn plain(ports: u16) -> Site {
    Bed::make().site(Way::Direct, ports, |bed| bed)
}
