//! Rule texts.

use gnomon_engine::{Origin, Source};

/// What the rules of the tests tell refused clients.
pub const MESSAGE: &str = "Not from here, says the organisation.";
/// Where the redirecting rules send clients.
pub const PORTAL: &str = "https://portal.example/mcp";

/// An administrator's rule. `number` gives it its id, which [`id`] gives back.
pub fn rule(number: u8, title: &str, detection: &str, response: &str) -> Source {
    source(Origin::Admin, number, title, detection, response)
}

/// A rule as a vendor ships it: an administrator's `allow` stands above it.
pub fn vendor_rule(number: u8, title: &str, detection: &str, response: &str) -> Source {
    source(Origin::Vendor, number, title, detection, response)
}

/// A rule that blocks what `detection` (one flow mapping) says.
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
