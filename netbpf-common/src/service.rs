//! Virtual IPs: which backend a new flow gets.

use crate::{
    family::{Family, V4, V6},
    wire::Be16,
};

/// How many backends a service port can have.
pub const MAX_BACKENDS: usize = 128;

/// One backend of a service port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Backend<F: Family> {
    /// The container's address.
    pub addr: F::Addr,
    /// The container's port, wire order.
    pub port: Be16,
    /// Always zero.
    pub pad: u16,
    /// The container end's id.
    pub endpoint: u32,
}

/// One service port: its backends are one value, so that they change in one step.
/// Key: [`crate::nat::PortKey`] with the VIP as its address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Service<F: Family> {
    /// The mapping's id. Never used again for another one.
    pub mapping: u32,
    /// How many of `backends` count; at most [`MAX_BACKENDS`].
    pub count: u32,
    /// The backends, in the order of the config.
    pub backends: [Backend<F>; MAX_BACKENDS],
}

impl<F: Family> Default for Service<F> {
    fn default() -> Self {
        Self {
            mapping: 0,
            count: 0,
            backends: [Backend::default(); MAX_BACKENDS],
        }
    }
}

const _: () = assert!(size_of::<Service<V4>>() == 8 + 12 * MAX_BACKENDS);
const _: () = assert!(size_of::<Service<V6>>() == 8 + 24 * MAX_BACKENDS);

/// The backend of a new flow, uniformly for a uniform `random`; `None` when there is none.
#[inline(always)]
pub const fn pick_random(random: u32, count: u32) -> Option<u32> {
    if count == 0 {
        return None;
    }
    // Lemire's multiplication instead of a modulo: no division, and no bias worth counting.
    Some(((random as u64 * count as u64) >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use proptest::{
        prelude::*,
        test_runner::{RngAlgorithm, TestRng},
    };

    use super::*;

    proptest! {
        #[test]
        fn a_choice_is_one_of_the_backends(random: u32, count in 1..=MAX_BACKENDS as u32) {
            let index = pick_random(random, count);
            prop_assert!(index.is_some_and(|index| index < count), "{:?} of {}", index, count);
        }

        #[test]
        fn every_backend_can_be_chosen(count in 1..=MAX_BACKENDS as u32) {
            for wanted in 0..count {
                // The least random number that leads to it.
                let random = ((u64::from(wanted) << 32).div_ceil(u64::from(count))) as u32;
                prop_assert_eq!(pick_random(random, count), Some(wanted));
            }
        }

        /// Each backend's share of the 2³² random numbers differs from another's by one at most.
        #[test]
        fn shares_are_equal(count in 1..=MAX_BACKENDS as u32) {
            let first = |index: u64| (index << 32).div_ceil(u64::from(count));
            let shares: Vec<u64> = (0..u64::from(count)).map(|i| first(i + 1) - first(i)).collect();
            let (least, most) = (shares.iter().min(), shares.iter().max());
            prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1));
        }
    }

    #[test]
    fn without_backends_there_is_no_choice() {
        assert_eq!(pick_random(0, 0), None);
        assert_eq!(pick_random(u32::MAX, 0), None);
    }

    #[test]
    fn the_ends_of_the_random_numbers_lead_to_the_first_and_the_last() {
        assert_eq!(pick_random(0, 3), Some(0));
        assert_eq!(pick_random(u32::MAX, 3), Some(2));
        assert_eq!(pick_random(u32::MAX, 1), Some(0));
    }

    #[test]
    fn choices_are_close_to_uniform() {
        const DRAWS: u32 = 100_000;
        let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
        for count in [2, 3, 7, 10, 100, MAX_BACKENDS as u32] {
            let mut seen = vec![0_u32; count as usize];
            for _ in 0..DRAWS {
                let index = pick_random(random.next_u32(), count).expect("there are backends");
                seen[index as usize] += 1;
            }
            let expected = f64::from(DRAWS) / f64::from(count);
            let chi_square: f64 = seen
                .iter()
                .map(|seen| (f64::from(*seen) - expected).powi(2) / expected)
                .sum();
            // A chi-square of n degrees of freedom has mean n and variance 2n; this is five
            // standard deviations above.
            let degrees = f64::from(count - 1);
            let bound = degrees + 5.0 * (2.0 * degrees).sqrt();
            assert!(
                chi_square < bound,
                "{count} backends: {chi_square} is not below {bound}"
            );
        }
    }
}
