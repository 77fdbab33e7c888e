//! The runbook: of each shipped rule what it means, the first commands, and what is usually no finding.
//!
//! It is made of the rules themselves, so that it says what they look for. A chapter's anchor is the rule's id, by which alerts link to
//! it (`runbook_url`); an id never changes, a title may.

use gnomon_cli::Complaint;
use gnomon_engine::{Origin, Rule, RuleSet, Source};
use gnomon_observe::{Action, Channel, Class, OWN_RULES, OwnRule};
use gnomon_packs::{Enablement, Pack, packs};
use std::fmt::{Display, Write as _};

const BEGINNING: &str = "# Runbook of the shipped rules\n\n\
    Generated from the rules. An alert about an incident links to the rule that raised it; [alerts.md](../alerts.md) says how alerts come \
    about, and what to do about those that no rule raises. `INCIDENT` is the label `incident` of the alert, `EVENT` the id of an event, \
    `USER` and `SERVER` are who and what it names, as the first command prints them. A rule of your own is not here, and one of a \
    [feed's edition](../rules.md#newer-rules-without-a-new-gnomon) may be newer than what stands here, or not be here at all: \
    `gnomon rules show ID` prints what the loaded rule looks at, its description and its usual false positives.\n";

/// The risks of the OWASP MCP Top 10 (2025).
const RISKS: [(&str, &str); 10] = [
    ("MCP01", "Token Mismanagement & Secret Exposure"),
    ("MCP02", "Privilege Escalation via Scope Creep"),
    ("MCP03", "Tool Poisoning"),
    ("MCP04", "Software Supply Chain Attacks & Dependency Tampering"),
    ("MCP05", "Command Injection & Execution"),
    ("MCP06", "Intent Flow Subversion"),
    ("MCP07", "Insufficient Authentication & Authorization"),
    ("MCP08", "Lack of Audit and Telemetry"),
    ("MCP09", "Shadow MCP Servers"),
    ("MCP10", "Context Injection & Over-Sharing"),
];

/// The page, in Markdown.
///
/// # Errors
/// A shipped rule does not load.
pub fn runbook() -> Result<String, Complaint> {
    let mut page = BEGINNING.to_owned();
    let mut loaded = Vec::new();
    for pack in packs() {
        let vendor = |(name, text): (String, &str)| Source { name, text: text.to_owned(), origin: Origin::Vendor };
        let sources: Vec<Source> = pack.files().map(vendor).collect();
        loaded.push((pack, RuleSet::compile(&sources).map_err(Complaint::input)?));
    }
    let shelves: Vec<(&Pack, Vec<&Rule>)> = loaded.iter().map(|(pack, set)| (*pack, sorted(set))).collect();
    risks(&mut page, &shelves);
    for (pack, rules) in &shelves {
        chapters(&mut page, pack, rules);
    }
    own(&mut page);
    Ok(page)
}

/// Which rules are about which risk.
fn risks(page: &mut String, shelves: &[(&Pack, Vec<&Rule>)]) {
    page.push_str("\n## Rules by the OWASP MCP Top 10\n\n| risk | rules |\n|---|---|\n");
    for (id, risk) in RISKS {
        let about = shelves.iter().flat_map(|(_, rules)| rules).filter(|rule| rule.owasp.iter().any(|named| named == id));
        let link = |rule: &&Rule| format!("<a href=\"#{}\">{}</a>", rule.id, rule.name.as_deref().unwrap_or(&rule.title));
        // Formatting a String cannot fail.
        let _ = writeln!(page, "| {id} {risk} | {} |", about.map(link).collect::<Vec<_>>().join(", "));
    }
}

/// What gnomon finds by itself, of which there is no rule to show.
fn own(page: &mut String) {
    page.push_str("\n## gnomon's own detections\n");
    for OwnRule { id, name, level, class, doc, next: (next, prints), false_positives } in OWN_RULES {
        let _ = write!(
            page,
            "\n<a id=\"{id}\"></a>\n### {name}\n\nLevel {}, class {}.\n\n{doc}\n\n\
             ```sh\n\
             gnomon events show --incident INCIDENT         # who, where, which rules, the first detections\n\
             gnomon events --rule {id} --since 7d   # all of them in a week\n\
             {next}   # {prints}\n\
             ```\n\n",
            level.as_str(),
            class.as_str()
        );
        usual(page, false_positives);
    }
    page.push_str("\n`gnomon triage` makes no exception of these: there is no rule to except from.\n");
}

/// The rules of a pack, the most serious first.
fn sorted(set: &RuleSet) -> Vec<&Rule> {
    let mut rules: Vec<&Rule> = set.rules().iter().chain(set.disabled()).collect();
    rules.sort_by(|one, other| other.level.cmp(&one.level).then_with(|| one.title.cmp(&other.title)));
    rules
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
    let (next, prints) = leads_on(rule);
    let _ = write!(
        page,
        "```sh\n\
         gnomon events show --incident INCIDENT         # who, where, which rules, the first detections\n\
         gnomon events --rule {} --since 7d   # all that this rule matched in a week\n\
         {next}   # {prints}\n\
         gnomon rules explain {name} EVENT              # which part of the rule matched\n\
         ```\n\n",
        rule.id
    );
    usual(page, &rule.false_positives);
    if !rule.false_positives.is_empty() {
        page.push_str("\n`gnomon triage EVENT benign --until DATE --reason TEXT` makes an exception of this rule for one user, server and tool (or resource, prompt, method).\n");
    }
}

/// The command that leads on from the events of a rule, and what that prints: of something on this host what else is there, of a server
/// what was decided about it, of what somebody did what else they did.
fn leads_on(rule: &Rule) -> (&'static str, &'static str) {
    let is_of_files = rule.fields.iter().any(|field| field.channels() == [Channel::Config]);
    let is_local = rule.fields.iter().any(|field| !field.channels().contains(&Channel::Https));
    match rule.class {
        _ if is_of_files => ("gnomon local list --user USER", "all that this user's clients are set up with"),
        _ if is_local => ("gnomon inventory --local --user USER", "all servers that this user started here"),
        Class::Mcp | Class::Policy => ("gnomon review show SERVER", "what was decided about the server, by whom and why"),
        Class::Dlp | Class::Threat | Class::Llm | Class::Health => {
            ("gnomon events --where user.name=USER --since 2h", "what else this user did")
        }
    }
}

fn usual(page: &mut String, false_positives: &[impl Display]) {
    if false_positives.is_empty() {
        page.push_str("No usual false positives are known.\n");
        return;
    }
    page.push_str("Usual false positives:\n\n");
    for one in false_positives {
        let _ = writeln!(page, "- {one}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chapter of this rule.
    fn chapter<'a>(page: &'a str, id: &str) -> &'a str {
        let (_, rest) = page.split_once(&format!("<a id=\"{id}\"></a>")).unwrap_or_else(|| panic!("{id} has no chapter"));
        rest.split("<a id=").next().unwrap_or_default()
    }

    #[test]
    fn each_risk_of_the_top_ten_lists_rules_that_have_a_chapter() {
        let page = runbook().unwrap();
        for (id, risk) in RISKS {
            let row = page.lines().find(|line| line.starts_with(&format!("| {id} {risk} | "))).unwrap();
            let rules: Vec<&str> = row.split("<a href=\"#").skip(1).filter_map(|link| link.split('"').next()).collect();
            assert!(rules.len() >= 3, "{row}");
            rules.iter().for_each(|rule| assert!(!chapter(&page, rule).is_empty(), "{rule}"));
        }
    }

    #[test]
    fn each_chapter_has_three_commands_at_least_and_says_what_is_usually_no_finding() {
        let page = runbook().unwrap();
        let chapters: Vec<&str> = page.split("<a id=").skip(1).collect();
        assert!(chapters.len() >= 108 + OWN_RULES.len(), "{}", chapters.len());
        for one in chapters {
            let commands = one.lines().filter(|line| line.starts_with("gnomon ")).count();
            assert!(commands >= 3 && one.contains("sual false positives"), "{one}");
        }
        for own in OWN_RULES {
            let own = chapter(&page, own.id);
            assert!(own.contains("Usual false positives:\n\n- "), "{own}");
        }
        // By what the rule is about.
        for (id, next) in [
            ("a06d0be7-29e6-427c-8e90-673c481c5fac", "gnomon review show SERVER "),
            ("60e1695b-f584-41c9-a3b2-1dd7d2ea6358", "gnomon events --where user.name=USER --since 2h "),
            ("0d6a3f52-91c4-4f0b-8c27-5b9e4a7d1c63", "gnomon review show SERVER "),
            ("7d3b6d0e-6a0b-4f43-9a1c-0f6b6f4d2a11", "gnomon local list --user USER "),
            ("792f2634-ca87-4e80-9e03-f27bf7b793d6", "gnomon inventory --local --user USER "),
        ] {
            assert!(chapter(&page, id).lines().any(|line| line.starts_with(next)), "{id}: {next}");
        }
    }
}
