//! Asking servers as a portal does, once: whether they answer, and what they offer.

use anyhow::Result;
use bytes::Bytes;
use gnomon_cli::line::{clean, counted};
use gnomon_config::Config;
use gnomon_http::{MAX_LOOKUPS, UpstreamBudget};
use gnomon_serve::portals::{Reaching, pools};
use gnomon_upstream::{
    Client, Presence, Upstream, UpstreamError,
    catalogue::{Kind, Listed},
    era::{Era, LEGACY},
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
    prompts: usize,
    resources: usize,
    left_out: usize,
}

struct Tool {
    name: SmolStr,
    /// The server's own claim; not verified.
    says_read_only: bool,
    listed: bool,
}

/// Asks these servers of a configuration, side by side.
pub(super) async fn attempt(config: &Config, ids: &[&str], state_dir: &Path) -> Result<Vec<Tried>> {
    let servers: Vec<_> = config.servers.iter().filter(|server| ids.contains(&server.id.as_str())).collect();
    let pools = pools(config, UpstreamBudget::unbounded(), MAX_LOOKUPS)?;
    let reaching = Reaching::to(config, &servers, (state_dir, &Registry::new()), pools)?;
    let mut asked = JoinSet::new();
    for (place, server) in servers.iter().enumerate() {
        if let Some(reach) = reaching.reach(server)? {
            let (changes, _) = broadcast::channel(16);
            let upstream = Upstream::new(server.id.as_str().into(), reach, ourselves(), changes, ());
            asked.spawn(async move { (place, ask(upstream).await) });
        }
    }
    let mut tried = asked.join_all().await;
    reaching.stop().await;
    tried.sort_by_key(|(place, _)| *place);
    Ok(tried.into_iter().map(|(_, tried)| tried).collect())
}

fn ourselves() -> Client {
    let info = json!({"name": "gnomon-portal", "version": env!("CARGO_PKG_VERSION")});
    Client::new(Bytes::from(info.to_string()), Bytes::from_static(b"{}"), SmolStr::new_static(LEGACY[0]))
}

async fn ask(upstream: std::sync::Arc<Upstream<()>>) -> Tried {
    let keeping = tokio::spawn(upstream.clone().keep());
    let presence = upstream.settled(PATIENCE).await;
    keeping.abort();
    let _ = keeping.await;
    let found = match presence {
        Presence::Up { era, .. } => Ok(Found::of(era, &upstream)),
        Presence::Down { why, .. } => Err(for_operators(&why)),
        Presence::Unknown => Err(format!("it gave no answer within {} s", PATIENCE.as_secs())),
    };
    Tried { id: upstream.id.to_string(), found }
}

/// The reason that a server does not answer, with the part that clients are not told.
fn for_operators(why: &UpstreamError) -> String {
    match why {
        UpstreamError::Unreachable { detail, .. } | UpstreamError::Dropped { detail } => format!("{why}: {}", clean(detail)),
        other => clean(&other.to_string()),
    }
}

impl Found {
    fn of(era: Era, upstream: &Upstream<()>) -> Self {
        let lists = upstream.lists();
        let tools = lists.of(Kind::Tool).iter().map(|tool| Tool {
            name: tool.name.clone(),
            says_read_only: tool.hints.read_only == Some(true),
            listed: matches!(tool.listed(), Listed::Everywhere),
        });
        Self {
            era,
            tools: tools.collect(),
            prompts: lists.of(Kind::Prompt).len(),
            resources: lists.of(Kind::Resource).len() + lists.of(Kind::Template).len(),
            left_out: Kind::ALL.iter().map(|kind| lists.left_out(*kind).len()).sum(),
        }
    }

    /// The JSON for programs.
    pub fn json(&self) -> Value {
        let tools = self.tools.iter().map(|tool| json!({"name": tool.name, "says_read_only": tool.says_read_only, "listed": tool.listed}));
        json!({
            "era": self.era.as_str(), "tools": tools.collect::<Vec<_>>(), "prompts": self.prompts, "resources": self.resources,
            "left_out": self.left_out,
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
            count(self.prompts, "prompt"),
            count(self.resources, "resource")
        );
        if self.left_out > 0 {
            // Writing to a String cannot fail.
            let _ = write!(line, "; {} left out, as clients would choke on them (RUST_LOG=info names each)", self.left_out);
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
        text
    }

    /// An entry of a policy for the least that makes sense: the tools that say that they only read, or all where none does.
    pub fn allow(&self, id: &str) -> String {
        // A name that would look like something else in a terminal is for people to write.
        let reads = self.tools.iter().filter(|tool| tool.says_read_only && clean(&tool.name) == tool.name.as_str());
        let reads: Vec<String> = reads.map(|tool| super::quoted(&tool.name)).collect();
        match reads.len() {
            0 => format!("allow: {{ servers: [{id}] }}    # everything: no tool says that it only reads"),
            _ => format!("allow: {{ servers: [{id}], tools: [{}] }}", reads.join(", ")),
        }
    }
}
