//! Whether a process of the host already listens where a port is to be published.
//!
//! The kernel is asked by a bind that is given up at once; nothing ever listens here.

use std::net::{IpAddr, SocketAddr};

use netbpf_common::{
    family::{V4, V6},
    nat::{PortKey, PublishTarget},
    tuple::proto,
};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket,
        sockopt::{Ipv6V6Only, ReuseAddr},
    },
};
use std::collections::BTreeMap;

use crate::{
    dataplane::{
        conntrack::{Address, proto_name},
        maps::Contents,
    },
    error::Error,
    model::Model,
};

/// Looks at every port that is published in `new` and not yet in `old`.
///
/// # Errors
///
/// The first one that a process listens on.
pub fn check(old: &Contents, new: &Contents, model: &Model) -> Result<(), Error> {
    check_family::<V4>(&old.published_v4, &new.published_v4, model)?;
    check_family::<V6>(&old.published_v6, &new.published_v6, model)
}

fn check_family<F: Address>(
    old: &BTreeMap<PortKey<F>, PublishTarget<F>>,
    new: &BTreeMap<PortKey<F>, PublishTarget<F>>,
    model: &Model,
) -> Result<(), Error>
where
    PortKey<F>: Ord,
{
    for (key, target) in new.iter().filter(|(key, _)| !old.contains_key(key)) {
        let address = SocketAddr::new(F::address(key.addr), key.port.get());
        if is_taken(address, key.proto) {
            let container = model
                .owner(target.endpoint)
                .map_or("", |container| container.name.as_str());
            return Err(Error::host(format!(
                "container {container:?}: Bind for {address}/{} failed: a process of the host \
                 already listens on it",
                proto_name(key.proto)
            )));
        }
    }
    Ok(())
}

/// An address that the host doesn't have, or a port that can't be asked about, counts as free.
fn is_taken(address: SocketAddr, protocol: u8) -> bool {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let kind = if protocol == proto::TCP {
        SockType::Stream
    } else {
        SockType::Datagram
    };
    let Ok(socket) = socket(family, kind, SockFlag::SOCK_CLOEXEC, None) else {
        return false;
    };
    // Connections that are still closing on the port are no listeners. Among datagram sockets the
    // option would let two share the port.
    if kind == SockType::Stream && setsockopt(&socket, ReuseAddr, &true).is_err() {
        return false;
    }
    if address.is_ipv6() && setsockopt(&socket, Ipv6V6Only, &true).is_err() {
        return false;
    }
    let asked = bind(
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        &SockaddrStorage::from(address),
    );
    asked == Err(Errno::EADDRINUSE)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn listening_socket_is_found_and_a_free_port_is_not() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        assert!(is_taken(address, proto::TCP));
        assert!(is_taken(
            SocketAddr::new([0, 0, 0, 0].into(), address.port()),
            proto::TCP
        ));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        assert!(is_taken(address, proto::UDP));
        drop(udp);
        assert!(!is_taken(address, proto::UDP));
    }
}
