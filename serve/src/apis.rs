//! Servers that are HTTP APIs: their documents, read and held to their pins, and what is offered of them.

use anyhow::Result;
use gnomon_cli::Complaint;
use gnomon_config::{OpenApi, Server};
use gnomon_confine::Digest;
use gnomon_openapi::{ImportError, Imported, MAX_BYTES, Options, import};
use gnomon_upstream::{Api, ApiOptions, Selection, endpoint::ServerPools};
use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

/// Longest name of a tool as clients see it, bytes: some take no more.
const LONGEST_NAME: usize = 64;

/// The options of an import for the server of this id.
pub fn options<'a>(id: &str, base: Option<&'a str>) -> Options<'a> {
    Options { longest_name: LONGEST_NAME - id.len() - 1, base, here: None }
}

/// Reads a document that the configuration names, within its bound.
///
/// # Errors
/// It cannot be read, is not a regular file, or is too large.
pub fn read(path: &Path) -> Result<Vec<u8>, Complaint> {
    read_from(path, gnomon_files::open(path))
}

/// The same of a document that a command names, which may be a pipe of its shell.
///
/// # Errors
/// If the file cannot be read, or is too large.
pub fn read_named(path: &Path) -> Result<Vec<u8>, Complaint> {
    read_from(path, File::open(path))
}

fn read_from(path: &Path, opened: io::Result<File>) -> Result<Vec<u8>, Complaint> {
    let mut bytes = Vec::new();
    let read = opened.and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| {
        Complaint::unreadable(format_args!("the document {}", path.display()), path, &error, "`gnomon server add --openapi` stores one")
    })?;
    if bytes.len() > MAX_BYTES {
        return Err(Complaint::input(format!("the document {} has more than {MAX_BYTES} bytes", path.display())));
    }
    Ok(bytes)
}

/// The digest of a document.
///
/// # Errors
/// None in practice: the bytes are in memory.
pub fn digest(bytes: &[u8]) -> Result<Digest, Complaint> {
    Digest::of(&mut &bytes[..]).map_err(Complaint::own)
}

/// A server's document, if it is the one that is pinned.
///
/// # Errors
/// If the document cannot be read, has another digest, or is invalid.
pub fn imported(id: &str, api: &OpenApi) -> Result<Imported, Complaint> {
    let (imported, found) = held_to_its_pin(id, api)?;
    if api.sha256.is_none() {
        tracing::warn!(server = %id, "its document is not pinned: a change of {} changes what is called; write sha256: {found}", api.file.display());
    }
    Ok(imported)
}

fn held_to_its_pin(id: &str, api: &OpenApi) -> Result<(Imported, Digest), Complaint> {
    let of_server = |cause: String| Complaint::input(format!("server `{id}`: {cause}"));
    let bytes = read(&api.file)?;
    let found = digest(&bytes)?;
    match api.sha256 {
        Some(pinned) if pinned != found => {
            let cause = format!("{} is not the document that is pinned: its SHA-256 is {found}, not {pinned}", api.file.display());
            return Err(of_server(cause).next("look at what changed in it, then write its SHA-256 into `openapi.sha256`"));
        }
        Some(_) | None => {}
    }
    let imported = import(&bytes, options(id, api.base.as_deref()));
    imported.map(|imported| (imported, found)).map_err(|error| match error {
        ImportError::NoServer | ImportError::NotEncrypted(_) => of_server(error.to_string()).next("add `openapi.base`"),
        error => of_server(format!("{}: {error}", api.file.display())),
    })
}

/// A server's API, ready to be called.
///
/// # Errors
/// As [`imported`], or if a credential cannot be read or placed.
pub fn api(server: &Server, api: &OpenApi, pools: &Arc<ServerPools>) -> Result<Arc<Api>, Complaint> {
    let id = server.id.as_str();
    // A missing pin was reported when the configuration was checked.
    let (imported, _) = held_to_its_pin(id, api)?;
    let selection = Selection::new(&api.allow, &api.writes);
    for pattern in selection.idle(&imported.operations) {
        tracing::warn!(server = %id, "the pattern `{pattern}` fits no operation");
    }
    for refused in &imported.refused {
        tracing::info!(server = %id, operation = %refused.place, "cannot be called: {}", refused.why);
    }
    if !imported.refused.is_empty() {
        let (refused, all) = (imported.refused.len(), imported.refused.len() + imported.operations.len());
        tracing::warn!(server = %id, "{refused} of {all} operations cannot be called; RUST_LOG=info names each with the reason");
    }
    let secrets = api.credentials.iter().map(|(name, secret)| Ok((name.clone(), secret.fetch()?)));
    let secrets = secrets.collect::<Result<Vec<_>, Complaint>>()?;
    let options = ApiOptions { id: id.into(), imported, selection, headers: server.credentials()?, secrets };
    let api = Api::new(pools.clone(), options, Api::LIMITS);
    api.map(Arc::new).map_err(|error| Complaint::input(format!("server `{id}`: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Whoever writes the file may otherwise decide what is called, and where.
    #[test]
    fn a_document_that_changed_after_it_was_pinned_is_refused_with_both_digests() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("api.json");
        let document = r#"{"openapi":"3.1.0","info":{"title":"t","version":"1"},"servers":[{"url":"https://api.example"}],"paths":{"/a":{"get":{"operationId":"a","responses":{}}}}}"#;
        std::fs::write(&file, document).unwrap();
        let pinned = digest(document.as_bytes()).unwrap();
        let api =
            |sha256| OpenApi { file: file.clone(), sha256, base: None, allow: Vec::new(), writes: Vec::new(), credentials: Vec::new() };
        assert_eq!(imported("shop", &api(Some(pinned))).unwrap().operations.len(), 1);
        let changed = document.replace("api.example", "evil.example");
        std::fs::write(&file, &changed).unwrap();
        let told = imported("shop", &api(Some(pinned))).err().unwrap().to_string();
        assert!(told.contains(&pinned.to_string()) && told.contains(&digest(changed.as_bytes()).unwrap().to_string()), "{told}");
        assert_eq!(imported("shop", &api(None)).unwrap().operations.len(), 1, "without a pin whoever writes it decides");
    }
}
