//! What came of turns: how much less was done over sockets that are observed, and how far the method is off.

use std::time::Duration;

use super::paired::Median;
use super::{Block, Kind, Measured, Place, Quad};

/// Blocks of one kind: of sockets that are observed against others, and of others against others.
pub struct Compared {
    kind: Kind,
    observed: Vec<Quad>,
    nothing: Vec<Quad>,
    beside: Duration,
}

impl Compared {
    /// Nothing yet.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { kind, observed: Vec::new(), nothing: Vec::new(), beside: Duration::ZERO }
    }

    /// What is done in these blocks.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Takes blocks in, by where the sockets of the inner ones were made.
    pub fn add(&mut self, inner: Place, quads: Vec<Quad>) {
        let all = if inner == Place::Observed { &mut self.observed } else { &mut self.nothing };
        all.extend(quads);
    }

    /// What the sensor and the reader of its ring take of the processor for each request or handshake. They work later, in
    /// anybody's turn: so it is measured apart, and charged to what was observed.
    pub fn charge(&mut self, beside: Duration) {
        self.beside = beside;
    }

    /// Requests or handshakes per second of the clock.
    #[must_use]
    pub fn per_second(&self) -> Measured {
        let of = |quads: &[Quad]| Median::of(&each(quads, |quad| ratio(quad.sums(|block| block.wall), Duration::ZERO)));
        Measured::Paired { ratio: of(&self.observed), control: of(&self.nothing) }
    }

    /// Requests or handshakes per CPU second of client, server, sensor and reader.
    #[must_use]
    pub fn per_cpu_second(&self) -> Measured {
        let of = |quads: &[Quad], beside| Median::of(&each(quads, |quad| ratio(quad.sums(|block| block.cpu), beside)));
        let beside = self.beside * 2 * self.kind.of_a_block();
        Measured::Paired { ratio: of(&self.observed, beside), control: of(&self.nothing, Duration::ZERO) }
    }

    /// A line of the table: microseconds of CPU time of client and server, each time, and what is added to that.
    #[must_use]
    pub fn row(&self) -> String {
        let times = f64::from(2 * self.kind.of_a_block());
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / times;
        let cpu = |block: &Block| block.cpu;
        let more = |quads: &[Quad]| {
            let more = each(quads, |quad| {
                let (inner, outer) = quad.sums(cpu);
                micros(inner) - micros(outer)
            });
            Median::of(&more).map_or_else(|| "not measured".into(), |more| more.to_string())
        };
        let without = Median::of(&each(&self.observed, |quad| micros(quad.sums(cpu).1))).map_or(f64::NAN, |without| without.median);
        format!(
            "| {} | {} | {without:.2} | {} | {:.3} | {} |",
            self.kind.label(),
            self.observed.len(),
            more(&self.observed),
            self.beside.as_secs_f64() * 1e6,
            more(&self.nothing),
        )
    }

    /// The heads of [`Compared::row`]'s columns.
    pub const HEADS: &str = "| what | quads | CPU of client and server, µs | more where observed | reader and sensor | nothing against nothing |\n|---|---|---|---|---|---|";
}

fn each(quads: &[Quad], what: impl Fn(&Quad) -> f64) -> Vec<f64> {
    quads.iter().map(what).collect()
}

/// What is done in a time by the inner ones, with what was spent beside, to what the outer ones do in it.
fn ratio((inner, outer): (Duration, Duration), beside: Duration) -> f64 {
    outer.as_secs_f64() / (inner + beside).as_secs_f64().max(f64::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quad(micros: [u64; 4]) -> Quad {
        Quad(micros.map(|micros| Block { wall: Duration::from_micros(micros), cpu: Duration::from_micros(2 * micros) }))
    }

    #[test]
    fn what_the_sensor_does_beside_is_charged_to_observed_sockets() {
        let mut compared = Compared::new(Kind::New);
        compared.add(Place::Observed, vec![quad([1000; 4]); 5]);
        compared.add(Place::Aside, vec![quad([1000; 4]); 5]);
        compared.charge(Duration::from_nanos(12_500));
        assert!(matches!(compared.per_second(), Measured::Paired { ratio: Some(ratio), .. } if ratio.median == 1.0));
        let Measured::Paired { ratio: Some(ratio), control: Some(control) } = compared.per_cpu_second() else {
            panic!("not measured");
        };
        assert_eq!((ratio.median, control.median), (0.8, 1.0));
    }

    #[test]
    fn a_block_that_takes_longer_is_less_done_in_a_second() {
        let mut compared = Compared::new(Kind::Kept);
        compared.add(Place::Observed, vec![quad([90, 110, 110, 90])]);
        assert!(matches!(compared.per_second(), Measured::Paired { ratio: Some(ratio), .. } if ratio.median < 0.82));
        assert_eq!(compared.row(), "| request on a kept connection | 1 | 0.90 | 0.200 (0.200–0.200) | 0.000 | not measured |",);
    }
}
