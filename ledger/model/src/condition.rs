//! Conditions on fields: `server.address=*.example.com`, `http.response.status_code>=400`.
//!
//! Parsed once, with errors that name the mistake: a filter that is silently empty would read as
//! "nothing happened". What `*` means is said in [`Pattern`]; each engine makes its own question of both.

use crate::pattern::Pattern;
use gnomon_observe::{Action, Channel, Class, Confidence, Correlation, Field, FieldRef, FieldType, Level, Review, UnknownField};
use std::str::FromStr;
use thiserror::Error;

/// A comparison of a field's value with an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Equal to the value; for a list, one entry is.
    Is,
    /// Not equal, or absent; for a list, no entry is equal.
    IsNot,
    /// Below the number.
    Below,
    /// At most the number.
    AtMost,
    /// Above the number.
    Above,
    /// At least the number.
    AtLeast,
}

/// Longer ones first: `>=` begins with `>`.
const SIGNS: [(&str, Comparison); 6] = [
    ("!=", Comparison::IsNot),
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("=", Comparison::Is),
    (">", Comparison::Above),
    ("<", Comparison::Below),
];

/// One condition on an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    field: FieldRef,
    comparison: Comparison,
    operand: Operand,
}

/// The operand of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Exactly this text, as JSON writes it where it is no text: `true`, `443`.
    Exact(String),
    /// Any text of this pattern; what is no text, as JSON writes it.
    Pattern(Pattern),
    /// This number; what is compared by order is a whole number.
    Number(i64),
}

/// An error in a condition.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ConditionError {
    /// The condition has no comparison operator.
    #[error("`{0}` is not a condition; write FIELD=VALUE, as gnomon.action=block (also !=, and for numbers <, <=, >, >=)")]
    NoComparison(String),
    /// The condition names an unknown field.
    #[error(transparent)]
    Field(#[from] UnknownField),
    /// Events do not carry the field.
    #[error("`{0}` is judged and never stored, so no event can be found by it")]
    NotStored(FieldRef),
    /// The field has no order.
    #[error("`{0}` is not a number, so it cannot be above or below anything; use = or !=, with * for any text")]
    NotANumber(FieldRef),
    /// Events are found by their time in another way.
    #[error("use --since and --until for times")]
    Time,
    /// The value is of another kind than the field.
    #[error("`{field}` is {expected}, and `{value}` is not")]
    Value {
        /// The field.
        field: FieldRef,
        /// The values that the field takes.
        expected: &'static str,
        /// The text that was written.
        value: String,
    },
    /// The value is not among those that the field can have.
    #[error("{0}")]
    Word(String),
}

impl Condition {
    /// The condition that the field is exactly this text; a `*` in it is only a `*`.
    #[must_use]
    pub fn is(field: Field, value: impl Into<String>) -> Self {
        Self { field: FieldRef::Field(field), comparison: Comparison::Is, operand: Operand::Exact(value.into()) }
    }

    /// The field asked for.
    #[must_use]
    pub fn field(&self) -> &FieldRef {
        &self.field
    }

    /// The comparison.
    #[must_use]
    pub fn comparison(&self) -> Comparison {
        self.comparison
    }

    /// The operand.
    #[must_use]
    pub fn operand(&self) -> &Operand {
        &self.operand
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let at = text.find(['=', '<', '>']).map(|at| if text[..at].ends_with('!') { at - 1 } else { at });
        let found = at.and_then(|at| SIGNS.iter().find(|(sign, _)| text[at..].starts_with(sign)).map(|found| (at, *found)));
        let Some((at, (sign, comparison))) = found else { return Err(ConditionError::NoComparison(text.to_owned())) };
        let field: FieldRef = text[..at].trim().parse()?;
        let value = &text[at + sign.len()..];
        let kind = match &field {
            FieldRef::Field(field) if !field.info().is_stored() => None,
            FieldRef::Field(field) => Some(field.info().kind),
            FieldRef::Member(gnomon_observe::Family::Argument, _) => None,
            FieldRef::Member(..) => Some(FieldType::Str),
        };
        let Some(kind) = kind else { return Err(ConditionError::NotStored(field)) };
        let expected = |field, expected| ConditionError::Value { field, expected, value: value.to_owned() };
        if !matches!(comparison, Comparison::Is | Comparison::IsNot) {
            if field == FieldRef::Field(Field::Timestamp) {
                return Err(ConditionError::Time);
            }
            if kind != FieldType::Int {
                return Err(ConditionError::NotANumber(field));
            }
            let number = value.parse().map_err(|_| expected(field.clone(), "a whole number"))?;
            return Ok(Self { field, comparison, operand: Operand::Number(number) });
        }
        if let Some(pattern) = Pattern::parse(value) {
            return Ok(Self { field, comparison, operand: Operand::Pattern(pattern) });
        }
        let value = Pattern::plain(value);
        match kind {
            FieldType::Int if value.parse::<i64>().is_err() => Err(expected(field, "a whole number")),
            FieldType::Bool if value.parse::<bool>().is_err() => Err(expected(field, "true or false")),
            FieldType::Int | FieldType::Bool => Ok(Self { field, comparison, operand: Operand::Exact(value) }),
            FieldType::Str | FieldType::List => {
                known_word(&field, &value).map_err(ConditionError::Word)?;
                Ok(Self { field, comparison, operand: Operand::Exact(value) })
            }
        }
    }
}

/// Refuses a value that a field of few words can never have: an empty answer would read as "nothing happened".
fn known_word(field: &FieldRef, value: &str) -> Result<(), String> {
    let FieldRef::Field(field) = field else { return Ok(()) };
    let wrong = match field {
        Field::Action => value.parse::<Action>().err(),
        Field::Confidence => value.parse::<Confidence>().err(),
        Field::DetectionClass => value.parse::<Class>().err(),
        Field::RuleLevel => value.parse::<Level>().err(),
        Field::Channel => value.parse::<Channel>().err(),
        Field::Correlation => value.parse::<Correlation>().err(),
        Field::ServerReview => value.parse::<Review>().err(),
        _ => None,
    };
    wrong.map_or(Ok(()), |unknown| Err(unknown.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Condition>().unwrap_err().to_string()
    }

    #[test]
    fn the_first_sign_divides_and_values_may_hold_others() {
        let pattern = |text| Operand::Pattern(Pattern::parse(text).unwrap());
        for (text, comparison, operand) in [
            ("server.address=a=b", Comparison::Is, Operand::Exact("a=b".to_owned())),
            ("server.address!=a>b", Comparison::IsNot, Operand::Exact("a>b".to_owned())),
            ("server.address=", Comparison::Is, Operand::Exact(String::new())),
            ("http.response.status_code>=400", Comparison::AtLeast, Operand::Number(400)),
            ("http.response.status_code<400", Comparison::Below, Operand::Number(400)),
            ("http.response.status_code=200", Comparison::Is, Operand::Exact("200".to_owned())),
            ("gnomon.sanctioned!=true", Comparison::IsNot, Operand::Exact("true".to_owned())),
            ("gen_ai.tool.name=a\\*b", Comparison::Is, Operand::Exact("a*b".to_owned())),
            ("gen_ai.tool.name=a\\**", Comparison::Is, pattern("a\\**")),
            ("url.path=/[x]?*", Comparison::Is, pattern("/[x]?*")),
            ("http.response.status_code=4*", Comparison::Is, pattern("4*")),
            ("http.request.header.X-A=1", Comparison::Is, Operand::Exact("1".to_owned())),
        ] {
            let condition: Condition = text.parse().unwrap();
            assert_eq!((condition.comparison, &condition.operand), (comparison, &operand), "{text}");
        }
    }

    #[test]
    fn what_can_never_match_is_refused_with_the_reason() {
        assert_eq!(error("server.adress=x"), "unknown field `server.adress`; did you mean `server.address`?");
        assert!(error("server.address").starts_with("`server.address` is not a condition; write FIELD=VALUE"));
        assert!(error("").contains("is not a condition"));
        assert_eq!(error("gnomon.action=blocked"), "blocked".parse::<Action>().unwrap_err().to_string());
        assert_eq!(error("gnomon.sanctioned=yes"), "`gnomon.sanctioned` is true or false, and `yes` is not");
        assert_eq!(error("server.port=https"), "`server.port` is a whole number, and `https` is not");
        assert!(error("server.address>a").contains("is not a number"));
        assert!(error("@timestamp>2026").contains("--since"));
        assert!(error("gen_ai.tool.call.arguments.path=/etc").contains("never stored"));
        assert!(error("http.request.body.text=a").contains("never stored"));
    }
}
