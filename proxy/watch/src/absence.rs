//! The times between the end of one sensor and the welcome of the next: in them nothing is seen but what comes to the proxy, and nothing is
//! redirected. What was before the first sensor, and what is after the last one where gnomon itself ends, is none.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, IntCounter, Registry};

/// Counts them. Clones count into the same series.
#[derive(Clone, Debug)]
pub(crate) struct Absences {
    times: IntCounter,
    /// Counted up to now when it is scraped, as an absence may last.
    seconds: Counter,
    current: Arc<Mutex<Option<Absence>>>,
}

#[derive(Clone, Copy, Debug)]
struct Absence {
    began: Instant,
    counted: Instant,
}

impl Absences {
    /// Registers the series.
    ///
    /// # Errors
    /// When they are there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let absences = Self {
            times: IntCounter::new("gnomon_sensor_absences_total", "Times that a sensor ended while gnomon went on.")?,
            seconds: Counter::new(
                "gnomon_sensor_absent_seconds_total",
                "Seconds from the end of a sensor until another was there: connections went direct meanwhile, unseen.",
            )?,
            current: Arc::default(),
        };
        registry.register(Box::new(absences.clone()))?;
        Ok(absences)
    }

    /// A sensor has ended.
    pub fn begin(&self, now: Instant) {
        self.times.inc();
        *self.current.lock() = Some(Absence { began: now, counted: now });
    }

    /// Another sensor is there. The time that there was none, unless it is the first.
    pub fn end(&self, now: Instant) -> Option<Duration> {
        self.count(now);
        let absence = self.current.lock().take()?;
        Some(now.saturating_duration_since(absence.began))
    }

    fn count(&self, now: Instant) {
        if let Some(absence) = &mut *self.current.lock() {
            self.seconds.inc_by(now.saturating_duration_since(absence.counted).as_secs_f64());
            absence.counted = absence.counted.max(now);
        }
    }
}

impl Collector for Absences {
    fn desc(&self) -> Vec<&Desc> {
        [self.times.desc(), self.seconds.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.count(Instant::now());
        [self.times.collect(), self.seconds.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_is_counted_while_it_lasts_and_what_is_before_the_first_sensor_is_none() {
        let absences = Absences::register(&Registry::new()).unwrap();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(absences.end(at(5)), None);
        absences.begin(at(10));
        absences.count(at(12));
        assert_eq!((absences.times.get(), absences.seconds.get()), (1, 2.0));
        assert_eq!(absences.end(at(13)), Some(Duration::from_secs(3)));
        absences.count(at(20));
        assert_eq!((absences.times.get(), absences.seconds.get()), (1, 3.0));
    }
}
