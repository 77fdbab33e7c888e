//! `gnomon token`: service tokens, for agents without a person.

use anyhow::Result;
use clap::{Args, Subcommand};
use gnomon_access::{NewToken, generate_token, yaml::quoted};
use gnomon_cli::{
    Complaint,
    options::{Format, FormatFlag},
    when,
};
use serde_json::json;
use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Longest name, in bytes: that of the configuration.
const LONGEST_NAME: usize = 128;

#[derive(Subcommand)]
pub enum Token {
    /// Create a service token, and print its entry for a portal's configuration
    New(New),
}

#[derive(Args)]
pub struct New {
    /// Its owner: the user's name in policy and audit
    name: String,
    /// A group that it is in; repeatable
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// When it ends: a span (90d), a day (2027-05-31) or a moment (RFC 3339) [default: never]
    #[arg(long, value_name = "WHEN", value_parser = when::until)]
    expires: Option<SystemTime>,
    /// A new file for the token, which only its owner may read [default: the token is printed]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    format: FormatFlag,
}

impl Token {
    pub fn run(self) -> Result<()> {
        match self {
            Self::New(new) => new.run(),
        }
    }
}

impl New {
    fn run(self) -> Result<()> {
        let fits = |name: &String| !name.is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control);
        if let Some(name) = std::iter::once(&self.name).chain(&self.group).find(|name| !fits(name)) {
            return Err(Complaint::usage(format!("{name:?} is not a valid name")).next("use 1 to 128 characters on one line").into());
        }
        let made = generate_token().map_err(|error| Complaint::own(error.to_string()))?;
        let entry = self.entry(&made)?;
        if let Some(file) = &self.out {
            write_secret(file, &made.token)?;
        }
        let mut out = io::stdout().lock();
        match self.format.format() {
            Format::Json => {
                let token = self.out.is_none().then_some(&made.token);
                let json = json!({"name": self.name, "token": token, "file": self.out, "sha256": made.sha256, "entry": entry});
                writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
            }
            Format::Text => {
                match &self.out {
                    Some(file) => writeln!(out, "the token is in {}, which only its owner may read", file.display())?,
                    None => writeln!(
                        out,
                        "{}\n\nthis token is shown once and not stored; a client sends it as `Authorization: Bearer`",
                        made.token
                    )?,
                }
                writeln!(out, "add this entry to `auth: {{ mode: tokens, tokens: [ … ] }}` of the portal, and reload it:\n\n- {entry}")?;
            }
        }
        Ok(())
    }

    /// The token as the configuration names it, one line of YAML.
    fn entry(&self, made: &NewToken) -> Result<String> {
        let groups: Vec<_> = self.group.iter().map(|group| quoted(group)).collect();
        let groups = if groups.is_empty() { String::new() } else { format!(", groups: [{}]", groups.join(", ")) };
        let expires = self.expires.map(|at| OffsetDateTime::from(at).replace_nanosecond(0)?.format(&Rfc3339).map_err(anyhow::Error::from));
        let expires = expires.transpose()?.map_or_else(String::new, |at| format!(", expires: '{at}'"));
        Ok(format!("{{ name: {}, sha256: '{}'{groups}{expires} }}", quoted(&self.name), made.sha256))
    }
}

/// Writes a secret into a file that must not be there yet.
fn write_secret(path: &Path, secret: &str) -> Result<()> {
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        writeln!(file, "{secret}")?;
        file.sync_all()
    });
    Ok(written
        .map_err(|error| Complaint::own(format!("cannot write {}: {error}", path.display())).next("name a file that is not there yet"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_access::AuthSource;
    use std::time::Duration;

    fn new(name: &str) -> New {
        let expires = Some(SystemTime::now() + Duration::from_secs(86_400));
        New { name: name.into(), group: vec!["o'hara: [x]".into(), "robots".into()], expires, out: None, format: FormatFlag::default() }
    }

    #[test]
    fn a_portal_takes_the_entry_as_it_is_printed() {
        for name in ["ci", "it's: a # name", "[odd, {name}]"] {
            let made = generate_token().unwrap();
            let text = format!("mode: tokens\ntokens:\n  - {}\n", new(name).entry(&made).unwrap());
            let source = AuthSource::parse(&text, "auth.yml").unwrap_or_else(|error| panic!("{text}{error}"));
            source.build("auth.yml", "https://mcp.example/mcp", &|_| Err("none".into())).unwrap_or_else(|error| panic!("{text}{error}"));
        }
    }

    #[test]
    fn a_token_is_never_written_over_something() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        write_secret(&file, "gnomon_x").unwrap();
        assert!(write_secret(&file, "gnomon_y").is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "gnomon_x\n");
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap()) & 0o777, 0o600);
    }
}
