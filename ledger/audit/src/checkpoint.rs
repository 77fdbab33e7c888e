//! A checkpoint attests, signed, how far the chain went at a time. It is one line of JSON, and of use once it is stored where the owner of
//! this host cannot change it.

use crate::{
    chain::{ChainId, Head, RecordHash},
    key::{PublicKey, SigningKey},
    record::timestamp,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;
use thiserror::Error;

/// The longest line that is taken for a checkpoint, bytes.
pub const MAX_LINE: usize = 8 << 10;

/// A signed statement of the head of a chain at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The chain.
    pub chain: ChainId,
    /// The how manieth checkpoint of this chain, from 1: one that is missing shows.
    pub number: u64,
    /// The head of the chain.
    pub head: Head,
    /// The time, RFC 3339.
    pub at: String,
    signature: Vec<u8>,
}

/// The JSON form. The names are the format.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(rename = "gnomon.audit.chain")]
    chain: String,
    #[serde(rename = "gnomon.audit.checkpoint")]
    number: u64,
    #[serde(rename = "gnomon.audit.seq")]
    seq: u64,
    #[serde(rename = "gnomon.audit.head")]
    head: String,
    #[serde(rename = "@timestamp")]
    at: String,
    #[serde(rename = "gnomon.audit.signature")]
    signature: String,
}

/// A line that is no checkpoint.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("this is not a checkpoint of gnomon's audit")]
pub struct NotACheckpoint;

impl Checkpoint {
    pub(crate) fn sign(key: &SigningKey, chain: ChainId, number: u64, head: Head, at: SystemTime) -> Self {
        let at = timestamp(at);
        let signature = key.sign(message(chain, number, head, &at).as_bytes());
        Self { chain, number, head, at, signature }
    }

    /// True if this key signed it as it is.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(message(self.chain, self.number, self.head, &self.at).as_bytes(), &self.signature)
    }

    /// One line of JSON, without its line feed.
    #[must_use]
    pub fn line(&self) -> String {
        let line = Line {
            chain: self.chain.to_string(),
            number: self.number,
            seq: self.head.seq,
            head: self.head.hash.to_string(),
            at: self.at.clone(),
            signature: STANDARD.encode(&self.signature),
        };
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// Reads a line; what a syslog server wrote in front of the JSON is passed over.
    ///
    /// # Errors
    /// When it is no checkpoint. Whether it is signed is asked for with [`Checkpoint::is_signed_by`].
    pub fn parse(line: &str) -> Result<Self, NotACheckpoint> {
        let start = line.find('{').ok_or(NotACheckpoint)?;
        let json = line[start..].trim_end();
        if json.len() > MAX_LINE {
            return Err(NotACheckpoint);
        }
        let line: Line = serde_json::from_str(json).map_err(|_| NotACheckpoint)?;
        let hash = RecordHash::parse(&line.head).ok_or(NotACheckpoint)?;
        Ok(Self {
            chain: ChainId::parse(&line.chain).ok_or(NotACheckpoint)?,
            number: line.number,
            head: Head { seq: line.seq, hash },
            at: line.at,
            signature: STANDARD.decode(&line.signature).map_err(|_| NotACheckpoint)?,
        })
    }
}

/// The signed message. No field can hold a line feed but `at`, which comes last.
fn message(chain: ChainId, number: u64, head: Head, at: &str) -> String {
    format!("gnomon-audit-1 checkpoint\n{chain}\n{number}\n{}\n{}\n{at}", head.seq, head.hash)
}
