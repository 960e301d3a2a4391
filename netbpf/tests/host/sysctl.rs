//! Sysctls of single interfaces.

use std::fs;

use netbpf::host::sysctl::{Knob, Sysctl};

use crate::bed::Bed;

/// Every `forwarding` and `accept_ra` of the namespace, by path.
fn snapshot() -> Vec<(String, String)> {
    let mut values = Vec::new();
    for family in ["ipv4", "ipv6"] {
        for interface in fs::read_dir(format!("/proc/sys/net/{family}/conf")).unwrap() {
            for name in ["forwarding", "accept_ra", "rp_filter"] {
                let path = interface.as_ref().unwrap().path().join(name);
                let Ok(value) = fs::read_to_string(&path) else {
                    continue;
                };
                values.push((path.display().to_string(), value));
            }
        }
    }
    values.sort();
    values
}

#[test]
fn forwarding_of_a_bridge_changes_nothing_else() {
    Bed::with(|bed| {
        let bridge = bed.bridge();
        for (knob, path) in [
            (
                Knob::Ipv4Forwarding,
                "/proc/sys/net/ipv4/conf/nb-front/forwarding",
            ),
            (
                Knob::Ipv6Forwarding,
                "/proc/sys/net/ipv6/conf/nb-front/forwarding",
            ),
        ] {
            let before = snapshot();
            let sysctl = Sysctl::new(knob, &bridge.name);
            assert_eq!(sysctl.read().unwrap().as_deref(), Some("0"), "{sysctl}");
            sysctl.write("1").unwrap();
            sysctl.write("1").unwrap();
            assert_eq!(sysctl.read().unwrap().as_deref(), Some("1"));
            let changed: Vec<_> = snapshot()
                .into_iter()
                .zip(before)
                .filter(|(now, was)| now != was)
                .collect();
            let [((changed, _), _)] = &changed[..] else {
                panic!("{changed:?}")
            };
            assert_eq!(changed, path);
        }
    });
}

#[test]
fn a_sysctl_of_a_missing_interface_has_no_value() {
    Bed::with(|_| {
        assert_eq!(
            Sysctl::new(Knob::Ipv6AcceptRa, "gone0").read().unwrap(),
            None
        );
    });
}

#[test]
fn no_sysctl_reaches_all_interfaces_or_leaves_its_directory() {
    for interface in ["all", "default", "", ".", "..", "../all", "a/b"] {
        let sysctl = Sysctl::new(Knob::Ipv4Forwarding, interface);
        assert!(
            sysctl.read().is_err() && sysctl.write("0").is_err(),
            "{interface:?}"
        );
    }
}
