//! The words of JSON Schema that are taken over. What is not here says nothing about values (`example`, `xml`, `x-…`), would
//! change what references mean (`$id`, `$anchor`, `$dynamicRef`), or would refuse more once a part of it was cut (`not`, `if`,
//! `contains`, `unevaluatedProperties`).

/// The value that a keyword takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeywordValue {
    Schema,
    Schemas,
    /// Schemas by name.
    Named,
    Number,
    Flag,
    /// A text of at most so many bytes, which is left out where it is longer.
    Text(usize),
    Description,
    Type,
    Required,
    /// Any value of at most so many bytes.
    Value(usize),
    Enum,
    /// An exclusive bound.
    Bound,
}

/// The value that this keyword takes, if it is one that is taken over.
pub fn kind(word: &str) -> Option<KeywordValue> {
    Some(match word {
        "items" | "additionalProperties" | "propertyNames" => KeywordValue::Schema,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => KeywordValue::Schemas,
        "properties" | "dependentSchemas" | "patternProperties" => KeywordValue::Named,
        "minimum" | "maximum" | "multipleOf" | "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
            KeywordValue::Number
        }
        "uniqueItems" | "deprecated" => KeywordValue::Flag,
        "pattern" => KeywordValue::Text(256),
        "format" | "contentEncoding" | "contentMediaType" => KeywordValue::Text(64),
        "description" => KeywordValue::Description,
        "type" => KeywordValue::Type,
        "required" => KeywordValue::Required,
        "default" => KeywordValue::Value(128),
        "const" => KeywordValue::Value(1024),
        "enum" => KeywordValue::Enum,
        "exclusiveMinimum" | "exclusiveMaximum" => KeywordValue::Bound,
        _ => return None,
    })
}
