//! The keywords of JSON Schema that hold schemas, of all its drafts: how they hold them, and what those apply to. Whoever walks a schema asks
//! here, so that what is counted and what is rewritten are the same subschemas.

use serde_json::{Map, Value};

/// The form in which a keyword holds schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    One,
    List,
    /// One, or a list of them in drafts up to 2019-09.
    OneOrList,
    /// The values of an object. Those of `dependencies` may be lists of names instead, which are no schemas.
    Named,
    /// A reference to one.
    Reference,
}

/// The values that a keyword's schemas apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applies {
    /// None, until something refers to them.
    Nowhere,
    /// The value itself.
    ToValue,
    /// The member of its name.
    ToMember,
    /// Each member whose name matches.
    ToMatching,
    /// Each member, or those that nothing else applies to.
    ToMembers,
    /// The name of each member.
    ToNames,
    /// Each element or those that nothing else applies to; each of a list to the element in its place.
    ToElements,
}

/// The row of a keyword; none where it holds no schema.
pub(super) fn keyword(name: &str) -> Option<(Holds, Applies)> {
    Some(match name {
        "$defs" | "definitions" => (Holds::Named, Applies::Nowhere),
        "$ref" | "$dynamicRef" | "$recursiveRef" => (Holds::Reference, Applies::ToValue),
        "allOf" | "anyOf" | "oneOf" => (Holds::List, Applies::ToValue),
        "not" | "if" | "then" | "else" => (Holds::One, Applies::ToValue),
        "dependentSchemas" | "dependencies" => (Holds::Named, Applies::ToValue),
        "properties" => (Holds::Named, Applies::ToMember),
        "patternProperties" => (Holds::Named, Applies::ToMatching),
        "additionalProperties" | "unevaluatedProperties" => (Holds::One, Applies::ToMembers),
        "propertyNames" => (Holds::One, Applies::ToNames),
        "prefixItems" => (Holds::List, Applies::ToElements),
        "items" => (Holds::OneOrList, Applies::ToElements),
        "additionalItems" | "contains" | "unevaluatedItems" => (Holds::One, Applies::ToElements),
        _ => return None,
    })
}

impl Holds {
    /// The schemas in a keyword's value.
    pub fn within(self, value: &Value) -> impl Iterator<Item = &Value> {
        let one = self.is_one(value).then_some(value);
        let list = if self.is_list() { value.as_array() } else { None };
        let named = if self == Self::Named { value.as_object() } else { None };
        one.into_iter().chain(list.into_iter().flatten()).chain(named.into_iter().flat_map(Map::values))
    }

    /// The same, to be changed.
    pub fn within_mut(self, value: &mut Value) -> impl Iterator<Item = &mut Value> {
        let (mut one, mut list, mut named) = (None, None, None);
        match value {
            value if self.is_one(value) => one = Some(value),
            Value::Array(values) if self.is_list() => list = Some(values),
            Value::Object(members) if self == Self::Named => named = Some(members),
            _ => {}
        }
        one.into_iter().chain(list.into_iter().flatten()).chain(named.into_iter().flat_map(Map::values_mut))
    }

    /// Whether the value is the schema, and not a list of them.
    pub fn is_one(self, value: &Value) -> bool {
        self == Self::One || self == Self::OneOrList && !value.is_array()
    }

    fn is_list(self) -> bool {
        matches!(self, Self::List | Self::OneOrList)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Every keyword of the drafts 4 to 2020-12 that holds schemas or refers to them, with a value that has two where it may.
    #[test]
    fn each_keyword_gives_the_schemas_in_it_to_whoever_counts_and_to_whoever_rewrites() {
        let (one, list, named) = (json!({"type": "string"}), json!([{}, true]), json!({"a": {}, "b": true}));
        for (name, value, held) in [
            ("$defs", &named, 2),
            ("definitions", &named, 2),
            ("allOf", &list, 2),
            ("anyOf", &list, 2),
            ("oneOf", &list, 2),
            ("not", &one, 1),
            ("if", &one, 1),
            ("then", &one, 1),
            ("else", &one, 1),
            ("dependentSchemas", &named, 2),
            ("dependencies", &named, 2),
            ("properties", &named, 2),
            ("patternProperties", &named, 2),
            ("additionalProperties", &one, 1),
            ("unevaluatedProperties", &one, 1),
            ("propertyNames", &one, 1),
            ("prefixItems", &list, 2),
            ("items", &one, 1),
            ("items", &list, 2),
            ("additionalItems", &one, 1),
            ("contains", &one, 1),
            ("unevaluatedItems", &one, 1),
            ("$ref", &json!("#/x"), 0),
            ("allOf", &one, 0),
            ("properties", &list, 0),
        ] {
            let (holds, _) = keyword(name).unwrap();
            assert_eq!(holds.within(value).count(), held, "{name}");
            assert_eq!(holds.within_mut(&mut value.clone()).count(), held, "{name}");
        }
        assert!(["const", "enum", "default", "examples", "pattern", "a"].iter().all(|name| keyword(name).is_none()));
    }
}
