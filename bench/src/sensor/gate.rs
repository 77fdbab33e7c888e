//! Demands on what was measured.

use std::fmt;

use super::paired::Median;
use crate::report::Spread;

/// What a gate demands of the median.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub enum Measured {
    /// Samples of one quantity: the median and the range.
    Samples(Option<Spread>),
    /// With the sensor against without, and nothing against nothing.
    Paired {
        /// What is judged.
        ratio: Option<Median>,
        /// How far the method is off.
        control: Option<Median>,
    },
}

/// One demand, and what was measured; nothing holds where nothing was.
#[derive(Clone, Debug)]
pub struct Gate {
    /// What, with its unit.
    pub what: &'static str,
    /// The demand.
    pub bound: Bound,
    /// The samples.
    pub measured: Measured,
}

impl Gate {
    /// Whether it holds; what was not measured does not.
    #[must_use]
    pub fn holds(&self) -> bool {
        let median = match self.measured {
            Measured::Samples(spread) => spread.map(|spread| spread.median),
            Measured::Paired { ratio, .. } => ratio.map(|ratio| ratio.median),
        };
        median.is_some_and(|median| match self.bound {
            Bound::AtMost(limit) => median <= limit,
            Bound::AtLeast(limit) => median >= limit,
        })
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, limit) = match self.bound {
            Bound::AtMost(limit) => ('≤', limit),
            Bound::AtLeast(limit) => ('≥', limit),
        };
        write!(f, "{} {} {sign} {limit}: {}", if self.holds() { "PASS" } else { "FAIL" }, self.what, self.measured)
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Samples(Some(spread)) => write!(f, "{:.3} ({:.3}–{:.3})", spread.median, spread.min, spread.max),
            Self::Paired { ratio: Some(ratio), control: Some(control) } => write!(f, "{ratio}; nothing against nothing {control}"),
            Self::Samples(None) | Self::Paired { .. } => write!(f, "not measured"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(bound: Bound, values: &[f64]) -> Gate {
        Gate { what: "x", bound, measured: Measured::Samples(Spread::of(values.to_vec())) }
    }

    #[test]
    fn a_gate_goes_by_the_median_and_shows_the_range() {
        assert_eq!(gate(Bound::AtLeast(0.99), &[0.9, 1.0, 1.1]).to_string(), "PASS x ≥ 0.99: 1.000 (0.900–1.100)");
        assert_eq!(gate(Bound::AtMost(3.0), &[3.5]).to_string(), "FAIL x ≤ 3: 3.500 (3.500–3.500)");
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let paired = Measured::Paired { ratio: Median::of(&[0.98]), control: Median::of(&[1.0]) };
        let shown = Gate { what: "x", bound: Bound::AtLeast(0.99), measured: paired }.to_string();
        assert_eq!(shown, "FAIL x ≥ 0.99: 0.980 (0.980–0.980); nothing against nothing 1.000 (1.000–1.000)");
        assert_eq!(gate(Bound::AtMost(3.0), &[]).to_string(), "FAIL x ≤ 3: not measured");
    }
}
