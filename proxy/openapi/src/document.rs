//! A document as it is written, within bounds, and what its references lead to.

use gnomon_kit::{percent, yaml_fault};
use serde_json::{Map, Value, error::Category};
use serde_saphyr::Error as YamlError;
use std::borrow::Cow;

/// Largest document, bytes. The largest that is published (Microsoft Graph's) is about as large.
pub const MAX_BYTES: usize = 40 << 20;
/// Deepest nesting. JSON is read to 127 levels, YAML to as many.
const MAX_DEPTH: usize = 127;
/// Most values and keys of a YAML document, what its aliases repeat included.
const MAX_NODES: usize = 4 << 20;
/// Most references that are followed from one to the next.
const MAX_HOPS: usize = 32;

/// An error in a document as a whole.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The document is larger than [`MAX_BYTES`].
    #[error("the document has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// The document is neither JSON nor YAML, or beyond the bounds of either.
    #[error("the document is neither JSON nor YAML: {0}")]
    Syntax(String),
    /// Not an OpenAPI document of a supported version.
    #[error("{0}")]
    Version(String),
}

/// The version of OpenAPI, which decides the keywords of its schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.0: a dialect of its own.
    V3_0,
    /// 3.1 and 3.2: JSON Schema 2020-12.
    V3_1,
}

/// An error of resolving a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// Into another document, which is never fetched.
    #[error("it refers to another document, `{0}`, which is not fetched")]
    Elsewhere(String),
    /// To nothing.
    #[error("it refers to `{0}`, which does not exist")]
    Nothing(String),
    /// To a reference that leads back, or on and on.
    #[error("its references are circular at `{0}`")]
    Circle(String),
}

/// A document.
#[derive(Debug)]
pub struct Document {
    root: Value,
    version: Version,
}

impl Document {
    /// Reads a document of OpenAPI 3.0 to 3.2, JSON or YAML.
    ///
    /// # Errors
    /// [`DocumentError`]. What is wrong with single operations is found later, and costs only those.
    pub fn read(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_BYTES {
            return Err(DocumentError::TooLarge);
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let root: Value = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => serde_json::from_slice(bytes).map_err(|error| not_json(&error))?,
            _ => yaml(bytes)?,
        };
        let version = match (root.get("openapi").and_then(Value::as_str), root.get("swagger")) {
            (Some(text), _) if text.starts_with("3.0") => Version::V3_0,
            (Some(text), _) if text.starts_with("3.1") || text.starts_with("3.2") => Version::V3_1,
            (Some(text), _) => {
                let shown: String = text.chars().take(20).filter(|c| !c.is_control()).collect();
                return Err(DocumentError::Version(format!("OpenAPI {shown} is not supported; 3.0 to 3.2 are")));
            }
            (None, Some(_)) => {
                let cause = "this is Swagger 2.0; convert it to OpenAPI 3 first (as swagger2openapi does)";
                return Err(DocumentError::Version(cause.to_owned()));
            }
            (None, None) => return Err(DocumentError::Version("this is not an OpenAPI document: `openapi` is missing".to_owned())),
        };
        Ok(Self { root, version })
    }

    /// The version of the document.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// All of it.
    #[must_use]
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// Resolves a reference within the document, through further references if need be.
    ///
    /// # Errors
    /// [`Unresolved`].
    pub fn follow<'a>(&'a self, value: &'a Value) -> Result<&'a Value, Unresolved> {
        let mut at = value;
        for _ in 0..MAX_HOPS {
            let Some(reference) = at.get("$ref").and_then(Value::as_str) else { return Ok(at) };
            at = self.target(reference)?;
        }
        Err(Unresolved::Circle(shortened(at.get("$ref").and_then(Value::as_str).unwrap_or_default())))
    }

    /// Resolves one reference.
    ///
    /// # Errors
    /// [`Unresolved`], though not [`Unresolved::Circle`].
    pub fn target(&self, reference: &str) -> Result<&Value, Unresolved> {
        let pointer = reference.strip_prefix('#').ok_or_else(|| Unresolved::Elsewhere(shortened(reference)))?;
        let found = self.root.pointer(pointer).or_else(|| self.root.pointer(&decoded(pointer)?));
        found.ok_or_else(|| Unresolved::Nothing(shortened(reference)))
    }

    /// An object of the document that may be missing.
    pub(crate) fn object(&self, pointer: &str) -> Option<&Map<String, Value>> {
        self.root.pointer(pointer).and_then(Value::as_object)
    }
}

fn yaml(bytes: &[u8]) -> Result<Value, DocumentError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DocumentError::Syntax("it is not UTF-8".to_owned()))?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_documents: 1,
        },
        // According to YAML 1.2 and OpenAPI: `on` and `no` are texts.
        strict_booleans: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| not_yaml(&error))
}

/// Where and why a text is not YAML, or not taken.
fn not_yaml(error: &YamlError) -> DocumentError {
    let error = error.without_snippet();
    let why: Cow<'_, str> = match error {
        YamlError::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{}` stands there twice", shortened(key)).into(),
        YamlError::DuplicateMappingKey { .. } => "a key stands there twice".into(),
        YamlError::MultipleDocuments { .. } => "a second document begins there, and one is read".into(),
        YamlError::ExternalMessage { msg, .. } => yaml_fault(msg).into(),
        YamlError::UnknownAnchor { .. } => yaml_fault("anchor").into(),
        YamlError::Eof { .. } => "it is empty".into(),
        _ => "it is nested deeper, repeats more, or has other values than are read".into(),
    };
    let place = error.location().map(|place| format!("line {}, column {}: ", place.line(), place.column())).unwrap_or_default();
    DocumentError::Syntax(format!("{place}{why}"))
}

/// Where and why a text is not JSON.
fn not_json(error: &serde_json::Error) -> DocumentError {
    let why = match error.classify() {
        Category::Eof => "it ends in the middle",
        Category::Syntax => "it is not JSON there: look at brackets, commas and quotes",
        Category::Data | Category::Io => "it is nested deeper, or has other values than are read",
    };
    DocumentError::Syntax(format!("line {}, column {}: {why}", error.line(), error.column()))
}

/// A fragment is a part of a URL: its characters may be percent-encoded.
fn decoded(pointer: &str) -> Option<String> {
    String::from_utf8(percent::bytes(pointer)?).ok()
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml_of_both_versions_are_read_and_nothing_else() {
        for (text, version) in [
            ("{\"openapi\": \"3.0.3\"}", Some(Version::V3_0)),
            ("\u{feff} {\"openapi\": \"3.1.0\"}", Some(Version::V3_1)),
            ("openapi: 3.1.0\npaths: {}", Some(Version::V3_1)),
            ("openapi: '3.0.0'", Some(Version::V3_0)),
            ("swagger: '2.0'", None),
            ("openapi: 4.0.0", None),
            ("[]", None),
            ("", None),
            ("{\"openapi\": \"3.0.3\"", None),
            ("\u{0}", None),
        ] {
            assert_eq!(Document::read(text.as_bytes()).ok().map(|document| document.version()), version, "{text}");
        }
    }

    #[test]
    fn yaml_says_what_json_would() {
        let text = "openapi: 3.0.3\nx: {200: a, values: [on, no, true, 1, '2', 2020-01-01, null, 1.5]}";
        let document = Document::read(text.as_bytes()).unwrap();
        assert_eq!(document.root()["x"], serde_json::json!({"200": "a", "values": ["on", "no", true, 1, "2", "2020-01-01", null, 1.5]}));
    }

    #[test]
    fn references_are_followed_within_the_document_and_nowhere_else() {
        let document = Document::read(
            br##"{"openapi": "3.1.0", "a~b/c d": {"x": 1}, "r": {"$ref": "#/a~0b~1c%20d"}, "loop": {"$ref": "#/loop"}, "far": {"$ref": "other.yml#/x"}, "gone": {"$ref": "#/nope"}}"##,
        )
        .unwrap();
        let follow = |key: &str| document.follow(&document.root()[key]);
        assert_eq!(follow("r").unwrap()["x"], 1);
        assert!(matches!(follow("loop"), Err(Unresolved::Circle(_))));
        assert!(matches!(follow("far"), Err(Unresolved::Elsewhere(_))));
        assert!(matches!(follow("gone"), Err(Unresolved::Nothing(_))));
    }

    #[test]
    fn documents_that_would_grow_without_end_are_refused() {
        let laughs = (1..12).fold("openapi: 3.1.0\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
            let before = (0..10).map(|_| format!("*a{}", n - 1)).collect::<Vec<_>>().join(", ");
            text + &format!("a{n}: &a{n} [{before}]\n")
        });
        assert!(matches!(Document::read(laughs.as_bytes()), Err(DocumentError::Syntax(_))));
        let deep = format!("{{\"openapi\":\"3.1.0\",\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(matches!(Document::read(deep.as_bytes()), Err(DocumentError::Syntax(_))));
        let deep = format!("openapi: 3.1.0\nx: {}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(matches!(Document::read(deep.as_bytes()), Err(DocumentError::Syntax(_))));
        assert!(matches!(Document::read(&vec![b' '; MAX_BYTES + 1]), Err(DocumentError::TooLarge)));
    }
}
