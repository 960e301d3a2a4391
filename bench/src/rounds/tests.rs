//! Rounds with contenders and readings that are made up. Nothing is measured.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::ensure;

use super::*;
use crate::{
    budget::Cuts,
    row::{Direction, Target},
};

const PACE: Pace = Pace {
    rounds: 2,
    most_rounds: 2,
    slices: 2,
    spare: 1,
    slice: Duration::ZERO,
    ..Pace::QUICK
};

/// What everybody did, a letter each.
type Diary = Rc<RefCell<String>>;

/// Who answers so many requests a second, and fails in some slice.
struct Fake {
    name: &'static str,
    rate: u64,
    fails_in: usize,
    diary: Diary,
}

impl Working for Fake {
    fn slice(&mut self, _: Order) -> Result<Slice> {
        ensure!(self.fails_in != 0, "refused");
        self.fails_in -= 1;
        self.diary.borrow_mut().push_str(self.name);
        Ok(Slice {
            counted: self.rate,
            seconds: 1.0,
            ..Slice::default()
        })
    }

    fn end(self: Box<Self>) -> Result<()> {
        self.diary.borrow_mut().push('.');
        Ok(())
    }
}

/// Contenders with their rates and the slice of each round in which they fail.
fn plan(who: &[(&'static str, u64, usize)], targets: Vec<Target>) -> (Plan<'static>, Diary) {
    let diary = Diary::default();
    let contender = |(name, rate, fails_in): &(&'static str, u64, usize)| {
        let (name, rate, fails_in, diary) = (*name, *rate, *fails_in, Rc::clone(&diary));
        Contender {
            name: name.to_owned(),
            forget: Box::new(|| Ok(())),
            begin: Box::new(move || {
                Ok(Box::new(Fake {
                    name,
                    rate,
                    fails_in,
                    diary: Rc::clone(&diary),
                }))
            }),
        }
    };
    let plan = Plan {
        load: Load::Rr,
        about: vec![About {
            id: "row".to_owned(),
            title: "row".to_owned(),
            unit: "requests/s".to_owned(),
            direction: Direction::HigherIsBetter,
            targets,
        }],
        contenders: who.iter().map(contender).collect(),
        absent: Vec::new(),
        notes: Vec::new(),
    };
    (plan, diary)
}

/// Time for everything.
fn endless() -> Budget {
    Budget::start(None, 0)
}

const SECOND: Duration = Duration::from_secs(1);
const NEVER: usize = usize::MAX;

#[test]
fn contenders_alternate_in_slices() {
    let (plan, diary) = plan(&[("a", 1, NEVER), ("b", 1, NEVER)], Vec::new());
    let mut quiet = Quiet::by(|| Ok(1.0), SECOND);
    plan.measure(&PACE, &mut endless(), &mut quiet)
        .expect("nobody ends it");
    assert_eq!(*diary.borrow(), "abab..abab..");
}

#[test]
fn a_round_that_was_not_planned_is_paid_for_once() {
    let pace = Pace {
        rounds: 1,
        most_rounds: 2,
        slices: 1,
        spare: 4,
        ..PACE
    };
    let mut readings = [1.0, 9.0].into_iter().cycle();
    let read = move || {
        thread::sleep(Duration::from_millis(1));
        Ok(readings.next().unwrap_or(9.0))
    };
    let (mut plan, _) = plan(&[("a", 1, NEVER), ("b", 1, NEVER)], Vec::new());
    let mut quiet = Quiet::by(read, SECOND);
    quiet.grant();
    let mut taken = vec![Taken::default(); 2];
    plan.round(1, &pace, &mut quiet, &mut taken)
        .expect("nobody ends it");
    assert_eq!(
        quiet.judge.cycles().again,
        4,
        "there were cycles that were not planned"
    );
    assert_eq!(quiet.left(), SECOND, "the plan pays for the round");
    plan.round(0, &pace, &mut quiet, &mut taken)
        .expect("nobody ends it");
    assert!(quiet.left() < SECOND, "the round pays for its cycles");
}

#[test]
fn a_disturbed_cycle_is_taken_again_for_everybody_and_then_stays() {
    let (plan, diary) = plan(&[("a", 1, NEVER), ("b", 1, NEVER)], Vec::new());
    // Three readings a cycle; the second cycle is disturbed, and the whole second round.
    let mut readings = [1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0]
        .into_iter()
        .chain(std::iter::repeat(9.0));
    let mut quiet = Quiet::by(move || Ok(readings.next().unwrap_or(9.0)), SECOND);
    plan.measure(&PACE, &mut endless(), &mut quiet)
        .expect("nobody ends it");
    assert_eq!(*diary.borrow(), "ababab..ababab..");
    let cycles = quiet.judge.cycles();
    assert_eq!((cycles.kept, cycles.again, cycles.stayed), (4, 2, 2));
}

#[test]
fn a_target_that_is_too_close_to_tell_has_more_rounds() {
    let pace = Pace {
        rounds: 7,
        most_rounds: 9,
        ..PACE
    };
    for (bound, rounds) in [(1.0, 9), (0.9, 7)] {
        let targets = vec![Target::at_least(bound, "b")];
        let (plan, _) = plan(&[(SUBJECT, 5, NEVER), ("b", 5, NEVER)], targets);
        let mut quiet = Quiet::by(|| Ok(1.0), SECOND);
        let rows = plan
            .measure(&pace, &mut endless(), &mut quiet)
            .expect("nobody ends it");
        assert_eq!(rows[0].samples("b").map(<[f64]>::len), Some(rounds));
    }
}

#[test]
fn without_patience_there_is_nothing_but_what_was_planned() {
    let pace = Pace {
        rounds: 7,
        most_rounds: 9,
        ..PACE
    };
    let targets = vec![Target::at_least(1.0, "b")];
    let (plan, diary) = plan(&[(SUBJECT, 5, NEVER), ("b", 5, NEVER)], targets);
    let mut readings = [1.0, 9.0].into_iter().cycle();
    let read = move || Ok(readings.next().unwrap_or(9.0));
    let mut quiet = Quiet::by(read, Duration::ZERO);
    plan.measure(&pace, &mut endless(), &mut quiet)
        .expect("nobody ends it");
    assert_eq!(diary.borrow().matches('b').count(), 7 * (2 + 2));
}

#[test]
fn who_fails_in_a_slice_leaves_the_row_with_the_reason() {
    let (plan, diary) = plan(&[(SUBJECT, 2, NEVER), ("broken", 1, 1)], Vec::new());
    let mut quiet = Quiet::by(|| Ok(1.0), SECOND);
    let rows = plan
        .measure(&PACE, &mut endless(), &mut quiet)
        .expect("nobody ends it");
    assert_eq!(rows[0].samples(SUBJECT), Some(&[2.0, 2.0][..]));
    assert_eq!(rows[0].samples("broken"), None);
    assert_eq!(rows[0].absent[0].reason, "failed in round 0: refused");
    assert!(diary.borrow().ends_with("netbpfnetbpf."));
}

/// A budget of so many seconds, by a clock that goes on by a second whenever somebody looks at it.
fn short(limit: u64) -> Budget {
    let looks = AtomicU64::new(0);
    let clock = move || Duration::from_secs(looks.fetch_add(1, Ordering::Relaxed));
    Budget::by(clock, Some(Duration::from_secs(limit)), 0)
}

#[test]
fn rounds_for_which_there_is_no_time_are_cut_for_everybody_and_counted() {
    let pace = Pace {
        rounds: 7,
        most_rounds: 9,
        ..PACE
    };
    let (plan, _) = plan(&[(SUBJECT, 5, NEVER), ("b", 5, NEVER)], Vec::new());
    let (mut budget, mut quiet) = (short(4), Quiet::by(|| Ok(1.0), SECOND));
    let rows = plan.measure(&pace, &mut budget, &mut quiet);
    let rows = rows.expect("nobody ends it");
    for who in [SUBJECT, "b"] {
        // One look is before the work; a third round would end at 4, a fourth one later.
        assert_eq!(rows[0].samples(who).map(<[f64]>::len), Some(3), "{who}");
    }
    let cuts = Cuts {
        rounds: 4,
        works: 0,
    };
    assert_eq!(budget.cuts(), cuts);
}

#[test]
fn a_work_for_which_there_is_no_time_says_so_of_everybody() {
    for who in [&[(SUBJECT, 5, NEVER), ("b", 5, NEVER)][..], &[]] {
        let (plan, diary) = plan(who, vec![Target::at_least(1.0, "b")]);
        let (mut budget, mut quiet) = (short(0), Quiet::by(|| Ok(1.0), SECOND));
        let rows = plan.measure(&PACE, &mut budget, &mut quiet);
        let rows = rows.expect("nobody ends it");
        assert_eq!(*diary.borrow(), "");
        assert!(rows[0].series.is_empty() && !rows[0].is_whole());
        assert_eq!(rows[0].absent.len(), who.len().max(1));
        assert!(rows[0].absent.iter().all(|it| it.reason == OVER));
        assert_eq!(budget.cuts().works, 1);
    }
}
