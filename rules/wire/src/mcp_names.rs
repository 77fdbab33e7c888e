//! Names that all revisions of MCP have: methods, with how telling each is on its own, and the form of protocol versions. They know no
//! message: the scanner asks for them while it reads one.

/// The strength of a method name as evidence by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// No other known protocol uses it.
    Alone,
    /// Shared with LSP and ACP: needs the shape of its params.
    Handshake,
    /// Shared with others: counts only beside another signature.
    Weak,
}

const METHODS: &[(&str, Telling)] = &[
    ("initialize", Telling::Handshake),
    // With whatever parameters: servers differ in what they make of positional or missing ones.
    ("tools/call", Telling::Alone),
    ("server/discover", Telling::Alone),
    ("subscriptions/listen", Telling::Alone),
    ("tools/list", Telling::Alone),
    ("resources/list", Telling::Alone),
    ("resources/read", Telling::Alone),
    ("resources/templates/list", Telling::Alone),
    ("resources/subscribe", Telling::Alone),
    ("resources/unsubscribe", Telling::Alone),
    ("prompts/list", Telling::Alone),
    ("prompts/get", Telling::Alone),
    ("completion/complete", Telling::Alone),
    ("logging/setLevel", Telling::Alone),
    ("sampling/createMessage", Telling::Alone),
    ("elicitation/create", Telling::Alone),
    ("roots/list", Telling::Alone),
    ("notifications/initialized", Telling::Alone),
    ("notifications/progress", Telling::Alone),
    ("notifications/message", Telling::Alone),
    ("notifications/tools/list_changed", Telling::Alone),
    ("notifications/prompts/list_changed", Telling::Alone),
    ("notifications/resources/list_changed", Telling::Alone),
    ("notifications/roots/list_changed", Telling::Alone),
    ("notifications/resources/updated", Telling::Alone),
    ("notifications/elicitation/complete", Telling::Alone),
    ("notifications/subscriptions/acknowledged", Telling::Alone),
    ("notifications/tasks", Telling::Alone),
    ("notifications/tasks/status", Telling::Alone),
    ("ping", Telling::Weak),
    ("notifications/cancelled", Telling::Weak),
    ("tasks/get", Telling::Weak),
    ("tasks/cancel", Telling::Weak),
    ("tasks/list", Telling::Weak),
    ("tasks/result", Telling::Weak),
    ("tasks/update", Telling::Weak),
];

/// The methods of all revisions of MCP, in either direction.
pub fn methods() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(name, _)| *name)
}

/// True for what lenient readers drop from a name: white space and control characters.
pub(crate) fn is_gap(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// The method of MCP that a method is once white space and control characters are taken out, which some servers do (`"tools/c\nall "`).
/// None where there are none, or where it is none of MCP's all the same.
#[must_use]
pub fn without_gaps(method: &str) -> Option<&'static str> {
    if !method.contains(is_gap) {
        return None;
    }
    let left = || method.chars().filter(|c| !is_gap(*c)).map(|c| c.to_ascii_lowercase());
    METHODS.iter().map(|(name, _)| *name).find(|name| name.chars().map(|c| c.to_ascii_lowercase()).eq(left()))
}

fn known(method: &str) -> Option<&'static (&'static str, Telling)> {
    let method = without_gaps(method).unwrap_or(method);
    METHODS.iter().find(|(name, _)| name.eq_ignore_ascii_case(method))
}

pub(crate) fn telling(method: &str) -> Option<Telling> {
    known(method).map(|(_, telling)| *telling)
}

/// A method as MCP writes it; as it is where MCP has none of this name. In whatever case: methods are case-sensitive, but some servers
/// fold theirs, and rules compare without case.
pub fn canonical_method(method: &str) -> &str {
    known(method).map_or(method, |(name, _)| name)
}

/// True if a method belongs to any MCP revision, in either direction, in whatever case. `ping` and `initialize` are among them, so this
/// alone does not make MCP.
pub fn is_mcp_method(method: &str) -> bool {
    telling(method).is_some()
}

/// True if a string has the form of an MCP protocol version: `^(20\d\d-\d\d-\d\d|DRAFT-20\d\d-v\d+)$`.
pub fn is_protocol_version(text: &str) -> bool {
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let year = |part: &[u8]| part.len() == 4 && part.starts_with(b"20") && digits(part);
    let bytes = text.as_bytes();
    if let Some(draft) = bytes.strip_prefix(b"DRAFT-") {
        return draft.len() > 6 && draft.get(..4).is_some_and(year) && draft.get(4..6) == Some(b"-v") && draft.get(6..).is_some_and(digits);
    }
    matches!(bytes, [y @ .., b'-', m0, m1, b'-', d0, d1]
        if year(y) && digits(&[*m0, *m1, *d0, *d1]))
}
