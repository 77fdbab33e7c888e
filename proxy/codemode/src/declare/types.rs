//! Types of TypeScript from JSON Schema, drafts 7 to 2020-12 as far as tools use them.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::{MAX_TYPES, comment};

/// How deep types nest, references included.
const MAX_DEPTH: usize = 20;

/// Alternatives of one union, members of one tuple or intersection.
const MAX_MEMBERS: usize = 200;

/// Most properties that are shown in their server's order.
const FEW: usize = 40;

/// A schema with what it may refer to.
pub struct Schema<'a> {
    root: &'a Value,
    /// References on the way to where we are.
    followed: Vec<&'a str>,
    /// The end of this schema's share of the text.
    end: usize,
}

impl<'a> Schema<'a> {
    pub fn new(root: &'a Value) -> Self {
        Self { root, followed: Vec::new(), end: 0 }
    }

    /// Writes its type; further lines are indented by `indent` steps.
    pub fn write(mut self, out: &mut String, indent: usize) {
        self.end = out.len() + MAX_TYPES;
        self.any(out, self.root, indent, MAX_DEPTH);
    }

    fn any(&mut self, out: &mut String, schema: &'a Value, indent: usize, depth: usize) {
        let schema = match schema {
            Value::Bool(false) => return out.push_str("never"),
            Value::Object(schema) if depth > 0 && out.len() < self.end => schema,
            _ => return out.push_str("unknown"),
        };
        let end = self.end;
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let start = out.len();
            self.reference(out, reference, indent, depth);
            // Keywords beside a reference apply as well, since 2019-09.
            self.beside(out, start, schema, indent, depth);
            return;
        }
        // `null` beside whatever the rest says.
        let nullable = schema.get("nullable") == Some(&Value::Bool(true));
        if let Some(constant) = schema.get("const") {
            literal(out, constant);
        } else if let Some(Value::Array(values)) = schema.get("enum") {
            list(out, end, values, " | ", literal);
        } else if let Some(alternatives) = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)?.as_array()) {
            let start = out.len();
            list(out, end, alternatives, " | ", |out, member| self.grouped(out, member, schema, indent, depth - 1));
            self.beside(out, start, schema, indent, depth);
        } else if let Some(Value::Array(parts)) = schema.get("allOf") {
            let start = out.len();
            list(out, end, parts, " & ", |out, member| self.grouped(out, member, schema, indent, depth - 1));
            self.beside(out, start, schema, indent, depth);
        } else if let Some(Value::Array(types)) = schema.get("type") {
            list(out, end, types, " | ", |out, name| self.named(out, name.as_str(), schema, indent, depth));
        } else {
            self.named(out, schema.get("type").and_then(Value::as_str), schema, indent, depth);
        }
        if nullable {
            out.push_str(" | null");
        }
    }

    /// Adds the properties that stand beside what was written from `start` on: both hold.
    fn beside(&mut self, out: &mut String, start: usize, schema: &'a Map<String, Value>, indent: usize, depth: usize) {
        if schema.get("properties").and_then(Value::as_object).is_none_or(Map::is_empty) || out.len() >= self.end {
            return;
        }
        // Alternatives that only say which properties are required say nothing that a type could.
        if out[start..].split(" | ").all(|member| member == "unknown") {
            out.truncate(start);
        } else {
            if out[start..].contains(" | ") {
                out.insert(start, '(');
                out.push(')');
            }
            out.push_str(" & ");
        }
        self.object(out, schema, indent, depth);
    }

    /// In parentheses, as a member of a union or intersection may be one itself. A member that only says which properties of `parent` are
    /// required is not shown.
    fn grouped(&mut self, out: &mut String, member: &'a Value, parent: &'a Map<String, Value>, indent: usize, depth: usize) {
        let start = out.len();
        match required(member, parent) {
            Some(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("{}: unknown", key(name))).collect();
                out.push_str(&format!("{{ {} }}", names.join("; ")));
            }
            None => self.any(out, member, indent, depth),
        }
        if out[start..].contains(" | ") || out[start..].contains(" & ") {
            out.insert(start, '(');
            out.push(')');
        }
    }

    fn named(&mut self, out: &mut String, name: Option<&str>, schema: &'a Map<String, Value>, indent: usize, depth: usize) {
        match name {
            Some("string") => out.push_str("string"),
            Some("number" | "integer") => out.push_str("number"),
            Some("boolean") => out.push_str("boolean"),
            Some("null") => out.push_str("null"),
            Some("array") => self.array(out, schema, indent, depth),
            Some("object") => self.object(out, schema, indent, depth),
            None if schema.contains_key("properties") || schema.contains_key("additionalProperties") => {
                self.object(out, schema, indent, depth)
            }
            None if schema.contains_key("items") || schema.contains_key("prefixItems") => self.array(out, schema, indent, depth),
            Some(_) | None => out.push_str("unknown"),
        }
    }

    fn array(&mut self, out: &mut String, schema: &'a Map<String, Value>, indent: usize, depth: usize) {
        let end = self.end;
        // Draft 7 writes a tuple as a list of items, 2020-12 as prefix items.
        let (first, rest) = match (schema.get("prefixItems"), schema.get("items")) {
            (Some(Value::Array(first)), rest) => (first.as_slice(), rest),
            (_, Some(Value::Array(first))) => (first.as_slice(), schema.get("additionalItems")),
            (_, rest) => (&[][..], rest),
        };
        if first.is_empty() {
            out.push_str("Array<");
            match rest {
                Some(items) => self.any(out, items, indent, depth - 1),
                None => out.push_str("unknown"),
            }
            return out.push('>');
        }
        out.push('[');
        list(out, end, first, ", ", |out, member| self.any(out, member, indent, depth - 1));
        if !matches!(rest, Some(Value::Bool(false))) && first.len() <= MAX_MEMBERS {
            out.push_str(", ...Array<");
            match rest {
                Some(items) => self.any(out, items, indent, depth - 1),
                None => out.push_str("unknown"),
            }
            out.push('>');
        }
        out.push(']');
    }

    fn object(&mut self, out: &mut String, schema: &'a Map<String, Value>, indent: usize, depth: usize) {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let patterns = schema.get("patternProperties").and_then(Value::as_object).filter(|patterns| !patterns.is_empty());
        // With several patterns, or beside other types, a type could not say which applies.
        let others = match (patterns, schema.get("additionalProperties")) {
            (Some(patterns), None | Some(Value::Bool(_))) if patterns.len() == 1 => patterns.values().next(),
            (Some(_), _) => None,
            (None, others) => others,
        };
        if properties.unwrap_or(&none).is_empty() {
            return match others {
                Some(Value::Bool(false)) => out.push_str("{}"),
                Some(others @ Value::Object(_)) => {
                    out.push_str("Record<string, ");
                    self.any(out, others, indent, depth - 1);
                    out.push('>');
                }
                _ => out.push_str("Record<string, unknown>"),
            };
        }
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let margin = "  ".repeat(indent + 1);
        out.push_str("{\n");
        let own = properties.into_iter().flatten();
        // Required properties cannot be left out, so they come first where not all may fit.
        let mut all: Vec<(&'a String, &'a Value)> = own.collect();
        if all.len() > FEW {
            all.sort_by_key(|(name, _)| !required.contains(&name.as_str()));
        }
        let told: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let conditional: Vec<_> = conditions(schema).filter(|(name, _)| !told.contains(&name.as_str())).take(MAX_MEMBERS).collect();
        all.extend(conditional);
        let room = self.end.saturating_sub(out.len());
        let wordless = out.len() + room / 2;
        let count = all.len();
        for (at, (name, property)) in all.into_iter().enumerate() {
            if out.len() >= self.end {
                let left = format!("and {} more, for which there is no room here: search's inputSchema has them", count - at);
                comment::write(out, indent + 1, &left, &[], comment::MAX_PROPERTY);
                break;
            }
            // Cut, it would be another's.
            if name.len() > MAX_KEY {
                comment::write(out, indent + 1, "and one whose name is too long", &[], comment::MAX_PROPERTY);
                continue;
            }
            // The names before the words.
            let description = property.get("description").and_then(Value::as_str).filter(|_| out.len() < wordless).unwrap_or_default();
            let format = property.get("format").and_then(Value::as_str).map(|format| format!("@format {format}"));
            let deprecated = (property.get("deprecated") == Some(&Value::Bool(true))).then(|| "@deprecated".to_owned());
            let tags: Vec<String> = format.into_iter().chain(deprecated).collect();
            comment::write(out, indent + 1, description, &tags, comment::MAX_PROPERTY);
            let optional = if required.contains(&name.as_str()) { "" } else { "?" };
            let _ = write!(out, "{margin}{}{optional}: ", key(name));
            self.any(out, property, indent + 1, depth - 1);
            out.push_str(";\n");
        }
        out.push_str(&"  ".repeat(indent));
        out.push('}');
        // Not as a member of its own, which the others would have to fit.
        if let Some(others @ Value::Object(_)) = others
            && out.len() < self.end
        {
            out.push_str(" & Record<string, ");
            self.any(out, others, indent, depth - 1);
            out.push('>');
        }
    }

    /// The target of `#`, `#/$defs/X` and the like; anything else is elsewhere, and is not fetched.
    fn reference(&mut self, out: &mut String, reference: &'a str, indent: usize, depth: usize) {
        let root = self.root;
        let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer).or_else(|| root.pointer(&decoded(pointer)?)));
        match target {
            Some(target) if !self.followed.contains(&reference) => {
                self.followed.push(reference);
                self.any(out, target, indent, depth - 1);
                self.followed.pop();
            }
            _ => out.push_str("unknown"),
        }
    }
}

/// Properties that are only named where some condition holds. One may be told twice.
fn conditions(schema: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let branches = ["then", "else"].into_iter().filter_map(|key| schema.get(key));
    let dependent = schema.get("dependentSchemas").and_then(Value::as_object).into_iter().flatten().map(|(_, schema)| schema);
    let mut seen = Vec::new();
    let all = branches.chain(dependent).filter_map(|part| part.get("properties")?.as_object()).flatten();
    all.filter(move |(name, _)| {
        let fresh = seen.len() < MAX_MEMBERS && !seen.contains(name);
        seen.push(name);
        fresh
    })
}

/// The properties of `parent` that a member of a union requires, if it says nothing else.
fn required<'a>(member: &'a Value, parent: &Map<String, Value>) -> Option<Vec<&'a str>> {
    let member = member.as_object()?;
    let known = parent.get("properties")?.as_object()?;
    if member.keys().any(|key| key != "required") {
        return None;
    }
    let names: Vec<&str> = member.get("required")?.as_array()?.iter().filter_map(Value::as_str).collect();
    (!names.is_empty() && names.len() <= MAX_MEMBERS && names.iter().all(|name| known.contains_key(*name))).then_some(names)
}

/// A pointer in a fragment without its percent signs (RFC 6901, 6).
fn decoded(pointer: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Members with a separator; none is `never`, too many or those past the end are `unknown`.
fn list<'a>(out: &mut String, end: usize, members: &'a [Value], separator: &str, mut write: impl FnMut(&mut String, &'a Value)) {
    if members.is_empty() {
        out.push_str("never");
    }
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            out.push_str(separator);
        }
        if at >= MAX_MEMBERS || out.len() >= end {
            return out.push_str("unknown");
        }
        write(out, member);
    }
}

/// A value as the type that only it has.
pub fn literal(out: &mut String, value: &Value) {
    match value {
        Value::String(text) if text.len() <= MAX_LITERAL => quoted(out, text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
        Value::String(_) => out.push_str("string"),
        Value::Array(_) | Value::Object(_) => out.push_str("unknown"),
    }
}

/// Bytes of a text that is a type of its own.
const MAX_LITERAL: usize = 200;

/// Bytes of a key as it stands; longer ones are cut, and name no property then.
const MAX_KEY: usize = 200;

/// A property's name, quoted unless it is an identifier of ASCII.
pub fn key(name: &str) -> String {
    let name = &name[..name.floor_char_boundary(MAX_KEY)];
    let mut letters = name.chars();
    let plain = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || "_$".contains(first))
        && letters.all(|letter| letter.is_ascii_alphanumeric() || "_$".contains(letter));
    if plain {
        return name.to_owned();
    }
    let mut text = String::new();
    quoted(&mut text, name);
    text
}

/// Writes a string of TypeScript, in which everything but printable ASCII and letters is escaped.
fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            _ if c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ' => out.push(c),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}
