//! Sockets that keep a port, and what already has one.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use netbpf::{
    host::port::{HostPort, Reservation, is_in_use, is_taken},
    model::Proto,
};

use crate::bed::Bed;

fn tcp(address: SocketAddr) -> HostPort {
    HostPort {
        address,
        proto: Proto::Tcp,
    }
}

fn udp(address: SocketAddr) -> HostPort {
    HostPort {
        address,
        proto: Proto::Udp,
    }
}

fn any_v4(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

fn any_v6(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

#[test]
fn port_of_a_listener_is_taken_on_its_address_and_on_all() {
    Bed::with(|_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_taken(tcp(address)));
        assert!(is_taken(tcp(any_v4(address.port()))));
        assert!(!is_taken(tcp((
            Ipv4Addr::new(127, 0, 0, 2),
            address.port()
        )
            .into())));
        assert!(!is_taken(tcp(any_v6(address.port()))));
        drop(listener);
        assert!(!is_taken(tcp(address)));
    });
}

#[test]
fn port_of_a_socket_for_both_families_is_taken_in_both() {
    Bed::with(|_| {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in [
            any_v4(port),
            any_v6(port),
            (Ipv4Addr::LOCALHOST, port).into(),
        ] {
            assert!(is_taken(tcp(address)), "{address}");
            assert!(!is_taken(udp(address)), "{address}");
        }
    });
}

#[test]
fn bound_datagram_socket_has_its_port() {
    Bed::with(|_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert!(is_taken(udp(address)));
        assert!(is_taken(udp(any_v4(address.port()))));
        drop(socket);
        assert!(!is_taken(udp(address)));
    });
}

#[test]
fn port_whose_connections_are_closing_is_free() {
    Bed::with(|_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        drop((server, listener, client));
        assert!(!is_taken(tcp(address)));
    });
}

#[test]
fn nobody_listens_beside_a_reservation() {
    Bed::with(|_| {
        let free: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        for port in [tcp(any_v4(free.port())), udp(any_v4(free.port()))] {
            let kept = Reservation::take(port).unwrap();
            assert!(is_taken(port));
            let bound = match port.proto {
                Proto::Tcp => TcpListener::bind(free).map(drop),
                Proto::Udp => UdpSocket::bind(free).map(drop),
            };
            assert!(bound.is_err_and(|error| is_in_use(&error)), "{port}");
            drop(kept);
            assert!(!is_taken(port), "{port}");
        }
    });
}

#[test]
fn address_that_the_host_does_not_have_can_be_reserved() {
    Bed::with(|_| {
        for address in ["198.51.100.77:8080", "[2001:db8::77]:8080"] {
            let port = tcp(address.parse().unwrap());
            let kept = Reservation::take(port).unwrap();
            assert!(is_taken(port), "{port}");
            drop(kept);
        }
    });
}

#[test]
fn one_socket_keeps_a_port_in_both_families_until_both_are_given_up() {
    Bed::with(|_| {
        for (v4, v6) in [
            (tcp(any_v4(8080)), tcp(any_v6(8080))),
            (udp(any_v4(8080)), udp(any_v6(8080))),
        ] {
            let [first, second] = Reservation::take_both(v6).unwrap();
            let near = HostPort {
                address: (Ipv4Addr::LOCALHOST, 8080).into(),
                ..v4
            };
            for port in [v4, v6, near] {
                assert!(is_taken(port), "{port}");
            }
            assert!(!first.keeps_too_much());
            drop(first);
            assert!(second.keeps_too_much());
            assert!(is_taken(v4));
            drop(second);
            assert!(!is_taken(v4) && !is_taken(v6));
        }
    });
}

#[test]
fn both_families_are_not_had_where_one_is_taken() {
    Bed::with(|_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let both = Reservation::take_both(tcp(any_v6(port)));
        assert!(both.is_err_and(|error| is_in_use(&error)));
    });
}
