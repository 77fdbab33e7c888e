//! Protocol revisions: with a handshake and sessions (up to 2025-11-25), and without (2026-07-28).

use smol_str::SmolStr;

/// The revisions that begin with `initialize`, the newest first.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The stateless revisions.
pub const MODERN: [&str; 1] = ["2026-07-28"];

/// How a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Era {
    /// `initialize`, sessions, requests of the server's own.
    Legacy,
    /// Stateless.
    Modern,
}

impl Era {
    /// The era's name in metrics and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

/// The versions that our own clients may speak, the newest first. HTTP+SSE (2024-11-05) is for servers only.
pub fn spoken() -> impl Iterator<Item = &'static str> {
    MODERN.into_iter().chain(LEGACY.into_iter().filter(|version| *version >= "2025-03-26"))
}

/// The legacy revision to speak with a client that asks for `asked`.
#[must_use]
pub fn negotiated(asked: Option<&str>) -> SmolStr {
    let spoken = asked.and_then(|asked| LEGACY.iter().find(|known| **known == asked));
    SmolStr::new_static(spoken.unwrap_or(&LEGACY[0]))
}

/// Whether a legacy revision is spoken here.
#[must_use]
pub fn is_legacy(version: &str) -> bool {
    LEGACY.contains(&version)
}

/// Whether a version is of the stateless era, known or not: those are dates from its first on.
#[must_use]
pub fn claims_modern(version: &str) -> bool {
    MODERN.contains(&version) || !is_legacy(version) && version >= MODERN[0]
}

/// `_meta` keys of 2026-07-28.
pub mod meta {
    /// The revision.
    pub const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    /// Name and version of the client.
    pub const CLIENT: &str = "io.modelcontextprotocol/clientInfo";
    /// The member of `_meta` with the client's capabilities.
    pub const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    /// The lowest level of logs that the client wants.
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    /// The id of a notification's subscription.
    pub const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
    /// The task that a message is part of (2025-11-25).
    pub const TASK: &str = "io.modelcontextprotocol/related-task";
    /// Name and version of the server.
    pub const SERVER: &str = "io.modelcontextprotocol/serverInfo";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_not_spoken_is_answered_with_the_newest_that_begins_alike() {
        assert_eq!(negotiated(Some("2025-06-18")), "2025-06-18");
        for asked in [None, Some("2026-07-28"), Some("1.0")] {
            assert_eq!(negotiated(asked), "2025-11-25");
        }
    }

    #[test]
    fn later_dates_belong_to_the_stateless_era() {
        assert!(claims_modern("2026-07-28") && claims_modern("2027-01-01"));
        assert!(!claims_modern("2025-11-25") && !claims_modern("2025-12-01") && !claims_modern(""));
    }
}
