//! An operation's parameters, as the document describes them.

use crate::{
    document::{Document, Unresolved},
    forbidden,
};
use http::HeaderName;
use serde_json::Value;

/// Most parameters of an operation.
const MAX_PARAMETERS: usize = 256;
/// Longest name, bytes.
const MAX_NAME: usize = 128;

/// The location of a parameter (`in`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParameterLocation {
    Path,
    Query,
    Header,
    Cookie,
}

impl ParameterLocation {
    /// The document's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
        }
    }
}

/// The serialisation style of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `a,b`
    Simple,
    /// `.a.b`
    Label,
    /// `;name=a`
    Matrix,
    /// `name=a&name=b`
    Form,
    /// `name=a%20b`
    Space,
    /// `name=a%7Cb`
    Pipe,
    /// `name[key]=a`
    Deep,
    /// JSON, because the document says `content`.
    Json,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The name in the request.
    pub name: Box<str>,
    /// The argument that it is made of.
    pub key: Box<str>,
    pub place: ParameterLocation,
    pub style: Style,
    pub explode: bool,
    pub required: bool,
    /// The header, of a parameter in one.
    pub header: Option<HeaderName>,
}

impl Parameter {
    /// A parameter that only the path names.
    pub fn of_path(name: &str) -> Self {
        let (name, place, style) = (Box::from(name), ParameterLocation::Path, Style::Simple);
        Self { key: Box::clone(&name), name, place, style, explode: false, required: true, header: None }
    }
}

/// A parameter with its schema and description in the document.
pub struct Described<'d> {
    pub parameter: Parameter,
    pub schema: Option<&'d Value>,
    pub description: Option<&'d str>,
}

/// An error in an operation's parameters.
#[derive(Debug, thiserror::Error)]
pub enum InvalidParameter {
    #[error("{0}")]
    Unresolved(#[from] Unresolved),
    #[error("it has more than {MAX_PARAMETERS} parameters")]
    TooMany,
    #[error("a parameter has no name of at most {MAX_NAME} bytes, or is in none of path, query, header and cookie")]
    Unnamed,
    #[error("it needs the header `{0}`, which no argument may set")]
    Forbidden(String),
}

/// The parameters of an operation and of its path, in order of their locations; the operation's override the path's.
pub fn read<'d>(
    document: &'d Document,
    of_path: Option<&'d Value>,
    own: Option<&'d Value>,
) -> Result<Vec<Described<'d>>, InvalidParameter> {
    let mut read: Vec<Described<'d>> = Vec::new();
    // The operation's come first, so that what stands there already is not taken again.
    for (list, of_path) in [(own, false), (of_path, true)] {
        let before = read.len();
        for value in list.and_then(Value::as_array).into_iter().flatten() {
            if read.len() >= MAX_PARAMETERS {
                return Err(InvalidParameter::TooMany);
            }
            let Some(described) = one(document, document.follow(value)?)? else { continue };
            let earlier = if of_path { &read[..] } else { &read[before..] };
            let same = |other: &Described<'_>| {
                (&other.parameter.name, other.parameter.place) == (&described.parameter.name, described.parameter.place)
            };
            if !earlier.iter().any(same) {
                read.push(described);
            }
        }
    }
    read.sort_by_key(|described| described.parameter.place);
    Ok(read)
}

fn one<'d>(document: &'d Document, value: &'d Value) -> Result<Option<Described<'d>>, InvalidParameter> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let name = text("name").filter(|name| !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control));
    let place = match text("in") {
        Some("path") => ParameterLocation::Path,
        Some("query") => ParameterLocation::Query,
        Some("header") => ParameterLocation::Header,
        Some("cookie") => ParameterLocation::Cookie,
        _ => return Err(InvalidParameter::Unnamed),
    };
    let name = name.ok_or(InvalidParameter::Unnamed)?;
    let required = place == ParameterLocation::Path || value.get("required") == Some(&Value::Bool(true));
    let header = match place {
        ParameterLocation::Header => HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| !forbidden::header(name)),
        _ => None,
    };
    let allowed = match place {
        ParameterLocation::Header => header.is_some(),
        ParameterLocation::Query => !forbidden::query(name),
        ParameterLocation::Path | ParameterLocation::Cookie => true,
    };
    if !allowed {
        // Parameters of these names are ignored (4.8.12.1); the others are the connection's headers.
        let ignored = ["accept", "content-type", "authorization", "user-agent"].iter().any(|known| name.eq_ignore_ascii_case(known));
        return if required && !ignored { Err(InvalidParameter::Forbidden(name.chars().take(60).collect())) } else { Ok(None) };
    }
    let content = value.get("content").and_then(Value::as_object).and_then(|content| content.iter().next());
    let style = match (content, text("style"), place) {
        (Some((kind, _)), ..) if kind.contains("json") => Style::Json,
        (_, Some("label"), ParameterLocation::Path) => Style::Label,
        (_, Some("matrix"), ParameterLocation::Path) => Style::Matrix,
        (_, Some("spaceDelimited"), ParameterLocation::Query) => Style::Space,
        (_, Some("pipeDelimited"), ParameterLocation::Query) => Style::Pipe,
        (_, Some("deepObject"), ParameterLocation::Query) => Style::Deep,
        (_, _, ParameterLocation::Query | ParameterLocation::Cookie) => Style::Form,
        (_, _, ParameterLocation::Path | ParameterLocation::Header) => Style::Simple,
    };
    let explode = value.get("explode").and_then(Value::as_bool).unwrap_or(style == Style::Form);
    let schema = content.map_or_else(|| value.get("schema"), |(_, media)| media.get("schema"));
    let parameter = Parameter { name: name.into(), key: name.into(), place, style, explode, required, header };
    // Some documents describe the schema alone.
    let description = text("description").or_else(|| {
        let schema = document.follow(schema?).ok()?;
        schema.get("description").and_then(Value::as_str)
    });
    Ok(Some(Described { parameter, schema, description }))
}
