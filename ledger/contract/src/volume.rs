//! Sums by the hour: kept and found. What is unusual is judged by no engine.

use crate::{
    Engine,
    stage::{HOUR, KEEP, START, append},
};
use gnomon_ledger_model::{
    MAX_VOLUME_PAIRS,
    volume::{FLOOR_REQUESTS, KnownBy, Pair, Volume},
};
use gnomon_observe::{Field, Observation};

/// The hour in which a test begins.
const FIRST: i64 = START.div_euclid(HOUR);

fn request(by: Field, user: &str, server: &str, call: i64, bytes: i64) -> Observation {
    let mut seen = Observation::new();
    seen.set(Field::McpMethod, "tools/call");
    seen.set(by, user);
    seen.set(Field::ServerAddress, server);
    seen.set(Field::ObservationId, call.to_string());
    seen.set(Field::RequestSize, bytes);
    seen
}

fn pair(known_by: KnownBy, user: &str, server: &str) -> Pair {
    Pair { known_by: Some(known_by), user: user.to_owned(), server: server.to_owned() }
}

/// One user known in two ways is two, as gnomon cannot know better.
pub async fn sums_are_added_up_by_pair_and_hour(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    let ada = |call, bytes| request(Field::UserName, "ada", "a.example", call, bytes);
    append(&mut *store, [(ada(1, 10), 0), (ada(2, 20), 1), (ada(3, 5), 2 * HOUR), (request(Field::UserId, "ada", "a.example", 4, 7), 2)])
        .await;
    append(&mut *store, [(ada(5, 100), 3), (request(Field::SourceAddress, "192.0.2.1", "b.example", 6, 1), HOUR)]).await;
    let of = |requests, bytes| Volume { requests, bytes };
    for (known_by, user, server, expected) in [
        (KnownBy::Name, "ada", "a.example", vec![(FIRST, of(3, 130)), (FIRST + 2, of(1, 5))]),
        (KnownBy::Number, "ada", "a.example", vec![(FIRST, of(1, 7))]),
        (KnownBy::Address, "192.0.2.1", "b.example", vec![(FIRST + 1, of(1, 1))]),
        (KnownBy::Name, "ada", "b.example", vec![]),
    ] {
        let pair = pair(known_by, user, server);
        assert_eq!(store.hours(Some(&pair), FIRST..FIRST + 3).await.unwrap(), expected, "{pair:?}");
    }
    let ada = pair(KnownBy::Name, "ada", "a.example");
    assert_eq!(store.hours(Some(&ada), FIRST + 1..FIRST + 2).await.unwrap(), []);
    let mut all = store.hours(None, FIRST..FIRST + 2).await.unwrap();
    all.sort_by_key(|(hour, volume)| (*hour, volume.requests));
    assert_eq!(all, [(FIRST, of(1, 7)), (FIRST, of(3, 130)), (FIRST + 1, of(1, 1))]);
    assert_eq!(store.oldest_hour(FIRST + 1).await.unwrap(), Some(FIRST + 1));
    assert_eq!(store.oldest_hour(FIRST + 3).await.unwrap(), None);
    store.forget_hours(FIRST + 1).await.unwrap();
    assert_eq!(store.oldest_hour(0).await.unwrap(), Some(FIRST + 1));
    assert_eq!(store.hours(Some(&ada), FIRST..FIRST + 3).await.unwrap(), [(FIRST + 2, of(1, 5))]);
    store.close().await.unwrap();
}

/// Strangers choose names, and an hour has room for so many.
pub async fn pairs_beyond_the_bound_are_summed_up_as_others(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    for n in 0..MAX_VOLUME_PAIRS + 10 {
        append(&mut *store, [(request(Field::UserName, &n.to_string(), "a.example", n, 1), n)]).await;
    }
    append(&mut *store, [(request(Field::UserName, "0", "a.example", -1, 1), 0)]).await;
    let hours = store.hours(None, FIRST..FIRST + 1).await.unwrap();
    assert_eq!(
        (hours.len() as i64, hours.iter().map(|(_, volume)| volume.requests).sum::<i64>()),
        (MAX_VOLUME_PAIRS + 1, MAX_VOLUME_PAIRS + 11)
    );
    assert_eq!(store.hours(Some(&Pair::default()), FIRST..FIRST + 1).await.unwrap(), [(FIRST, Volume { requests: 10, bytes: 10 })]);
    let first = store.hours(Some(&pair(KnownBy::Name, "0", "a.example")), FIRST..FIRST + 1).await.unwrap();
    assert_eq!(first, [(FIRST, Volume { requests: 2, bytes: 2 })]);
    store.close().await.unwrap();
}

/// The pairs with the most requests come first, those with many bytes follow, and none that was reported since.
pub async fn the_busiest_are_those_that_were_not_told_of_lately(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    let mut call = 0;
    let mut busy = Vec::new();
    for (user, requests, bytes) in
        [("few", FLOOR_REQUESTS, 1), ("many", FLOOR_REQUESTS + 50, 1), ("more", FLOOR_REQUESTS + 60, 1), ("large", 1, 4 << 20)]
    {
        for _ in 0..requests {
            call += 1;
            busy.push((request(Field::UserName, user, "a.example", call, bytes), 30 * HOUR));
        }
    }
    append(&mut *store, busy).await;
    let hour = FIRST + 30;
    let pair = |user| pair(KnownBy::Name, user, "a.example");
    let (many, more, large) = (pair("many"), pair("more"), pair("large"));
    let found = store.busiest(hour, hour - 24, 10).await.unwrap();
    assert_eq!(found[0], (more.clone(), Volume { requests: FLOOR_REQUESTS + 60, bytes: FLOOR_REQUESTS + 60 }));
    assert_eq!(found.into_iter().map(|(pair, _)| pair).collect::<Vec<_>>(), [more.clone(), many.clone(), large.clone()]);
    assert_eq!(store.busiest(hour, hour - 24, 1).await.unwrap().len(), 1);
    assert_eq!(store.busiest(hour + 1, hour - 24, 10).await.unwrap(), []);
    store.tell(&more, hour).await.unwrap();
    store.close().await.unwrap();
    // The next reader to open it sees it.
    let mut store = engine.store(KEEP).await;
    let pairs = store.busiest(hour, hour - 24, 10).await.unwrap().into_iter().map(|(pair, _)| pair).collect::<Vec<_>>();
    assert_eq!(pairs, [many.clone(), large.clone()]);
    let again = (0..2 * FLOOR_REQUESTS).map(|n| (request(Field::UserName, "more", "a.example", -n - 1, 1), 54 * HOUR));
    append(&mut *store, again).await;
    assert_eq!(store.busiest(hour + 24, hour, 10).await.unwrap().len(), 1, "an hour that was told of counts after it, not in it");
    assert_eq!(store.busiest(hour + 24, hour - 1, 10).await.unwrap(), []);
    store.close().await.unwrap();
}
