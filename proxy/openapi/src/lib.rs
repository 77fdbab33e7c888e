//! OpenAPI documents as tools: every operation with its schemas, and the HTTP request that a call of it becomes.
//!
//! [`import`] reads a document of OpenAPI 3.0 to 3.2 and gives an [`Operation`] for each that can be called, with the tool as MCP
//! lists it, and a reason for each that cannot. [`Operation::draft`] makes a request of a call's arguments, [`result`] a tool's
//! result of the answer. There is no I/O here: who connects, and adds credentials, is the portal.
//!
//! The decision: **documents are walked as JSON, not read into types**. The crates that have types for OpenAPI refuse a document
//! for one value of the wrong type, and no document of 2,500 operations is without one. Here each operation is read for itself, and
//! what is wrong with it costs that one, with a reason that names it.
//!
//! ```
//! use gnomon_openapi::{Options, import};
//!
//! let document = br#"{"openapi": "3.1.0", "servers": [{"url": "https://api.example/v1"}], "paths": {"/users/{id}": {"get":
//!     {"operationId": "getUser", "parameters": [{"name": "id", "in": "path", "schema": {"type": "string"}}]}}}}"#;
//! let api = import(document, Options { longest_name: 64, base: None, here: None })?;
//! let arguments = serde_json::json!({"id": "a/b?c"});
//! let draft = api.operations[0].draft(arguments.as_object().unwrap())?;
//! assert_eq!(format!("{}{}", api.base, draft.target()), "https://api.example/v1/users/a%2Fb%3Fc");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An attacker controls arguments (by prompt injection), answers (the API), and of a document that was not
//! reviewed, all of it. Sizes, depths and numbers are bounded by constants beside what they bound; references lead nowhere
//! but into the document; no argument leaves its place; no document chooses where credentials go once its base is configured.
#![deny(missing_docs)]

mod answer;
mod document;
mod encode;
mod forbidden;
mod import;
mod naming;
mod operation;
mod request;
mod schema;
mod security;
mod servers;
mod text;
mod veil;

pub use answer::result;
pub use document::{DocumentError, MAX_BYTES};
pub use encode::encoded;
pub use import::{ImportError, Imported, MAX_OPERATIONS, Options, Refused, import};
pub use operation::{Effect, Operation};
pub use request::{Draft, Unfit};
pub use security::{Placement, Scheme as SecurityScheme};
pub use servers::{Base, InvalidBase, Scheme};
pub use veil::Veil;
