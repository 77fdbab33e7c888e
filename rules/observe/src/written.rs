//! What of an observation is written, and how.

use crate::{
    Family, Field, FieldRef, Retention, Value,
    concealing::{Forms, without},
    secret::is_secret_name,
};
use smol_str::SmolStr;
use std::borrow::Cow;

impl FieldRef {
    /// True if events hold it: what people typed, what servers say, and headers that carry credentials are in none.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        match self {
            FieldRef::Field(field) => field.info().is_stored(),
            FieldRef::Member(family, name) => is_stored_member(*family, name),
        }
    }
}

/// True if events hold this member of a family.
pub(crate) fn is_stored_member(family: Family, name: &str) -> bool {
    family != Family::Argument && !is_secret_name(name)
}

/// A field's value as it is written: names, ids and addresses that programs choose may carry credentials.
pub(crate) fn written(field: Field, value: &Value) -> Cow<'_, Value> {
    match (field.info().retention, field) {
        // The id of a session may have the form of a token, and sessions are told apart by it.
        (Retention::Address, Field::McpSessionId) => concealed(value, Forms::Marked),
        (Retention::Address, _) => concealed(value, Forms::All),
        (Retention::Stored | Retention::Transient, _) => Cow::Borrowed(value),
    }
}

/// The value of a header as it is written.
pub(crate) fn written_member(value: &Value) -> Cow<'_, Value> {
    concealed(value, Forms::All)
}

fn concealed(value: &Value, forms: Forms) -> Cow<'_, Value> {
    match value {
        Value::Str(text) => match without(text, forms) {
            Cow::Borrowed(_) => Cow::Borrowed(value),
            Cow::Owned(text) => Cow::Owned(text.into()),
        },
        Value::List(list) if list.iter().any(|text| matches!(without(text, forms), Cow::Owned(_))) => {
            Cow::Owned(Value::List(list.iter().map(|text| SmolStr::new(without(text, forms))).collect()))
        }
        Value::List(_) | Value::Int(_) | Value::Bool(_) => Cow::Borrowed(value),
    }
}
