//! A path with places for arguments.

use super::{
    Unfit,
    parameter::{Parameter, ParameterLocation},
    segment::{LEAVES, leaves},
    style,
};
use serde_json::{Map, Value};

/// Most places of a path.
const MAX_PLACES: usize = 32;

/// A path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    /// An index into the operation's parameters.
    Argument(usize),
}

/// An error in an operation's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    #[error("its path does not begin with `/`")]
    Relative,
    #[error("its path holds `?` or `#`, which no path can")]
    Query,
    #[error("its path has `.` or `..` as a segment")]
    Dots,
    #[error("its path has braces that do not belong together")]
    Braces,
    #[error("its path has more than {MAX_PLACES} places for arguments")]
    Places,
    #[error("its path has a character that no path can have")]
    Character,
}

/// The names in a path, in order.
pub fn names(path: &str) -> Result<Vec<&str>, InvalidPath> {
    let (mut names, mut rest) = (Vec::new(), path);
    while let Some(at) = rest.find(['{', '}']) {
        let (_, opened) = rest.split_at(at);
        let (name, after) = opened.strip_prefix('{').and_then(|inner| inner.split_once('}')).ok_or(InvalidPath::Braces)?;
        if name.is_empty() || name.contains('{') {
            return Err(InvalidPath::Braces);
        }
        names.push(name);
        rest = after;
    }
    if names.len() > MAX_PLACES { Err(InvalidPath::Places) } else { Ok(names) }
}

impl Template {
    /// Reads a path whose names are all among the parameters.
    pub fn read(path: &str, parameters: &[Parameter]) -> Result<Self, InvalidPath> {
        if !path.starts_with('/') {
            return Err(InvalidPath::Relative);
        }
        if path.contains(['?', '#']) {
            return Err(InvalidPath::Query);
        }
        if path.split('/').any(leaves) {
            return Err(InvalidPath::Dots);
        }
        let (mut pieces, mut rest) = (Vec::new(), path);
        for name in names(path)? {
            let (before, after) = rest.split_once(&*format!("{{{name}}}")).ok_or(InvalidPath::Braces)?;
            pieces.push(Piece::Literal(literal(before)?));
            let index = parameters.iter().position(|parameter| parameter.place == ParameterLocation::Path && *parameter.name == *name);
            pieces.push(Piece::Argument(index.ok_or(InvalidPath::Braces)?));
            rest = after;
        }
        pieces.push(Piece::Literal(literal(rest)?));
        Ok(Self(pieces))
    }

    /// The path with these arguments in it.
    pub fn filled(&self, parameters: &[Parameter], arguments: &Map<String, Value>) -> Result<String, Unfit> {
        let mut path = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => path.push_str(text),
                Piece::Argument(index) => {
                    let Some(parameter) = parameters.get(*index) else { continue };
                    let value = arguments.get(&*parameter.key).filter(|value| !value.is_null());
                    let value = value.ok_or_else(|| Unfit::Missing(parameter.key.to_string()))?;
                    path.push_str(&style::path(parameter, value)?);
                }
            }
        }
        // Two arguments may stand in one segment.
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            let last = parameters.iter().rfind(|parameter| parameter.place == ParameterLocation::Path);
            return Err(Unfit::wrong(last.map_or("", |parameter| &parameter.key), LEAVES));
        }
        Ok(path)
    }
}

/// A part of a path as the document has it: legal characters stay, others are encoded.
fn literal(text: &str) -> Result<Box<str>, InvalidPath> {
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Err(InvalidPath::Character);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%".contains(c) {
            out.push(c);
        } else {
            crate::encode::push(&mut out, c.encode_utf8(&mut [0; 4]));
        }
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_s_own_path_leads_nowhere_else_however_it_is_written() {
        for path in ["/a/../b", "/a/./b", "/..%2fadmin", "/a/%2e%2e/b", "/a%2f..%2fb", "/a/..;/b", "/..%5cadmin", "/..%252fadmin"] {
            assert_eq!(Template::read(path, &[]), Err(InvalidPath::Dots), "{path}");
        }
        for path in ["/", "/a..b", "/a%2fb", "/v1.2/...", "/a;v=1/b"] {
            assert!(Template::read(path, &[]).is_ok(), "{path}");
        }
    }
}
