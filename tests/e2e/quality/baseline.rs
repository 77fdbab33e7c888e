//! The ten regular expressions that a large gateway documents, as our pack ships them, run over the first 1,024 bytes of POST bodies. In
//! fairness to them, bodies are given decoded and whole.

use super::corpus::Case;
use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_observe::{Field, Observation};

/// How many bytes of a body they are run over.
const DEPTH: usize = 1024;

pub struct Baseline(RuleSet);

impl Baseline {
    pub fn new() -> Self {
        let pack = gnomon_packs::packs().iter().find(|pack| pack.name == "baseline-cloudflare").unwrap();
        let source = |(name, text): (String, &str)| Source { name, text: text.to_owned(), origin: Origin::Vendor };
        let rules = RuleSet::compile(&pack.files().map(source).collect::<Vec<_>>()).unwrap();
        assert_eq!(rules.rules().len(), 10);
        Self(rules)
    }

    /// Whether any of them matches.
    pub fn finds(&self, case: &Case) -> bool {
        let body = case.plain_body();
        let mut seen = Observation::new();
        seen.set(Field::HttpMethod, case.method.as_str());
        seen.set(Field::BodyText, String::from_utf8_lossy(&body[..body.len().min(DEPTH)]).into_owned());
        !self.0.one_shot(&seen).matched.is_empty()
    }
}
