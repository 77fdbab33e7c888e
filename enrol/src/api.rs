//! Adding an HTTP API that an OpenAPI document describes.

use super::{AddServer, Done, IN_FORCE, Target, quoted, registering, secret};
use anyhow::Result;
use gnomon_cli::{Complaint, options::Format};
use gnomon_config::Config as Configuration;
use gnomon_confine::Digest;
use gnomon_http::{MAX_LOOKUPS, UpstreamBudget};
use gnomon_openapi::{Base, Imported, MAX_BYTES, Options, Placement, import};
use gnomon_portal::Fetcher;
use gnomon_serve::{apis, portals};
use gnomon_upstream::{Selection, catalogue::Listed};
use http::Uri;
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::Path,
};

/// Most operations that the text names which cannot be called; JSON names all.
const NAMED: usize = 20;

/// A document and what becomes of it.
struct Read {
    bytes: Vec<u8>,
    digest: Digest,
    imported: Imported,
    id: String,
}

impl AddServer {
    /// Imports the document, stores it and adds its entry.
    pub(super) async fn api(self, openapi: &str) -> Result<()> {
        let target = Target::of(&self.config, self.id.as_deref())?;
        let read = self.read(openapi, &target.config).await?;
        let document = document_of(&read);
        let entry = self.entry(&read, &document)?;
        let selection = Selection::new(&self.allow, &self.writes);
        if let Some(idle) = selection.idle(&read.imported.operations).first() {
            let next =
                "patterns are of tools' names, or of `METHOD /path` in which `*` stops at `/`; --dry-run --json names all operations";
            return Err(Complaint::input(format!("the pattern `{idle}` fits no operation")).next(next).into());
        }
        let done = match self.dry_run {
            true => Done::Nothing,
            false => {
                store(target.file()?, &document, &read.bytes)?;
                target.add(&entry)?
            }
        };
        self.report(&read, &selection, &entry, &done)?;
        done.by_hand()
    }

    async fn read(&self, openapi: &str, config: &Configuration) -> Result<Read> {
        let from = openapi.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        let bytes = match &from {
            None => apis::read_named(Path::new(openapi))?,
            Some(uri) => {
                let place = Base::parse(openapi.split(['?', '#']).next().unwrap_or_default());
                let is_safe = uri.scheme_str() == Some("https") || place.as_ref().is_ok_and(Base::is_loopback);
                if !is_safe || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
                    let next = "fetch the document yourself, look at it, and name the file";
                    return Err(Complaint::usage("documents are fetched from https:// URLs without credentials only").next(next).into());
                }
                let fetched =
                    Fetcher::new(portals::pools(config, UpstreamBudget::unbounded(), MAX_LOOKUPS)?).document(openapi, MAX_BYTES).await;
                fetched.map_err(|error| Complaint::input(format!("cannot fetch {openapi}: {error}")))?.to_vec()
            }
        };
        // The names of tools depend on the id, and the id on the title.
        let options = Options { here: from.as_ref(), ..apis::options("api", self.base.as_deref()) };
        let first = import(&bytes, options).map_err(|error| Complaint::input(format!("{openapi}: {error}")))?;
        let id = self.id_for(&first.title, "api", config)?;
        let options = Options { here: from.as_ref(), ..apis::options(&id, self.base.as_deref()) };
        let imported = import(&bytes, options).map_err(|error| Complaint::input(format!("{openapi}: {error}")))?;
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

/// The path of the stored document, relative to the configuration.
fn document_of(read: &Read) -> String {
    let is_json = read.bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    format!("openapi/{}.{}", read.id, if is_json { "json" } else { "yml" })
}

/// Stores the document, beside the configuration as it is read: that may be a link.
fn store(config: &Path, document: &str, bytes: &[u8]) -> Result<()> {
    let cannot = |what: &Path, error: &io::Error| Complaint::own(format!("cannot write {}: {error}", what.display()));
    let document = config.parent().unwrap_or(Path::new("")).join(document);
    if let Some(folder) = document.parent() {
        fs::create_dir_all(folder).map_err(|error| cannot(folder, &error))?;
    }
    // Another configuration beside this one may have pinned what is there.
    if fs::read(&document).is_ok_and(|stored| stored != bytes) {
        let cause = format!("{} is another document", document.display());
        return Err(Complaint::input(cause).next("name the API with --id, or remove that file if nothing refers to it").into());
    }
    Ok(registering::replace(&document, bytes, None, 0o644).map_err(|error| cannot(&document, &error))?)
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
        "added_to": done.file().map(|path| path.display().to_string()),
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
    text.push_str(&done.text(entry, "the document is stored. "));
    let _ = writeln!(text, "next: name `{}` in `servers` of a portal, and allow it in its policy; then {IN_FORCE}", read.id);
    text
}
