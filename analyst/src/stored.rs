//! Events of the ledger, for commands that start from one.

use anyhow::Result;
use gnomon_cli::{Complaint, runtime};
use gnomon_inspect::{Passage, unknown_fields};
use gnomon_ledger::{EventFilter, Order, Reader};
use gnomon_observe::{Family, Field, FieldRef, Lookup, Observation, Phase};
use serde_json::{Map, Value};
use std::path::Path;

/// The flat JSON object of an event.
pub type Event = Map<String, Value>;

/// The number of events fetched at a time.
const PAGE: usize = 1_000;

/// The event with this id, or whose id begins so and no other's does.
///
/// # Errors
/// If no event or several match, or the ledger cannot be read.
pub fn event(ledger: &Path, id: &str) -> Result<Event> {
    let known = |c: char| c.is_ascii_hexdigit() || c == '-';
    if id.len() < 4 || !id.chars().all(known) {
        return Err(Complaint::usage(format!("`{id}` is not the id of an event"))
            .next("`gnomon events --json` has them as `event.id`")
            .into());
    }
    let condition = if id.len() == 36 { format!("event.id={id}") } else { format!("event.id={id}*") };
    let filter = EventFilter { conditions: vec![condition.parse()?], limit: 2, ..EventFilter::default() };
    let found = runtime()?
        .block_on(async { Reader::open(ledger).await?.events(&filter, Order::OldestFirst).await.map_err(anyhow::Error::from) })?;
    match found.as_slice() {
        [one] => Ok(serde_json::from_str(&one.json)?),
        [] => Err(Complaint::usage(format!("no event `{id}` is in {}", ledger.display()))
            .next("`gnomon events --json` has ids as `event.id`; --state-dir names another ledger")
            .into()),
        _ => Err(Complaint::usage(format!("several events begin with `{id}`")).next("write more of the id").into()),
    }
}

/// Gives each event of this filter to `take`, oldest first, at most `limit`; how many there were.
///
/// # Errors
/// The ledger cannot be read.
pub fn each(ledger: &Path, filter: EventFilter, limit: usize, mut take: impl FnMut(Event)) -> Result<usize> {
    runtime()?.block_on(async {
        let mut reader = Reader::open(ledger).await?;
        let mut filter = EventFilter { limit: PAGE, ..filter };
        let mut count = 0;
        loop {
            let page = reader.events(&filter, Order::OldestFirst).await?;
            filter.after = page.last().map(|event| event.seq).or(filter.after);
            for event in page.iter().take(limit - count) {
                count += 1;
                // An event of another version may not be readable.
                if let Ok(event) = serde_json::from_str(&event.json) {
                    take(event);
                }
            }
            if page.len() < PAGE || count >= limit {
                return Ok(count);
            }
        }
    })
}

/// The observation that an event was made of, as far as it was stored. What events never hold is unknown, not absent: of headers where one
/// of the fields that are `asked` for is such a one.
///
/// # Errors
/// If it has fields that this version does not know.
pub fn observation<'f>(event: &Event, asked: impl IntoIterator<Item = &'f FieldRef>) -> Result<Observation, Complaint> {
    let mut seen = Observation::from_json(event).map_err(|error| Complaint::own(format!("the event cannot be read: {error}")))?;
    Field::all().filter(|field| !field.info().is_stored()).for_each(|field| seen.set_unreadable(field));
    seen.set_family_unreadable(Family::Argument);
    for field in unread(event).into_iter().flat_map(|(fields, _)| fields) {
        if seen.get(field) == Lookup::Absent {
            seen.set_unreadable(field);
        }
    }
    for field in asked {
        if let FieldRef::Member(family, _) = field
            && !field.is_stored()
        {
            seen.set_family_unreadable(*family);
        }
    }
    Ok(seen)
}

/// What could not be read when the event was made, and why: an event has no mark of its own on each field.
pub fn unread(event: &Event) -> Vec<(Vec<Field>, String)> {
    let get = |field: Field| text(event, field.name());
    let mut unread = Vec::new();
    // All that a message or its answer would have said.
    let unknown = |passage: Passage| {
        let fields = unknown_fields(passage).into_iter().filter_map(|field| match field {
            FieldRef::Field(field) => Some(field),
            FieldRef::Member(..) => None,
        });
        fields.collect::<Vec<_>>()
    };
    let said = |phase: Phase| unknown(Passage::NoRoom).into_iter().filter(|field| field.info().phase == phase).collect::<Vec<_>>();
    let why = |field: Field, what: &str| get(field).map(|why| format!("{what} could not be read ({field}: {why})"));
    if let Some(why) = why(Field::Malformed, "the message") {
        unread.push((said(Phase::Message), why));
    }
    if get(Field::Truncated).is_some_and(|cut| cut.split(',').any(|part| part == "names")) {
        unread.push((said(Phase::Message), format!("the names in the message were too long ({}: names)", Field::Truncated)));
    }
    if let Some(why) = why(Field::ResponseMalformed, "the answer") {
        unread.push((said(Phase::Response), why));
    }
    let passage = get(Field::Passage).and_then(|reason| Passage::ALL.iter().find(|passage| passage.reason() == reason));
    if let Some(passage) = passage {
        unread.push((unknown(*passage), format!("it was not read ({}: {})", Field::Passage, passage.reason())));
    }
    let identity = get(Field::ProcessIdentity).filter(|word| !matches!(word.as_str(), "confirmed" | "unverified"));
    if let Some(why) = identity {
        let fields = [
            Field::Executable,
            Field::ExecutableHash,
            Field::Image,
            Field::CommandLine,
            Field::ParentExecutable,
            Field::Ancestors,
            Field::UserName,
            Field::UserGroups,
            Field::ContainerId,
            Field::ContainerRuntime,
            Field::PodUid,
            Field::Cgroup,
        ];
        unread.push((fields.to_vec(), format!("the process could not be looked at ({}: {why})", Field::ProcessIdentity)));
    }
    unread
}

/// A text of an event; lists have their entries joined.
pub fn text(event: &Event, field: &str) -> Option<String> {
    match event.get(field)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => Some(list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}
