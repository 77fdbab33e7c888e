//! Regular expressions of schemas that our engine refuses: written as it takes them where their meaning is plain, else left out.
//!
//! The bias: a schema without an expression takes more values than with it, never fewer, and everything else in it holds. So where a
//! left-out expression stands under a keyword that turns that around (`not`, `if`, `oneOf`), that keyword gives way too.

use super::keywords::{Applies, Holds, keyword};
use crate::left_out::named;
use serde_json::{Map, Value, json};
use smol_str::SmolStr;
use std::collections::HashMap;

/// A schema whose every expression is taken.
pub(super) struct Usable {
    pub schema: Value,
    /// The expressions that were left out, shortened; each once.
    pub left_out: Vec<SmolStr>,
}

/// Rewrites a schema; `takes` says whether the engine takes an expression.
pub(super) fn usable(schema: &Value, takes: &dyn Fn(&str) -> bool) -> Usable {
    let mut rewriting = Rewriting { takes, known: HashMap::new(), left_out: Vec::new(), relaxes: false };
    let mut rewritten = schema.clone();
    rewriting.schema(&mut rewritten);
    if !rewriting.left_out.is_empty() {
        rewriting.relaxes = true;
        rewritten = schema.clone();
        rewriting.schema(&mut rewritten);
    }
    Usable { schema: rewritten, left_out: rewriting.left_out }
}

/// The form in which the engine takes an expression.
#[derive(Clone)]
enum Form {
    AsItIs,
    As(String),
    None,
}

struct Rewriting<'a> {
    takes: &'a dyn Fn(&str) -> bool,
    known: HashMap<String, Form>,
    left_out: Vec<SmolStr>,
    /// Whether keywords give way that turn around what is left out.
    relaxes: bool,
}

impl Rewriting<'_> {
    fn form(&mut self, expression: &str) -> Form {
        if let Some(known) = self.known.get(expression) {
            return known.clone();
        }
        let form = if (self.takes)(expression) {
            Form::AsItIs
        } else {
            Some(spelled(expression)).filter(|spelled| (self.takes)(spelled)).map_or(Form::None, Form::As)
        };
        if matches!(form, Form::None) {
            self.left_out.push(named(expression));
        }
        self.known.insert(expression.to_owned(), form.clone());
        form
    }

    /// Rewrites a schema. True if it takes, or may take by a reference, more than was written.
    fn schema(&mut self, schema: &mut Value) -> bool {
        let Value::Object(members) = schema else { return false };
        let mut wider = self.expressions(members);
        let mut turned = Vec::new();
        for (key, value) in members.iter_mut() {
            let is_wider = match keyword(key) {
                None => false,
                Some((Holds::Reference, _)) => true,
                Some((holds, applies)) => {
                    let any = holds.within_mut(value).fold(false, |wider, next| self.schema(next) | wider);
                    any && applies != Applies::Nowhere
                }
            };
            if is_wider {
                wider = true;
                turned.push(key.clone());
            }
        }
        if self.relaxes && wider {
            relax(members, &turned);
        }
        wider
    }

    /// Rewrites a schema's own expressions. True if one was left out.
    fn expressions(&mut self, members: &mut Map<String, Value>) -> bool {
        let mut wider = false;
        if let Some(pattern) = members.get("pattern").and_then(Value::as_str) {
            match self.form(pattern) {
                Form::AsItIs => {}
                Form::As(form) => drop(members.insert("pattern".to_owned(), form.into())),
                Form::None => {
                    members.remove("pattern");
                    wider = true;
                }
            }
        }
        if let Some(Value::Object(patterns)) = members.get_mut("patternProperties") {
            let mut any = false;
            for (pattern, schema) in std::mem::take(patterns) {
                match self.form(&pattern) {
                    Form::AsItIs => join(patterns, pattern, schema),
                    Form::As(form) => join(patterns, form, schema),
                    Form::None => any = true,
                }
            }
            if any {
                // Each member may be one that it is about, so none is an additional one.
                join(patterns, String::new(), json!({}));
                wider = true;
            }
        }
        wider
    }
}

/// Adds a schema to those of members whose names match.
fn join(patterns: &mut Map<String, Value>, pattern: String, schema: Value) {
    let both = match patterns.remove(&pattern) {
        Some(other) => json!({"allOf": [other, schema]}),
        None => schema,
    };
    patterns.insert(pattern, both);
}

/// Takes away what would refuse more values as its subschemas (the keywords in `wider`) take more.
fn relax(members: &mut Map<String, Value>, wider: &[String]) {
    let mut remove = vec!["unevaluatedProperties", "unevaluatedItems"];
    for key in wider {
        match key.as_str() {
            "not" => remove.push("not"),
            "if" => remove.extend(["if", "then", "else"]),
            "contains" => remove.push("maxContains"),
            "oneOf" => {
                if let Some(one) = members.remove("oneOf")
                    && !members.contains_key("anyOf")
                {
                    members.insert("anyOf".to_owned(), one);
                }
            }
            _ => {}
        }
    }
    for key in remove {
        members.remove(key);
    }
}

/// An expression that the engine refuses, with what people write in JavaScript and Python written as it takes it: a `-` beside a class
/// in brackets (`[\w-.]`) and a `{` that begins no repetition (`{id}`) are literal (ECMA-262, annex B.1.2); `\A`, `\Z` and `\z` are
/// the ends of the text. `{,3}` means one thing in JavaScript and another elsewhere, so it stays as it is.
fn spelled(expression: &str) -> String {
    let chars: Vec<char> = expression.chars().collect();
    let mut out = String::with_capacity(expression.len() + 8);
    let (mut in_class, mut after_class_escape) = (false, false);
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        let mut width = 1;
        let mut is_class_escape = false;
        match c {
            '\\' => {
                width = 2;
                match next {
                    Some('A') if !in_class => out.push('^'),
                    Some('Z' | 'z') if !in_class => out.push('$'),
                    Some(next) => {
                        out.extend(['\\', next]);
                        is_class_escape = is_class(next);
                        if matches!(next, 'p' | 'P' | 'u' | 'x' | 'k') && chars.get(at + 2) == Some(&'{') {
                            // A name, as in `\p{L}`.
                            let name = chars.iter().skip(at + 2).take_while(|c| **c != '}').chain(&['}']).copied();
                            width += name.clone().count();
                            out.extend(name);
                        }
                    }
                    None => out.push('\\'),
                }
            }
            '[' if !in_class => {
                in_class = true;
                out.push(c);
            }
            ']' if in_class => {
                in_class = false;
                out.push(c);
            }
            '-' if in_class => {
                let before_class = next == Some('\\') && chars.get(at + 2).copied().is_some_and(is_class);
                out.push_str(if (after_class_escape && next != Some(']')) || before_class { "\\-" } else { "-" });
            }
            '{' if !in_class && is_literal(chars.get(at + 1..).unwrap_or_default()) => out.push_str("\\{"),
            _ => out.push(c),
        }
        after_class_escape = is_class_escape;
        at += width;
    }
    out
}

/// Whether the letter of an escape stands for a class of characters.
fn is_class(letter: char) -> bool {
    matches!(letter, 'w' | 'W' | 'd' | 'D' | 's' | 'S' | 'p' | 'P')
}

/// Whether what follows a brace is no repetition, in any language.
fn is_literal(rest: &[char]) -> bool {
    let within: Vec<char> = rest.iter().take_while(|c| **c != '}').copied().collect();
    let is_bound = |c: &char| c.is_ascii_digit() || *c == ',';
    within.len() == rest.len() || within.is_empty() || !within.iter().all(is_bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_spelled_as_the_engine_takes_it() {
        for (written, expected) in [
            (r"^[\w-.]+$", r"^[\w\-.]+$"),
            (r"^[.-\w-]+$", r"^[.\-\w-]+$"),
            (r"^[\p{L}-_]$", r"^[\p{L}\-_]$"),
            (r"^[a-z]{2}{id}$", r"^[a-z]{2}\{id}$"),
            (r"^{", r"^\{"),
            (r"\Aa\Z", "^a$"),
            (r"^a{,3}$", r"^a{,3}$"),
            (r"\\Z[{x]\", r"\\Z[{x]\"),
        ] {
            assert_eq!(spelled(written), expected, "{written}");
        }
    }

    #[test]
    fn a_schema_never_takes_less_than_with_the_expression_that_is_left_out() {
        let bad = json!({"pattern": "bad"});
        let of = |schema: Value| usable(&schema, &|expression| expression != "bad").schema;
        assert_eq!(of(json!({"not": bad, "type": "string"})), json!({"type": "string"}));
        assert_eq!(of(json!({"if": bad, "then": false, "else": false})), json!({}));
        assert_eq!(of(json!({"oneOf": [bad, {"type": "string"}]})), json!({"anyOf": [{}, {"type": "string"}]}));
        assert_eq!(of(json!({"not": {"$ref": "#/$defs/a"}, "$defs": {"a": bad}})), json!({"$defs": {"a": {}}}));
        assert_eq!(
            of(json!({"patternProperties": {"bad": {"type": "string"}, "^x": bad}, "additionalProperties": false})),
            json!({"patternProperties": {"^x": {}, "": {}}, "additionalProperties": false})
        );
        // What is no expression stays.
        for same in [
            json!({"properties": {"pattern": {"type": "string"}}, "const": {"pattern": "bad"}}),
            json!({"not": {"pattern": "good"}, "oneOf": [{"$ref": "#"}]}),
        ] {
            assert_eq!(of(same.clone()), same);
        }
    }
}
