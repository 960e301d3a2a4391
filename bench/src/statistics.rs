//! Medians, quartiles and ratios of samples. Pure.

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
        })
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
    fn ratios_are_taken_within_a_round() {
        assert_eq!(ratios(&[2.0, 8.0], &[1.0, 2.0]), [2.0, 4.0]);
    }
}
