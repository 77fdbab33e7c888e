//! The places of the parts of a YAML text, so that one can be removed and all else stays byte for byte.
//!
//! Only what is found at a plain place is told of: what hangs on anchors, or begins on another's line, is people's to change.

use granit_parser::{Event, Parser, Span, StructureStyle};
use std::ops::Range;

/// Deepest nesting that is followed.
const DEEPEST: usize = 64;

/// A node, and where it stands in the text, bytes.
pub struct Node {
    range: Range<usize>,
    kind: NodeValue,
}

enum NodeValue {
    Scalar(String),
    List(StructureStyle, Vec<Node>),
    Map(Vec<(Node, Node)>),
    Alias,
}

/// A change of a text: this range is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Bytes.
    pub range: Range<usize>,
    /// The replacement.
    pub text: &'static str,
}

/// The only document of a text; none where it is no YAML, or has several.
pub fn document(text: &str) -> Option<Node> {
    let mut events = Parser::new_from_str(text);
    let mut next = move || loop {
        match events.next()?.ok()? {
            (Event::Comment(..), _) => {}
            other => return Some(other),
        }
    };
    let mut found = None;
    loop {
        match next()? {
            (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
            (Event::StreamEnd, _) => return found,
            _ if found.is_some() => return None,
            begins => found = Some(node(begins, &mut next, DEEPEST)?),
        }
    }
}

fn bytes(span: &Span) -> Option<Range<usize>> {
    Some(span.start.byte_offset()?..span.end.byte_offset()?)
}

fn node<'t>((event, span): (Event<'t>, Span), next: &mut impl FnMut() -> Option<(Event<'t>, Span)>, depth: usize) -> Option<Node> {
    let mut range = bytes(&span)?;
    let depth = depth.checked_sub(1)?;
    let kind = match event {
        Event::Scalar(text, ..) => NodeValue::Scalar(text.into_owned()),
        Event::Alias(_) => NodeValue::Alias,
        Event::SequenceStart(style, ..) => {
            let mut items: Vec<Node> = Vec::new();
            let end = loop {
                match next()? {
                    (Event::SequenceEnd, end) => break end,
                    begins => items.push(node(begins, next, depth)?),
                }
            };
            // The end of what is in block style is told where the next thing begins.
            range.end = match style {
                StructureStyle::Flow => bytes(&end)?.end,
                StructureStyle::Block => items.last().map_or(range.end, |last| last.range.end),
            };
            NodeValue::List(style, items)
        }
        Event::MappingStart(style, ..) => {
            let mut entries: Vec<(Node, Node)> = Vec::new();
            let end = loop {
                match next()? {
                    (Event::MappingEnd, end) => break end,
                    key => {
                        let key = node(key, next, depth)?;
                        let value = next()?;
                        entries.push((key, node(value, next, depth)?));
                    }
                }
            };
            range.end = match style {
                StructureStyle::Flow => bytes(&end)?.end,
                StructureStyle::Block => {
                    entries.last().map_or(range.end, |(key, value)| if value.range.is_empty() { key.range.end } else { value.range.end })
                }
            };
            NodeValue::Map(entries)
        }
        _ => return None,
    };
    Some(Node { range, kind })
}

impl Node {
    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            NodeValue::Scalar(text) => Some(text),
            NodeValue::List(..) | NodeValue::Map(_) | NodeValue::Alias => None,
        }
    }

    /// The key and the value of an entry of a mapping.
    pub fn entry(&self, key: &str) -> Option<(&Node, &Node)> {
        match &self.kind {
            NodeValue::Map(entries) => entries.iter().find(|(known, _)| known.text() == Some(key)).map(|(key, value)| (key, value)),
            NodeValue::Scalar(_) | NodeValue::List(..) | NodeValue::Alias => None,
        }
    }

    /// The items of a list.
    pub fn items(&self) -> &[Node] {
        match &self.kind {
            NodeValue::List(_, items) => items,
            NodeValue::Scalar(_) | NodeValue::Map(_) | NodeValue::Alias => &[],
        }
    }
}

/// Takes an item out of the list that is the value of this key; none where only people can.
pub fn without(text: &str, (key, list): (&Node, &Node), at: usize) -> Option<Vec<Edit>> {
    let NodeValue::List(style, items) = &list.kind else { return None };
    let item = items.get(at)?;
    match style {
        StructureStyle::Flow => Some(vec![Edit { range: within_flow(text, items, at)?, text: "" }]),
        StructureStyle::Block => {
            let begins = dash(text, item.range.start)?;
            let mut edits = Vec::new();
            if items.len() == 1 {
                // Without an item it would say nothing at all.
                let colon = key.range.end + text.get(key.range.end..)?.find(':')? + 1;
                edits.push(Edit { range: colon..colon, text: " []" });
            }
            edits.push(Edit { range: begins..line_end(text, said_until(text, &item.range)), text: "" });
            Some(edits)
        }
    }
}

/// The range to remove with an item of a list in flow style: the item and the comma after it, or else the one before.
fn within_flow(text: &str, items: &[Node], at: usize) -> Option<Range<usize>> {
    let range = items.get(at)?.range.clone();
    let blanks = |text: &str| text.len() - text.trim_start_matches([' ', '\t']).len();
    let after = text.get(range.end..)?;
    let comma = blanks(after);
    if after.get(comma..)?.starts_with(',') {
        let end = range.end + comma + 1;
        let start = line_start(text, range.start);
        let rest = text.get(end..)?;
        // On lines of its own it goes with them.
        return Some(match rest.get(blanks(rest)..)?.starts_with(['\r', '\n']) && text.get(start..range.start)?.trim().is_empty() {
            true => start..line_end(text, end),
            false => range.start..end + blanks(rest),
        });
    }
    let before = at.checked_sub(1).and_then(|at| items.get(at)).map_or(range.start, |before| before.range.end);
    let between = text.get(before..range.start)?;
    Some(if between.trim() == "," && !between.contains('\n') { before..range.end } else { range })
}

/// The line of the dash of an item that begins here.
fn dash(text: &str, item: usize) -> Option<usize> {
    let mut end = item;
    loop {
        let start = line_start(text, end);
        let said = text.get(start..end)?.trim_start();
        if said.starts_with('-') {
            return Some(start);
        }
        // The item may begin on a line after its dash.
        if !said.is_empty() && !said.starts_with('#') {
            return None;
        }
        end = start.checked_sub(1)?;
    }
}

/// The end of a node, without the space that a block of text ends with.
fn said_until(text: &str, range: &Range<usize>) -> usize {
    text.get(range.clone()).map_or(range.end, |said| range.start + said.trim_end().len())
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1)
}

/// Behind the end of the line.
fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|after| after.find('\n')).map_or(text.len(), |end| at + end + 1)
}

/// The treatment of lines that a removal empties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum YamlLines {
    /// Removed.
    Go,
    /// Kept, so that all others keep their numbers.
    Stay,
}

/// A text with these changes, none within another.
pub fn changed(text: &str, edits: &[Edit], lines: YamlLines) -> Option<String> {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| edit.range.start);
    let (mut new, mut done) = (String::with_capacity(text.len()), 0);
    for Edit { range, text: instead } in edits {
        new.push_str(text.get(done..range.start)?);
        new.push_str(instead);
        if lines == YamlLines::Stay {
            new.extend(text.get(range.clone())?.chars().filter(|letter| *letter == '\n'));
        }
        done = range.end;
    }
    new.push_str(text.get(done..)?);
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes the item with this text out of the list `a`.
    fn taken(text: &str, item: &str) -> Option<String> {
        let document = document(text)?;
        let list = document.entry("a")?;
        let at = list
            .1
            .items()
            .iter()
            .position(|one| one.text() == Some(item) || one.entry("id").is_some_and(|id| id.1.text() == Some(item)))?;
        changed(text, &without(text, list, at)?, YamlLines::Go)
    }

    #[test]
    fn an_item_goes_with_its_comma_or_its_lines_and_nothing_else_changes() {
        for (text, item, new) in [
            ("a: [x, y, z] # all\n", "y", "a: [x, z] # all\n"),
            ("a: [x, 'y']\nb: 1\n", "y", "a: [x]\nb: 1\n"),
            ("a: [ x ,y ]\n", "x", "a: [ y ]\n"),
            ("a: [x]\n", "x", "a: []\n"),
            ("a: [\n  x, # first\n  y,\n  z\n]\n", "y", "a: [\n  x, # first\n  z\n]\n"),
            ("a: [{id: x, u: 1}, {id: y, u: 2}]\n", "x", "a: [{id: y, u: 2}]\n"),
            ("a:\n  - x # one\n  # of y\n  - y # two\n\n  # of z\n  - z\n", "y", "a:\n  - x # one\n  # of y\n\n  # of z\n  - z\n"),
            ("a:   # ours\n- x\nb: 1\n", "x", "a: []   # ours\nb: 1\n"),
            ("a:\r\n  - id: x\r\n    u: 1 # u\r\n  - id: y\r\nb: 1\r\n", "x", "a:\r\n  - id: y\r\nb: 1\r\n"),
            ("a:\n  - id: x\n    t: |\n      # no comment\n      text\n\n  # of y\n  - id: y", "x", "a:\n\n  # of y\n  - id: y"),
            ("a:\n  -\n    id: x\n    l: [1,\n      2] # l\n  - id: y\n", "x", "a:\n  - id: y\n"),
        ] {
            assert_eq!(taken(text, item).as_deref(), Some(new), "{text}");
        }
        assert_eq!(taken("a:\n  - x\n---\na: 1\n", "x"), None, "two documents");
    }

    #[test]
    fn lines_can_keep_their_numbers() {
        let text = "a:\n  - x\n  - y\nb: [x, y]\n";
        let document = document(text).unwrap();
        let (a, b) = (document.entry("a").unwrap(), document.entry("b").unwrap());
        let edits: Vec<Edit> = [without(text, a, 0).unwrap(), without(text, b, 1).unwrap()].concat();
        assert_eq!(changed(text, &edits, YamlLines::Stay).unwrap(), "a:\n\n  - y\nb: [x]\n");
        assert_eq!(changed(text, &edits, YamlLines::Go).unwrap(), "a:\n  - y\nb: [x]\n");
    }
}
