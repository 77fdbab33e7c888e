//! `gnomon inventory`: the MCP servers that were seen, shadow ones first; then those that are merely listed, and those that nobody reached.

use anyhow::Result;
use clap::{Args, ValueEnum};
use gnomon_cli::{
    line::clean,
    options::{Format, FormatFlag, StateFlag},
    runtime, when,
};
use gnomon_kit::unix_millis;
use gnomon_ledger::{Contact, Reader, ServerRecord, ServerStatus};
use std::{
    io::{self, BufWriter, Write},
    time::SystemTime,
};

/// The most tool names in a line.
const SHOWN_TOOLS: usize = 6;
/// The most users in a line.
const SHOWN_USERS: usize = 4;

/// `gnomon inventory`.
#[derive(Args)]
pub struct Inventory {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    format: FormatFlag,
    /// Only servers first seen from then on: 90s, 15m, 1h, 7d ago, or a moment as 2026-11-20T09:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = when::parse)]
    since: Option<SystemTime>,
    /// Only servers with this in their address, port and path as shown, or in the name that they give themselves; in any case
    #[arg(long, value_name = "TEXT")]
    server: Option<String>,
    /// Only servers of this status
    #[arg(long, value_name = "STATUS")]
    status: Option<Status>,
    /// Only servers that list this tool, or had it called
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// Only servers that a client of this name talked to
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Only servers that are started on this host
    #[arg(long)]
    local: bool,
    /// Only servers that are started on this host by this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// At most so many: those in use before others, shadow ones first, of these the most recently seen first
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

/// The words for a server's status.
#[derive(Clone, Copy, ValueEnum)]
enum Status {
    /// Named as allowed by the organisation
    Sanctioned,
    /// Not named
    Shadow,
}

impl Inventory {
    /// Does what was asked, and writes to standard output.
    ///
    /// # Errors
    /// The command's error.
    pub fn run(self) -> Result<()> {
        let path = self.state.ledger()?;
        let runtime = runtime()?;
        let mut servers = runtime.block_on(async { Reader::open(&path).await?.inventory().await })?;
        let seen = servers.len();
        servers.retain(|server| self.wants(server));
        servers.sort_by_key(|server| (server.contact, server.status == ServerStatus::Sanctioned));
        let more = servers.len().saturating_sub(self.limit.unwrap_or(usize::MAX));
        servers.truncate(servers.len() - more);
        let mut out = BufWriter::new(io::stdout().lock());
        match self.format.format() {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&servers)?)?,
            Format::Text if seen == 0 => writeln!(out, "no MCP server seen yet")?,
            Format::Text if servers.is_empty() && more == 0 => writeln!(out, "none of the {seen} servers that were seen is as asked for")?,
            Format::Text => {
                table(&mut out, &servers)?;
                if more > 0 {
                    writeln!(out, "and {more} more")?;
                }
            }
        }
        Ok(out.flush()?)
    }

    fn wants(&self, server: &ServerRecord) -> bool {
        let since = self.since.map(unix_millis);
        let is_named = |text: &str| {
            let text = text.to_lowercase();
            let own = server.name.as_deref().unwrap_or_default().to_lowercase();
            [endpoint(server).to_lowercase(), own].iter().any(|name| name.contains(&text))
        };
        let status = match self.status {
            None => server.status,
            Some(Status::Sanctioned) => ServerStatus::Sanctioned,
            Some(Status::Shadow) => ServerStatus::Shadow,
        };
        since.is_none_or(|since| server.first_seen_ms >= since)
            && server.status == status
            && self.server.as_deref().is_none_or(is_named)
            && self.tool.as_ref().is_none_or(|tool| server.tools.contains(tool))
            && self.client.as_ref().is_none_or(|client| server.clients.contains(client))
            && (!self.local || server.is_local())
            && self.user.as_ref().is_none_or(|user| server.users.contains(user))
    }
}

/// Address, port where it is not that of HTTPS, and path; of a local server its package or file, and whose it is.
fn endpoint(server: &ServerRecord) -> String {
    if server.is_local() {
        let (shown, more) = server.users.split_at(server.users.len().min(SHOWN_USERS));
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        let users = if shown.is_empty() { String::new() } else { format!(" of {}{more}", shown.join(", ")) };
        let listens = if server.listens.is_empty() { String::new() } else { format!(", listens at {}", server.listens.join(", ")) };
        return format!("{}{users}{listens}", server.address);
    }
    let port = server.port.filter(|port| *port != 443).map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}{}", server.address, server.path)
}

/// What stands above servers of which this is known.
const fn heading(contact: Contact) -> Option<&'static str> {
    match contact {
        Contact::Used => None,
        Contact::Listed => Some("listed in the configuration of a client, and not seen in use:"),
        Contact::Unreached => Some("tried, and never reached (MESSAGES: those that were for it):"),
    }
}

fn table(out: &mut impl Write, servers: &[ServerRecord]) -> io::Result<()> {
    let rows: Vec<[String; 7]> = servers.iter().map(row).collect();
    let head = ["STATUS", "SERVER", "CONFIDENCE", "MESSAGES", "FIRST SEEN (UTC)", "LAST SEEN (UTC)", "TOOLS"].map(str::to_owned);
    let mut widths = [0; 7];
    for row in std::iter::once(&head).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut line = |row: &[String; 7]| {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(&head)?;
    let mut contact = Contact::Used;
    for (server, row) in servers.iter().zip(&rows) {
        if server.contact != contact {
            contact = server.contact;
            line(&[heading(contact).unwrap_or_default(), "", "", "", "", "", ""].map(str::to_owned))?;
        }
        line(row)?;
    }
    Ok(())
}

fn row(server: &ServerRecord) -> [String; 7] {
    let mut tools = server.tools.iter().take(SHOWN_TOOLS).map(|tool| clean(tool)).collect::<Vec<_>>().join(", ");
    if server.tools.len() > SHOWN_TOOLS {
        tools.push_str(&format!(", and {} more", server.tools.len() - SHOWN_TOOLS));
    }
    [
        match server.status {
            ServerStatus::Sanctioned => "sanctioned".to_owned(),
            ServerStatus::Shadow => "shadow".to_owned(),
        },
        clean(&endpoint(server)),
        server.confidence.map_or("-", |confidence| confidence.as_str()).to_owned(),
        match server.contact {
            Contact::Used => server.calls,
            Contact::Listed => 0,
            Contact::Unreached => server.unreached,
        }
        .to_string(),
        when::show(server.first_seen_ms),
        when::show(server.last_seen_ms),
        tools,
    ]
}
