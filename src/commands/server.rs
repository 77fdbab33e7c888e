//! `gnomon server`: register what portals offer.

use crate::{
    apis,
    commands::audit::block_on,
    complaint::Complaint,
    config::{Config as Configuration, SecretRef},
    options::{ConfigFlag, Format, FormatFlag},
    portals, registering,
};
use anyhow::Result;
use clap::{Args, Subcommand};
use gnomon_confine::Digest;
use gnomon_http::{MAX_LOOKUPS, UpstreamBudget};
use gnomon_openapi::{Base, Imported, MAX_BYTES, Options, Placement, import};
use gnomon_portal::Fetcher;
use gnomon_upstream::{Selection, catalogue::Listed};
use http::Uri;
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Most operations that the text names which cannot be called; JSON names all.
const NAMED: usize = 20;

#[derive(Subcommand)]
pub enum Server {
    /// Add a server to the configuration: an HTTP API that an OpenAPI document describes
    Add(Add),
}

#[derive(Args)]
pub struct Add {
    /// The document: a file, or an https:// URL
    #[arg(long, value_name = "FILE|URL")]
    openapi: String,
    /// The server's name [default: made of the API's title]
    #[arg(long)]
    id: Option<String>,
    /// Where requests go [default: the document's first https:// server]
    #[arg(long, value_name = "URL")]
    base: Option<String>,
    /// Operations that are tools on every list: a name, or 'METHOD /path', with `*`; repeatable
    #[arg(long, value_name = "GLOB")]
    allow: Vec<String>,
    /// Operations that may be called although they write; repeatable
    #[arg(long, value_name = "GLOB")]
    writes: Vec<String>,
    /// Where the secret for one of the document's security schemes is (file:/path, env:NAME, credential:NAME); repeatable
    #[arg(long, value_name = "SCHEME=SECRET")]
    credential: Vec<String>,
    /// Where a token is that is sent with every operation, as `Authorization: Bearer`
    #[arg(long, value_name = "SECRET")]
    bearer: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    format: FormatFlag,
}

impl Server {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Add(add) => block_on(add.run()),
        }
    }
}

/// A document and what becomes of it.
struct Read {
    bytes: Vec<u8>,
    digest: Digest,
    imported: Imported,
    id: String,
}

/// What was done.
enum Done {
    /// Nothing, as was asked.
    Nothing,
    /// The entry is in the file.
    Added(PathBuf),
    /// The document is stored; the entry is to be added by hand, and why.
    ByHand(&'static str),
}

impl Add {
    async fn run(self) -> Result<()> {
        let file = self.config.of_the_system();
        let (text, config) = match &file {
            Some(path) if path.exists() => (fs::read_to_string(path)?, Configuration::load(path)?),
            _ => (String::new(), Configuration::default()),
        };
        let read = self.read(&config).await?;
        let document = document_of(&read);
        let entry = self.entry(&read, &document)?;
        let selection = Selection::new(&self.allow, &self.writes);
        if let Some(idle) = selection.idle(&read.imported.operations).first() {
            let next =
                "patterns are of tools' names, or of `METHOD /path` in which `*` stops at `/`; --dry-run --json names all operations";
            return Err(Complaint::input(format!("the pattern `{idle}` fits no operation")).next(next).into());
        }
        let done = match &file {
            _ if self.dry_run => Done::Nothing,
            None => return Err(Complaint::usage("there is no configuration to add the server to").next("name it with --config").into()),
            Some(path) => store(path, (&text, &config), (&entry, &document), &read.bytes)?,
        };
        self.report(&read, &selection, &entry, &done)
    }

    async fn read(&self, config: &Configuration) -> Result<Read> {
        let from = self.openapi.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        let bytes = match &from {
            None => apis::read(Path::new(&self.openapi))?,
            Some(uri) => {
                let place = Base::parse(self.openapi.split(['?', '#']).next().unwrap_or_default());
                let is_safe = uri.scheme_str() == Some("https") || place.as_ref().is_ok_and(Base::is_loopback);
                if !is_safe || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
                    let next = "fetch the document yourself, look at it, and name the file";
                    return Err(Complaint::usage("documents are fetched from https:// URLs without credentials only").next(next).into());
                }
                let fetched = Fetcher::new(portals::pools(config, UpstreamBudget::unbounded(), MAX_LOOKUPS)?)
                    .document(&self.openapi, MAX_BYTES)
                    .await;
                fetched.map_err(|error| Complaint::input(format!("cannot fetch {}: {error}", self.openapi)))?.to_vec()
            }
        };
        // The names of tools depend on the id, and the id on the title.
        let options = Options { here: from.as_ref(), ..apis::options("api", self.base.as_deref()) };
        let first = import(&bytes, options).map_err(|error| Complaint::input(format!("{}: {error}", self.openapi)))?;
        let id = self.id.clone().unwrap_or_else(|| id_of(&first, config));
        if config.servers.iter().any(|server| server.id == id) {
            let cause = format!("there is a server `{id}` already");
            return Err(Complaint::usage(cause).next("name this one with --id").into());
        }
        if !is_id(&id) {
            let cause = format!("`{id}` is not a valid id: use lower-case letters, digits and `-` between them, at most 32");
            return Err(Complaint::usage(cause).into());
        }
        let options = Options { here: from.as_ref(), ..apis::options(&id, self.base.as_deref()) };
        let imported = import(&bytes, options).map_err(|error| Complaint::input(format!("{}: {error}", self.openapi)))?;
        Ok(Read { digest: apis::digest(&bytes)?, bytes, imported, id })
    }

    /// The entry for the configuration, YAML in block style.
    fn entry(&self, read: &Read, document: &str) -> Result<String> {
        let mut entry = format!(
            "- id: {}\n  openapi:\n    file: {}\n    sha256: {}\n    base: {}\n",
            read.id,
            quoted(document),
            read.digest,
            quoted(&read.imported.base.to_string())
        );
        // Writing to a String cannot fail.
        for (key, patterns) in [("allow", &self.allow), ("writes", &self.writes)] {
            if !patterns.is_empty() {
                let patterns: Vec<String> = patterns.iter().map(|text| quoted(text)).collect();
                let _ = writeln!(entry, "    {key}: [{}]", patterns.join(", "));
            }
        }
        let secret = |text: &str| match SecretRef::parse(text, Path::new("")) {
            Ok(_) => Ok(quoted(text)),
            Err(error) => Err(Complaint::usage(error)),
        };
        if !self.credential.is_empty() {
            entry.push_str("    credentials:\n");
        }
        for text in &self.credential {
            let (scheme, reference) =
                text.split_once('=').ok_or_else(|| Complaint::usage("--credential is SCHEME=SECRET, as key=file:/path"))?;
            if !read.imported.schemes.iter().any(|known| known.name == scheme) {
                let known: Vec<&str> = read.imported.schemes.iter().map(|known| known.name.as_str()).collect();
                return Err(
                    Complaint::usage(format!("the document has no security scheme `{scheme}`; it has: {}", known.join(", "))).into()
                );
            }
            let _ = writeln!(entry, "      {}: {}", quoted(scheme), secret(reference)?);
        }
        if let Some(reference) = &self.bearer {
            let _ = writeln!(entry, "  auth: {{bearer: {}}}", secret(reference)?);
        }
        Ok(entry)
    }

    fn report(&self, read: &Read, selection: &Selection, entry: &str, done: &Done) -> Result<()> {
        let mut out = io::stdout().lock();
        match self.format.format() {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&as_json(read, selection, entry, done))?)?,
            Format::Text => write!(out, "{}", as_text(read, selection, entry, done))?,
        }
        Ok(())
    }
}

/// Where the document is stored, relative to the configuration.
fn document_of(read: &Read) -> String {
    let is_json = read.bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    format!("openapi/{}.{}", read.id, if is_json { "json" } else { "yml" })
}

/// Stores the document, and puts the entry into the configuration where that can be done without people.
fn store(path: &Path, (text, config): (&str, &Configuration), (entry, document): (&str, &str), bytes: &[u8]) -> Result<Done> {
    let cannot = |what: &Path, error: &io::Error| Complaint::own(format!("cannot write {}: {error}", what.display()));
    // The configuration may be a link; the document stands beside what it is read as.
    let document = path.parent().unwrap_or(Path::new("")).join(document);
    if let Some(folder) = document.parent() {
        fs::create_dir_all(folder).map_err(|error| cannot(folder, &error))?;
    }
    registering::replace(&document, bytes, None, 0o644).map_err(|error| cannot(&document, &error))?;
    let Some(new) = registering::with_entry(text, entry) else {
        return Ok(Done::ByHand("`servers` is not written as a list of lines"));
    };
    if !registering::adds_one_server(config, &new, path).unwrap_or(false) {
        return Ok(Done::ByHand("the file would say something else as well"));
    }
    let expected = path.exists().then_some(text.as_bytes());
    registering::replace(path, new.as_bytes(), expected, 0o640).map_err(|error| cannot(path, &error))?;
    Ok(Done::Added(path.to_owned()))
}

fn as_json(read: &Read, selection: &Selection, entry: &str, done: &Done) -> Value {
    let api = &read.imported;
    let operations = api.operations.iter().map(|operation| {
        let (offered, why) = match selection.listed(operation, &read.id) {
            Listed::Everywhere => ("everywhere", None),
            Listed::Searchable => ("code_mode", None),
            Listed::Nowhere(why) => ("refused", Some(why)),
        };
        json!({
            "name": operation.name, "method": operation.method.as_str(), "path": operation.path, "offered": offered, "why": why,
            "needs": operation.needs,
        })
    });
    json!({
        "id": read.id, "title": api.title, "version": api.version, "base": api.base.to_string(), "sha256": read.digest.to_string(),
        "servers": api.servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "schemes": api.schemes.iter().map(|scheme| json!({"name": scheme.name, "takes": takes(&scheme.placement)})).collect::<Vec<_>>(),
        "operations": operations.collect::<Vec<_>>(),
        "not_callable": api.refused.iter().map(|refused| json!({"operation": refused.place, "why": refused.why})).collect::<Vec<_>>(),
        "entry": entry,
        "added_to": match done {
            Done::Added(path) => Some(path.display().to_string()),
            Done::Nothing | Done::ByHand(_) => None,
        },
    })
}

fn takes(placement: &Placement) -> String {
    match placement {
        Placement::Header(name) => format!("a secret in the header {name}"),
        Placement::Query(name) => format!("a secret in the query, as {name}"),
        Placement::Cookie(name) => format!("a secret in the cookie {name}"),
        Placement::Bearer => "a bearer token".to_owned(),
        Placement::Basic => "user:password".to_owned(),
        Placement::Unsupported(why) => format!("nothing: {why}"),
    }
}

fn as_text(read: &Read, selection: &Selection, entry: &str, done: &Done) -> String {
    let api = &read.imported;
    let (mut everywhere, mut in_code, mut refused) = (0, 0, 0);
    for operation in &api.operations {
        match selection.listed(operation, &read.id) {
            Listed::Everywhere => everywhere += 1,
            Listed::Searchable => in_code += 1,
            Listed::Nowhere(_) => refused += 1,
        }
    }
    let mut text = format!("{} {}: {} bytes, SHA-256 {}\n", api.title, api.version, read.bytes.len(), read.digest);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "requests go to   {}", api.base);
    for other in api.servers.iter().filter(|server| **server != api.base).take(4) {
        let _ = writeln!(text, "  and not to     {other}");
    }
    let _ = writeln!(text, "operations       {}", api.operations.len() + api.refused.len());
    let _ = writeln!(text, "  on every list  {everywhere}");
    let _ = writeln!(text, "  for Code Mode  {in_code}");
    let _ = writeln!(text, "  refused        {refused}, as they write and --writes names none of them");
    let _ = writeln!(text, "  not callable   {}", api.refused.len());
    for one in api.refused.iter().take(NAMED) {
        let _ = writeln!(text, "    {}: {}", one.place, one.why);
    }
    if api.refused.len() > NAMED {
        let _ = writeln!(text, "    and {} more: --json names them", api.refused.len() - NAMED);
    }
    for scheme in &api.schemes {
        let asked = api.operations.iter().filter(|operation| operation.needs.iter().flatten().any(|name| *name == scheme.name)).count();
        let _ = writeln!(text, "credential       {} takes {}; {asked} operations ask for it", scheme.name, takes(&scheme.placement));
    }
    match done {
        Done::Added(path) => {
            let _ = writeln!(text, "\nadded to {}:\n\n{entry}", path.display());
        }
        Done::Nothing => {
            let _ = writeln!(text, "\nnothing was written; the entry would be:\n\n{entry}");
        }
        Done::ByHand(why) => {
            let _ = writeln!(text, "\nthe document is stored. Add this entry by hand, as {why}:\n\n{entry}");
        }
    }
    let _ = writeln!(text, "next: name `{}` in `servers` of a portal, and allow it in its policy", read.id);
    text
}

/// An id out of an API's title, which no other server has.
fn id_of(api: &Imported, config: &Configuration) -> String {
    let mut id = String::new();
    for c in api.title.chars() {
        if c.is_ascii_alphanumeric() {
            id.push(c.to_ascii_lowercase());
        } else if !id.is_empty() && !id.ends_with('-') {
            id.push('-');
        }
    }
    id.truncate(20);
    let id = id.trim_matches('-');
    let id = if id.is_empty() { "api" } else { id };
    let taken = |id: &str| config.servers.iter().any(|server| server.id == id);
    let numbered = (2..).map(|number| format!("{id}-{number}"));
    std::iter::once(id.to_owned()).chain(numbered).find(|id| !taken(id)).unwrap_or_default()
}

fn is_id(id: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !id.is_empty() && id.len() <= 32 && id.chars().all(fits) && !id.starts_with('-') && !id.ends_with('-')
}

/// A text as YAML has it between single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
