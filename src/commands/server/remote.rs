//! Adding an MCP server that has a URL.

use super::{Add, Target, quoted, secret};
use anyhow::Result;
use gnomon_cli::Complaint;
use http::Uri;
use std::fmt::Write as _;

/// First labels of hosts that say nothing of whose they are.
const COMMON: [&str; 5] = ["www", "mcp", "api", "server", "servers"];

impl Add {
    /// Asks the server, and adds its entry.
    pub(super) async fn remote(self, url: &str) -> Result<()> {
        let uri: Option<Uri> = url.parse().ok();
        let uri = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        let uri = uri.ok_or_else(|| Complaint::usage(format!("`{url}` is not a URL of the form https://host/path")))?;
        let target = Target::of(&self.config)?;
        let id = self.id_for(name_of(uri.host().unwrap_or_default()), "server", &target.config)?;
        let mut entry = format!("- id: {id}\n  url: {}\n", quoted(url));
        if let Some(reference) = &self.bearer {
            // Writing to a String cannot fail.
            let _ = writeln!(entry, "  auth: {{bearer: {}}}", secret(reference)?);
        }
        self.try_and_add(&target, &id, &entry).await
    }
}

/// A name for a host: its first label that says something, or the host where that is an address.
fn name_of(host: &str) -> &str {
    if host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() {
        return host;
    }
    let named = host.split('.').find(|label| !COMMON.contains(&label.to_ascii_lowercase().as_str()));
    named.unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn a_server_is_called_by_what_tells_it_from_others() {
        for (host, name) in
            [("mcp.notes.example", "notes"), ("docs.corp.example", "docs"), ("10.0.0.7", "10.0.0.7"), ("localhost", "localhost")]
        {
            assert_eq!(name_of(host), name);
        }
    }
}
