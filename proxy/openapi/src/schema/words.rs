//! The words of JSON Schema that are taken over. What is not here says nothing about values (`example`, `xml`, `x-…`), would
//! change what references mean (`$id`, `$anchor`, `$dynamicRef`), or would refuse more once a part of it was cut (`not`, `if`,
//! `contains`, `unevaluatedProperties`).

/// What stands behind a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
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

/// What stands behind this word, if it is one.
pub fn kind(word: &str) -> Option<Kind> {
    Some(match word {
        "items" | "additionalProperties" | "propertyNames" => Kind::Schema,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Kind::Schemas,
        "properties" | "dependentSchemas" | "patternProperties" => Kind::Named,
        "minimum" | "maximum" | "multipleOf" | "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => {
            Kind::Number
        }
        "uniqueItems" | "deprecated" => Kind::Flag,
        "pattern" => Kind::Text(256),
        "format" | "contentEncoding" | "contentMediaType" => Kind::Text(64),
        "description" => Kind::Description,
        "type" => Kind::Type,
        "required" => Kind::Required,
        "default" => Kind::Value(128),
        "const" => Kind::Value(1024),
        "enum" => Kind::Enum,
        "exclusiveMinimum" | "exclusiveMaximum" => Kind::Bound,
        _ => return None,
    })
}
