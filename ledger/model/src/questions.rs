//! Questions about the past, answered from the little that a [`LedgerReader`] gives, so that every engine answers them alike.

use crate::{
    DailyIncident, DailyIncidents, EventFilter, IncidentRecord, LedgerReader, MAX_PAGE, Order, ReadError, StoredEvent, Story, Today,
    daily::{self, Summing},
    inventory::{NewName, ServerAt, ServerRecord},
    seen::Seen,
    story::{Around, IdPrefix, Names},
    today::DAY_MS,
    usage::{self, Usage},
};
use gnomon_kit::unix_millis;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most ids listed where several were found.
const SHOWN_IDS: usize = 10;

/// The result of looking up an id.
#[derive(Debug, Clone)]
pub enum Found {
    /// No match, or it was removed since.
    Nothing,
    /// One event.
    Event(StoredEvent),
    /// A burst, by its `gnomon.incident.id`: its first detection.
    Burst(StoredEvent),
    /// A daily incident.
    Daily(Box<DailyIncident>),
    /// Several; their ids, the first ten.
    Several(Vec<String>),
}

/// Answers questions about a ledger.
pub struct Questions {
    rows: Box<dyn LedgerReader>,
}

impl std::fmt::Debug for Questions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Questions").finish_non_exhaustive()
    }
}

impl Questions {
    /// Questions to this reader.
    #[must_use]
    pub fn to(rows: Box<dyn LedgerReader>) -> Self {
        Self { rows }
    }

    /// The reader underneath.
    pub fn rows(&mut self) -> &mut dyn LedgerReader {
        &mut *self.rows
    }

    /// A page of events. The next page has the last one's `seq` as [`EventFilter::after`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn events(&mut self, filter: &EventFilter, order: Order) -> Result<Vec<StoredEvent>, ReadError> {
        self.rows.page(filter, order, i64::MAX).await
    }

    /// All servers, the most recently seen first. At most [`crate::MAX_SERVERS`].
    ///
    /// # Errors
    /// When the database cannot be read or a row makes no sense.
    pub async fn inventory(&mut self) -> Result<Vec<ServerRecord>, ReadError> {
        self.rows.inventory().await
    }

    /// The subject of an id: an `event.id`, a `gnomon.incident.id` or a daily incident's. A prefix will
    /// do, if only one begins so.
    ///
    /// # Errors
    /// It is not a valid id, or the database cannot be read.
    pub async fn find(&mut self, id: &str) -> Result<Found, ReadError> {
        if let Some((from, until)) = daily::day_of_id(id) {
            let filter = EventFilter { since_ms: Some(from), until_ms: Some(until), ..EventFilter::default() };
            let mut found = self.daily_incidents(&filter).await?.incidents;
            found.retain(|incident| incident.id.starts_with(id));
            let ids = found.iter().take(SHOWN_IDS).map(|incident| incident.id.clone()).collect();
            return Ok(match found.pop() {
                None => Found::Nothing,
                Some(incident) if found.is_empty() => Found::Daily(Box::new(incident)),
                Some(_) => Found::Several(ids),
            });
        }
        let prefix = IdPrefix::parse(id)?;
        let mut events = self.rows.by_id(&prefix, SHOWN_IDS).await?;
        let mut bursts = self.rows.bursts_by_id(&prefix, SHOWN_IDS).await?;
        if events.len() + bursts.len() > 1 {
            let of_event = |event: StoredEvent| {
                let json: Option<serde_json::Value> = serde_json::from_str(&event.json).ok();
                json.and_then(|json| Some(json.get("event.id")?.as_str()?.to_owned()))
            };
            let ids = events.into_iter().filter_map(of_event).chain(bursts.into_iter().map(|(id, _)| id));
            return Ok(Found::Several(ids.take(SHOWN_IDS).collect()));
        }
        if let Some(event) = events.pop() {
            return Ok(Found::Event(event));
        }
        let first = match bursts.pop() {
            Some((_, first)) => self.rows.event(first).await?,
            None => None,
        };
        Ok(first.map_or(Found::Nothing, Found::Burst))
    }

    /// An event's whole story.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn story(&mut self, event: StoredEvent) -> Result<Story, ReadError> {
        let names = Names::of(&event.json);
        let near = self.rows.near(&event, &names, Around::LIMIT).await?;
        let Around { mut sightings, before, after, more } = Around::of(&event, &names, near);
        let near = sightings.iter().position(|other| other.json.contains("\"event.kind\":\"outcome\""));
        let outcome = match (near, &names.call) {
            (Some(near), _) => Some(sightings.remove(near)),
            (None, Some(call)) => self.rows.outcome(&event, call).await?,
            (None, None) => None,
        };
        let server = match ServerAt::of(&event.json) {
            Some(at) => at.find(self.rows.inventory().await?),
            None => None,
        };
        Ok(Story { event, sightings, outcome, before, after, more, server })
    }

    /// Detections grouped by user, server and day. Of the filter, `kinds`, `after` and `limit` are
    /// not used.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn daily_incidents(&mut self, filter: &EventFilter) -> Result<DailyIncidents, ReadError> {
        let kinds = vec!["alert".to_owned(), "signal".to_owned()];
        let mut filter = EventFilter { kinds, after: None, limit: MAX_PAGE, ..filter.clone() };
        let mut summing = Summing::default();
        loop {
            let page = self.rows.page(&filter, Order::OldestFirst, i64::MAX).await?;
            page.iter().for_each(|event| summing.add(event.at_ms, &event.json));
            filter.after = page.last().map(|event| event.seq).or(filter.after);
            if page.len() < MAX_PAGE {
                return Ok(summing.finish());
            }
        }
    }

    /// The daily incident that a detection belongs to; nothing if the event is none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn daily_incident_of(&mut self, event: &StoredEvent) -> Result<Found, ReadError> {
        match daily::id_of(event.at_ms, &event.json) {
            Some(id) => self.find(&id).await,
            None => Ok(Found::Nothing),
        }
    }

    /// Tells `today` of the detections of its day so far, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn catch_up(&mut self, today: &mut Today, now: SystemTime) -> Result<(), ReadError> {
        let midnight = unix_millis(now).div_euclid(DAY_MS).saturating_mul(DAY_MS);
        let kinds = vec!["alert".to_owned(), "signal".to_owned()];
        let mut filter = EventFilter { since_ms: Some(midnight), kinds, limit: MAX_PAGE, ..EventFilter::default() };
        loop {
            let page = self.rows.page(&filter, Order::OldestFirst, i64::MAX).await?;
            let seen: Vec<(i64, Seen<'_>)> = page.iter().filter_map(|event| Some((event.at_ms, Seen::of(&event.json)?))).collect();
            // Events of one call are adjacent.
            for call in seen.chunk_by(|(_, one), (_, next)| one.call.is_some() && one.call == next.call) {
                let at = call.first().and_then(|(at_ms, _)| UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(*at_ms).ok()?)));
                let mut found: Vec<_> = call.iter().filter_map(|(_, seen)| seen.detection()).collect();
                if let Some(at) = at {
                    today.detected(at, &mut found);
                }
            }
            filter.after = page.last().map(|event| event.seq).or(filter.after);
            if page.len() < MAX_PAGE {
                return Ok(());
            }
        }
    }

    /// The detections of a daily incident, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn detections_of(&mut self, incident: &DailyIncident, limit: usize) -> Result<Vec<StoredEvent>, ReadError> {
        let mut filter = EventFilter {
            since_ms: Some(incident.first_seen_ms),
            until_ms: Some(incident.last_seen_ms.saturating_add(1)),
            kinds: vec!["alert".to_owned(), "signal".to_owned()],
            limit: MAX_PAGE,
            ..EventFilter::default()
        };
        let mut found = Vec::new();
        loop {
            let page = self.rows.page(&filter, Order::OldestFirst, i64::MAX).await?;
            let (last, full) = (page.last().map(|event| event.seq), page.len() >= MAX_PAGE);
            let belongs = |event: &StoredEvent| daily::id_of(event.at_ms, &event.json).as_ref() == Some(&incident.id);
            found.extend(page.into_iter().filter(belongs).take(limit - found.len()));
            if !full || found.len() >= limit {
                return Ok(found);
            }
            filter.after = last;
        }
    }

    /// Usage of the days from midnight `from_ms` on.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn usage(&mut self, from_ms: i64, days: usize) -> Result<Usage, ReadError> {
        let until = from_ms.saturating_add(days as i64 * 86_400_000);
        let mut filter = EventFilter { since_ms: Some(from_ms), until_ms: Some(until), limit: MAX_PAGE, ..EventFilter::default() };
        let mut summing = usage::Summing::new(from_ms, days);
        loop {
            let page = self.rows.page(&filter, Order::OldestFirst, i64::MAX).await?;
            page.iter().for_each(|event| summing.add(event.at_ms, &event.json));
            filter.after = page.last().map(|event| event.seq).or(filter.after);
            if page.len() < MAX_PAGE {
                return Ok(summing.finish());
            }
        }
    }

    /// Tools that were first seen in that time, the latest first, at most [`MAX_PAGE`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn new_tools(&mut self, since_ms: i64, until_ms: i64) -> Result<Vec<NewName>, ReadError> {
        self.rows.new_tools(since_ms..until_ms, MAX_PAGE).await
    }

    /// The most recent incidents, newest first, at most `limit` and [`MAX_PAGE`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn incidents(&mut self, limit: usize) -> Result<Vec<IncidentRecord>, ReadError> {
        self.rows.incidents(limit.min(MAX_PAGE)).await
    }
}
