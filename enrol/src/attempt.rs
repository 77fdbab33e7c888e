//! Asking servers as a portal does, once: whether they answer, and what they offer.

use super::proposal::{Proposal, Reads};
use anyhow::Result;
use gnomon_cli::line::{clean, counted, one_line};
use gnomon_config::Config;
use gnomon_http::{MAX_LOOKUPS, UpstreamBudget};
use gnomon_serve::{portals::pools, reaching::Reaching};
use gnomon_upstream::{
    Client, Presence, Reach, Upstream, UpstreamError,
    catalogue::{Kind, Listed},
    era::Era,
    left_out::LeftOut,
};
use prometheus::Registry;
use serde_json::{Value, json};
use smol_str::SmolStr;
use std::{fmt::Write as _, path::Path, time::Duration};
use tokio::{sync::broadcast, task::JoinSet};

/// How long a server may take: what portals wait for the first look.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most tools that a text names.
const NAMED: usize = 20;

/// A server that was asked.
pub(super) struct Tried {
    pub id: String,
    /// The server's offer, or for its operator the reason that it does not answer.
    pub found: Result<Found, String>,
}

/// A server's offer.
pub(super) struct Found {
    era: Era,
    tools: Vec<Tool>,
    prompts: Vec<SmolStr>,
    resources: Vec<SmolStr>,
    left_out: Vec<LeftOut>,
}

struct Tool {
    name: SmolStr,
    /// The server's own claim; not verified.
    says_read_only: bool,
    listed: bool,
}

/// Asks these servers of a configuration, side by side.
pub(super) async fn attempt(config: &Config, ids: &[&str], state_dir: &Path) -> Result<Vec<Tried>> {
    let pools = pools(config, UpstreamBudget::unbounded(), MAX_LOOKUPS)?;
    let mut asked = JoinSet::new();
    let servers = config.servers.iter().filter(|server| ids.contains(&server.id.as_str()));
    for (nth, server) in servers.enumerate() {
        // Each by itself: a secret or a program that is missing is its server's fault alone.
        let reached = Reaching::to(config, &[server], (state_dir, &Registry::new()), pools.clone());
        let reached = reached.and_then(|reaching| Ok((reaching.reach(server)?, reaching)));
        let id = server.id.clone();
        asked.spawn(async move {
            let found = match reached {
                Err(why) => Err(one_line(&format!("{why:#}"))),
                Ok((None, _)) => Err("it is not reached by URL, program or document".to_owned()),
                Ok((Some(reach), reaching)) => {
                    let found = ask(&id, reach).await;
                    reaching.stop().await;
                    found
                }
            };
            (nth, Tried { id, found })
        });
    }
    let mut tried = asked.join_all().await;
    tried.sort_by_key(|(nth, _)| *nth);
    Ok(tried.into_iter().map(|(_, tried)| tried).collect())
}

async fn ask(id: &str, reach: Reach) -> Result<Found, String> {
    let (changes, _) = broadcast::channel(16);
    let upstream = Upstream::new(id.into(), reach, Client::portal(), changes, ());
    let keeping = tokio::spawn(upstream.clone().keep());
    let presence = upstream.settled(PATIENCE).await;
    keeping.abort();
    let _ = keeping.await;
    match presence {
        Presence::Up { era, .. } => Ok(Found::of(era, &upstream)),
        Presence::Down { why, .. } => {
            let why = for_operators(&why);
            match &upstream.reach {
                Reach::Program(program) => match program.last_words().await {
                    Some(said) => Err(format!("{why}; it said: {}", one_line(&said))),
                    None => Err(why),
                },
                Reach::Http { .. } | Reach::Api(_) => Err(why),
            }
        }
        Presence::Unknown => Err(format!("it gave no answer within {} s", PATIENCE.as_secs())),
    }
}

/// The reason that a server does not answer, with the part that clients are not told.
fn for_operators(why: &UpstreamError) -> String {
    match why.detail() {
        Some(detail) => one_line(&format!("{why}: {detail}")),
        None => one_line(&why.to_string()),
    }
}

/// The next step, by words in the reason.
pub(super) fn next_step(why: &str) -> Option<&'static str> {
    const STEPS: [(&[&str], &str); 7] = [
        (
            &["CA:TRUE"],
            "give the server a certificate that is not an authority's (CA:FALSE), and name that of its authority, or its own, under \
             `proxy.upstream_ca`",
        ),
        (&["TLS with it fails"], "name the certificate of its authority under `proxy.upstream_ca`, if you trust that"),
        (
            &["gnomon holds none"],
            "--bearer names where its token is, as --bearer file:/path; other headers are `auth` in the configuration",
        ),
        (&["a redirect"], "name with --url the URL that it sends clients to, if you trust that"),
        (
            &["ERR_MODULE_NOT_FOUND", "Cannot find package", "Cannot find module", "ModuleNotFoundError", "No module named"],
            "a program is confined and reads its package only; name the folder of the modules that it misses with --read, and repeat the command",
        ),
        (
            &["EACCES", "EROFS", "Permission denied", "PermissionError"],
            "a program is confined: --read names what it must read, --write what it must change; then repeat the command",
        ),
        (
            &["ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "Network is unreachable", "name resolution", "EAFNOSUPPORT", "socket"],
            "a program has no network unless --network internet (or host) gives it; then repeat the command",
        ),
    ];
    STEPS.iter().find(|(words, _)| words.iter().any(|word| why.contains(word))).map(|(_, step)| *step)
}

impl Found {
    fn of(era: Era, upstream: &Upstream<()>) -> Self {
        let lists = upstream.lists();
        let tools = lists.of(Kind::Tool).iter().map(|tool| Tool {
            name: tool.name.clone(),
            says_read_only: tool.hints.read_only == Some(true),
            listed: matches!(tool.listed(), Listed::Everywhere),
        });
        let names = |kind| lists.of(kind).iter().map(|entry| entry.name.clone());
        Self {
            era,
            tools: tools.collect(),
            prompts: names(Kind::Prompt).collect(),
            // A template's name in a policy is a pattern: what it expands to is for people to write.
            resources: names(Kind::Resource).chain(names(Kind::Template)).collect(),
            left_out: Kind::ALL.iter().flat_map(|kind| lists.left_out(*kind).iter().cloned()).collect(),
        }
    }

    /// The names of its tools.
    pub fn tools(&self) -> std::collections::BTreeSet<&str> {
        self.tools.iter().map(|tool| tool.name.as_str()).collect()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let tools = self.tools.iter().map(|tool| json!({"name": tool.name, "says_read_only": tool.says_read_only, "listed": tool.listed}));
        json!({
            "era": self.era.as_str(), "tools": tools.collect::<Vec<_>>(), "prompts": self.prompts.len(), "resources": self.resources.len(),
            "left_out": self.left_out.len(),
            "left_out_why": self.left_out.iter().map(|left| json!({"name": left.name, "why": left.why})).collect::<Vec<_>>(),
        })
    }

    /// The text of one line.
    pub fn line(&self) -> String {
        let count = |number: usize, what: &str| counted(u64::try_from(number).unwrap_or(u64::MAX), what);
        let reads = self.tools.iter().filter(|tool| tool.says_read_only).count();
        let era = match self.era {
            Era::Legacy => "with sessions",
            Era::Modern => "stateless",
        };
        let mut line = format!(
            "answers ({era}); {}, {reads} of them read only as they say; {}, {}",
            count(self.tools.len(), "tool"),
            count(self.prompts.len(), "prompt"),
            count(self.resources.len(), "resource")
        );
        if !self.left_out.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(line, "; {} left out, which the log names (--json as well)", self.left_out.len());
        }
        line
    }

    /// A line, and a name for each tool.
    pub fn text(&self) -> String {
        let mut text = format!("the server {}\n", self.line());
        // Writing to a String cannot fail.
        for tool in self.tools.iter().take(NAMED) {
            let _ = writeln!(text, "  {}{}", clean(&tool.name), if tool.says_read_only { "" } else { "   may write" });
        }
        if self.tools.len() > NAMED {
            let _ = writeln!(text, "  and {} more: --json names them", self.tools.len() - NAMED);
        }
        for left in self.left_out.iter().take(NAMED) {
            let _ = writeln!(text, "  left out: {}: {}", clean(left.name.as_deref().unwrap_or("without a name")), clean(&left.why));
        }
        text
    }

    /// Entries of a policy for the least that makes sense: the tools that say that they only read. Where none does, all that there is
    /// to choose from.
    pub fn proposal(&self, id: &str) -> Proposal {
        let reads = |tool: &Tool| if tool.says_read_only { Reads::AsItSays } else { Reads::MayWrite };
        let tools = self.tools.iter().map(|tool| (tool.name.as_str(), reads(tool))).collect();
        let prompts = self.prompts.iter().map(|name| (name.as_str(), Reads::ByItsKind)).collect();
        let resources = self.resources.iter().map(|name| (name.as_str(), Reads::ByItsKind)).collect();
        Proposal::of(id, &[("tools", tools), ("prompts", prompts), ("resources", resources)])
    }
}

#[cfg(test)]
mod tests {
    use super::next_step;

    #[test]
    fn why_a_server_does_not_answer_says_what_to_do_about_it() {
        for (why, step) in [
            ("it asks for credentials, and gnomon holds none for it (HTTP 401)", "--bearer"),
            ("it cannot be reached: TLS with it fails, as where its certificate is not trusted: unknown issuer", "upstream_ca"),
            ("it closed; it said: Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'x'", "--read"),
            ("it ended; it said: EACCES: permission denied, open '/x'", "--write"),
            ("it answered HTTP 307, a redirect, which is not followed: it sends clients to https://b.example/mcp", "--url"),
        ] {
            assert!(next_step(why).is_some_and(|next| next.contains(step)), "{why}");
        }
        assert_eq!(next_step("it answered HTTP 404"), None);
    }
}
