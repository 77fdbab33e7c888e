//! Unusual volume is found in a history that was made up, and ordinary ups and downs are not.

use super::*;
use gnomon_observe::UNUSUAL_VOLUME;
use std::time::{Duration, SystemTime};

const HOUR: Duration = Duration::from_secs(3600);
const PAIRS: [(&str, &str); 5] =
    [("ada", "a.example"), ("ada", "b.example"), ("bob", "a.example"), ("cyd", "c.example"), ("cron", "a.example")];

/// Marsaglia's xorshift64: the same numbers for a seed on every machine.
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal, by the sum of twelve.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// Requests of a pair in an hour: office hours, quiet weekends, a batch job by night, log-normal noise, and now and
/// then a busy hour.
fn ordinary(dice: &mut Dice, user: &str, day: u64, hour: u64) -> u64 {
    let weekend = day % 7 >= 5;
    let base = match (user, hour) {
        ("cron", 3) => 300.0,
        ("cron", _) => 0.0,
        (_, 8..=18) if weekend => 8.0,
        (_, 8..=18) => 70.0,
        _ => 0.5,
    };
    let busy = if dice.unit() < 0.02 { 2.0 } else { 1.0 };
    (base * busy * (0.35 * dice.normal()).exp()) as u64
}

struct History {
    days: u64,
    /// Day, hour, pair, requests, bytes of each.
    anomaly: Option<(u64, u64, usize, u64, i64)>,
}

/// Plays a history into a ledger; what it detected, as (user, server, hour of the history).
async fn play(seed: u64, history: &History) -> Vec<(String, String, String)> {
    let state = State::new();
    let mut options = LedgerOptions::new(state.path());
    options.commit_every = Duration::from_millis(1);
    let (ledger, mut writer) = Ledger::open(options).await.unwrap();
    let mut detections = writer.take_detections().unwrap();
    assert!(writer.take_detections().is_none());
    let mut dice = Dice(seed);
    let now = SystemTime::now();
    // A whole hour, so that the history's hours are the clock's.
    let past = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 3600 * 3600 - (history.days + 1) * 86_400;
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(past);
    let mut call = 0;
    for hour in 0..history.days * 24 {
        let (day, of_day) = (hour / 24, hour % 24);
        for (n, (user, server)) in PAIRS.iter().enumerate() {
            let mut requests = ordinary(&mut dice, user, day, of_day);
            let mut bytes = 400 + (dice.unit() * 400.0) as i64;
            if let Some((_, _, _, many, large)) = history.anomaly.filter(|(d, h, pair, ..)| (*d, *h, *pair) == (day, of_day, n)) {
                (requests, bytes) = (many, large);
            }
            for _ in 0..requests {
                let mut seen = Observation::new();
                seen.set(Field::McpMethod, "tools/call");
                seen.set(Field::UserName, *user);
                seen.set(Field::ServerAddress, *server);
                seen.set(Field::RequestSize, bytes);
                seen.set(Field::ObservationId, call.to_string());
                call += 1;
                assert_eq!(ledger.record(Event::at(seen, start + HOUR * hour as u32)), Recorded::Queued);
            }
        }
        ledger.flush().await.unwrap();
    }
    writer.shutdown().await;
    let mut found = Vec::new();
    while let Some(seen) = detections.recv().await {
        assert_eq!(seen.text(Field::RuleId), Some(UNUSUAL_VOLUME.id));
        let text = |field| seen.text(field).unwrap_or_default().to_owned();
        found.push((text(Field::UserName), text(Field::ServerAddress), text(Field::Message)));
    }
    found
}

#[tokio::test]
async fn an_injected_anomaly_is_found_and_ordinary_weeks_raise_at_most_one_other() {
    let many = (11, 14, 2, 2_500, 500);
    let large = (12, 4, 0, 60, 4 << 20);
    for (seed, anomaly) in [(1, many), (2, large), (3, many)] {
        let found = play(seed, &History { days: 14, anomaly: Some(anomaly) }).await;
        let (user, server) = PAIRS[anomaly.2];
        let hits = found.iter().filter(|(u, s, _)| (u.as_str(), s.as_str()) == (user, server)).count();
        assert!(hits >= 1, "seed {seed}: {found:?}");
        assert!(found.len() <= 2, "seed {seed}: {found:?}");
    }
}

#[tokio::test]
async fn a_host_without_a_week_of_history_stays_silent() {
    let found = play(7, &History { days: 6, anomaly: Some((5, 14, 2, 2_500, 500)) }).await;
    assert_eq!(found, []);
}
