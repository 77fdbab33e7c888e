//! Adding an MCP server that has a URL.

use super::{AddServer, Target, from::Used, quoted, secret};
use anyhow::Result;
use gnomon_cli::{Complaint, line::clean};
use gnomon_observe::is_secret_parameter;
use http::Uri;
use std::fmt::Write as _;

/// First labels of hosts that say nothing of whose they are.
const COMMON: [&str; 5] = ["www", "mcp", "api", "server", "servers"];

impl AddServer {
    /// Asks the server, and adds its entry.
    pub(super) async fn remote(self, url: &str, used: Option<Used>) -> Result<()> {
        let uri: Option<Uri> = url.parse().ok();
        let uri = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        let uri = uri.ok_or_else(|| Complaint::usage(format!("`{url}` is not a URL of the form https://host/path")))?;
        if let Some(name) = secret_in(&uri) {
            let cause = format!("the URL has a secret, as its parameter `{}` says, which would stand in the configuration", clean(name));
            let next = "leave it out: --bearer names where a token is that is sent as a header; where the server takes it in no other way, \
                        add the entry by hand, in a file that only gnomon may read";
            return Err(Complaint::usage(cause).next(next).into());
        }
        let target = Target::of(&self.config, self.id.as_deref())?;
        let id = self.id_for(name_of(uri.host().unwrap_or_default()), "server", &target.config)?;
        let mut entry = format!("- id: {id}\n  url: {}\n", quoted(url));
        if let Some(reference) = &self.bearer {
            // Writing to a String cannot fail.
            let _ = writeln!(entry, "  auth: {{bearer: {}}}", secret(reference)?);
        }
        self.try_and_add(&target, &id, &entry, used.as_ref()).await
    }
}

/// The parameter of a URL that is a secret by its name, if one is.
fn secret_in(uri: &Uri) -> Option<&str> {
    let fields = uri.query().unwrap_or_default().split(['&', ';']);
    let named = fields.filter_map(|field| field.split_once('=')).filter(|(_, value)| !value.is_empty());
    named.map(|(name, _)| name).find(|name| is_secret_parameter(name))
}

/// A short name for a host: its first label that is not generic, or the host itself where that is an address.
fn name_of(host: &str) -> &str {
    if host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() {
        return host;
    }
    let named = host.split('.').find(|label| !COMMON.contains(&label.to_ascii_lowercase().as_str()));
    named.unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::{name_of, secret_in};

    #[test]
    fn a_url_with_a_secret_in_its_query_is_known() {
        for (url, name) in [
            ("https://a.example/mcp?api_key=sk-1", Some("api_key")),
            ("https://a.example/mcp?x=1&tavilyApiKey=tvly-1", Some("tavilyApiKey")),
            ("https://a.example/mcp?KEY=1", Some("KEY")),
            ("https://a.example/mcp?token=", None),
            ("https://a.example/mcp?team=7&tools=search", None),
            ("https://a.example/token", None),
        ] {
            assert_eq!(secret_in(&url.parse().unwrap()), name, "{url}");
        }
    }

    #[test]
    fn a_server_is_called_by_what_tells_it_from_others() {
        for (host, name) in
            [("mcp.notes.example", "notes"), ("docs.corp.example", "docs"), ("10.0.0.7", "10.0.0.7"), ("localhost", "localhost")]
        {
            assert_eq!(name_of(host), name);
        }
    }
}
