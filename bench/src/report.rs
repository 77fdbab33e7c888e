//! Samples become tables, ratios of the same round, and gates.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::contender::Name;

/// One measured quantity. The label carries the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Answered requests (or opened connections) per second.
    Rate,
    /// Median latency.
    P50Us,
    /// 90th percentile.
    P90Us,
    /// 99th percentile.
    P99Us,
    /// CPU time of the contender per answered request.
    CpuUsPerRequest,
    /// CPU time of the contender for the whole load.
    CpuSeconds,
    /// Throughput of a large transfer.
    MbPerSecond,
    /// First body byte at its receiver.
    FirstByteMs,
    /// Delay of the first server-sent event.
    FirstEventMs,
    /// Median delay of server-sent events.
    EventP50Ms,
    /// Peak resident memory during the load, over what was resident before it.
    GrowthMib,
    /// Peak resident memory during the load.
    PeakMib,
    /// Requests that failed.
    Failures,
    /// Lines written to the events file per answered request.
    EventsPerRequest,
}

impl Metric {
    fn label(self) -> &'static str {
        match self {
            Self::Rate => "per s",
            Self::P50Us => "p50 µs",
            Self::P90Us => "p90 µs",
            Self::P99Us => "p99 µs",
            Self::CpuUsPerRequest => "CPU µs/req",
            Self::CpuSeconds => "CPU s",
            Self::MbPerSecond => "MB/s",
            Self::FirstByteMs => "first byte ms",
            Self::FirstEventMs => "first event ms",
            Self::EventP50Ms => "event p50 ms",
            Self::GrowthMib => "RSS growth MiB",
            Self::PeakMib => "peak RSS MiB",
            Self::Failures => "failures",
            Self::EventsPerRequest => "events/req",
        }
    }
}

/// What one contender did under one load in one round.
pub type Sample = BTreeMap<Metric, f64>;

/// All samples of a run.
#[derive(Default)]
pub struct Samples(BTreeMap<(&'static str, Name), Vec<Result<Sample, String>>>);

/// A median with the range it came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle value, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these values; none when there are none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = &values[(values.len() - 1) / 2..=values.len() / 2];
        Some(Self { median: middle.iter().sum::<f64>() / middle.len() as f64, min, max })
    }
}

impl Samples {
    /// Adds the sample of the next round.
    pub fn push(&mut self, load: &'static str, name: Name, sample: Result<Sample, String>) {
        self.0.entry((load, name)).or_default().push(sample);
    }

    fn rounds(&self, load: &'static str, name: Name) -> &[Result<Sample, String>] {
        self.0.get(&(load, name)).map_or(&[], Vec::as_slice)
    }

    /// A metric's spread over the rounds.
    #[must_use]
    pub fn spread(&self, load: &'static str, name: Name, metric: Metric) -> Option<Spread> {
        let rounds = self.rounds(load, name).iter();
        Spread::of(rounds.filter_map(|round| round.as_ref().ok()?.get(&metric).copied()).collect())
    }

    /// A metric's spread as a multiple of floor-http's in the same round.
    #[must_use]
    pub fn times_floor(&self, load: &'static str, name: Name, metric: Metric) -> Option<Spread> {
        let pairs = self.rounds(load, name).iter().zip(self.rounds(load, Name::FloorHttp));
        let ratio = |(own, floor): (&Result<Sample, String>, &Result<Sample, String>)| {
            let floor = *floor.as_ref().ok()?.get(&metric)?;
            Some(own.as_ref().ok()?.get(&metric)? / floor).filter(|ratio| ratio.is_finite())
        };
        Spread::of(pairs.filter_map(ratio).collect())
    }

    fn failure(&self, load: &'static str, name: Name) -> Option<&str> {
        self.rounds(load, name).iter().find_map(|round| round.as_ref().err()).map(String::as_str)
    }

    /// A markdown table for one load; `key` is the metric compared with floor-http.
    #[must_use]
    pub fn table(&self, load: &'static str, key: Metric, names: &[Name]) -> String {
        let rounds = names.iter().flat_map(|name| self.rounds(load, *name)).filter_map(|round| round.as_ref().ok());
        let mut columns: Vec<Metric> = rounds.flat_map(|sample| sample.keys().copied()).collect();
        columns.sort_unstable();
        columns.dedup();
        let mut out = format!("\n### {load}\n\n| contender | {} × floor-http (min–max) |", key.label());
        for column in &columns {
            let _ = write!(out, " {} |", column.label());
        }
        let _ = write!(out, "\n|---|---|{}\n", "---|".repeat(columns.len()));
        for name in names {
            let ratio = self.times_floor(load, *name, key);
            let ratio = ratio.map_or("–".into(), |r| format!("{:.2} ({:.2}–{:.2})", r.median, r.min, r.max));
            let _ = write!(out, "| {} | {ratio} |", name.label());
            for column in &columns {
                let cell = self.spread(load, *name, *column).map_or("–".into(), |spread| number(spread.median));
                let _ = write!(out, " {cell} |");
            }
            if let Some(reason) = self.failure(load, *name) {
                let _ = write!(out, " failed: {reason}");
            }
            out.push('\n');
        }
        out
    }

    /// Every sample, for other programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut all = Vec::new();
        for ((load, name), rounds) in &self.0 {
            for (round, sample) in rounds.iter().enumerate() {
                let measured = match sample {
                    Ok(sample) => sample.iter().map(|(metric, value)| (metric.label().to_owned(), json!(value))).collect(),
                    Err(reason) => json!({ "error": reason }),
                };
                all.push(json!({ "load": load, "contender": name.label(), "round": round, "measured": measured }));
            }
        }
        Value::Array(all)
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

/// What a gate demands of gnomon.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// Median over rounds of the ratio to floor-http in the same round.
    AtMostTimesFloor(f64),
    /// The same, from below.
    AtLeastTimesFloor(f64),
    /// Median over rounds, in the metric's own unit.
    MedianAtMost(f64),
    /// No round above this.
    NeverAbove(f64),
    /// No round below this.
    NeverBelow(f64),
}

/// One demand on one load.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// The load it reads.
    pub load: &'static str,
    /// The quantity.
    pub metric: Metric,
    /// The limit.
    pub bound: Bound,
}

/// A gate's outcome, with the line to print.
pub enum Judged {
    /// Held.
    Pass(String),
    /// Broken, or not measurable.
    Fail(String),
}

impl Gate {
    /// Holds the samples against the gate. A load that failed in any round fails its gates.
    #[must_use]
    pub fn judge(&self, samples: &Samples) -> Judged {
        let what = format!("{} {}", self.load, self.metric.label());
        if let Some(reason) = samples.failure(self.load, Name::Gnomon) {
            return Judged::Fail(format!("{what}: {reason}"));
        }
        let absolute = samples.spread(self.load, Name::Gnomon, self.metric);
        let relative = samples.times_floor(self.load, Name::Gnomon, self.metric);
        let (measured, holds, demand) = match self.bound {
            Bound::AtMostTimesFloor(limit) => (relative, relative.map(|s| s.median <= limit), format!("≤ {limit} × floor-http")),
            Bound::AtLeastTimesFloor(limit) => (relative, relative.map(|s| s.median >= limit), format!("≥ {limit} × floor-http")),
            Bound::MedianAtMost(limit) => (absolute, absolute.map(|s| s.median <= limit), format!("≤ {limit} (median)")),
            Bound::NeverAbove(limit) => (absolute, absolute.map(|s| s.max <= limit), format!("≤ {limit} in every round")),
            Bound::NeverBelow(limit) => (absolute, absolute.map(|s| s.min >= limit), format!("≥ {limit} in every round")),
        };
        let Some((spread, holds)) = measured.zip(holds) else {
            return Judged::Fail(format!("{what} {demand}: not measured"));
        };
        let line = format!("{what} {demand}: {:.3} ({:.3}–{:.3})", spread.median, spread.min, spread.max);
        if holds { Judged::Pass(line) } else { Judged::Fail(line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(floor: &[f64], own: &[f64]) -> Samples {
        let mut samples = Samples::default();
        for (name, values) in [(Name::FloorHttp, floor), (Name::Gnomon, own)] {
            for value in values {
                samples.push("load", name, Ok(Sample::from([(Metric::Rate, *value)])));
            }
        }
        samples
    }

    fn holds(bound: Bound, samples: &Samples) -> bool {
        matches!(Gate { load: "load", metric: Metric::Rate, bound }.judge(samples), Judged::Pass(_))
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_not_between_medians() {
        let spread = samples(&[10.0, 100.0, 20.0], &[20.0, 50.0, 30.0]).times_floor("load", Name::Gnomon, Metric::Rate);
        assert_eq!(spread, Some(Spread { median: 1.5, min: 0.5, max: 2.0 }));
    }

    #[test]
    fn the_median_of_an_even_number_of_rounds_favours_neither_side() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
    }

    #[test]
    fn a_gate_on_the_worst_round_is_not_saved_by_the_median() {
        let samples = samples(&[1.0; 3], &[4.0, 5.0, 30.0]);
        assert!(holds(Bound::MedianAtMost(5.0), &samples));
        assert!(!holds(Bound::NeverAbove(5.0), &samples));
    }

    #[test]
    fn a_load_that_failed_in_one_round_fails_its_gate() {
        let mut samples = samples(&[1.0], &[1.0]);
        assert!(holds(Bound::AtMostTimesFloor(1.5), &samples));
        samples.push("load", Name::Gnomon, Err("broke".into()));
        assert!(!holds(Bound::AtMostTimesFloor(1.5), &samples));
    }

    #[test]
    fn a_gate_without_a_measurement_fails() {
        assert!(!holds(Bound::AtLeastTimesFloor(0.8), &Samples::default()));
    }
}
