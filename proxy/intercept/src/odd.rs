//! Requests that are answered 400 and not forwarded: some server would have read them, so they are reported, on every road from here. A
//! client that sends them without end is reported in sums ([`gnomon_shares::Lately`]).

use crate::{client_seats::ClientSeat, first_bytes::Line, shared::Shared};
use gnomon_inspect::{Connection, Passage};
use gnomon_observe::Field;
use gnomon_record::FlowOutcome;

/// Reports an odd request on this connection. `text` says what is odd about it.
pub(crate) fn tell(shared: &Shared, seat: &ClientSeat, connection: &Connection, passage: Passage, text: &str) {
    let Some(count) = shared.lately.counts(&seat.client()) else { return };
    let mut reports = connection.cannot_pass(passage, text, FlowOutcome::Refused.as_str());
    if count > 1 {
        reports.iter_mut().for_each(|report| report.seen.set(Field::Calls, count));
    }
    shared.recorder.report(reports);
}

/// True if a first line that the library refused was meant as a request.
pub(crate) fn was_a_request(line: Line) -> bool {
    matches!(line, Line::Http(_) | Line::Odd | Line::Long)
}
