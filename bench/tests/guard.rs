//! What `guard.json` keeps still holds.

use std::path::Path;

use netbpf_bench::guard::Guard;

/// Rounds enough for medians that a busy machine does not move out of a factor of two.
const ROUNDS: usize = 9;

#[test]
fn no_program_has_grown_and_no_packet_has_become_dear() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guard.json");
    let kept = Guard::read(&path).expect("what is kept");
    let measured = Guard::measure(ROUNDS).expect("a measurement");
    let mut breaches = kept.breaches(&measured);
    if !breaches.is_empty() {
        // What was a neighbour's doing does not come twice.
        let again = Guard::measure(ROUNDS).expect("a measurement");
        let lasting = kept.breaches(&again);
        let name = |breach: &String| breach.split(':').next().unwrap_or_default().to_owned();
        breaches.retain(|breach| lasting.iter().any(|other| name(other) == name(breach)));
    }
    assert!(
        breaches.is_empty(),
        "{}\nwhere that is meant, `cargo xtask bench guard` keeps the new figures",
        breaches.join("\n")
    );
}
