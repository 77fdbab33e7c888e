//! What servers log (`notifications/message`), and from which level on clients want it. Those of the stateless era say so with each
//! request (`_meta["io.modelcontextprotocol/logLevel"]`), and are told nothing where they do not (2026-07-28); those with sessions, once
//! for all of them (`logging/setLevel`).

use bytes::Bytes;
use gnomon_upstream::{era::meta, members::Members, rpc::Notification};

/// The levels of RFC 5424 as the protocol has them, the least serious first.
pub const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
/// The notification.
pub const LOGGED: &str = "notifications/message";

/// How serious something is that a server logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogLevel(usize);

impl LogLevel {
    /// The level of this name, if there is one.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        LEVELS.iter().position(|known| *known == name).map(Self)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        LEVELS.get(self.0).copied().unwrap_or("emergency")
    }

    /// The level from which on a request's client wants to be told, if it does.
    pub fn asked_for(params: Option<&Bytes>) -> Option<Self> {
        let members = Members::of(params).ok()?;
        Self::of(&members.object("_meta")?.text(meta::LOG_LEVEL)?)
    }

    /// Whether whoever wants to be told from this level on is told this.
    pub fn wants(self, logged: &Notification) -> bool {
        Self::said(logged).is_some_and(|said| said >= self)
    }

    /// Whether this is less serious than that. What has no level that the protocol knows is not.
    pub fn leaves_out(self, logged: &Notification) -> bool {
        Self::said(logged).is_some_and(|said| said < self)
    }

    fn said(logged: &Notification) -> Option<Self> {
        Self::of(&Members::of(logged.params.as_ref()).ok()?.text("level")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_level_is_told_what_is_as_serious_and_who_does_not_nothing() {
        let asks = |meta: &str| LogLevel::asked_for(Some(&Bytes::from(format!("{{\"name\":\"x\",\"_meta\":{meta}}}"))));
        let said =
            |level: &str| Notification { method: LOGGED.into(), params: Some(Bytes::from(format!("{{\"level\":{level},\"data\":1}}"))) };
        let warning = asks(r#"{"io.modelcontextprotocol/logLevel":"warning"}"#).unwrap();
        assert_eq!(warning.as_str(), "warning");
        for (level, wanted) in [("\"warning\"", true), ("\"emergency\"", true), ("\"info\"", false), ("\"loud\"", false), ("5", false)] {
            assert_eq!(warning.wants(&said(level)), wanted, "{level}");
            assert_eq!(warning.leaves_out(&said(level)), level == "\"info\"", "{level}");
        }
        for meta in ["{}", r#"{"io.modelcontextprotocol/logLevel":"loud"}"#, "1"] {
            assert_eq!(asks(meta), None, "{meta}");
        }
        assert_eq!(LogLevel::asked_for(None), None);
    }
}
