//! The outcome of a call after its event was written.
//!
//! An alert must not wait for an answer that may go on for hours, so a call's event is made as soon as the
//! call is judged and answered. Where that event does not tell the end (the status came later, the stream
//! went on, the server broke off), one more event of kind `outcome` follows, with the same
//! `gnomon.observation.id`. Most calls need none.

use gnomon_inspect::{Dialogue, ExchangeOutcome, LateAnswer};
use gnomon_observe::{Field, Lookup, Observation};
use smol_str::{SmolStr, ToSmolStr};

/// The most calls of one exchange whose outcome is reported; only batches have more than one.
const MAX_CALLS: usize = 16;
/// The bytes that an answer may grow by after its call was reported without another event: the line ends of an event, a trailer.
const WORTH_TELLING: u64 = 4096;

/// The fields that identify a call's client, beside its outcome.
const WHOSE: [Field; 16] = [
    Field::FlowId,
    Field::Channel,
    Field::Vantage,
    Field::Correlation,
    Field::HostName,
    Field::ServerAddress,
    Field::ServerPort,
    Field::UrlPath,
    Field::HttpMethod,
    Field::Sanctioned,
    Field::SourceAddress,
    Field::UserId,
    Field::UserName,
    Field::Pid,
    Field::Executable,
    Field::McpSessionId,
];

/// The calls of an exchange that were reported.
#[derive(Debug, Default)]
pub(crate) struct Told {
    calls: Vec<Call>,
}

/// A call that was told: its number in its exchange, its name, and what had come of it by then.
#[derive(Debug)]
struct Call {
    number: u32,
    id: SmolStr,
    so_far: ExchangeOutcome,
}

impl Told {
    /// Events of these calls were written when this much had come of them.
    pub fn add(&mut self, calls: Vec<(u32, SmolStr)>, so_far: &ExchangeOutcome) {
        let room = MAX_CALLS.saturating_sub(self.calls.len());
        self.calls.extend(calls.into_iter().take(room).map(|(number, id)| Call { number, id, so_far: so_far.clone() }));
    }

    /// The name of a call that was told, by its number.
    pub fn id(&self, number: u32) -> Option<&SmolStr> {
        self.calls.iter().find(|call| call.number == number).map(|call| &call.id)
    }

    /// The events still owed at the end of the exchange.
    pub fn owed(&self, dialogue: &Dialogue) -> Vec<Observation> {
        if self.calls.is_empty() {
            return Vec::new();
        }
        let now = dialogue.outcome();
        let owed = |call: &Call| {
            let late = dialogue.late_answer(call.number);
            (late.is_some() || is_stale(&call.so_far, &now)).then(|| event(&call.id, dialogue.seen(), &now, late))
        };
        self.calls.iter().filter_map(owed).collect()
    }
}

/// True if a reported outcome has changed since.
fn is_stale(told: &ExchangeOutcome, now: &ExchangeOutcome) -> bool {
    told.status != now.status
        || told.failure != now.failure
        || now.request_bytes - told.request_bytes > WORTH_TELLING
        || now.response_bytes - told.response_bytes > WORTH_TELLING
}

fn event(call: &SmolStr, seen: &Observation, now: &ExchangeOutcome, late: Option<&LateAnswer>) -> Observation {
    let mut event = Observation::new();
    for field in WHOSE {
        if let Lookup::Value(value) = seen.get(field) {
            event.set(field, value.clone());
        }
    }
    event.set(Field::EventKind, "outcome");
    event.set(Field::ObservationId, call.clone());
    event.set_some(Field::HttpStatus, now.status);
    event.set(Field::RequestSize, now.request_bytes);
    event.set(Field::ResponseSize, now.response_bytes);
    let bad_status = now.status.filter(|status| *status >= 400).map(|status| status.to_smolstr());
    match (&now.failure, late) {
        // A failure of the stream after the call's answer does not concern it.
        (_, Some(LateAnswer::Error(kind))) => event.set(Field::ErrorType, kind.clone()),
        (_, Some(LateAnswer::Good)) => event.set_some(Field::ErrorType, bad_status),
        (Some((kind, detail)), _) => {
            event.set(Field::ErrorType, kind.clone());
            event.set(Field::Message, detail.clone());
        }
        (None, Some(LateAnswer::Missing)) => event.set(Field::ErrorType, "unanswered"),
        (None, None) => event.set_some(Field::ErrorType, bad_status),
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_comes_to_behind_an_answer_is_no_failure_of_the_call() {
        let failure = Some((SmolStr::new_static("upstream_aborted"), SmolStr::new_static("the server broke off its answer")));
        let now = ExchangeOutcome { status: Some(200), failure, ..ExchangeOutcome::default() };
        let told = |late: Option<&LateAnswer>| {
            let event = event(&SmolStr::new_static("call"), &Observation::new(), &now, late);
            event.text(Field::ErrorType).map(SmolStr::new)
        };
        assert_eq!(told(Some(&LateAnswer::Good)), None);
        assert_eq!(told(Some(&LateAnswer::Error("tool_error".into()))).as_deref(), Some("tool_error"));
        assert_eq!(told(Some(&LateAnswer::Missing)).as_deref(), Some("upstream_aborted"));
        assert_eq!(told(None).as_deref(), Some("upstream_aborted"));
    }
}
