//! The evidence on one call, and the vocabulary of decisions about it.
//!
//! Everything else depends on this crate and it depends on nothing of ours. It holds one table of
//! field names ([`Field`]), the value container that the table indexes ([`Observation`]), and the
//! small enums of judgement ([`Phase`], [`Action`], [`Confidence`], …). It does no I/O, parses no
//! traffic and judges nothing.
//!
//! The decision behind it: **one flat dotted name per fact, everywhere**. Rules, events, documents
//! and code look a fact up through the same row of the same table, so a rule that names a field
//! that does not exist, or that its channel can never fill, is caught when it is loaded.
//!
//! ```
//! use gnomon_observe::{Field, Lookup, Observation, Value};
//!
//! let mut seen = Observation::new();
//! seen.set(Field::ServerAddress, "mcp.example.com");
//! assert!(matches!(seen.get(Field::ServerAddress), Lookup::Value(Value::Str(s)) if s == "mcp.example.com"));
//! assert!(matches!(seen.get(Field::McpMethod), Lookup::Absent));
//! assert_eq!(serde_json::to_string(&seen).unwrap(), r#"{"server.address":"mcp.example.com"}"#);
//! ```
#![deny(missing_docs)]

mod command_line;
mod concealing;
mod field;
mod field_set;
mod json;
mod judgement;
mod methods;
mod observation;
mod own;
mod reference;
mod secret;
mod texts;
mod tokens;
mod value;
mod written;

pub use command_line::{argument_without_secrets, arguments_without_secrets, secrets_in_arguments};
pub use concealing::without_secrets;
pub use field::{FIELD_COUNT, FIELDS, Family, Field, FieldInfo, FieldRef, FieldType, PASSING, Retention, Role, UnknownField};
pub use judgement::{
    Action, Channel, Class, Confidence, Consequences, Correlation, Effect, Evidence, EvidenceSet, Level, Phase, Review, UnknownWord,
};
pub use methods::MCP_METHODS;
pub use observation::{JsonError, Lookup, Observation, SCHEMA_VERSION};
pub use own::{APPROVAL_EXPIRED, OWN_RULES, OwnRule, SANDBOX_VIOLATION, UNUSUAL_VOLUME};
pub use reference::{field_reference, json_schema};
pub use secret::{CONCEALED, is_secret_name, is_secret_parameter};
pub use texts::{TextFindings, TextHit};
pub use tokens::known_token;
pub use value::Value;
