//! `gnomon inventory`: the MCP servers that were seen, shadow ones first.

use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    line::clean,
    options::{Format, FormatFlag, StateFlag},
    when,
};
use gnomon_kit::unix_millis;
use gnomon_ledger::{Reader, ServerRecord, ServerStatus};
use std::{
    io::{self, BufWriter, Write},
    time::SystemTime,
};

/// The most tool names in a line.
const SHOWN_TOOLS: usize = 6;

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
}

impl Inventory {
    /// Does what was asked, and writes to standard output.
    ///
    /// # Errors
    /// The command's error.
    pub fn run(self) -> Result<()> {
        let path = self.state.ledger()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut servers = runtime.block_on(async { Reader::open(&path).await?.inventory().await })?;
        let since = self.since.map(unix_millis);
        servers.retain(|server| since.is_none_or(|since| server.first_seen_ms >= since));
        servers.sort_by_key(|server| server.status == ServerStatus::Sanctioned);
        let mut out = BufWriter::new(io::stdout().lock());
        match self.format.format() {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&servers)?)?,
            Format::Text => table(&mut out, &servers)?,
        }
        Ok(out.flush()?)
    }
}

fn table(out: &mut impl Write, servers: &[ServerRecord]) -> io::Result<()> {
    if servers.is_empty() {
        return writeln!(out, "no MCP server seen yet");
    }
    let rows: Vec<[String; 7]> = servers.iter().map(row).collect();
    let head = ["STATUS", "SERVER", "CONFIDENCE", "CALLS", "FIRST SEEN (UTC)", "LAST SEEN (UTC)", "TOOLS"].map(str::to_owned);
    let mut widths = [0; 7];
    for row in std::iter::once(&head).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&head).chain(&rows) {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn row(server: &ServerRecord) -> [String; 7] {
    let port = server.port.filter(|port| *port != 443).map(|port| format!(":{port}")).unwrap_or_default();
    let mut tools = server.tools.iter().take(SHOWN_TOOLS).map(|tool| clean(tool)).collect::<Vec<_>>().join(", ");
    if server.tools.len() > SHOWN_TOOLS {
        tools.push_str(&format!(", and {} more", server.tools.len() - SHOWN_TOOLS));
    }
    [
        match server.status {
            ServerStatus::Sanctioned => "sanctioned".to_owned(),
            ServerStatus::Shadow => "shadow".to_owned(),
        },
        clean(&format!("{}{port}{}", server.address, server.path)),
        server.confidence.map_or("-", |confidence| confidence.as_str()).to_owned(),
        server.calls.to_string(),
        when::show(server.first_seen_ms),
        when::show(server.last_seen_ms),
        tools,
    ]
}
