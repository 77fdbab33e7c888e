//! The schedule of checks for unusual volume. The definition of unusual is the model's; the sums are the engine's.

use gnomon_ledger_model::{
    Store, StoreError, VOLUME_HISTORY_HOURS, VOLUME_MIN_HISTORY_HOURS,
    volume::{MIN_ACTIVE_HOURS, Unusual, Volume, hour_of, usual},
};
use std::time::{Duration, Instant};

/// The interval at which the current hour is checked; a past one is checked once more.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Most users and servers that are judged at one look, those with the most requests first.
const MAX_JUDGED: usize = 64;
/// The hours within which a user and server are reported once.
const TELL_EVERY_HOURS: i64 = 24;

/// The progress of checking hours.
#[derive(Default)]
pub(crate) struct Lookout {
    /// The hour that runs, by the events' clock.
    hour: Option<i64>,
    looked: Option<Instant>,
}

impl Lookout {
    /// Checks for unusual volume where it is time to, after a group with events up to that hour. Sums are forgotten by the time that retention goes by.
    pub(crate) async fn look(&mut self, store: &mut dyn Store, latest_hour: Option<i64>, now_ms: i64) -> Result<Vec<Unusual>, StoreError> {
        let Some(latest) = latest_hour else { return Ok(Vec::new()) };
        let running = *self.hour.get_or_insert(latest);
        if latest > running {
            self.hour = Some(latest);
            store.forget_hours(latest.min(hour_of(now_ms)) - VOLUME_HISTORY_HOURS).await?;
            return unusual_in(store, running).await;
        }
        if self.looked.is_some_and(|last| last.elapsed() < LOOK_EVERY) {
            return Ok(Vec::new());
        }
        self.looked = Some(Instant::now());
        unusual_in(store, running).await
    }
}

/// Finds the unusual sums of that hour that were not reported, and marks them as reported.
async fn unusual_in(store: &mut dyn Store, hour: i64) -> Result<Vec<Unusual>, StoreError> {
    let begin = hour - VOLUME_HISTORY_HOURS;
    if store.oldest_hour(begin).await?.is_none_or(|oldest| hour - oldest < VOLUME_MIN_HISTORY_HOURS) {
        return Ok(Vec::new());
    }
    let mut of_host: Option<Volume> = None;
    let mut unusual = Vec::new();
    for (pair, found) in store.busiest(hour, hour - TELL_EVERY_HOURS, MAX_JUDGED).await? {
        let own = store.hours(Some(&pair), begin..hour).await?;
        let old_enough = own.len() >= MIN_ACTIVE_HOURS && own.first().is_some_and(|(first, _)| hour - first >= VOLUME_MIN_HISTORY_HOURS);
        let expected = if old_enough {
            usual_of(&own)
        } else {
            match of_host {
                Some(known) => known,
                // The baseline over all users and servers of the host.
                None => *of_host.insert(usual_of(&store.hours(None, begin..hour).await?)),
            }
        };
        if !found.is_small() && found.is_unusual(expected) {
            store.tell(&pair, hour).await?;
            unusual.push(Unusual { hour, pair, found, usual: expected });
        }
    }
    Ok(unusual)
}

fn usual_of(hours: &[(i64, Volume)]) -> Volume {
    usual(&hours.iter().map(|(_, volume)| *volume).collect::<Vec<_>>())
}
