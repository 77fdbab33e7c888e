//! Fields that a message says, by the table of fields: what becomes unreadable with a message follows from it.
//!
//! The lists here are of exceptions. A field of the phase `message` that stands in none of them counts as said by the message, so one that
//! is forgotten makes a rule undecidable, which interferes, and never blind.

use gnomon_observe::{Family, Field, Observation, Phase, Role};
use std::sync::LazyLock;

/// gnomon's own findings on a message, known even if it could not be read.
const OWN: [Field; 7] =
    [Field::BatchIndex, Field::Malformed, Field::Mismatch, Field::Truncated, Field::Signatures, Field::Passage, Field::ExecutionId];
/// Fields of HTTP and of the body that carries a message: known even if the message is not.
const OF_HTTP: [Field; 4] = [Field::BodyText, Field::Mismatch, Field::HttpStatus, Field::RequestSize];

/// The fields that a request's message fills.
static SAID: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let said = |field: &Field| field.info().phase == Phase::Message && field.info().role == Role::Evidence;
    Field::all().filter(said).filter(|field| !OWN.contains(field) && !OF_HTTP.contains(field)).collect()
});

/// The message could not be read: nothing that it says is known, its names and arguments included.
pub(crate) fn unread(seen: &mut Observation) {
    SAID.iter().for_each(|field| seen.set_unreadable(*field));
    seen.set_family_unreadable(Family::Argument);
}

/// The names that the message says were cut, which of them is not told apart: none may be relied on. Arguments have a mark of their own.
pub(crate) fn cut(seen: &mut Observation) {
    for field in SAID.iter().copied().filter(|field| *field != Field::ToolArguments) {
        seen.clear(field);
        seen.set_unreadable(field);
    }
}

/// True if a field comes from a message or its answer, or is a finding on it: unknown if a message passes unread.
pub(crate) fn is_of_a_message(field: Field) -> bool {
    field.info().phase >= Phase::Message && !OF_HTTP.contains(&field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::{describe_malformed, forget_request};
    use crate::sighting::Findings;
    use gnomon_observe::Lookup;

    /// Those of the phase of which a rule can rely on nothing, after this.
    fn known_after(change: impl Fn(&mut Observation)) -> Vec<Field> {
        let mut seen = Observation::new();
        change(&mut seen);
        let of_message = |field: &Field| field.info().phase == Phase::Message && field.info().role == Role::Evidence;
        Field::all().filter(of_message).filter(|field| seen.get(*field) != Lookup::Unreadable).collect()
    }

    #[test]
    fn whatever_a_message_says_is_unreadable_where_it_could_not_be_read() {
        let own: Vec<Field> = Field::all().filter(|field| OWN.contains(field)).collect();
        let with_body: Vec<Field> = Field::all().filter(|field| OWN.contains(field) || *field == Field::BodyText).collect();
        let malformed = known_after(|seen| describe_malformed(seen, &mut Findings::default(), "duplicate_key"));
        assert_eq!(malformed, with_body, "its text is known as far as it was read");
        assert_eq!(known_after(forget_request), own, "of a request that is not known, neither");
        let cut_short = known_after(cut);
        assert_eq!(cut_short.iter().filter(|field| !with_body.contains(field)).collect::<Vec<_>>(), [&Field::ToolArguments]);
    }

    #[test]
    fn what_is_excepted_is_of_the_phases_in_which_messages_are_read() {
        for field in OWN.into_iter().chain(OF_HTTP) {
            assert!(field.info().phase >= Phase::Message && field.info().role == Role::Evidence, "{field}");
        }
    }
}
