//! The field table as a page for people and as a JSON Schema for tools.

use crate::{Action, Channel, Family, Field, FieldType, Role};
use std::fmt::Write;

/// The reference page of all fields, Markdown.
#[must_use]
pub fn field_reference() -> String {
    let mut page = String::from(
        "# Fields\n\n\
         Generated from the table in `rules/observe`; edit it there. The same names stand in events, in rules and in exports.\n\n\
         *Phase* is the moment from which a rule can rely on the field: it is then present, or known to be absent. Fields marked \
         *outcome* are written after rules ran, so rules cannot name them. Fields marked *not stored* are judged and forgotten.\n\n\
         | field | type | phase | filled on | notes | sample |\n|---|---|---|---|---|---|\n",
    );
    for field in Field::all() {
        let info = field.info();
        let mut notes = meaning(field);
        if info.role == Role::Outcome {
            notes.push_str(" *Outcome.*");
        }
        if !info.is_stored() {
            notes.push_str(" *Not stored.*");
        }
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | `{}` |",
            info.name,
            kind_word(info.kind),
            info.phase,
            channels(info.channels),
            notes,
            info.sample
        );
    }
    page.push_str("\n## Families\n\nThe last part of these names is free.\n\n| family | phase | filled on | notes |\n|---|---|---|---|\n");
    for family in Family::ALL {
        let notes = match family {
            Family::RequestHeader => {
                "A request header, name in lower case; a list when it was sent more than once. Credentials are judged, never written."
            }
            Family::ResponseHeader => "A header of the answer, likewise.",
            Family::Argument => {
                "One argument of a tool call by its dotted path, such as `options.file`; array elements share their array's path. *Not stored.*"
            }
        };
        let _ = writeln!(page, "| `{}<name>` | {} | {} | {notes} |", family.prefix(), family.phase(), channels(family.channels()));
    }
    page
}

/// The JSON Schema (2020-12) of one event line.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    let properties = Field::all().filter(|field| field.info().is_stored()).map(|field| {
        let info = field.info();
        let kind = match info.kind {
            FieldType::Str => serde_json::json!({"type": "string"}),
            FieldType::Int => serde_json::json!({"type": "integer"}),
            FieldType::Bool => serde_json::json!({"type": "boolean"}),
            FieldType::List => serde_json::json!({"type": "array", "items": {"type": "string"}}),
        };
        let mut schema = kind;
        schema["description"] = meaning(field).into();
        (info.name.to_owned(), schema)
    });
    let header = serde_json::json!({"type": ["string", "array"], "items": {"type": "string"}});
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gnomon event",
        "description": "One line of the event stream: a flat object with dotted keys.",
        "type": "object",
        "properties": properties.collect::<serde_json::Map<_, _>>(),
        "patternProperties": {
            r"^http\.request\.header\.": header.clone(),
            r"^http\.response\.header\.": header,
        },
        "required": ["@timestamp", "event.id", "event.kind", "gnomon.schema"],
        "additionalProperties": false,
    })
}

/// The description of a field, with the words that it can have where a table of their own has them.
fn meaning(field: Field) -> String {
    let doc = field.info().doc;
    match field {
        Field::Action => format!("{doc} One of: {}.", Action::ALL.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", ")),
        _ => doc.to_owned(),
    }
}

fn kind_word(kind: FieldType) -> &'static str {
    match kind {
        FieldType::Str => "text",
        FieldType::Int => "number",
        FieldType::Bool => "yes/no",
        FieldType::List => "list",
    }
}

fn channels(channels: &[Channel]) -> String {
    if channels.len() == Channel::ALL.len() {
        return "all".to_owned();
    }
    channels.iter().map(|c| c.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FIELDS;

    #[test]
    fn the_page_has_a_row_for_every_field() {
        let page = field_reference();
        for info in FIELDS {
            assert!(page.contains(&format!("| `{}` |", info.name)), "{}", info.name);
        }
    }
}
