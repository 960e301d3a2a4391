//! The table of flows row by row, and what must hold for all of them.

use proptest::prelude::*;

use super::{Access::*, *};
use crate::{
    policy::flags::{ALL, MASQUERADE, ROUTED},
    verdict::DropReason::{DirectAccess, IccDisabled, InternalNetwork, IsolatedNetwork},
};

const FRONT: u32 = 1;
const BACK: u32 = 2;
const QUIET: u32 = 3;
const INNER: u32 = 4;
const OTHER_INNER: u32 = 5;

const HOST: Party = Party::host(0);
const OUTSIDE: Party = Party::OUTSIDE;
const WEB: Party = Party::container(FRONT, ICC | MASQUERADE);
const DB: Party = Party::container(BACK, ICC | MASQUERADE);
/// In a network of gateway mode `nat-unprotected`.
const BARE: Party = Party::container(BACK, ICC | MASQUERADE | UNPROTECTED);
/// In a network with `icc = false`.
const LONER: Party = Party::container(QUIET, MASQUERADE);
/// In an internal network.
const VAULT: Party = Party::container(INNER, ICC | INTERNAL);
/// In another internal network.
const SAFE: Party = Party::container(OTHER_INNER, ICC | INTERNAL);
/// In an internal network with `icc = false`.
const CELL: Party = Party::container(INNER, INTERNAL);

#[test]
fn flows_are_judged_as_the_table_says() {
    let (yes, isolated, internal) = (Ok(()), Err(IsolatedNetwork), Err(InternalNetwork));
    let (no_icc, direct) = (Err(IccDisabled), Err(DirectAccess));
    #[rustfmt::skip]
    let rows = [
        // from    to                    access     verdict
        (OUTSIDE, WEB,                   Published, yes),
        (OUTSIDE, LONER,                 Published, yes),
        (OUTSIDE, WEB,                   Direct,    direct),
        (OUTSIDE, WEB,                   Service,   direct),
        (OUTSIDE, LONER,                 Direct,    direct),
        (OUTSIDE, VAULT,                 Published, internal),
        (OUTSIDE, VAULT,                 Direct,    internal),
        (OUTSIDE, VAULT,                 Service,   internal),
        (OUTSIDE, HOST,                  Direct,    yes),
        (OUTSIDE, Party::host(FRONT),     Direct,    yes),

        (HOST,    WEB,                   Direct,    yes),
        (HOST,    WEB,                   Published, yes),
        (HOST,    WEB,                   Service,   yes),
        (HOST,    LONER,                 Direct,    yes),
        (HOST,    VAULT,                 Direct,    yes),
        (HOST,    CELL,                  Direct,    yes),
        (Party::host(INNER), VAULT,       Direct,    yes),
        (HOST,    OUTSIDE,               Direct,    yes),

        (WEB,     WEB,                   Direct,    yes),
        (WEB,     WEB,                   Published, yes),
        (WEB,     WEB,                   Service,   yes),
        (LONER,   LONER,                 Direct,    no_icc),
        (LONER,   LONER,                 Published, yes),
        (LONER,   LONER,                 Service,   yes),
        (VAULT,   VAULT,                 Direct,    yes),
        (VAULT,   VAULT,                 Service,   yes),
        (CELL,    CELL,                  Direct,    no_icc),
        (CELL,    CELL,                  Service,   yes),

        (WEB,     DB,                    Direct,    isolated),
        (WEB,     DB,                    Published, yes),
        (WEB,     DB,                    Service,   isolated),
        (WEB,     LONER,                 Direct,    isolated),
        (WEB,     LONER,                 Published, yes),
        (LONER,   WEB,                   Direct,    isolated),
        (LONER,   WEB,                   Published, yes),
        (WEB,     VAULT,                 Direct,    internal),
        (WEB,     VAULT,                 Published, internal),
        (WEB,     VAULT,                 Service,   internal),
        (VAULT,   WEB,                   Direct,    internal),
        (VAULT,   WEB,                   Published, internal),
        (VAULT,   WEB,                   Service,   internal),
        (VAULT,   SAFE,                  Direct,    internal),
        (VAULT,   SAFE,                  Published, internal),

        (OUTSIDE, WEB,                   Opened,    yes),
        (OUTSIDE, WEB,                   Linked,    direct),
        (OUTSIDE, VAULT,                 Opened,    internal),
        (OUTSIDE, BARE,                  Direct,    yes),
        (OUTSIDE, BARE,                  Service,   direct),
        (WEB,     DB,                    Opened,    yes),
        (WEB,     DB,                    Linked,    isolated),
        (WEB,     BARE,                  Direct,    yes),
        (WEB,     BARE,                  Service,   isolated),
        (BARE,    WEB,                   Direct,    isolated),
        (VAULT,   WEB,                   Opened,    internal),
        (VAULT,   BARE,                  Direct,    internal),
        (WEB,     VAULT,                 Opened,    internal),
        (LONER,   LONER,                 Linked,    yes),
        (LONER,   LONER,                 Opened,    no_icc),
        (CELL,    CELL,                  Linked,    yes),

        (WEB,     HOST,                  Direct,    yes),
        (WEB,     Party::host(FRONT),     Direct,    yes),
        (WEB,     Party::host(BACK),      Direct,    yes),
        (LONER,   HOST,                  Direct,    yes),
        (VAULT,   Party::host(INNER),     Direct,    yes),
        (VAULT,   Party::host(FRONT),     Direct,    internal),
        (VAULT,   HOST,                  Direct,    internal),
        (WEB,     OUTSIDE,               Direct,    yes),
        (LONER,   OUTSIDE,               Direct,    yes),
        (VAULT,   OUTSIDE,               Direct,    internal),
    ];
    for (from, to, access, verdict) in rows {
        assert_eq!(
            decide(from, to, access),
            verdict,
            "{from:?} to {to:?}, {access:?}"
        );
    }
}

fn network() -> impl Strategy<Value = u32> {
    // Few enough that the same one comes twice.
    1..5_u32
}

fn any_container() -> impl Strategy<Value = Party> {
    (network(), any_flags()).prop_map(|(network, flags)| Party::container(network, flags))
}

fn any_flags() -> impl Strategy<Value = u32> {
    any::<u32>().prop_map(|bits| bits & ALL)
}

fn host() -> impl Strategy<Value = Party> {
    prop_oneof![Just(HOST), network().prop_map(Party::host)]
}

fn party() -> impl Strategy<Value = Party> {
    prop_oneof![host(), Just(OUTSIDE), any_container()]
}

fn access() -> impl Strategy<Value = Access> {
    prop::sample::select([Direct, Published, Service, Opened, Linked].as_slice())
}

proptest! {
    #[test]
    fn an_internal_network_reaches_nothing_but_itself_and_its_own_gateway(
        network in network(), flags in any_flags(), to in party(), access in access(),
    ) {
        let from = Party::container(network, flags | INTERNAL);
        let is_own = to.role != Role::Outside && to.network == network;
        prop_assert!(is_own || decide(from, to, access) == Err(InternalNetwork));
    }

    #[test]
    fn an_internal_network_is_reached_by_nobody_but_itself_and_the_host(
        from in party(), network in network(), flags in any_flags(), access in access(),
    ) {
        let to = Party::container(network, flags | INTERNAL);
        let may = from.role == Role::Host || from.is_of(network);
        prop_assert!(may || decide(from, to, access) == Err(InternalNetwork));
    }

    #[test]
    fn the_outside_reaches_what_is_published_or_opened_and_all_of_an_unprotected_network(
        network in network(), flags in any_flags(), access in access(),
    ) {
        let may = match access {
            Published | Opened => true,
            Direct => flags & UNPROTECTED != 0,
            Service | Linked => false,
        };
        let is_internal = flags & INTERNAL != 0;
        let verdict = decide(OUTSIDE, Party::container(network, flags), access);
        prop_assert_eq!(verdict.is_ok(), may && !is_internal);
    }

    #[test]
    fn networks_reach_of_each_other_what_the_outside_does(
        from in network(), further in 1..4_u32, flags in (any_flags(), any_flags()),
        access in access(),
    ) {
        let to = Party::container(from + further, flags.1);
        let is_internal = flags.0 & INTERNAL != 0;
        prop_assert_eq!(
            decide(Party::container(from, flags.0), to, access).is_ok(),
            decide(OUTSIDE, to, access).is_ok() && !is_internal
        );
    }

    #[test]
    fn neighbours_need_icc_or_a_mapping_or_a_link(
        network in network(), flags in any_flags(), access in access(),
    ) {
        let neighbour = Party::container(network, flags);
        let may = flags & ICC != 0 || matches!(access, Published | Service | Linked);
        prop_assert_eq!(decide(neighbour, neighbour, access).is_ok(), may);
    }

    #[test]
    fn that_a_network_is_routed_or_trusts_opens_nothing_by_itself(
        from in party(), network in network(), flags in any_flags(), access in access(),
    ) {
        const OPENED: u32 = ROUTED | flags::TRUSTED;
        let with = Party::container(network, flags | OPENED);
        let without = Party::container(network, flags & !OPENED);
        prop_assert_eq!(decide(from, with, access), decide(from, without, access));
    }

    #[test]
    fn the_host_reaches_every_container(from in host(), to in any_container(), access in access()) {
        prop_assert_eq!(decide(from, to, access), Ok(()));
    }

    #[test]
    fn masquerade_plays_no_part(
        from in party(), network in network(), flags in any_flags(), access in access(),
    ) {
        let with = Party::container(network, flags | MASQUERADE);
        let without = Party::container(network, flags & !MASQUERADE);
        prop_assert_eq!(decide(from, with, access), decide(from, without, access));
        prop_assert_eq!(decide(with, from, access), decide(without, from, access));
    }

    #[test]
    fn what_neither_comes_from_nor_goes_to_a_container_is_not_ours_to_refuse(
        from in prop_oneof![host(), Just(OUTSIDE)],
        to in prop_oneof![host(), Just(OUTSIDE)],
        access in access(),
    ) {
        prop_assert_eq!(decide(from, to, access), Ok(()));
    }
}
