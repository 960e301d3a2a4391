//! What the maps say of the bed's world.

use netbpf::dataplane::maps::{Contents, SubnetKey};
use netbpf_common::{
    endpoint::{Endpoint, HostAddress, Interface, MacKey, Network, host_address_flags, role},
    nat::{
        MappingKey, PortKey, PublishTarget,
        mapping_flags::{STANDS_V4, STANDS_V6},
    },
    service::{Backend, Service},
    tuple::proto,
    wire::{self, Be16, Ipv4, Ipv6},
};

use super::{
    BACKEND_PORT, Bed, DNS_PORT, EMPTY_PORT, GONE_PORT, LONELY_PORT, MONK_PORT, Net, Place,
    Resident, SERVICE_PORT, UPLINK_MAC, WEB_PORT, residents,
    world::{
        DNS_MAPPING, EMPTY_MAPPING, GONE_MAPPING, LONELY_MAPPING, MONK_MAPPING, SERVICE_MAPPING,
        WEB_MAPPING,
    },
};
use crate::topology::{HOST_V4, HOST_V6};

impl Bed {
    pub(super) fn world(&self) -> Contents {
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
