//! The methods of all MCP revisions, and how telling each name is on its own.

/// How much a method name says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// No other known protocol uses it.
    Alone,
    /// Shared with LSP and ACP: needs the shape of its params.
    Handshake,
    /// Shared with others: counts only beside another signature.
    Weak,
}

pub(super) fn telling(method: &str) -> Option<Telling> {
    Some(match method {
        "initialize" => Telling::Handshake,
        // With whatever parameters: servers differ in what they make of positional or missing ones.
        "tools/call"
        | "server/discover"
        | "subscriptions/listen"
        | "tools/list"
        | "resources/list"
        | "resources/read"
        | "resources/templates/list"
        | "resources/subscribe"
        | "resources/unsubscribe"
        | "prompts/list"
        | "prompts/get"
        | "completion/complete"
        | "logging/setLevel"
        | "sampling/createMessage"
        | "elicitation/create"
        | "roots/list"
        | "notifications/initialized"
        | "notifications/progress"
        | "notifications/message"
        | "notifications/tools/list_changed"
        | "notifications/prompts/list_changed"
        | "notifications/resources/list_changed"
        | "notifications/roots/list_changed"
        | "notifications/resources/updated"
        | "notifications/elicitation/complete"
        | "notifications/subscriptions/acknowledged"
        | "notifications/tasks"
        | "notifications/tasks/status" => Telling::Alone,
        "ping" | "notifications/cancelled" | "tasks/get" | "tasks/cancel" | "tasks/list" | "tasks/result" | "tasks/update" => Telling::Weak,
        _ => return None,
    })
}

/// Whether a method belongs to any MCP revision, in either direction. Exact: methods are
/// case-sensitive. `ping` and `initialize` are among them, so this alone does not make MCP.
pub fn is_mcp_method(method: &str) -> bool {
    telling(method).is_some()
}
