//! `gnomon rules show`: all about one rule that a decision on it needs.

use super::{Chosen, Loaded, list};
use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    line::clean,
    options::{Format, FormatFlag},
    when,
};
use gnomon_engine::{Activity, Enforcement, Filter, Origin, Rule, Subject};
use gnomon_kit::unix_millis;
use std::{
    fmt::Write as _,
    io::{self, Write},
};

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    format: FormatFlag,
    /// Print the file that it stands in, as it was read: to copy it, or to compare it with another
    #[arg(long, conflicts_with = "json")]
    yaml: bool,
    /// The rule's id, the beginning of it, its name or its title
    #[arg(value_name = "RULE")]
    rule: String,
}

impl Show {
    pub fn run(self) -> Result<()> {
        let loaded = Loaded::of(&self.chosen.settle()?)?;
        let rule = loaded.rule(&self.rule)?;
        if self.yaml {
            return Ok(io::stdout().lock().write_all(loaded.text(&rule.file).as_bytes())?);
        }
        let text = match self.format.format() {
            Format::Json => format!("{}\n", serde_json::to_string_pretty(&list::json(&loaded, rule))?),
            Format::Text => page(&loaded, rule),
        };
        Ok(io::stdout().lock().write_all(text.as_bytes())?)
    }
}

fn page(loaded: &Loaded, rule: &Rule) -> String {
    let mut page = format!("{}\n", clean(&rule.title));
    // Formatting a String cannot fail.
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(page, "  {key:<12}{value}");
    };
    line("id", &rule.id);
    if let Some(name) = &rule.name {
        line("name", &clean(name));
    }
    let origin = match rule.origin {
        Origin::Vendor => "ships with gnomon",
        Origin::Admin => "your own",
    };
    line("file", &format!("{}:{} ({origin})", clean(&rule.file), rule.line));
    let state = match loaded.activity(rule) {
        Activity::Active => "active",
        Activity::Disabled => "disabled",
    };
    line("state", &format!("{state}, {}", rule.status.as_deref().unwrap_or("no status")));
    line("level", rule.level.as_str());
    line("class", rule.class.as_str());
    let done = match rule.enforcement {
        Enforcement::Enforce => "",
        Enforcement::Shadow => ", in shadow: it passes, and events say so in gnomon.would",
    };
    line("response", &format!("{}{done}", rule.response.action.as_str()));
    if let Some(message) = &rule.response.message {
        line("", &clean(message));
    }
    if let Some(change) = &rule.change {
        let was = format!("was {}, {}; {}:{}", change.level.as_str(), change.action.as_str(), clean(&change.file), change.line);
        line("changed", &was);
        line("", &clean(&change.reason));
    }
    line("decided at", rule.phase.as_str());
    for field in &rule.fields {
        let stored = match field {
            gnomon_observe::FieldRef::Field(field) if field.info().is_stored() => "",
            gnomon_observe::FieldRef::Member(gnomon_observe::Family::RequestHeader | gnomon_observe::Family::ResponseHeader, _) => "",
            _ => ", never stored",
        };
        line("", &format!("{field}: known at {}{stored}", field.phase().as_str()));
    }
    for (key, ids) in [("OWASP MCP", &rule.owasp), ("ATLAS", &rule.atlas), ("tags", &rule.tags)] {
        if !ids.is_empty() {
            line(key, &clean(&ids.join(", ")));
        }
    }
    let results = loaded.set.run_tests();
    let own = || {
        results
            .iter()
            .filter(|result| matches!(result.subject, Subject::Rule(index) if loaded.set.rule(index).is_some_and(|r| r.id == rule.id)))
    };
    line("tests", &format!("{}, {} as expected", own().count(), own().filter(|result| result.passed).count()));
    for (place, usual) in rule.false_positives.iter().enumerate() {
        line(if place == 0 { "usually not" } else { "" }, &clean(usual));
    }
    for reference in &rule.references {
        line("see", &clean(reference));
    }
    let filters: Vec<&Filter> = rule.filters.iter().filter_map(|place| loaded.set.filters().get(*place)).collect();
    line("exceptions", &if filters.is_empty() { "none".to_owned() } else { filters.len().to_string() });
    for filter in filters {
        let until = filter.expires.map_or_else(|| "for good".to_owned(), |end| format!("until {} UTC", when::show(unix_millis(end))));
        let owner = clean(filter.owner.as_deref().unwrap_or("nobody"));
        line("", &format!("{} ({until}, by {owner}; {}:{})", clean(&filter.title), clean(&filter.file), filter.line));
        if let Some(reason) = &filter.reason {
            line("", &format!("  {}", clean(reason)));
        }
    }
    if let Some(description) = &rule.description {
        page.push('\n');
        for text in description.lines() {
            let _ = writeln!(page, "  {}", clean(text));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_config::{Config, Packs};
    use std::{fs, path::Path};

    /// What `--yaml` prints.
    #[test]
    fn the_file_that_a_shipped_rule_is_said_to_stand_in_is_the_file_on_disk() {
        let mut config = Config::default();
        config.rules.packs = Packs::Named(gnomon_packs::packs().iter().map(|pack| pack.name).collect());
        let loaded = Loaded::of(&config).unwrap();
        let rules: Vec<&Rule> = loaded.set.rules().iter().chain(loaded.set.disabled()).collect();
        assert!(rules.len() >= 108, "{}", rules.len());
        for rule in rules {
            let found = loaded.rule(&rule.id).unwrap();
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/packs").join(found.file.as_str());
            assert_eq!(loaded.text(&found.file).as_bytes(), fs::read(&file).unwrap(), "{}", found.file);
        }
    }
}
