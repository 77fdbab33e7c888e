//! The judge of messages from a server to gnomon itself: its lists and its instructions.

use crate::error::UpstreamError;
use gnomon_catalogue::{catalogue::Kind, left_out::LeftOut, rpc::Outcome};
use prometheus::IntGauge;
use smol_str::SmolStr;
use std::time::SystemTime;

/// The judge of a server, provided by its registrar: it decides whether the server's entries may be passed on, and gets those left out.
///
/// It is called when lists and instructions are fetched, never in the course of a client's call.
pub trait Oversight: Send + Sync + 'static {
    /// True if there is a judge: without one no text is made for it.
    fn judges(&self) -> bool;

    /// Judges what gnomon itself asked the server and was told.
    ///
    /// # Errors
    /// Why what was told is not passed on.
    fn judge(&self, asked: &Asked<'_>, outcome: &Outcome, news: News) -> impl Future<Output = Result<(), Objection>> + Send;

    /// Does what reads a message of so many bytes, where it keeps nobody waiting; none if there was no time for it.
    fn read<T: Send + 'static>(&self, bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = Option<T>> + Send;

    /// What of the server these rules withhold now, as a whole or in part: a list by its key, or `instructions`. None withholds nothing.
    fn withheld(&self, what: &'static str, rules: &[SmolStr]);

    /// A number that is another once others rules judge: what was judged is then judged anew.
    fn edition(&self) -> u64;

    /// The server's list of this kind was fetched, and these of its entries are not offered.
    fn left_out(&self, server: &str, kind: Kind, left_out: &[LeftOut]);

    /// The server is not there, or for another reason than before.
    fn is_gone(&self, server: &str, why: &UpstreamError);

    /// The server is there, and was not.
    fn is_here(&self, server: &str);

    /// The server is at calls, and was last heard then; none once it is heard again.
    fn is_silent(&self, server: &str, since: Option<SystemTime>);

    /// The gauge of sessions that are open with the server for clients.
    fn sessions(&self) -> Option<IntGauge>;
}

/// No judge: everything may be passed on.
impl Oversight for () {
    fn judges(&self) -> bool {
        false
    }

    async fn judge(&self, _: &Asked<'_>, _: &Outcome, _: News) -> Result<(), Objection> {
        Ok(())
    }

    async fn read<T: Send + 'static>(&self, _: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        Some(work())
    }

    fn withheld(&self, _: &'static str, _: &[SmolStr]) {}

    fn edition(&self) -> u64 {
        0
    }

    fn left_out(&self, _: &str, _: Kind, _: &[LeftOut]) {}

    fn is_gone(&self, _: &str, _: &UpstreamError) {}

    fn is_here(&self, _: &str) {}

    fn is_silent(&self, _: &str, _: Option<SystemTime>) {}

    fn sessions(&self) -> Option<IntGauge> {
        None
    }
}

/// Why something that a server says is not passed on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub struct Objection {
    /// The rule that refuses it; none where it could not be read in time.
    pub rule: Option<SmolStr>,
    /// The reason, in words for the log.
    pub why: String,
}

impl Objection {
    /// The rule that refuses it.
    #[must_use]
    pub fn by(&self) -> Option<&SmolStr> {
        self.rule.as_ref()
    }
}

/// What gnomon itself asks of a server.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The page of a list that is asked for, as its server named it; none of the first.
    pub cursor: Option<&'a str>,
}

/// Whether gnomon got something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Something new.
    Some,
    /// Something new, of which only what rules find is told.
    Findings,
    /// Nothing that was not known before.
    None,
}
