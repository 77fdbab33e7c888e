//! The runbook: of each shipped rule what it means, the first commands, and what is usually no finding.
//!
//! It is made of the rules themselves, so that it says what they look for. A chapter's anchor is the rule's id, by which alerts link to
//! it (`runbook_url`); an id never changes, a title may.

use gnomon_cli::Complaint;
use gnomon_engine::{Origin, Rule, RuleSet, Source};
use gnomon_observe::{Action, OWN_RULES, OwnRule};
use gnomon_packs::{Enablement, Pack, packs};
use std::fmt::Write as _;

const BEGINNING: &str = "# Runbook of the shipped rules\n\n\
    Generated from the rules. An alert about an incident links to the rule that raised it; [alerts.md](../alerts.md) says how alerts come \
    about, and what to do about those that no rule raises. `INCIDENT` is the label `incident` of the alert, `EVENT` the id of an event, as \
    the first command prints both. A rule of your own is not here: \
    `gnomon rules show RULE` prints what it looks at, its description and its usual false positives.\n";

/// The page, in Markdown.
///
/// # Errors
/// A shipped rule does not load.
pub fn runbook() -> Result<String, Complaint> {
    let mut page = BEGINNING.to_owned();
    for pack in packs() {
        let vendor = |(name, text): (String, &str)| Source { name, text: text.to_owned(), origin: Origin::Vendor };
        let sources: Vec<Source> = pack.files().map(vendor).collect();
        let set = RuleSet::compile(&sources).map_err(Complaint::input)?;
        let mut rules: Vec<&Rule> = set.rules().iter().chain(set.disabled()).collect();
        rules.sort_by(|one, other| other.level.cmp(&one.level).then_with(|| one.title.cmp(&other.title)));
        chapters(&mut page, pack, &rules);
    }
    own(&mut page);
    Ok(page)
}

/// What gnomon finds by itself, of which there is no rule to show.
fn own(page: &mut String) {
    page.push_str("\n## gnomon's own detections\n");
    for OwnRule { id, name, level, class, doc } in OWN_RULES {
        // Formatting a String cannot fail.
        let _ = write!(
            page,
            "\n<a id=\"{id}\"></a>\n### {name}\n\nLevel {}, class {}.\n\n{doc}\n\n\
             ```sh\n\
             gnomon events show --incident INCIDENT         # who, where, which rules, the first detections\n\
             gnomon events --rule {id} --since 7d   # all of them in a week\n\
             ```\n",
            level.as_str(),
            class.as_str()
        );
    }
}

fn chapters(page: &mut String, pack: &Pack, rules: &[&Rule]) {
    let state = match pack.enabled_by_default {
        Enablement::Enabled => "on by default",
        Enablement::Disabled => "off by default: `rules.packs` turns it on",
    };
    // Formatting a String cannot fail.
    let _ = write!(page, "\n## Pack `{}` ({state})\n", pack.name);
    for rule in rules {
        chapter(page, rule);
    }
}

fn chapter(page: &mut String, rule: &Rule) {
    let name = rule.name.as_deref().unwrap_or(&rule.id);
    let does = match rule.response.action {
        Action::Allow | Action::Log => String::new(),
        action => format!(", action {}", action.as_str()),
    };
    let _ = write!(
        page,
        "\n<a id=\"{}\"></a>\n### {}\n\n`{name}`, level {}, class {}{does}.\n\n",
        rule.id,
        rule.title,
        rule.level.as_str(),
        rule.class.as_str()
    );
    if let Some(description) = &rule.description {
        let _ = writeln!(page, "{}\n", description.trim_end());
    }
    let fields: Vec<String> = rule.fields.iter().map(|field| format!("`{field}`")).collect();
    let _ = writeln!(page, "Looks at {}, and is decided with the {}.\n", fields.join(", "), rule.phase.as_str());
    let _ = write!(
        page,
        "```sh\n\
         gnomon events show --incident INCIDENT         # who, where, which rules, the first detections\n\
         gnomon events --rule {} --since 7d   # all that this rule matched in a week\n\
         gnomon rules explain {name} EVENT              # which part of the rule matched\n\
         ```\n\n",
        rule.id
    );
    match rule.false_positives.as_slice() {
        [] => page.push_str("No usual false positives are known.\n"),
        usual => {
            page.push_str("Usual false positives:\n\n");
            for one in usual {
                let _ = writeln!(page, "- {one}");
            }
            page.push_str("\n`gnomon triage EVENT benign --until DATE --reason TEXT` makes an exception of this rule for one user, server and tool (or resource, prompt, method).\n");
        }
    }
}
