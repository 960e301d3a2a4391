//! The bench ends flows as the programs do: their table, its places and its ports are as before.

use aya::maps::{Array, Map, MapData};
use netbpf::dataplane::maps::{Sizes, halves};
use netbpf_bench::{
    hooks::{Case, Kind},
    peers::flows,
};
use netbpf_common::{
    conntrack::{HalfOpenPlace, Rooms},
    family::{V4, V6},
};
use netbpf_tests::prog_run::{Bed, on_bed_of};

/// How many places there are of each kind: fewer than flows begin below.
const SIZES: Sizes = Sizes {
    max_flows: 16,
    max_half_open: 16,
};

#[test]
fn a_table_whose_flows_were_ended_takes_as_many_again() {
    on_bed_of(SIZES, |bed| {
        for _ in 0..4 {
            let begun = begin(bed);
            assert!(begun > 8, "only {begun} flows began");
            assert!(held(bed) > 0, "no flow holds a port");
            assert!(full(bed) > 0, "no flow is established");
            assert!(half_open(bed) > 0, "no flow is half open");
            let ended = flows::end_all(&bed.maps_dir()).expect("the flows end");
            assert_eq!(ended, begun, "all flows that began are ended");
            assert_eq!(left(bed), 0, "no half is left");
            assert_eq!(held(bed), 0, "no port is held");
            assert_eq!(full(bed), 0, "no place is taken");
            assert_eq!(half_open(bed), 0, "nobody is in the half-open room");
        }
    });
}

/// Begins flows of every way, established ones and others, and says how many.
fn begin(bed: &Bed) -> usize {
    let cases = Case::all().into_iter();
    for case in cases.filter(|case| case.kind == Kind::Established) {
        case.way.established(bed, case.family);
        if case.way.kinds().contains(&Kind::New) {
            let first = case.way.first(case.family, 0);
            let context = case.way.context(bed);
            bed.run_with(case.way.hook(), context, &first.bytes());
        }
    }
    left(bed) / 2
}

fn left(bed: &Bed) -> usize {
    let maps = bed.maps_dir();
    halves::<V4>(&maps).expect("the table").len() + halves::<V6>(&maps).expect("the table").len()
}

fn array<V: aya::Pod>(bed: &Bed, name: &str) -> Array<MapData, V> {
    let data = MapData::from_pin(bed.maps_dir().join(name)).expect("the map is pinned");
    Array::try_from(Map::Array(data)).expect("the map is an array")
}

fn held(bed: &Bed) -> u64 {
    let held = array::<u64>(bed, "held_ports");
    held.iter().map(|count| count.expect("a count")).sum()
}

fn full(bed: &Bed) -> u64 {
    let rooms = ["rooms_v4", "rooms_v6"].map(|name| array::<Rooms>(bed, name).get(&0, 0));
    rooms
        .map(|rooms| rooms.expect("the rooms").flows)
        .iter()
        .sum()
}

fn half_open(bed: &Bed) -> usize {
    let v4 = array::<HalfOpenPlace<V4>>(bed, "half_open_v4");
    let v6 = array::<HalfOpenPlace<V6>>(bed, "half_open_v6");
    let v4 = v4.iter().map(|place| place.expect("a place").tenant);
    let v6 = v6.iter().map(|place| place.expect("a place").tenant);
    v4.chain(v6).filter(|tenant| *tenant != 0).count()
}
