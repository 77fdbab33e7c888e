//! Why a server gave no answer. The texts are fit for a client's eyes: no address, no URL.

use crate::carried::{CARRIED_OUT, CarriedOut, Sent};
use gnomon_catalogue::rpc::{INTERNAL_ERROR, Outcome, RpcError};
use gnomon_http::{DialError, SendError};
use gnomon_shares::Refused;
use std::{fmt, time::Duration};

/// The reason that a server cannot be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unconnected {
    /// No listener at its address.
    Refused,
    /// Its name has no address.
    Name,
    /// TLS: a certificate that is not trusted, or no TLS at all.
    Tls,
    /// No connection came about in time.
    Time,
    /// Its address is one that gnomon does not connect to.
    Forbidden,
    /// Another error on the way.
    Other,
}

impl fmt::Display for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => ": nobody listens at its address",
            Self::Name => ": its name has no address",
            Self::Tls => ": TLS with it fails, as where its certificate is not trusted",
            Self::Time => ": no connection came about in time",
            Self::Forbidden => ": its address is one that gnomon does not connect to",
            Self::Other => "",
        })
    }
}

/// The reason that a server gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpstreamError {
    /// No connection could be made.
    #[error("it cannot be reached{why}")]
    Unreachable {
        /// The reason.
        why: Unconnected,
        /// The error for the log only: it may name addresses.
        detail: String,
    },
    /// The server accepted the connection and closed it again.
    #[error("it closed the connection without an answer")]
    Dropped {
        /// The error, for the log only.
        detail: String,
    },
    /// Not sent: too many calls are in progress with the server, or too many of this caller.
    #[error("too many calls are under way with it: {0}")]
    Busy(Refused),
    /// The server is a program that was not started; the reason in words for clients.
    #[error("{0}")]
    NotStarted(String),
    /// The server is known to be down, and gets no requests before it is back.
    #[error("it has been unreachable for {} ({why}); it is tried again in the background", lasted(*.since))]
    Down {
        /// The time since.
        since: Duration,
        /// Why, in words for clients.
        why: String,
    },
    /// Timed out.
    #[error("it gave no answer within {0:?}")]
    Timeout(Duration),
    /// The server accepts connections and answers no request at all.
    #[error("it is frozen: it takes connections, and gave no answer within {0:?}")]
    Frozen(Duration),
    /// It is a program that was asked whether it is there and said nothing: what was to be asked was not sent, and another is started.
    #[error("it hangs: it did not answer a ping within {0:?}")]
    Hangs(Duration),
    /// The session that it was made in was ended on this side, as its client wished, or nobody used it.
    #[error("its session was ended before it answered")]
    Ended,
    /// The server ended the session.
    #[error("it ended the session")]
    SessionGone,
    /// The server does not accept the credentials.
    #[error("it refused the credentials that gnomon holds for it (HTTP {0})")]
    Unauthorized(u16),
    /// The server wants credentials, and got none.
    #[error("it asks for credentials, and gnomon holds none for it (HTTP {0})")]
    Unauthenticated(u16),
    /// The server redirects, which gnomon does not follow: credentials and policy are for the configured place.
    #[error("it answered HTTP {status}, a redirect, which is not followed")]
    Moved {
        /// The status.
        status: u16,
        /// The target, for the log only.
        to: String,
    },
    /// The server answers something that is not MCP.
    #[error("it answered HTTP {0}")]
    Status(u16),
    /// The server breaks the protocol.
    #[error("its answer cannot be used: {0}")]
    Protocol(String),
    /// The server sent more than may be held.
    #[error("its answer is larger than {0} bytes")]
    TooLarge(usize),
    /// Too much that the server, or all servers together, have begun to say is not ended.
    #[error("there is no room for its answer: too much that was begun is not ended")]
    NoRoom,
    /// The server broke off.
    #[error("it broke off its answer")]
    Aborted,
    /// The server was removed from the configuration, or replaced, during the call.
    #[error("it is no longer offered: the configuration was changed while the call was under way")]
    Removed,
    /// The server answered with an error of its own.
    #[error("it answered with an error")]
    Rpc(Outcome),
}

/// A span of time in words.
fn lasted(time: Duration) -> String {
    match time.as_secs() {
        0 => "less than a second".to_owned(),
        seconds => format!("{seconds}s"),
    }
}

impl UpstreamError {
    /// What it said is no object that can be read. What it says instead is not quoted: these are our words.
    pub(crate) fn unreadable() -> Self {
        Self::Protocol("it is not an object with distinct members".to_owned())
    }

    /// What is known of a call that ended with this, where it is no answer of the server's.
    #[must_use]
    pub fn carried_out(&self, sent: Sent) -> Option<CarriedOut> {
        match (self, sent) {
            (Self::Rpc(_), _) => None,
            // RFC 9110, 15.4 and 15.5: what is turned away so is not applied.
            (_, Sent::No)
            | (
                Self::Unauthorized(_)
                | Self::Unauthenticated(_)
                | Self::Moved { .. }
                | Self::Status(400 | 404 | 405 | 406 | 413 | 415 | 429),
                Sent::Yes,
            ) => Some(CarriedOut::No),
            (_, Sent::Yes) => Some(CarriedOut::Perhaps),
        }
    }

    /// The answer to the client; `server` is the id by which it knows the server, and `carried` what is known of a call that
    /// something may come of.
    #[must_use]
    pub fn outcome(&self, server: &str, carried: Option<CarriedOut>) -> Outcome {
        match (self, carried) {
            (Self::Rpc(outcome), _) => outcome.clone(),
            (other, None) => {
                RpcError::new(INTERNAL_ERROR, format!("server `{server}`: {other}")).with(serde_json::json!({"server": server})).into()
            }
            (other, Some(carried)) => {
                let text = format!("server `{server}`: {other}; {}", carried.words());
                RpcError::new(INTERNAL_ERROR, text).with(serde_json::json!({"server": server, CARRIED_OUT: carried.word()})).into()
            }
        }
    }

    /// The word for `error.type` in events.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::NotStarted(_) | Self::Down { .. } => "upstream_unreachable",
            Self::Timeout(_) | Self::Frozen(_) | Self::Hangs(_) => "upstream_timeout",
            Self::Unauthorized(_) | Self::Unauthenticated(_) => "upstream_unauthorized",
            Self::Dropped { .. } | Self::Aborted | Self::SessionGone => "upstream_aborted",
            Self::Removed => "upstream_removed",
            Self::Ended => "session_ended",
            Self::Status(_) | Self::Moved { .. } | Self::Protocol(_) | Self::TooLarge(_) | Self::NoRoom | Self::Rpc(_) | Self::Busy(_) => {
                "upstream_failed"
            }
        }
    }

    /// The reason as a word of a fixed set, for metrics, for the log, and for telling reasons apart.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { why: Unconnected::Refused, .. } => "refused",
            Self::Unreachable { why: Unconnected::Name, .. } => "dns",
            Self::Unreachable { why: Unconnected::Tls, .. } => "tls",
            Self::Unreachable { why: Unconnected::Forbidden, .. } => "forbidden_address",
            Self::Unreachable { why: Unconnected::Time, .. } | Self::Timeout(_) => "timeout",
            Self::Frozen(_) | Self::Hangs(_) => "frozen",
            Self::Unreachable { why: Unconnected::Other, .. } => "unreachable",
            Self::Dropped { .. } | Self::Aborted => "broke_off",
            Self::NotStarted(_) => "not_started",
            Self::Busy(_) => "busy",
            Self::Down { .. } => "down",
            Self::SessionGone => "session_gone",
            Self::Ended => "session_ended",
            Self::Removed => "removed",
            Self::Unauthorized(_) | Self::Unauthenticated(_) => "unauthorized",
            Self::Status(400..=499) => "http_4xx",
            Self::Status(500..=599) => "http_5xx",
            Self::Status(_) | Self::Moved { .. } => "http_other",
            Self::Protocol(_) => "protocol",
            Self::TooLarge(_) | Self::NoRoom => "too_large",
            Self::Rpc(_) => "error_answer",
        }
    }

    /// The part of the error for the log only: it may name addresses.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Unreachable { detail, .. } | Self::Dropped { detail } => Some(detail),
            Self::Moved { to, .. } => Some(to),
            _ => None,
        }
    }

    /// True if the error means that the server is down, rather than something about this request.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Dropped { .. } | Self::Timeout(_) | Self::Frozen(_) | Self::Down { .. })
    }

    /// True if the error means that the server is silent: its connections do not end by themselves then.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Frozen(_) | Self::Timeout(_) | Self::Unreachable { why: Unconnected::Time, .. })
    }
}

impl From<SendError> for UpstreamError {
    fn from(error: SendError) -> Self {
        let detail = error.to_string();
        let why = match error {
            SendError::Dial(DialError::Refused(_)) => Unconnected::Refused,
            SendError::Dial(DialError::Resolve { .. }) => Unconnected::Name,
            SendError::Dial(DialError::Timeout { .. }) => Unconnected::Time,
            SendError::Dial(DialError::Forbidden { .. }) => Unconnected::Forbidden,
            SendError::Dial(_) => Unconnected::Other,
            SendError::Tls(_) => Unconnected::Tls,
            _ => return Self::Dropped { detail },
        };
        Self::Unreachable { why, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_how_long_a_server_was_away_is_said_in_words_also_at_first() {
        let told = |millis| UpstreamError::Down { since: Duration::from_millis(millis), why: "why".to_owned() }.to_string();
        assert!(
            told(400).contains("for less than a second (why);") && told(2_400).contains("for 2s (why);"),
            "{} {}",
            told(400),
            told(2_400)
        );
    }
}
