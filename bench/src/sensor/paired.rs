//! Ratios of what was measured in turns, with how sure one may be of their median.
//!
//! Two blocks that are observed stand between two that are not, so that a machine that gets slower or faster meanwhile counts
//! for neither. The same is done with nothing changed at all: how far that is from 1 is how far the method can be off.

use std::fmt;

/// A deterministic resampling says the same of the same samples.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const RESAMPLES: usize = 4000;

/// The median of ratios, and the interval in which 95 % of the medians of resampled ratios lie (the percentile bootstrap,
/// Efron 1979).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// The middle one.
    pub median: f64,
    /// Below it lie 2.5 %.
    pub low: f64,
    /// Above it lie 2.5 %.
    pub high: f64,
}

impl Median {
    /// None without samples.
    #[must_use]
    pub fn of(samples: &[f64]) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let mut state = SEED;
        let mut resampled: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let again = samples.iter().map(|_| samples[below(&mut state, samples.len())]).collect();
                median(again)
            })
            .collect();
        resampled.sort_by(f64::total_cmp);
        let at = |share: f64| resampled[((RESAMPLES - 1) as f64 * share) as usize];
        Some(Self { median: median(samples.to_vec()), low: at(0.025), high: at(0.975) })
    }
}

impl fmt::Display for Median {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ({:.3}–{:.3})", self.median, self.low, self.high)
    }
}

/// What two inner blocks are to the two around them.
#[must_use]
pub fn ratio(inner: [f64; 2], outer: [f64; 2]) -> f64 {
    (inner[0] + inner[1]) / (outer[0] + outer[1])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    f64::midpoint(low, high)
}

/// xorshift64* (Vigna 2016): good enough to draw with.
fn below(state: &mut u64, bound: usize) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_interval_holds_the_median_and_narrows_with_more_samples() {
        let few: Vec<f64> = (0..8).map(|n| 1.0 + f64::from(n % 4) / 100.0).collect();
        let many: Vec<f64> = few.iter().copied().cycle().take(400).collect();
        let (few, many) = (Median::of(&few).unwrap(), Median::of(&many).unwrap());
        assert!(few.low <= few.median && few.median <= few.high);
        assert!(many.high - many.low <= few.high - few.low);
        assert_eq!(Median::of(&[]), None);
        assert_eq!(Median::of(&[0.5]).unwrap().to_string(), "0.500 (0.500–0.500)");
    }

    #[test]
    fn a_machine_that_slows_down_evenly_changes_no_ratio() {
        assert_eq!(ratio([90.0, 80.0], [100.0, 70.0]), 1.0);
    }
}
