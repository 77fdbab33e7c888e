//! The modifiers behind a field's name: `url.path|startswith|cased`.

use crate::{
    error::{Report, hint},
    item::{Link, Order, Sense},
    text::{Case, Dash, Stand},
    yaml::Position,
};

/// The parsed modifiers of one item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Modifiers {
    pub(crate) operator: Operator,
    pub(crate) stand: Stand,
    pub(crate) case: Case,
    pub(crate) dash: Dash,
    pub(crate) link: Link,
    pub(crate) sense: Sense,
}

impl Default for Modifiers {
    fn default() -> Self {
        Self {
            operator: Operator::Text,
            stand: Stand::Whole,
            case: Case::Folded,
            dash: Dash::Literal,
            link: Link::Any,
            sense: Sense::Asserts,
        }
    }
}

/// The operator with which values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Text,
    Regex(Flags),
    Cidr,
    Exists,
    FieldRef,
    Compare(Order),
}

/// The flags of a regular expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) ignore_case: bool,
    pub(crate) multi_line: bool,
    pub(crate) dot_all: bool,
}

const KNOWN: &[&str] = &[
    "contains",
    "startswith",
    "endswith",
    "re",
    "i",
    "m",
    "s",
    "cidr",
    "exists",
    "cased",
    "all",
    "neq",
    "lt",
    "lte",
    "gt",
    "gte",
    "windash",
    "fieldref",
];
const LATER: &[&str] =
    &["base64", "base64offset", "wide", "utf16", "utf16le", "utf16be", "expand", "minute", "hour", "day", "week", "month", "year"];

impl Modifiers {
    /// Reads `startswith|cased`, which begins at `at`.
    pub(crate) fn parse(words: &str, at: Position, report: &mut Report<'_>) -> Option<Self> {
        let mut modifiers = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        let mut after = 0;
        for word in words.split('|') {
            let here = at.plus(after);
            after += word.chars().count() + 1;
            if seen.contains(&word) {
                return report.at(here, format!("the modifier `{word}` is given twice"));
            }
            if let Err(message) = modifiers.apply(word) {
                return report.at(here, message);
            }
            seen.push(word);
        }
        match modifiers.conflict(&seen) {
            Some(message) => report.at(at, message),
            None => Some(modifiers),
        }
    }

    fn apply(&mut self, word: &str) -> Result<(), String> {
        match word {
            "contains" => self.stand(Stand::Within, word)?,
            "startswith" => self.stand(Stand::Start, word)?,
            "endswith" => self.stand(Stand::End, word)?,
            "re" => self.operator(Operator::Regex(Flags::default()), word)?,
            "cidr" => self.operator(Operator::Cidr, word)?,
            "exists" => self.operator(Operator::Exists, word)?,
            "fieldref" if self.stand != Stand::Whole => return Err("`fieldref` must come before the other modifiers".to_owned()),
            "fieldref" => self.operator(Operator::FieldRef, word)?,
            "lt" => self.operator(Operator::Compare(Order::Less), word)?,
            "lte" => self.operator(Operator::Compare(Order::AtMost), word)?,
            "gt" => self.operator(Operator::Compare(Order::More), word)?,
            "gte" => self.operator(Operator::Compare(Order::AtLeast), word)?,
            "i" | "m" | "s" => {
                let Operator::Regex(flags) = &mut self.operator else {
                    return Err(format!("`{word}` is a flag of `re` and must follow it; texts ignore case anyway"));
                };
                match word {
                    "i" => flags.ignore_case = true,
                    "m" => flags.multi_line = true,
                    _ => flags.dot_all = true,
                }
            }
            "cased" => self.case = Case::Exact,
            "windash" => self.dash = Dash::Any,
            "all" => self.link = Link::All,
            "neq" => self.sense = Sense::Denies,
            later if LATER.contains(&later) => return Err(format!("not supported yet: the modifier `{later}`")),
            unknown => return Err(format!("`{unknown}` is not a modifier{}", hint(unknown, KNOWN))),
        }
        Ok(())
    }

    fn stand(&mut self, stand: Stand, word: &str) -> Result<(), String> {
        if self.stand != Stand::Whole {
            return Err(format!("`{word}` contradicts the modifier before it; keep one of contains, startswith, endswith"));
        }
        self.stand = stand;
        Ok(())
    }

    fn operator(&mut self, operator: Operator, word: &str) -> Result<(), String> {
        if self.operator != Operator::Text {
            return Err(format!("`{word}` contradicts a modifier before it; keep one"));
        }
        self.operator = operator;
        Ok(())
    }

    fn conflict(&self, words: &[&str]) -> Option<String> {
        let has = |word: &str| words.contains(&word);
        let texts_only = !matches!(self.operator, Operator::Text | Operator::FieldRef);
        if texts_only && self.stand != Stand::Whole {
            return Some("contains, startswith and endswith compare texts; leave them out here".to_owned());
        }
        if self.operator != Operator::Text && self.dash == Dash::Any {
            return Some("`windash` changes texts; leave it out here".to_owned());
        }
        if has("cased") && matches!(self.operator, Operator::Regex(flags) if flags.ignore_case) {
            return Some("`cased` contradicts `i`; keep one".to_owned());
        }
        match self.operator {
            Operator::Exists if words.len() > 1 => Some("`exists` takes no other modifier; write `exists: false` to deny it".to_owned()),
            Operator::FieldRef if has("all") => Some("`fieldref` compares with one field; leave `all` out".to_owned()),
            _ => None,
        }
    }
}
