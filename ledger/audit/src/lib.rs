//! The audit of the portal, as evidence: append-only, hash-chained, signed.
//!
//! [`Audit`] records acts; one writer chains them ([`Head::then`]), commits them in groups and signs a [`Checkpoint`] every
//! minute, which [`Sink`]s send out of reach of this host's owner. [`verify`] holds the records against such
//! checkpoints and finds change, removal, reordering, truncation and wholesale rewriting.
//!
//! **What it cannot find**, by construction: what root on this host does between an act and the next checkpoint that leaves; acts that are
//! never recorded, once the recording program itself is compromised; anything, for an attacker who also
//! controls the receiver of checkpoints and has the key. Lost records are no secret: the chain says how many.
//!
//! ```
//! use gnomon_audit::{Audit, AuditOptions, Checkpoint, Expect, RecordKind, Record, SigningKey, SqliteStore, verify};
//! use std::time::SystemTime;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let state = tempfile::tempdir()?;
//! let path = state.path().join("audit.sqlite");
//! let key = SigningKey::open(&state.path().join("audit.key"))?;
//! let public = key.public();
//! let store = SqliteStore::open(&path, 1 << 30).await?;
//! let away = gnomon_audit::FileSink::new(state.path().join("elsewhere.jsonl"));
//! let (audit, writer) = Audit::start(Box::new(store), key, vec![Box::new(away)], AuditOptions::default()).await?;
//! audit.record_durably(Record { kind: RecordKind::Login, user_name: Some("anna".into()), ..Record::at(SystemTime::now()) }).await?;
//! writer.shutdown().await;
//!
//! let lines = std::fs::read_to_string(state.path().join("elsewhere.jsonl"))?;
//! let checkpoints: Vec<Checkpoint> = lines.lines().map(Checkpoint::parse).collect::<Result<_, _>>()?;
//! let report = verify(&mut SqliteStore::read(&path).await?, &checkpoints, &public, Expect::default()).await?;
//! assert!(report.is_sound(), "{report}");
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod audit;
mod chain;
mod chain_key;
mod checkpoint;
mod continued;
mod delivery;
mod key;
mod losses;
mod queue;
mod record;
mod redact;
mod sink;
mod sqlite;
mod store;
mod verify;

pub use audit::{Audit, AuditCounts, AuditOptions, NotWritten, OpensStore, Writer};
pub use chain::{ChainId, Head, RecordHash};
pub use checkpoint::{Checkpoint, MAX_LINE, NotACheckpoint};
pub use delivery::MAX_UNSENT;
pub use key::{KeyError, PublicKey, SigningKey};
pub use queue::{MAX_WAITING, MAX_WAITING_BYTES, Recorded};
pub use record::{
    Concealed, MAX_NAMES, MAX_RECORD, MAX_TEXT, RECORD_FIELDS, Record, RecordField, RecordKind, Sort, Status, record_reference,
    session_digest, text_digest,
};
pub use redact::{MAX_VALUE, redact};
pub use sink::{FileSink, Sending, Sink, SinkError};
pub use sqlite::SqliteStore;
pub use store::{Columns, KeptCheckpoint, Store, StoreError, Stored, StoredRecord};
pub use verify::{Expect, Finding, MAX_FINDINGS, Report, verify};
