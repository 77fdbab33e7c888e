//! What the arguments of a tool call mean to whoever gets them: decoded texts, the addresses that their URLs lead to, numbers that are
//! valid as what they look like.
//!
//! It is worked out only where a rule asks for it, and adds to what the arguments say: rules on the arguments as they were written see
//! those. Nothing here decides; a reading that no server would follow costs an alarm at most, and a hidden one must not be missed.

mod addresses;
mod decoded;
mod numbers;

use gnomon_observe::{Field, Lookup, Observation, Value};
use smol_str::SmolStr;

/// The fields that are filled here, from the call's arguments.
pub(crate) const MEANING: [Field; 3] = [Field::ArgumentsDecoded, Field::ArgumentsAddresses, Field::ArgumentsNumbers];

/// Fills the fields of [`MEANING`]. They are unreadable where the arguments are.
pub(crate) fn describe(seen: &mut Observation) {
    let arguments: Vec<SmolStr> = match seen.get(Field::ToolArguments) {
        Lookup::Absent => return,
        Lookup::Unreadable => return MEANING.into_iter().for_each(|field| seen.set_unreadable(field)),
        Lookup::Value(Value::List(list)) => list.clone(),
        Lookup::Value(Value::Str(text)) => vec![text.clone()],
        Lookup::Value(Value::Bool(_) | Value::Int(_)) => return,
    };
    let decoded: Vec<SmolStr> = arguments.iter().flat_map(decoded::readings).collect();
    let mut addresses: Vec<SmolStr> =
        decoded.iter().flat_map(|text| addresses::of_urls(text)).map(|ip| SmolStr::new(ip.to_string())).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let numbers = numbers::kinds(&decoded);
    seen.set(Field::ArgumentsDecoded, decoded);
    if !addresses.is_empty() {
        seen.set(Field::ArgumentsAddresses, addresses);
    }
    if !numbers.is_empty() {
        seen.set(Field::ArgumentsNumbers, numbers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> Observation {
        let mut seen = Observation::new();
        seen.set(Field::ToolArguments, arguments.iter().map(SmolStr::new).collect::<Vec<_>>());
        describe(&mut seen);
        seen
    }

    #[test]
    fn a_call_without_arguments_has_no_meaning_of_them_and_one_whose_arguments_are_unreadable_has_an_unreadable_one() {
        let mut seen = Observation::new();
        describe(&mut seen);
        assert!(MEANING.iter().all(|field| seen.get(*field) == Lookup::Absent));
        seen.set_unreadable(Field::ToolArguments);
        describe(&mut seen);
        assert!(MEANING.iter().all(|field| seen.get(*field) == Lookup::Unreadable));
    }

    #[test]
    fn addresses_are_found_behind_every_encoding_and_told_once() {
        let seen = of(&["http%3A%2F%2F2852039166%2Flatest", "aHR0cDovLzE2OS4yNTQuMTY5LjI1NC9sYXRlc3QvbWV0YS1kYXRh", "4539 1488 0343 6467"]);
        assert_eq!(seen.get(Field::ArgumentsAddresses), Lookup::Value(&Value::List(vec!["169.254.169.254".into()])));
        assert_eq!(seen.get(Field::ArgumentsNumbers), Lookup::Value(&Value::List(vec!["payment_card".into()])));
    }

    #[test]
    fn plain_arguments_are_their_own_meaning() {
        let seen = of(&["a plain sentence", "7"]);
        assert_eq!(seen.get(Field::ArgumentsDecoded), Lookup::Value(&Value::List(vec!["a plain sentence".into(), "7".into()])));
        assert_eq!((seen.get(Field::ArgumentsAddresses), seen.get(Field::ArgumentsNumbers)), (Lookup::Absent, Lookup::Absent));
    }
}
