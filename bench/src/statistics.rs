//! Medians, quartiles and ratios of samples, and between what the median is. Pure.

use serde::{Deserialize, Serialize};

/// How samples are spread. Quartiles are interpolated between neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Spread {
    /// The smallest sample.
    pub min: f64,
    /// A quarter of the samples is below.
    pub lower: f64,
    /// Half of the samples is below.
    pub median: f64,
    /// Three quarters of the samples are below.
    pub upper: f64,
    /// The greatest sample.
    pub max: f64,
    /// Where the median is, as far as so many samples tell; `None`: they are too few.
    pub interval: Option<Interval>,
}

/// Between what the median of all samples that could have been taken is, 95 times in 100.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Interval {
    /// It is not below.
    pub from: f64,
    /// It is not above.
    pub to: f64,
}

impl Interval {
    /// By the order of the samples alone, whatever they are distributed like: each is below the
    /// median as often as it is above, so that how many are below follows the binomial
    /// distribution. The narrowest two samples, as far from one end as from the other, between
    /// which the median is not in at most 2.5 of 100 cases on each side.
    fn of(sorted: &[f64]) -> Option<Self> {
        const ONE_SIDE: f64 = 0.025;
        let count = sorted.len();
        let mut ways = 0.5_f64.powi(i32::try_from(count).ok()?);
        let (mut beyond, mut place) = (ways, 0);
        while beyond <= ONE_SIDE && place < count / 2 {
            place += 1;
            ways *= (count + 1 - place) as f64 / place as f64;
            beyond += ways;
        }
        // The sample at `place`, counted from 1, is the last that leaves little enough beyond it.
        let from = place.checked_sub(1)?;
        Some(Self {
            from: sorted[from],
            to: sorted[count - 1 - from],
        })
    }

    /// Whether a value is in it.
    pub fn holds(&self, value: f64) -> bool {
        (self.from..=self.to).contains(&value)
    }
}

impl Spread {
    /// The spread of samples; `None` when there are none.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            min: *sorted.first()?,
            lower: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            upper: quantile(&sorted, 0.75),
            max: *sorted.last()?,
            interval: Interval::of(&sorted),
        })
    }

    /// Whether the median could as well be on the other side of a bound.
    pub fn is_close_to(&self, bound: f64) -> bool {
        self.interval.is_none_or(|interval| interval.holds(bound))
    }
}

/// The value below which `part` (0..=1) of sorted, not empty samples is.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor())
}

/// The ratios of samples that were taken side by side, round by round.
pub fn ratios(subject: &[f64], peer: &[f64]) -> Vec<f64> {
    subject.iter().zip(peer).map(|(of, to)| of / to).collect()
}

/// One figure for each of several who took turns, of what each had in each cycle: its median share
/// of a cycle, of the median cycle. What disturbs a whole cycle, or one turn of few, moves nobody's
/// figure. A cycle's measure is the geometric mean of those who were in all cycles; others have no
/// figure.
pub fn by_shares(cycles: &[Vec<Option<f64>>]) -> Vec<Option<f64>> {
    let count = cycles.first().map_or(0, Vec::len);
    let whole = |at: &usize| cycles.iter().all(|cycle| cycle[*at].is_some());
    let there: Vec<usize> = (0..count).filter(whole).collect();
    let measures: Vec<f64> = cycles
        .iter()
        .map(|cycle| {
            let logarithms = there.iter().filter_map(|at| Some(cycle[*at]?.ln()));
            (logarithms.sum::<f64>() / there.len() as f64).exp()
        })
        .collect();
    let mut figures = vec![None; count];
    for at in there {
        let own = cycles.iter().filter_map(|cycle| cycle[at]);
        let shares: Vec<f64> = own.zip(&measures).map(|(own, all)| own / all).collect();
        figures[at] = median(&shares)
            .zip(median(&measures))
            .map(|(share, all)| share * all);
    }
    figures
}

fn median(samples: &[f64]) -> Option<f64> {
    Spread::of(samples).map(|spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_samples_does_not_depend_on_their_order() {
        let spread = Spread {
            min: 1.0,
            lower: 2.0,
            median: 3.0,
            upper: 4.0,
            max: 5.0,
            interval: None,
        };
        assert_eq!(Spread::of(&[3.0, 1.0, 5.0, 4.0, 2.0]), Some(spread));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let spread = Spread::of(&[1.0, 2.0, 4.0, 8.0]).map(|spread| spread.median);
        assert_eq!(spread, Some(3.0));
    }

    #[test]
    fn the_interval_of_the_median_is_that_of_the_sign_test() {
        let ends = |count: u8| {
            let samples: Vec<f64> = (1..=count).map(f64::from).collect();
            Interval::of(&samples).map(|interval| (interval.from, interval.to))
        };
        // Tables of the sign test at 5 %, two-sided.
        assert_eq!(ends(0), None);
        assert_eq!(ends(5), None);
        assert_eq!(ends(6), Some((1.0, 6.0)));
        assert_eq!(ends(7), Some((1.0, 7.0)));
        assert_eq!(ends(9), Some((2.0, 8.0)));
        assert_eq!(ends(15), Some((4.0, 12.0)));
        assert_eq!(ends(25), Some((8.0, 18.0)));
    }

    #[test]
    fn a_bound_within_the_interval_or_beside_too_few_samples_is_close() {
        let spread = |samples: &[f64]| Spread::of(samples).expect("there are samples");
        let many = spread(&[1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]);
        assert!(many.is_close_to(1.0) && many.is_close_to(1.6));
        assert!(!many.is_close_to(0.99) && !many.is_close_to(1.61));
        assert!(spread(&[1.0, 1.0]).is_close_to(9.0));
    }

    #[test]
    fn a_share_is_blind_to_a_slow_cycle_and_to_a_slow_turn() {
        let cycles = [
            [10.0, 20.0],
            [5.0, 10.0],
            [10.0, 2.0],
            [10.0, 20.0],
            [10.0, 20.0],
        ];
        let figures = by_shares(&cycles.map(|cycle| cycle.map(Some).to_vec()));
        let [Some(one), Some(other)] = figures[..] else {
            panic!("both were in all cycles, not {figures:?}")
        };
        assert!(
            (other / one - 2.0).abs() < 1e-9,
            "{other} is not twice {one}"
        );
        assert!(
            (one - 10.0).abs() < 1e-9,
            "{one} is not that of most cycles"
        );
    }

    #[test]
    fn who_missed_a_cycle_has_no_share_and_changes_nobody_elses() {
        let cycles = [vec![Some(3.0), Some(1.0)], vec![Some(3.0), None]];
        let figures = by_shares(&cycles);
        assert!(figures[0].is_some_and(|one| (one - 3.0).abs() < 1e-9));
        assert_eq!(figures[1], None);
        assert_eq!(by_shares(&[]), []);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        assert_eq!(ratios(&[2.0, 8.0], &[1.0, 2.0]), [2.0, 4.0]);
    }
}
