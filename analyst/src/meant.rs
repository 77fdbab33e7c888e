//! Which rule is meant: the one place for every command that takes a rule. A rule is called by its id or the beginning of it, by its
//! `name` (as in alerts' runbooks), or by its title (as in events).
//!
//! Nothing is guessed: a text that fits several rules is an error that names them, one that fits none an error with the nearest.

use anyhow::Result;
use gnomon_cli::{
    Complaint,
    line::{clean, one_line},
    rule_files,
};
use gnomon_config::{Config, Packs, Rules};
use gnomon_engine::{Rule, RuleSet};
use gnomon_kit::nearest_by;
use gnomon_ledger::{EventFilter, Order, Reader};
use gnomon_observe::OWN_RULES;

/// The shortest beginning of an id, so that a word is not taken for one.
const MIN_DIGITS: usize = 4;
/// The least likeness of a rule that is suggested (Jaro-Winkler, from 0 to 1).
const LIKENESS: f64 = 0.75;
/// The next step for a rule that is unknown.
pub const LISTED: &str = "`gnomon rules list` names the rules";

/// What a rule is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called<'r> {
    pub id: &'r str,
    pub name: Option<&'r str>,
    /// Empty where it is not known: of a rule that is not loaded any more.
    pub title: &'r str,
}

impl<'r> From<&'r Rule> for Called<'r> {
    fn from(rule: &'r Rule) -> Self {
        Self { id: &rule.id, name: rule.name.as_deref(), title: &rule.title }
    }
}

impl Called<'_> {
    /// `name (title)`, or what there is of it.
    fn shown(&self) -> String {
        match (self.name, self.title) {
            (Some(name), _) if !self.title.is_empty() => format!("{name} ({})", clean(self.title)),
            (Some(name), _) => name.to_owned(),
            (None, "") => self.id.to_owned(),
            (None, title) => format!("{} ({})", self.id, clean(title)),
        }
    }
}

/// Why no single rule is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// The rules that are called so, or whose ids begin so.
    Several(Vec<String>),
    /// None is; the one that is called most like it.
    Unknown(Option<String>),
}

impl Unclear {
    /// The error of a command that was given `text`. `unknown` is its cause where no rule is called so, `next` what names the rules.
    pub fn complaint(self, text: &str, unknown: impl FnOnce() -> String, next: &str) -> Complaint {
        match self {
            Self::Several(rules) => {
                Complaint::usage(format!("`{}` is several rules: {}", clean(text), rules.join(", "))).next("write the whole id of one")
            }
            Self::Unknown(None) => Complaint::usage(unknown()).next(next),
            Self::Unknown(Some(nearest)) => Complaint::usage(unknown()).next(format!("did you mean {nearest}? {next}")),
        }
    }
}

/// The rule that `text` means among these: whose id, name or title it is, whatever the case, else whose id alone begins so.
///
/// # Errors
/// [`Unclear`].
pub fn meant<'r>(text: &str, rules: impl Iterator<Item = Called<'r>> + Clone) -> Result<Called<'r>, Unclear> {
    let is = |called: &str| called.eq_ignore_ascii_case(text);
    if let Some(rule) = rules.clone().find(|rule| is(rule.id)) {
        return Ok(rule);
    }
    let called = rules.clone().filter(|rule| rule.name.is_some_and(is) || is(rule.title) && !text.is_empty());
    let begun = rules.clone().filter(|rule| text.len() >= MIN_DIGITS && rule.id.starts_with(&text.to_ascii_lowercase()));
    for found in [called.collect::<Vec<_>>(), begun.collect()] {
        match found.as_slice() {
            [] => {}
            [first, rest @ ..] if rest.iter().all(|other| other.id == first.id) => return Ok(*first),
            several => return Err(Unclear::Several(several.iter().map(|rule| rule.id.to_owned()).collect())),
        }
    }
    let texts = rules
        .flat_map(|rule| rule.name.into_iter().chain(Some(rule.title).filter(|title| !title.is_empty())).map(move |called| (called, rule)));
    let near = nearest_by(&text.to_lowercase(), texts, |(called, _)| called.to_lowercase(), LIKENESS);
    Err(Unclear::Unknown(near.map(|(_, rule)| rule.shown())))
}

/// All rules of a set, those that are switched off included.
pub fn all(set: &RuleSet) -> impl Iterator<Item = &Rule> + Clone {
    set.rules().iter().chain(set.disabled())
}

/// The text by which a ledger is asked for a rule's events.
///
/// The rule may be configured, one of gnomon's own, one that ships and is not switched on here, or only known from the events that it
/// left: a command that looks at events needs no readable configuration.
///
/// # Errors
/// If several rules are meant, or none and no event has it, or the ledger cannot be read.
pub async fn in_ledger(text: &str, config: Result<Config, Complaint>, reader: &mut Reader) -> Result<String> {
    let configured = config.and_then(|config| rule_files::load(&config.rules));
    let own = OWN_RULES.iter().map(|own| Called { id: own.id, name: None, title: own.name });
    let loaded: Vec<Called<'_>> = configured.iter().flat_map(all).map(Called::from).chain(own).collect();
    let shipped = shipped()?;
    let mut unclear = Unclear::Unknown(None);
    for rules in [loaded, all(&shipped).map(Called::from).collect()] {
        match (meant(text, rules.into_iter()), &unclear) {
            (Ok(rule), _) => return Ok(rule.id.to_owned()),
            (Err(several @ Unclear::Several(_)), _) => return Err(several.complaint(text, String::new, LISTED).into()),
            (Err(unknown), Unclear::Unknown(None)) => unclear = unknown,
            (Err(_), _) => {}
        }
    }
    let filter = EventFilter { rule: Some(text.to_owned()), limit: 1, ..EventFilter::default() };
    if !reader.events(&filter, Order::OldestFirst).await?.is_empty() {
        return Ok(text.to_owned());
    }
    let unread =
        configured.err().map(|error| format!("; the configured rules cannot be read: {}", one_line(&error.cause))).unwrap_or_default();
    let unknown = || format!("no rule has the id, name or title `{}`, and no event was matched by such a rule{unread}", clean(text));
    Err(unclear.complaint(text, unknown, LISTED).into())
}

/// All rules that ship.
fn shipped() -> Result<RuleSet, Complaint> {
    let packs = Packs::Named(gnomon_packs::packs().iter().map(|pack| pack.name).collect());
    rule_files::load(&Rules { packs, ..Config::default().rules })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [Called<'static>; 4] = [
        Called { id: "11112222-aaaa", name: Some("shadow_mcp_message"), title: "MCP to an unsanctioned server" },
        Called { id: "1111ffff-bbbb", name: Some("mcp_client"), title: "Same title" },
        Called { id: "cccc0000-cccc", name: None, title: "Same title" },
        Called { id: "dddd0000-dddd", name: Some("face"), title: "" },
    ];

    fn id(text: &str) -> Result<&'static str, Unclear> {
        meant(text, RULES.into_iter()).map(|rule| rule.id)
    }

    #[test]
    fn a_rule_is_meant_by_its_id_name_or_title_or_the_beginning_of_its_id() {
        for text in ["11112222-AAAA", "11112222", "shadow_mcp_message", "Shadow_MCP_Message", "mcp to an unsanctioned server"] {
            assert_eq!(id(text), Ok("11112222-aaaa"), "{text}");
        }
        assert_eq!((id("cccc"), id("face")), (Ok("cccc0000-cccc"), Ok("dddd0000-dddd")));
    }

    #[test]
    fn a_text_that_fits_several_rules_names_them_and_one_that_fits_none_the_nearest() {
        assert_eq!(id("same title"), Err(Unclear::Several(vec!["1111ffff-bbbb".to_owned(), "cccc0000-cccc".to_owned()])));
        assert_eq!(id("1111"), Err(Unclear::Several(vec!["11112222-aaaa".to_owned(), "1111ffff-bbbb".to_owned()])));
        for text in ["shadow_mcp_mesage", "MCP to unsanctioned servers"] {
            let nearest = "shadow_mcp_message (MCP to an unsanctioned server)".to_owned();
            assert_eq!(id(text), Err(Unclear::Unknown(Some(nearest))), "{text}");
        }
        // Three digits are not enough to be the beginning of an id, and nothing is called so.
        assert!(matches!(id("ccc"), Err(Unclear::Unknown(_))));
        assert_eq!((id(""), id("zzzzzzzz")), (Err(Unclear::Unknown(None)), Err(Unclear::Unknown(None))));
    }

    #[test]
    fn a_rule_that_is_loaded_twice_is_one() {
        let twice = [RULES[0], RULES[0]];
        assert_eq!(meant("shadow_mcp_message", twice.into_iter()).map(|rule| rule.id), Ok("11112222-aaaa"));
    }

    #[test]
    fn every_shipped_rule_is_meant_by_its_id_its_name_and_its_title() {
        let set = shipped().unwrap();
        for rule in all(&set) {
            for text in [Some(&rule.id), rule.name.as_ref(), Some(&rule.title)].into_iter().flatten() {
                assert_eq!(meant(text, all(&set).map(Called::from)).map(|found| found.id), Ok(rule.id.as_str()), "{text}");
            }
        }
    }
}
