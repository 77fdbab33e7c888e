//! JSON Schemas of strangers: their cost is measured before they are used, and checks are bounded.
//!
//! A schema of 2 KB can ask for 2^64 steps (`allOf` of two references, 64 levels deep). So a schema is measured when its tool is
//! listed: one that is too large, too deep or unfolds too far is not taken. What is left costs little for most values and is
//! checked at once. Where the product of schema and value is larger, the steps of this very check are counted beforehand, on
//! threads that do nothing else: a hostile pair of the two is refused, and delays no one else.

mod cost;
mod expressions;
mod keywords;
mod measure;
mod workers;

use bytes::Bytes;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Value, json};
use smol_str::{SmolStr, format_smolstr};
use std::{sync::Arc, time::Duration};

pub(crate) use measure::Measure;

/// Most steps of a check that is made where it is asked for. A step takes some tens of nanoseconds.
const AT_ONCE: u64 = 20_000;
/// How deep it may nest: a serving thread's stack is small.
const AT_ONCE_NESTING: usize = 200;
/// Most steps of any check.
const MAX_STEPS: u64 = 1_000_000;
/// The timeout of a check, waiting included.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most states of a regular expression's backtracking, and most bytes of its program.
const BACKTRACKS: usize = 10_000;
const PROGRAM: usize = 256 << 10;

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The value fits.
    Fits,
    /// The value does not fit: the position, and the rule it breaks; never the value.
    Differs(String),
    /// Not decided within the bounds; the reason.
    Unknown(&'static str),
}

/// A schema that is ready to be used.
#[derive(Debug)]
pub(crate) struct Checker {
    schema: Value,
    measure: Measure,
    validator: Validator,
    /// The regular expressions that cannot be used, shortened: everything else is checked.
    pub left_out: Vec<SmolStr>,
}

impl Checker {
    /// None where nothing can be checked: the schema has a reference to another document, which is never fetched.
    ///
    /// # Errors
    /// If it costs more than its bound, or is no schema; in words for people.
    pub fn new(schema: &Value) -> Result<Option<Self>, SmolStr> {
        let Some(measure) = Measure::of(schema)? else { return Ok(None) };
        if let Ok(validator) = compiled(schema) {
            return Ok(Some(Self { schema: schema.clone(), measure, validator, left_out: Vec::new() }));
        }
        // One expression that the engine refuses must not cost all the rest.
        let usable = expressions::usable(schema, &|expression| compiled(&json!({"pattern": expression})).is_ok());
        let validator = compiled(&usable.schema).map_err(|error| {
            let text: String = error.masked().to_string().chars().filter(|c| !c.is_control()).take(200).collect();
            format_smolstr!("its schema cannot be used: {text}")
        })?;
        Ok(Some(Self { schema: usable.schema, measure, validator, left_out: usable.left_out }))
    }

    /// Checks a value.
    pub async fn check(self: &Arc<Self>, value: &Value) -> Verdict {
        if self.takes_little(value) {
            return self.tell(value);
        }
        let (own, value) = (self.clone(), value.clone());
        elsewhere(move || own.tell_briefly(&value)).await
    }

    fn takes_little(&self, value: &Value) -> bool {
        let little = self.measure.bound(value, AT_ONCE_NESTING).is_some_and(|steps| steps <= AT_ONCE);
        // A large schema applies to a small value in few places.
        little || cost::steps(&self.schema, value, AT_ONCE, AT_ONCE_NESTING).is_some()
    }

    /// Whether it fits, if that does not take too much.
    fn tell_briefly(&self, value: &Value) -> Verdict {
        match cost::steps(&self.schema, value, MAX_STEPS, cost::MAX_NESTING) {
            None => Verdict::Unknown("it takes more steps than it may"),
            // Errors are not located: each that is found takes memory.
            Some(_) if self.validator.is_valid(value) => Verdict::Fits,
            Some(_) => Verdict::Differs("it is too large to say where".to_owned()),
        }
    }

    /// The first thing that does not fit.
    fn tell(&self, value: &Value) -> Verdict {
        if self.validator.is_valid(value) {
            return Verdict::Fits;
        }
        let Some(error) = self.validator.iter_errors(value).next() else { return Verdict::Fits };
        let place = error.instance_path().to_string();
        let place = if place.is_empty() { "the object itself".to_owned() } else { format!("`{place}`") };
        let text: String = error.masked().to_string().chars().filter(|c| !c.is_control()).take(200).collect();
        Verdict::Differs(format!("{place}: {text}"))
    }
}

/// Checks a value by a schema that is used once, on the threads for what may take long: compiling it may take longer than the check.
pub(crate) async fn check_once(schema: Bytes, value: Value) -> Verdict {
    elsewhere(move || match Checker::new(&serde_json::from_slice(&schema).unwrap_or_default()) {
        Ok(None) => Verdict::Fits,
        Ok(Some(checker)) if checker.takes_little(&value) => checker.tell(&value),
        Ok(Some(checker)) => checker.tell_briefly(&value),
        Err(_) => Verdict::Unknown("its schema cannot be used"),
    })
    .await
}

/// Checks on the threads that do nothing else.
async fn elsewhere(check: impl FnOnce() -> Verdict + Send + 'static) -> Verdict {
    match tokio::time::timeout(PATIENCE, workers::run(check)).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(workers::Busy)) => Verdict::Unknown("too many others are being checked"),
        Err(_) => Verdict::Unknown("it takes longer than it may"),
    }
}

fn compiled(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    let patterns = PatternOptions::fancy_regex().backtrack_limit(BACKTRACKS).size_limit(PROGRAM);
    jsonschema::options().with_pattern_options(patterns).build(schema)
}

#[cfg(test)]
mod tests {
    use super::{
        measure::{MAX_DEPTH, MAX_NODES, MAX_PATTERN},
        *,
    };
    use std::time::Instant;

    /// `levels` of two references each to the next.
    fn doubling(levels: usize, combine: &str) -> Value {
        let defs: serde_json::Map<_, _> = (0..levels)
            .map(|n| {
                let next = json!({"$ref": format!("#/$defs/l{}", n + 1)});
                (format!("l{n}"), json!({combine: [next, next]}))
            })
            .chain([(format!("l{levels}"), json!({"type": "object"}))])
            .collect();
        json!({"type": "object", "allOf": [{"$ref": "#/$defs/l0"}], "$defs": defs})
    }

    fn checker(schema: &Value) -> Arc<Checker> {
        Arc::new(Checker::new(schema).unwrap().unwrap())
    }

    #[test]
    fn a_schema_that_unfolds_too_far_is_not_taken() {
        for combine in ["allOf", "anyOf", "oneOf"] {
            for levels in [14, 28, 64] {
                assert!(Checker::new(&doubling(levels, combine)).is_err(), "{levels} {combine}");
            }
            assert!(Checker::new(&doubling(8, combine)).is_ok());
        }
        let chain: serde_json::Map<_, _> =
            (0..5000).map(|n| (format!("l{n}"), json!({"allOf": [{"$ref": format!("#/$defs/l{}", n + 1)}]}))).collect();
        assert!(Checker::new(&json!({"type": "object", "$ref": "#/$defs/l0", "$defs": chain})).is_err());
        assert!(Checker::new(&json!({"allOf": [{"$ref": "#"}]})).is_err());
        let wide: Vec<_> = (0..MAX_NODES).map(|n| json!({"const": n})).collect();
        assert!(Checker::new(&json!({"anyOf": wide})).is_err());
        assert!(Checker::new(&json!({"properties": {"a": {"pattern": "a".repeat(MAX_PATTERN + 1)}}})).is_err());
    }

    #[tokio::test]
    async fn what_people_write_is_taken_and_checked() {
        let tree = json!({
            "type": "object", "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#"}}},
            "required": ["value"], "additionalProperties": false,
        });
        let tree = checker(&tree);
        assert_eq!(tree.check(&json!({"value": 1, "children": [{"value": 2, "children": []}]})).await, Verdict::Fits);
        let Verdict::Differs(what) = tree.check(&json!({"value": 1, "children": [{"value": "secret"}]})).await else { panic!("it fits") };
        assert!(what.contains("/children/0/value") && !what.contains("secret"), "{what}");
        // References of every kind that leads within the document.
        for schema in [
            json!({"$defs": {"a": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a"}}}),
            json!({"$defs": {"a": {"$anchor": "here", "type": "string"}}, "properties": {"x": {"$ref": "#here"}}}),
            json!({"$id": "https://x.example/s", "$defs": {"a": {"$id": "a", "type": "string"}}, "properties": {"x": {"$ref": "a"}}}),
            json!({"definitions": {"a/b c": {"type": "string"}}, "properties": {"x": {"$ref": "#/definitions/a~1b%20c"}}}),
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"type": "string"}}, "properties": {"x": {"$ref": "#/definitions/a"}}}),
        ] {
            let checker = checker(&schema);
            assert_eq!(checker.check(&json!({"x": "text"})).await, Verdict::Fits, "{schema}");
            assert!(matches!(checker.check(&json!({"x": 1})).await, Verdict::Differs(_)), "{schema}");
        }
    }

    #[tokio::test]
    async fn one_expression_that_cannot_be_used_leaves_everything_else_checked() {
        let with = |pattern: &str| {
            json!({"type": "object", "required": ["n"], "additionalProperties": false, "properties": {
                "n": {"type": "integer", "maximum": 5}, "s": {"type": "string", "pattern": pattern}}})
        };
        // The expression, a text that matches, one that does not; none where it is left out.
        for (pattern, texts) in [
            (r"^[\w-.]+$", Some(("a-b.c", "a b"))),
            ("^{id}$", Some(("{id}", "id"))),
            (r"^a\Z", Some(("a", "ab"))),
            (r"^[\p{L}\d_]{1,255}$", None),
            ("^.{1,100000}$", None),
            ("^a{,3}$", None),
            ("^(docs", None),
        ] {
            let checker = checker(&with(pattern));
            assert_eq!(checker.left_out.is_empty(), texts.is_some(), "{pattern}");
            for wrong in [json!({}), json!({"n": "x"}), json!({"n": 6}), json!({"n": 1, "zz": 1}), json!({"n": 1, "s": 1})] {
                assert!(matches!(checker.check(&wrong).await, Verdict::Differs(_)), "{pattern} {wrong}");
            }
            assert_eq!(checker.check(&json!({"n": 1, "s": texts.map_or("anything", |(fits, _)| fits)})).await, Verdict::Fits, "{pattern}");
            if let Some((_, wrong)) = texts {
                assert!(matches!(checker.check(&json!({"n": 1, "s": wrong})).await, Verdict::Differs(_)), "{pattern}");
            }
        }
        let named =
            checker(&json!({"patternProperties": {"^(x": {"type": "integer"}, "^y": {"type": "integer"}}, "additionalProperties": false}));
        assert_eq!(named.check(&json!({"x": "text", "y": 1})).await, Verdict::Fits);
        assert!(matches!(named.check(&json!({"y": "text"})).await, Verdict::Differs(_)));
        assert!(Checker::new(&json!({"type": "no such type"})).unwrap_err().starts_with("its schema cannot be used: "));
    }

    #[tokio::test]
    async fn a_value_that_makes_a_schema_costly_is_refused_within_its_time() {
        // Twice as much with each level of the value.
        let next = json!({"$ref": "#/$defs/n"});
        let schema = json!({"type": "object", "$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [
            {"properties": {"a": next}, "required": ["b"]}, {"properties": {"a": next}, "required": ["b"]},
        ]}}});
        let checker = checker(&schema);
        let mut value = json!({"a": 1});
        for _ in 0..100 {
            value = json!({"a": value});
        }
        let begun = Instant::now();
        assert_eq!(checker.check(&value).await, Verdict::Unknown("it takes more steps than it may"));
        assert!(begun.elapsed() < PATIENCE);
        // Others are checked as ever.
        assert!(matches!(checker.check(&json!({"a": {"a": 1}})).await, Verdict::Differs(_)));
    }

    #[tokio::test]
    async fn large_values_are_checked_and_catastrophic_patterns_come_to_an_end() {
        let schema = json!({"properties": {"rows": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}}});
        let table = checker(&schema);
        let rows = |last: Value| {
            let mut rows: Vec<_> = (0..20_000).map(|n| json!({"n": n})).collect();
            rows.push(json!({"n": last}));
            json!({"rows": rows})
        };
        assert_eq!(table.check(&rows(json!(1))).await, Verdict::Fits);
        assert!(matches!(table.check(&rows(json!("x"))).await, Verdict::Differs(_)));
        let schema = json!({"properties": {"a": {"pattern": "^(a+)+(?=b)$"}}});
        let begun = Instant::now();
        assert_ne!(checker(&schema).check(&json!({"a": "a".repeat(5000)})).await, Verdict::Fits);
        assert!(begun.elapsed() < PATIENCE);
    }

    #[test]
    fn a_schema_that_nests_as_deep_as_it_may_is_compiled_and_used_on_a_threads_stack() {
        let levels = MAX_DEPTH - 8;
        let mut schema = json!({"type": "object", "required": ["b"]});
        for _ in 0..levels / 2 {
            schema = json!({"properties": {"a": {"anyOf": [schema]}}});
        }
        let mut value = json!({});
        for _ in 0..100 {
            value = json!({"a": value});
        }
        let checker = checker(&schema);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert!(matches!(runtime.block_on(checker.check(&value)), Verdict::Differs(_)));
    }
}
