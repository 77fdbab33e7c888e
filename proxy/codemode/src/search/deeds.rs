//! The action that a tool performs, and that a query asks for: read, create, change or remove.
//!
//! An API has five or more operations on a thing that differ in nothing else. A query that names the thing alone most likely asks to read
//! it, and hardly ever to remove it. Unknown words are neutral.

use super::words::words;

/// A kind of deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Read,
    Create,
    Change,
    Remove,
}

/// Words in names of tools, by their action.
const TOOLS: [(Deed, &[&str]); 4] = [
    (Deed::Remove, &["delete", "remove"]),
    (Deed::Change, &["update", "edit", "patch", "replace", "put"]),
    (Deed::Create, &["create", "add", "post"]),
    (Deed::Read, &["get", "list", "search", "retrieve", "read", "query", "open", "find"]),
];

/// Words in queries, by the action they ask for. All lower case.
const PEOPLE: [(Deed, &[&str]); 3] = [
    (Deed::Remove, &["delete", "remove", "drop", "forget", "erase", "discard", "destroy"]),
    (
        Deed::Change,
        &[
            "change", "update", "edit", "modify", "rename", "replace", "fix", "set", "adjust", "correct", "turn", "put", "switch", "move",
            "assign", "make", "bring",
        ],
    ),
    (
        Deed::Create,
        &[
            "create", "add", "new", "make", "write", "report", "start", "open", "insert", "register", "note", "remember", "build",
            "propose", "declare", "book", "post", "give", "ask", "order", "buy", "take",
        ],
    ),
];

/// The first words of queries that ask to read.
const QUESTIONS: &[&str] = &[
    "which", "who", "what", "where", "when", "how", "list", "show", "find", "get", "read", "see", "look", "search", "is", "are", "did",
    "does", "any", "has", "unread",
];

/// Words that end in `s` and are no plural.
const SINGULAR: &[&str] = &["is", "was", "has", "does", "this", "of", "us", "its", "status"];

/// Factors of a tool's score: its action is the one asked for, another one, a removal not asked for, and a list where the query has a
/// plural.
const SAME: f32 = 1.2;
const OTHER: f32 = 0.85;
const REMOVES: f32 = 0.8;
const LISTS: f32 = 1.1;

/// The action of a tool.
#[derive(Debug, Clone, Copy, Default)]
pub struct Doing {
    deed: Option<Deed>,
    lists: bool,
}

impl Doing {
    /// Derived from its name and the first sentence of its description.
    pub fn of(name: &str, summary: &str) -> Self {
        let first = words(summary).next();
        let parts: Vec<String> = words(name).collect();
        let told = first.iter().chain(parts.last()).chain(&parts);
        let of_word = |word: &String| TOOLS.iter().find(|(_, known)| known.contains(&word.as_str())).map(|(deed, _)| *deed);
        let lists = first.as_ref().is_some_and(|first| ["list", "search", "find"].contains(&first.as_str()));
        Self { deed: told.into_iter().find_map(of_word), lists }
    }
}

/// The action that a query asks for.
#[derive(Debug, Default)]
pub struct Wish {
    deeds: Vec<Deed>,
    several: bool,
}

impl Wish {
    /// Derived from its words.
    pub fn of(question: &str) -> Self {
        let question = question.to_lowercase();
        let said: Vec<&str> = question.split(|c: char| !c.is_ascii_lowercase()).filter(|word| !word.is_empty()).collect();
        let asks = said.first().is_some_and(|first| QUESTIONS.contains(first));
        let wanted = PEOPLE.iter().filter(|(_, known)| !asks && said.iter().any(|word| known.contains(word)));
        let mut deeds: Vec<Deed> = wanted.map(|(deed, _)| *deed).collect();
        if deeds.is_empty() {
            deeds.push(Deed::Read);
        }
        let is_plural = |word: &&str| word.ends_with('s') && !word.ends_with("ss") && !SINGULAR.contains(word);
        let several = said.iter().any(is_plural) || said.first().is_some_and(|first| ["which", "who", "list"].contains(first));
        Self { deeds, several }
    }

    /// The factor of a tool's score.
    pub fn worth(&self, tool: Doing) -> f32 {
        let Some(deed) = tool.deed else { return 1.0 };
        let mut worth = if self.deeds.contains(&deed) { SAME } else { OTHER };
        if deed == Deed::Remove && !self.deeds.contains(&Deed::Remove) {
            worth *= REMOVES;
        }
        if tool.lists && self.several && self.deeds.contains(&Deed::Read) {
            worth *= LISTS;
        }
        worth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_worth_more_than_what_is_not() {
        let list = Doing::of("shop_GetInvoices", "List all invoices");
        let delete = Doing::of("shop_DeleteInvoicesInvoice", "Delete an invoice");
        let send = Doing::of("shop_PostInvoicesInvoiceSend", "Email an invoice");
        assert_eq!((list.deed, delete.deed, send.deed), (Some(Deed::Read), Some(Deed::Remove), Some(Deed::Create)));
        for (question, best, least) in
            [("invoices", list, delete), ("which invoices are there", list, delete), ("drop an invoice", delete, list)]
        {
            let wish = Wish::of(question);
            assert!(wish.worth(best) > wish.worth(least), "{question}");
        }
        assert!(Wish::of("").deeds == [Deed::Read] && Wish::of("ünï").worth(Doing::default()) == 1.0);
    }
}
