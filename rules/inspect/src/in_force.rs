//! Rules that are in force, with what follows from them whatever is judged: worked out when they come, as it would be asked for
//! each answer.

use gnomon_engine::{Rule, RuleIndex, RuleSet};
use gnomon_observe::{Family, Field, FieldRef, Observation, Phase};
use std::{ops::Deref, sync::Arc};

/// The methods that a server may put into a result as requests to the client (MCP 2026-07-28, multi round-trip requests).
pub(crate) const ASKED: [&str; 3] = ["elicitation/create", "sampling/createMessage", "roots/list"];
/// The fields in which one such request differs from another.
pub(crate) const METHOD: [Field; 2] = [Field::McpMethod, Field::RpcMethod];
/// The fields that the words of a question fill, by the call within which it is asked.
pub(crate) const WORDS: [Field; 3] = [Field::ToolResult, Field::PromptText, Field::ResourceText];
/// Fields that no such request fills, besides those of what arguments mean ([`gnomon_meaning::MEANING`]). One that is missing here holds
/// answers back for nothing, and lets nothing pass.
const NEVER_ASKED: [Field; 6] =
    [Field::ToolName, Field::PromptName, Field::ResourceUri, Field::ToolArguments, Field::ToolKind, Field::BodyText];

/// A set of rules, and what follows from it.
pub(crate) struct InForce {
    set: Arc<RuleSet>,
    /// The rules that could refuse a server's input request within its result, in the set's order.
    on_asked: Vec<RuleIndex>,
    /// True if any of the rules interferes.
    pub interferes: bool,
    /// True if any rule interferes by the content of answers.
    pub judges_answers: bool,
    /// True if any rule looks at the words of a message beside its method.
    pub reads_questions: bool,
    /// True if any rule, or a filter, names the digest of a program's file.
    pub asks_for_digests: bool,
}

/// True if a rule looks at the words of a message beside its method, so that only the question itself answers it, and no call does.
pub(crate) fn reads_questions(rule: &Rule) -> bool {
    METHOD.iter().any(|field| rule.names(*field)) && WORDS.iter().any(|field| rule.names(*field))
}

impl InForce {
    pub fn new(set: Arc<RuleSet>) -> Self {
        let on_asked = on_asked(&set);
        let interferes = set.rules().iter().any(|rule| rule.acts().interferes());
        let judges_answers = set.rules().iter().any(|rule| rule.phase == Phase::Response && rule.acts().interferes());
        let reads_questions = set.rules().iter().any(reads_questions);
        let named = set.rules().iter().map(|rule| &rule.fields).chain(set.filters().iter().map(|filter| &filter.fields));
        let asks_for_digests = named.into_iter().any(|fields| fields.contains(&FieldRef::Field(Field::ExecutableHash)));
        Self { set, on_asked, interferes, judges_answers, reads_questions, asks_for_digests }
    }

    pub fn set(&self) -> &Arc<RuleSet> {
        &self.set
    }

    /// The rules that could refuse a server's input request within its result, in the set's order.
    pub fn on_asked(&self) -> &[RuleIndex] {
        &self.on_asked
    }
}

impl Deref for InForce {
    type Target = RuleSet;

    fn deref(&self) -> &RuleSet {
        &self.set
    }
}

/// Judges each input request as if nothing else were known: a rule ruled out then is ruled out in any case.
fn on_asked(rules: &RuleSet) -> Vec<RuleIndex> {
    let mut seen = Observation::new();
    Field::all().for_each(|field| seen.set_unreadable(field));
    [Family::RequestHeader, Family::ResponseHeader].into_iter().for_each(|family| seen.set_family_unreadable(family));
    NEVER_ASKED.into_iter().chain(gnomon_meaning::MEANING).for_each(|field| seen.clear(field));
    let in_question = |rule: &Rule| rule.phase < Phase::Response || METHOD.iter().any(|field| rule.names(*field));
    let mut found: Vec<RuleIndex> = ASKED
        .into_iter()
        .flat_map(|method| {
            METHOD.into_iter().for_each(|field| seen.set(field, method));
            let mut progress = rules.start();
            let _ = rules.judge(&seen, Phase::Message, &mut progress);
            let open = rules.open_rules(&progress).filter(|(_, rule)| in_question(rule)).map(|(index, _)| index);
            let sure = progress.matched().filter(|index| rules.rule(*index).is_some_and(|rule| rule.acts().interferes()));
            open.chain(sure).collect::<Vec<_>>()
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::InForce;
    use gnomon_engine::{Origin, RuleSet, Source};
    use std::sync::Arc;

    fn may_be_refused(detection: &str) -> bool {
        let text = format!(
            "title: t\nid: 5d1c6a2e-0f4b-4f3a-9a8e-2f6f1c0b1301\nlogsource: {{ product: mcp, category: mcp_traffic }}\n\
             detection: {{ s: {{ {detection} }}, condition: s }}\ngnomon: {{ response: {{ action: block }} }}\n"
        );
        let source = Source { name: "r.yml".into(), text, origin: Origin::Admin };
        !InForce::new(Arc::new(RuleSet::compile(&[source]).unwrap())).on_asked().is_empty()
    }

    #[test]
    fn only_rules_that_could_mean_a_question_within_an_answer_hold_answers_back() {
        for detection in [
            "mcp.method.name: elicitation/create",
            "rpc.method|startswith: sampling/",
            "mcp.method.name|neq: tools/call",
            "server.address: evil.example, mcp.method.name: roots/list",
            "server.address: evil.example",
            "http.request.header.x-team: research",
            "mcp.method.name: elicitation/create, gen_ai.tool.call.result|contains: password",
        ] {
            assert!(may_be_refused(detection), "{detection}");
        }
        for detection in [
            "mcp.method.name: tools/call",
            "mcp.method.name: tools/call, gen_ai.tool.name: read_file",
            "gen_ai.tool.name: read_file",
            "gen_ai.tool.call.arguments|contains: /etc/passwd",
            "gnomon.arguments.decoded|contains: /etc/passwd",
            "gnomon.arguments.addresses|cidr: 127.0.0.0/8",
            "gnomon.arguments.numbers: iban",
            "gnomon.arguments.commands|startswith: rm",
            "gnomon.arguments.reads: ~/.netrc",
            "gnomon.tool.kind: shell",
            "gen_ai.tool.call.result|contains: password",
            "mcp.method.name: tools/call, gen_ai.tool.call.result|contains: password",
            "http.response.status_code: 500",
        ] {
            assert!(!may_be_refused(detection), "{detection}");
        }
    }
}
