//! Rules for the tests.

use gnomon_engine::{Origin, Source};

/// The message for refused clients in these rules.
pub const MESSAGE: &str = "Not from here, says the organisation.";
/// The target of the rules that redirect.
pub const PORTAL: &str = "https://portal.example/mcp";

/// An administrator's rule. `number` determines its id, see [`id`].
pub fn rule(number: u8, title: &str, detection: &str, response: &str) -> Source {
    source(Origin::Admin, number, title, detection, response)
}

/// A vendor's rule, which an administrator's `allow` sets aside.
pub fn vendor_rule(number: u8, title: &str, detection: &str, response: &str) -> Source {
    source(Origin::Vendor, number, title, detection, response)
}

/// A rule that blocks what `detection`, one flow mapping of YAML, matches.
pub fn block(number: u8, detection: &str) -> Source {
    rule(number, "Blocked by the tests", detection, &format!("action: block, message: '{MESSAGE}'"))
}

/// The id of the rule with this number.
pub fn id(number: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{number:02x}")
}

fn source(origin: Origin, number: u8, title: &str, detection: &str, response: &str) -> Source {
    let text = format!(
        "title: {title}\n\
         id: {}\n\
         logsource: {{product: mcp, category: mcp_traffic}}\n\
         detection:\n    seen: {{{detection}}}\n    condition: seen\n\
         level: high\n\
         gnomon:\n    class: policy\n    response: {{{response}}}\n",
        id(number)
    );
    Source { name: format!("rule-{number}.yml"), text, origin }
}

/// All rules that ship.
pub fn shipped() -> Vec<Source> {
    let files = gnomon_packs::packs()
        .iter()
        .filter(|pack| pack.enabled_by_default == gnomon_packs::Enablement::Enabled)
        .flat_map(gnomon_packs::Pack::files);
    files.map(|(name, text)| Source { name, text: text.to_owned(), origin: Origin::Vendor }).collect()
}
