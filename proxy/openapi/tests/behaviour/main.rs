//! Whole documents: large, odd and hostile ones, and the requests that calls become.
#![allow(clippy::unwrap_used, reason = "what the tests read, they wrote")]

mod generated;
mod hostile;
mod large;
mod requests;

use gnomon_openapi::{Imported, Options, import};
use serde_json::Value;

/// The document as tools, which it must be.
fn imported(document: &Value) -> Imported {
    import(document.to_string().as_bytes(), Options { longest_name: 60, base: None, here: None }).unwrap()
}
