//! Questions about the past, over a read-only connection of their own. Pages are short
//! transactions, so that a slow reader never keeps the write-ahead log from being folded.

use crate::{
    Condition, DailyIncident, DailyIncidents, ReadError, Story,
    daily::{self, Summing},
    inventory::{NewName, ServerAt, ServerRecord},
    sqlite::{Around, Rows},
    story::{IdPrefix, Names},
    usage::{self, Usage},
};
use serde::Serialize;
use std::{path::Path, time::Duration};

/// The longest page of events.
pub const MAX_PAGE: usize = 10_000;

/// How many ids are told where several were found.
const SHOWN_IDS: usize = 10;

/// How often [`Follow`] looks for new events.
const POLL: Duration = Duration::from_millis(200);

/// Which events are wanted. The default is all of them, a page of 1,000.
#[derive(Clone, Debug)]
pub struct EventFilter {
    /// From this moment on, milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// Before this moment, likewise.
    pub until_ms: Option<i64>,
    /// What must hold of fields, all of it.
    pub conditions: Vec<Condition>,
    /// This rule, by id or name, must have matched.
    pub rule: Option<String>,
    /// `event.kind` must be one of these; none means any.
    pub kinds: Vec<String>,
    /// The page starts behind this event, in the order asked for: its `seq` is the last page's last.
    pub after: Option<i64>,
    /// At most this many, at most [`MAX_PAGE`].
    pub limit: usize,
}

impl Default for EventFilter {
    fn default() -> Self {
        Self { since_ms: None, until_ms: None, conditions: Vec::new(), rule: None, kinds: Vec::new(), after: None, limit: 1_000 }
    }
}

/// The order of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As recorded.
    #[default]
    OldestFirst,
    /// The other way round.
    NewestFirst,
}

/// An event as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its number: rises with every event, never used twice.
    pub seq: i64,
    /// When it happened, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Its line of JSON, the same bytes as in the JSON-lines file.
    pub json: String,
}

impl From<(i64, i64, String)> for StoredEvent {
    /// From a row: number, moment, line.
    fn from((seq, at_ms, json): (i64, i64, String)) -> Self {
        Self { seq, at_ms, json }
    }
}

/// What an id leads to.
#[derive(Debug, Clone)]
pub enum Found {
    /// Nothing, or nothing any more.
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

/// An incident: detections of one client, server and rule that followed each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IncidentRecord {
    /// `gnomon.incident.id`.
    pub id: String,
    /// The rule's id.
    pub rule: String,
    /// The rule's title.
    pub rule_name: Option<String>,
    /// The rule's level.
    pub level: Option<String>,
    /// What was done the first time.
    pub action: Option<String>,
    /// The client's name, else its program, else its `User-Agent`.
    pub client: Option<String>,
    /// The server's address.
    pub server: Option<String>,
    /// First detection, milliseconds since the Unix epoch.
    pub first_seen_ms: i64,
    /// Last detection, likewise.
    pub last_seen_ms: i64,
    /// How many detections.
    pub events: u64,
    /// `seq` of the first.
    pub first_seq: i64,
    /// `seq` of the last.
    pub last_seq: i64,
}

/// Reads a ledger, also while a gnomon writes it.
pub struct Reader {
    rows: Rows,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens the database at `path` for reading.
    ///
    /// # Errors
    /// When it is missing, may not be read, or has another schema.
    pub async fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Self { rows: Rows::open(path).await? })
    }

    /// A page of events. The next page has the last one's `seq` as [`EventFilter::after`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn events(&mut self, filter: &EventFilter, order: Order) -> Result<Vec<StoredEvent>, ReadError> {
        self.rows.events(filter, order, i64::MAX).await
    }

    /// Follows events as they are acknowledged, from behind `after_seq`; `None` begins with the
    /// next one. Of the filter, `after` is not used and `limit` is the page's.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn follow(mut self, filter: EventFilter, after_seq: Option<i64>) -> Result<Follow, ReadError> {
        let after = match after_seq {
            Some(seq) => seq,
            None => self.rows.last_seq().await?,
        };
        Ok(Follow { reader: self, filter: EventFilter { after: Some(after), ..filter } })
    }

    /// All servers, the most recently seen first. At most [`crate::MAX_SERVERS`].
    ///
    /// # Errors
    /// When the database cannot be read or a row makes no sense.
    pub async fn inventory(&mut self) -> Result<Vec<ServerRecord>, ReadError> {
        self.rows.inventory().await
    }

    /// What an id leads to: an `event.id`, a `gnomon.incident.id` or a daily incident's. A prefix will
    /// do, if only one begins so.
    ///
    /// # Errors
    /// When it is no id, or the database cannot be read.
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
        let Around { mut sightings, before, after, more } = self.rows.around(&event, &names).await?;
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
            let page = self.rows.events(&filter, Order::OldestFirst, i64::MAX).await?;
            page.iter().for_each(|event| summing.add(event.at_ms, &event.json));
            filter.after = page.last().map(|event| event.seq).or(filter.after);
            if page.len() < MAX_PAGE {
                return Ok(summing.finish());
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
            let page = self.rows.events(&filter, Order::OldestFirst, i64::MAX).await?;
            let (last, full) = (page.last().map(|event| event.seq), page.len() >= MAX_PAGE);
            let belongs = |event: &StoredEvent| daily::id_of(event.at_ms, &event.json).as_ref() == Some(&incident.id);
            found.extend(page.into_iter().filter(belongs).take(limit - found.len()));
            if !full || found.len() >= limit {
                return Ok(found);
            }
            filter.after = last;
        }
    }

    /// What the days from midnight `from_ms` on come to.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn usage(&mut self, from_ms: i64, days: usize) -> Result<Usage, ReadError> {
        let until = from_ms.saturating_add(days as i64 * 86_400_000);
        let mut filter = EventFilter { since_ms: Some(from_ms), until_ms: Some(until), limit: MAX_PAGE, ..EventFilter::default() };
        let mut summing = usage::Summing::new(from_ms, days);
        loop {
            let page = self.rows.events(&filter, Order::OldestFirst, i64::MAX).await?;
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
        self.rows.new_tools(since_ms, until_ms, MAX_PAGE).await
    }

    /// The most recent incidents, newest first, at most `limit` and [`MAX_PAGE`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn incidents(&mut self, limit: usize) -> Result<Vec<IncidentRecord>, ReadError> {
        self.rows.incidents(limit.min(MAX_PAGE)).await
    }
}

/// Events as they come.
#[derive(Debug)]
pub struct Follow {
    reader: Reader,
    filter: EventFilter,
}

impl Follow {
    /// The next events, at least one; waits for them. May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn next(&mut self) -> Result<Vec<StoredEvent>, ReadError> {
        loop {
            let last = self.reader.rows.last_seq().await?;
            if self.filter.after.is_none_or(|after| last > after) {
                let events = self.reader.rows.events(&self.filter, Order::OldestFirst, last).await?;
                // A page that is not full has looked at everything up to `last`.
                let full = events.len() >= self.filter.limit.min(MAX_PAGE);
                self.filter.after = if full { events.last().map(|event| event.seq) } else { Some(last) };
                if !events.is_empty() {
                    return Ok(events);
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
