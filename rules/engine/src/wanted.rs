//! Which costly evidence any rule of a set asks for, so that the rest need not be gathered.

use smol_str::SmolStr;

/// How much of a tool call's arguments rules look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Arguments {
    /// None.
    #[default]
    Unwanted,
    /// These, by their dotted path.
    Named(Vec<SmolStr>),
    /// All leaf values (`gen_ai.tool.call.arguments`, or a keyword search).
    All {
        /// And these by their dotted path.
        named: Vec<SmolStr>,
    },
}

/// What the rules of a set ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Request headers, lower case, sorted.
    pub request_headers: Vec<SmolStr>,
    /// Headers of the answer, lower case, sorted.
    pub response_headers: Vec<SmolStr>,
    /// Arguments of tool calls.
    pub arguments: Arguments,
    /// Whether any rule reads `http.request.body.text` or searches keywords.
    pub body_text: bool,
    /// Whether any rule names a field of the answer.
    pub response: bool,
}
