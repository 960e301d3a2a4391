//! How much time a run has, and who gets it. A first impression ends in time also on a machine that
//! is slow: then works have fewer rounds than planned, and what is left when the time is over is not
//! measured. The report says both.
//!
//! The budget sees the clock alone, never what was measured, and cuts a round for all contenders of
//! a work together, so that it can favour nobody.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Why something is not measured for which there was no time.
pub const OVER: &str = "the time of the run was over";

/// What a run left out because it had no more time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Cuts {
    /// Rounds that were planned, of works that have others.
    pub rounds: usize,
    /// Works that have no round at all.
    pub works: usize,
}

/// The time of a run.
pub struct Budget {
    /// How long the run has taken.
    clock: Box<dyn Fn() -> Duration + Send>,
    /// How long it may take; `None`: as long as what is planned takes.
    limit: Option<Duration>,
    /// What is kept back to remove what was set up, and for what can't be ended half way.
    reserve: Duration,
    /// The weights of the parts that have not begun.
    weight: u32,
    /// The part that has: when it ought to be over, and how many works of it have not begun.
    part: Option<(Duration, u32)>,
    cuts: Cuts,
}

/// The rounds of one work.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Until when they ought to be over; `None`: as many as are planned.
    until: Option<Duration>,
    planned: usize,
    begun: usize,
    /// When the last one began, and how long the longest one took.
    last: Duration,
    longest: Duration,
}

impl Budget {
    /// Of a run that begins now and has parts of this weight in all.
    pub fn start(limit: Option<Duration>, weight: u32) -> Self {
        let began = Instant::now();
        Self::by(move || began.elapsed(), limit, weight)
    }

    /// The same by another clock.
    pub fn by(
        clock: impl Fn() -> Duration + Send + 'static,
        limit: Option<Duration>,
        weight: u32,
    ) -> Self {
        Self {
            clock: Box::new(clock),
            limit,
            reserve: Duration::ZERO,
            weight,
            part: None,
            cuts: Cuts::default(),
        }
    }

    /// Setting something up took so long. To remove it takes no longer.
    pub fn set_up(&mut self, took: Duration) {
        self.reserve += took;
    }

    /// A part of so many works begins. What there is of time is shared among the parts by weight.
    pub fn part(&mut self, weight: u32, works: u32) {
        let of = self.weight.max(weight).max(1);
        self.weight = self.weight.saturating_sub(weight);
        let now = (self.clock)();
        self.part = self
            .end()
            .map(|end| (now + end.saturating_sub(now) * weight / of, works));
    }

    /// A work of the part begins, of so many rounds: what the part has left is shared evenly, and who
    /// needs a little more has it from those after him. Without a part it has all there is. `None`:
    /// there is no time for any round.
    pub fn work(&mut self, planned: usize) -> Option<Rounds> {
        if self.is_over() {
            self.cuts.works += 1;
            return None;
        }
        Some(Rounds {
            until: self.share(),
            planned,
            begun: 0,
            last: Duration::ZERO,
            longest: Duration::ZERO,
        })
    }

    /// As [`Self::work`], of one that sets up hosts of its own first: there must be time for as much
    /// as is kept back.
    pub fn work_with_set_up(&mut self, planned: usize) -> Option<Rounds> {
        let now = (self.clock)();
        if self.end().is_some_and(|end| now + self.reserve > end) {
            self.cuts.works += 1;
            return None;
        }
        self.work(planned)
    }

    fn share(&mut self) -> Option<Duration> {
        let end = self.end()?;
        let Some((part_end, works)) = &mut self.part else {
            return Some(end);
        };
        let now = (self.clock)();
        let share = part_end.saturating_sub(now) / (*works).max(1);
        *works = works.saturating_sub(1);
        Some(end.min(now + share * 13 / 10))
    }

    /// Whether another round may begin; the one before is over then. The first one always may, and
    /// another one if it can be as long as the longest so far. Those that are planned and may not are
    /// counted.
    pub fn another(&mut self, rounds: &mut Rounds) -> bool {
        let now = (self.clock)();
        if rounds.begun > 0 {
            rounds.longest = rounds.longest.max(now.saturating_sub(rounds.last));
        }
        self.begin(rounds, now, rounds.longest)
    }

    /// The same, if another round takes so long, whatever those before it took.
    pub fn another_of(&mut self, rounds: &mut Rounds, expected: Duration) -> bool {
        let now = (self.clock)();
        self.begin(rounds, now, expected)
    }

    fn begin(&mut self, rounds: &mut Rounds, now: Duration, expected: Duration) -> bool {
        let is_late = rounds.until.is_some_and(|until| now + expected > until);
        if rounds.begun > 0 && is_late {
            self.cuts.rounds += rounds.planned.saturating_sub(rounds.begun);
            return false;
        }
        rounds.begun += 1;
        rounds.last = now;
        true
    }

    /// Whether nothing may begin any more.
    pub fn is_over(&self) -> bool {
        self.end().is_some_and(|end| (self.clock)() >= end)
    }

    /// What was left out so far.
    pub const fn cuts(&self) -> Cuts {
        self.cuts
    }

    fn end(&self) -> Option<Duration> {
        Some(self.limit?.saturating_sub(self.reserve))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// A clock that is set by hand, in seconds, and a budget by it.
    fn budget(limit: Option<u64>, weight: u32) -> (Arc<AtomicU64>, Budget) {
        let clock = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&clock);
        let read = move || seconds(read.load(Ordering::Relaxed));
        (clock, Budget::by(read, limit.map(seconds), weight))
    }

    /// How many rounds a work has that plans ten, of which each takes so many seconds.
    fn rounds_of(each: u64, clock: &AtomicU64, budget: &mut Budget) -> usize {
        let Some(mut rounds) = budget.work(10) else {
            return 0;
        };
        for round in 0..10 {
            if !budget.another(&mut rounds) {
                return round;
            }
            clock.fetch_add(each, Ordering::Relaxed);
        }
        10
    }

    #[test]
    fn without_a_limit_there_is_time_for_everything() {
        let (clock, mut budget) = budget(None, 1);
        budget.set_up(seconds(50));
        budget.part(1, 1);
        assert_eq!(rounds_of(1_000_000, &clock, &mut budget), 10);
        assert!(!budget.is_over() && budget.work_with_set_up(1).is_some());
        assert_eq!(budget.cuts(), Cuts::default());
    }

    #[test]
    fn as_much_as_a_set_up_took_is_kept_back() {
        let (clock, mut budget) = budget(Some(100), 1);
        budget.set_up(seconds(20));
        for (now, may_work, may_set_up) in [
            (60, true, true),
            (61, true, false),
            (79, true, false),
            (80, false, false),
        ] {
            clock.store(now, Ordering::Relaxed);
            assert_eq!(budget.is_over(), !may_work, "{now}");
            assert_eq!(budget.work(1).is_some(), may_work, "{now}");
            assert_eq!(budget.work_with_set_up(1).is_some(), may_set_up, "{now}");
        }
        let cuts = Cuts {
            rounds: 0,
            works: 4,
        };
        assert_eq!(budget.cuts(), cuts);
    }

    #[test]
    fn a_work_has_its_share_of_its_part_and_a_part_its_share_of_what_is_left() {
        let (clock, mut budget) = budget(Some(100), 10);
        // 50 of 100 seconds for five works: ten for each, and a little more.
        budget.part(5, 5);
        assert_eq!(rounds_of(2, &clock, &mut budget), 6);
        // One round is taken in any case, and must be made up for.
        assert_eq!(rounds_of(35, &clock, &mut budget), 1);
        assert_eq!(rounds_of(1, &clock, &mut budget), 1);
        // The last part has what is left.
        budget.part(5, 1);
        assert_eq!(rounds_of(5, &clock, &mut budget), 10);
        assert_eq!(budget.cuts().rounds, 4 + 9 + 9);
    }

    #[test]
    fn nobody_goes_on_beyond_the_end_of_the_run() {
        let (clock, mut budget) = budget(Some(100), 10);
        budget.part(10, 1);
        assert_eq!(rounds_of(30, &clock, &mut budget), 3);
        assert_eq!(rounds_of(30, &clock, &mut budget), 1);
        assert_eq!(rounds_of(30, &clock, &mut budget), 0);
    }

    #[test]
    fn a_round_that_is_known_to_be_short_may_begin_where_a_long_one_may_not() {
        let (clock, mut budget) = budget(Some(100), 10);
        let mut rounds = budget.work(3).expect("there is time");
        assert!(
            budget.another_of(&mut rounds, seconds(500)),
            "the first one"
        );
        clock.store(90, Ordering::Relaxed);
        assert!(budget.another_of(&mut rounds, seconds(10)));
        assert!(!budget.another_of(&mut rounds, seconds(11)));
        assert_eq!(budget.cuts().rounds, 1);
    }

    #[test]
    fn a_run_without_parts_shares_nothing_out() {
        let (clock, mut budget) = budget(Some(100), 10);
        assert_eq!(rounds_of(10, &clock, &mut budget), 10);
    }
}
