//! YAML text to a tree that remembers where everything stands.
//!
//! A tree of our own, because every error about a rule needs a line and a column, and because
//! quoted and plain scalars differ in Sigma. Bounded by construction: anchors and aliases are
//! refused, so a tree is never larger than its text, and nesting ends at [`MAX_DEPTH`].

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};

/// The deepest nesting of a rule. Sigma needs six.
const MAX_DEPTH: usize = 24;

/// A place in a file: line and column in characters, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Position {
    fn of(marker: &Marker) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: number(marker.line()).max(1), column: number(marker.col()).saturating_add(1) }
    }

    /// The position so many characters further on the same line.
    pub(crate) fn plus(self, characters: usize) -> Self {
        Self { column: self.column.saturating_add(u32::try_from(characters).unwrap_or(u32::MAX)), ..self }
    }
}

/// An error at a position.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) at: Position,
    pub(crate) message: String,
}

/// A value of a document and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) kind: NodeKind,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A scalar: its text, and whether its notation allows a character of it to be pointed at.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) value: Plain,
    /// The offset of the text from the node's position, in characters; none when it spans lines.
    pub(crate) offset: Option<usize>,
    /// What YAML 1.1, which other Sigma tools read, takes the unquoted text for, where YAML 1.2 takes it for something else.
    pub(crate) disputed: Option<&'static str>,
}

/// The type of a scalar in the YAML 1.2 core schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plain {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text,
}

/// A mapping's key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) at: Position,
    pub(crate) name: String,
}

impl Node {
    /// The name of its type, for messages.
    pub(crate) fn what(&self) -> &'static str {
        match &self.kind {
            NodeKind::List(_) => "a list",
            NodeKind::Map(_) => "a mapping",
            NodeKind::Scalar(scalar) => match scalar.value {
                Plain::Null => "nothing",
                Plain::Bool(_) => "true or false",
                Plain::Int(_) | Plain::Float(_) => "a number",
                Plain::Text => "a text",
            },
        }
    }

    /// The entry of a mapping.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        match &self.kind {
            NodeKind::Map(entries) => entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The scalar's text, unless it is null.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Scalar(scalar) if scalar.value != Plain::Null => Some(&scalar.text),
            _ => None,
        }
    }
}

type Events<'a> = Parser<'a, StrInput<'a>>;

/// All documents of a text, up to the first error. Empty documents are left out.
pub(crate) fn documents(text: &str) -> (Vec<Node>, Option<Fault>) {
    let mut parser = Parser::new_from_str(text);
    let mut documents = Vec::new();
    loop {
        match next(&mut parser) {
            Err(fault) => return (documents, Some(fault)),
            Ok((Event::StreamEnd, _)) => return (documents, None),
            Ok((event, span)) => match node(&mut parser, event, span, 0) {
                Err(fault) => return (documents, Some(fault)),
                Ok(None) => {}
                Ok(Some(node)) if matches!(&node.kind, NodeKind::Scalar(scalar) if scalar.value == Plain::Null) => {}
                Ok(Some(node)) => documents.push(node),
            },
        }
    }
}

fn next<'a>(parser: &mut Events<'a>) -> Result<(Event<'a>, Span), Fault> {
    loop {
        return match parser.next() {
            Some(Ok((Event::Comment(..), _))) => continue,
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                Err(Fault { at: Position::of(error.marker()), message: format!("not YAML: {}", gnomon_kit::yaml_fault(&error.info())) })
            }
            None => Ok((Event::StreamEnd, Span::default())),
        };
    }
}

/// The node that begins with `event`; none for events that begin no node.
fn node<'a>(parser: &mut Events<'a>, event: Event<'a>, span: Span, depth: usize) -> Result<Option<Node>, Fault> {
    let at = Position::of(&span.start);
    let fault = |message: &str| Err(Fault { at, message: message.to_owned() });
    if depth > MAX_DEPTH {
        return fault("nested too deeply; a rule needs no more than a few levels");
    }
    let kind = match event {
        Event::Alias(_) | Event::UnresolvedAlias(_) => {
            return fault("not supported yet: YAML aliases; write the value out");
        }
        Event::Scalar(_, _, anchor, _) | Event::SequenceStart(_, anchor, _) | Event::MappingStart(_, anchor, _) if anchor != 0 => {
            return fault("not supported yet: YAML anchors; write the value out where it is needed");
        }
        Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, _, Some(_)) | Event::MappingStart(_, _, Some(_)) => {
            return fault("not supported yet: YAML tags; leave the tag out");
        }
        Event::Scalar(text, style, ..) => NodeKind::Scalar(scalar(text.into_owned(), style, &span)),
        Event::SequenceStart(..) => {
            let mut list = Vec::new();
            loop {
                let (event, span) = next(parser)?;
                if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                    break NodeKind::List(list);
                }
                list.extend(node(parser, event, span, depth + 1)?);
            }
        }
        Event::MappingStart(..) => NodeKind::Map(mapping(parser, depth)?),
        _ => return Ok(None),
    };
    Ok(Some(Node { at, kind }))
}

fn mapping(parser: &mut Events<'_>, depth: usize) -> Result<Vec<(Key, Node)>, Fault> {
    let mut entries: Vec<(Key, Node)> = Vec::new();
    let mut names = std::collections::HashSet::new();
    loop {
        let (event, span) = next(parser)?;
        if matches!(event, Event::MappingEnd | Event::StreamEnd) {
            return Ok(entries);
        }
        let Some(key) = node(parser, event, span, depth + 1)? else { continue };
        let at = key.at;
        let NodeKind::Scalar(Scalar { text: name, .. }) = key.kind else {
            return Err(Fault { at, message: format!("a key must be a text, not {}", key.what()) });
        };
        if !names.insert(name.clone()) {
            return Err(Fault { at, message: format!("`{name}` is given twice; merge the two") });
        }
        let (event, span) = next(parser)?;
        if let Some(value) = node(parser, event, span, depth + 1)? {
            entries.push((Key { at, name }, value));
        }
    }
}

fn scalar(text: String, style: ScalarStyle, span: &Span) -> Scalar {
    let one_line = span.start.line() == span.end.line();
    let (value, offset) = match style {
        ScalarStyle::Plain => (plain(&text), Some(0)),
        // With an escape inside, text and source no longer run in parallel: close enough.
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => (Plain::Text, Some(1)),
        _ => (Plain::Text, None),
    };
    let disputed = if style == ScalarStyle::Plain { disputed(&text) } else { None };
    Scalar { text, value, offset: offset.filter(|_| one_line), disputed }
}

/// What YAML 1.1 takes an unquoted text for, where that depends on who reads it. Numbers that are written as usual are numbers to all.
fn disputed(text: &str) -> Option<&'static str> {
    if ["yes", "no", "on", "off"].into_iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Some("true or false");
    }
    if matches!(text, "=" | "<<") {
        return Some("a sign of the language");
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(digits.to_ascii_lowercase().as_str(), ".inf" | ".nan") {
        return Some("a number");
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let of = |text: &str, allowed: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| b == b'_' || allowed(&b));
    let digit: fn(&u8) -> bool = u8::is_ascii_digit;
    let based = |prefix: &str| digits.strip_prefix(prefix).is_some_and(|rest| of(rest, u8::is_ascii_hexdigit));
    let octal = digits.len() > 1 && digits.starts_with('0') && of(digits, |b| (b'0'..=b'7').contains(b));
    let apart = digits.contains('_') && of(&digits.replacen('.', "", 1), digit);
    if ["0b", "0x", "0o"].into_iter().any(based) || octal || apart || is_sexagesimal(digits) {
        return Some("a number");
    }
    if is_date(text) {
        return Some("a date");
    }
    // 08 is a name to both; 1e3, .5 and +7 are numbers to one or written in a way that only one takes.
    let name = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    (!name && digits.parse::<f64>().is_ok() && !is_usual(text)).then_some("a number")
}

/// As 2026-11-20, with or without a time behind it.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let digits = |text: &str, most: usize| !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
    let (day, time) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    year.len() == 4 && digits(year, 4) && digits(month, 2) && digits(day, 2) && (time.is_empty() || time.starts_with(['T', 't', ' ']))
}

/// As 12:30:45, which YAML 1.1 counts in sixties.
fn is_sexagesimal(digits: &str) -> bool {
    let mut parts = digits.split(':');
    let first = parts.next().is_some_and(|first| !first.is_empty() && first.bytes().all(|b| b.is_ascii_digit()));
    let mut rest = parts.map(|part| part.split_once('.').map_or(part, |(whole, _)| whole)).peekable();
    first && rest.peek().is_some() && rest.all(|part| part.len() <= 2 && part.parse::<u8>().is_ok_and(|number| number < 60))
}

/// A number as everybody writes it: `404`, `-1`, `4.5`.
fn is_usual(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = digits.split_once('.').map_or((digits, None), |(whole, part)| (whole, Some(part)));
    let all = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    all(whole) && (whole.len() == 1 || !whole.starts_with('0')) && part.is_none_or(all)
}

/// The YAML 1.2 core schema, except that digits with a leading zero stay text: they are names.
fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.") {
        return Plain::Text;
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_or(Plain::Text, Plain::Int);
    }
    if digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-')) {
        return text.parse().map_or(Plain::Text, Plain::Float);
    }
    Plain::Text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_1_1_takes_for_something_else_is_told_and_nothing_beyond() {
        for text in [
            "yes",
            "No",
            "ON",
            "off",
            "=",
            "<<",
            ".inf",
            "-.INF",
            ".NaN",
            "017",
            "0o17",
            "0x1F",
            "0b11",
            "1_000",
            "12:30:45",
            "190:20:30.15",
            "1e3",
            "1.0e3",
            ".5",
            "+7",
            "7.",
            "2026-11-20",
            "2026-1-2T09:00:00Z",
            "00",
        ] {
            assert!(disputed(text).is_some(), "{text}");
        }
        for text in [
            "0",
            "404",
            "-1",
            "4.5",
            "-0.25",
            "true",
            "null",
            "~",
            "y",
            "n",
            "08",
            "1.2.3",
            "10.0.0.1",
            "2001:db8::1",
            "2026-11",
            "12:90",
            "0xyz",
            "one",
            "onward",
            "-x",
            "--flag",
            "1st",
            "443/tcp",
            "",
            "10.0.0.0/8",
            "2026",
            "a_b",
        ] {
            assert_eq!(disputed(text), None, "{text}");
        }
    }
}
