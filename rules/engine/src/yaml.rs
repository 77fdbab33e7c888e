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
            Some(Err(error)) => Err(Fault { at: Position::of(error.marker()), message: format!("not YAML: {}", error.info()) }),
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
    Scalar { text, value, offset: offset.filter(|_| one_line) }
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
