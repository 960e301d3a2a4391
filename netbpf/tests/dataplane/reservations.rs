//! What a process that stays keeps from others: as much as is published, after each change and
//! after one that failed.

use std::net::TcpListener;

use netbpf::{
    host::port::{HostPort, is_taken},
    model::Proto,
    reconcile::{self, Fault, Mode, Options, Report, Reservations},
};

use crate::bed::{self, Bed};

fn apply(
    bed: &Bed,
    text: &str,
    options: Options,
    reservations: &mut Reservations,
) -> anyhow::Result<Report> {
    let source = Bed::source(text);
    reconcile::apply(
        &bed.host,
        &bed.instance,
        Some(&source),
        options,
        reservations,
    )
}

fn tcp(address: &str) -> HostPort {
    HostPort {
        address: address.parse().unwrap(),
        proto: Proto::Tcp,
    }
}

#[test]
fn what_is_published_is_kept_and_a_change_that_fails_keeps_nothing_new() {
    bed::with(|bed| {
        let mut kept = Reservations::lasting();
        let old = bed.document();
        let new = old.replace("8080:80", "8081:80");
        let is_kept = |port: &str| is_taken(tcp(port));
        apply(bed, &old, Options::default(), &mut kept).unwrap();
        assert!(kept.are_whole() && is_kept("0.0.0.0:8080") && is_kept("[::]:8080"));

        let fail = Options {
            mode: Mode::Apply,
            fault: Fault::Fail(0),
        };
        let tell = Options {
            mode: Mode::DryRun,
            fault: Fault::None,
        };
        assert!(apply(bed, &new, fail, &mut kept).is_err());
        apply(bed, &new, tell, &mut kept).unwrap();
        assert!(is_kept("0.0.0.0:8080") && !is_kept("0.0.0.0:8081"));

        let foreign = TcpListener::bind("[::1]:8081").unwrap();
        let error = apply(bed, &new, Options::default(), &mut kept).unwrap_err();
        let why = "failed to bind host port [::]:8081/tcp: address already in use";
        assert!(format!("{error:#}").contains(why), "{error:#}");
        assert!(is_kept("0.0.0.0:8080") && !is_kept("0.0.0.0:8081"));
        drop(foreign);

        apply(bed, &new, Options::default(), &mut kept).unwrap();
        assert!(!is_kept("0.0.0.0:8080") && is_kept("0.0.0.0:8081") && is_kept("[::]:8081"));

        // Whoever has it before another process comes to keep it is only told of.
        drop(kept);
        let foreign = TcpListener::bind("198.51.100.1:8081").unwrap();
        let mut kept = Reservations::lasting();
        apply(bed, &new, Options::default(), &mut kept).unwrap();
        assert!(!kept.are_whole() && is_kept("[::]:8081"));
        drop(foreign);
        apply(bed, &new, Options::default(), &mut kept).unwrap();
        assert!(kept.are_whole() && is_kept("0.0.0.0:8081"));
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}
