//! The costly evidence that any rule of a set reads, so that the rest need not be gathered.

use crate::expr::Asks;
use gnomon_observe::{Family, Field, FieldRef, Phase};
use smol_str::SmolStr;

/// The arguments of a tool call that rules read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Arguments {
    /// No arguments.
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

/// The evidence that the rules of a set read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeededEvidence {
    /// Request headers, lower case, sorted.
    pub request_headers: Vec<SmolStr>,
    /// Headers of the answer, lower case, sorted.
    pub response_headers: Vec<SmolStr>,
    /// Arguments of tool calls.
    pub arguments: Arguments,
    /// True if any rule reads what arguments mean: `gnomon.tool.kind` or a field of `gnomon.arguments`.
    pub meaning: bool,
    /// True if any rule reads `http.request.body.text` or searches keywords.
    pub body_text: bool,
    /// True if any rule reads `url.original`, `url.query` or `url.extension`, or searches keywords.
    pub url: bool,
    /// True if any rule names a field of the answer.
    pub response: bool,
}

impl NeededEvidence {
    pub(crate) fn add(&mut self, asks: &Asks) {
        if asks.keywords {
            self.body_text = true;
            self.url = true;
            self.arguments.want_all();
        }
        for field in &asks.fields {
            self.response |= field.phase() == Phase::Response;
            match field {
                FieldRef::Field(Field::BodyText) => self.body_text = true,
                FieldRef::Field(Field::UrlOriginal | Field::UrlQuery | Field::UrlExtension) => self.url = true,
                FieldRef::Field(Field::ToolArguments) => self.arguments.want_all(),
                FieldRef::Field(
                    Field::ArgumentsDecoded
                    | Field::ArgumentsAddresses
                    | Field::ArgumentsNumbers
                    | Field::ArgumentsCommands
                    | Field::ArgumentsInjected
                    | Field::ArgumentsReads
                    | Field::ArgumentsWrites
                    | Field::ArgumentsSmuggled
                    | Field::ToolKind,
                ) => {
                    self.arguments.want_all();
                    self.meaning = true;
                }
                FieldRef::Field(_) => {}
                FieldRef::Member(Family::RequestHeader, name) => insert(&mut self.request_headers, name),
                FieldRef::Member(Family::ResponseHeader, name) => insert(&mut self.response_headers, name),
                FieldRef::Member(Family::Argument, name) => self.arguments.want(name),
            }
        }
    }
}

impl Arguments {
    fn want(&mut self, name: &SmolStr) {
        match self {
            Arguments::Unwanted => *self = Arguments::Named(vec![name.clone()]),
            Arguments::Named(named) | Arguments::All { named } => insert(named, name),
        }
    }

    fn want_all(&mut self) {
        match self {
            Arguments::Unwanted => *self = Arguments::All { named: Vec::new() },
            Arguments::Named(named) => *self = Arguments::All { named: std::mem::take(named) },
            Arguments::All { .. } => {}
        }
    }
}

fn insert(sorted: &mut Vec<SmolStr>, name: &SmolStr) {
    if let Err(place) = sorted.binary_search(name) {
        sorted.insert(place, name.clone());
    }
}
