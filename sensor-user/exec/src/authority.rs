//! Makes the program trust gnomon's authority in addition to everything that it trusted before.

use super::say;
use gnomon_cli::Complaint;
use gnomon_host::trust::{Bundle, JAVA_OPTIONS, already_named, java_options, merge, read_certificates, system_bundle, variables};
use sha2::{Digest as _, Sha256};
use std::{
    env,
    ffi::OsString,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

type Variables = Vec<(&'static str, OsString)>;

/// The variables for a bundle that already holds the system's roots and gnomon's authority. The bundle's own file is used, unless the
/// environment names other files; their certificates are added then.
pub fn bundled(bundle: &Path, home: Option<&Path>) -> Result<Variables, Complaint> {
    let existing = already_trusted(bundle);
    if existing.is_empty() {
        return Ok(of(bundle));
    }
    let all = read_certificates(bundle).map_err(Complaint::own)?;
    Ok(of(&write(&merge(&all, &existing, &[]), home)?))
}

/// The variables for gnomon's authority alone, added to the system's roots and the files that the environment names.
pub fn beside_the_system(authority: &Path, home: Option<&Path>) -> Result<Variables, Complaint> {
    let ours = read_certificates(authority).map_err(Complaint::own)?;
    let roots = match system_bundle(Path::new("/")) {
        Some(path) => read_certificates(&path).map_err(Complaint::own)?,
        None => Vec::new(),
    };
    Ok(of(&write(&merge(&roots, &already_trusted(authority), &ours), home)?))
}

/// The variables for a bundle, and for the store of Java beside it.
fn of(bundle: &Path) -> Variables {
    let store = bundle.with_extension("jks");
    // Older versions of gnomon did not make this store.
    let java = store.exists().then(|| java_options(&store, env::var_os(JAVA_OPTIONS).as_deref())).flatten();
    variables(bundle).into_iter().chain(java.map(|options| (JAVA_OPTIONS, options))).collect()
}

/// Writes a bundle that came as a descriptor to a file.
pub fn keep(bundle: &Path) -> Result<PathBuf, Complaint> {
    write(&merge(&read_certificates(bundle).map_err(Complaint::own)?, &[], &[]), None)
}

/// The certificates of the files that the environment names. A file that cannot be read is skipped: the program could not have read it
/// either.
fn already_trusted(but: &Path) -> Vec<rustls_pki_types::CertificateDer<'static>> {
    let mut paths: Vec<PathBuf> = already_named(env::vars_os()).into_iter().map(|named| named.path).filter(|path| path != but).collect();
    paths.sort();
    paths.dedup();
    let read = |path: PathBuf| read_certificates(&path).inspect_err(|error| say(format_args!("left out of the bundle: {error}"))).ok();
    paths.into_iter().filter_map(read).flatten().collect()
}

/// Writes the bundle where the program can read it, under a name made of its content: equal bundles share one file, and a running program
/// keeps the one it has.
fn write(bundle: &Bundle, home: Option<&Path>) -> Result<PathBuf, Complaint> {
    let digest = hex::encode(&Sha256::digest(&bundle.pem)[..8]);
    let mut reason = io::Error::from(io::ErrorKind::NotFound);
    for folder in folders(home) {
        let java = write_in(&folder, &format!("ca-{digest}.jks"), &bundle.java);
        match java.and_then(|_| write_in(&folder, &format!("ca-{digest}.pem"), bundle.pem.as_bytes())) {
            Ok(path) => return Ok(path),
            Err(error) => reason = error,
        }
    }
    Err(Complaint::own(format!("the bundle of certificates cannot be written: {reason}")).next("set XDG_CACHE_HOME to a folder of yours"))
}

/// The folders where a bundle may be stored, best first. Environment variables describe the calling user; `home` is that of the user that a
/// program is run as instead.
fn folders(home: Option<&Path>) -> Vec<PathBuf> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = match home {
        Some(home) => Some(home.join(".cache")),
        None => set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))),
    };
    let temporary = env::temp_dir().join(format!("gnomon-{}", rustix::process::geteuid().as_raw()));
    cache.map(|cache| cache.join("gnomon")).into_iter().chain([temporary]).collect()
}

fn write_in(folder: &Path, name: &str, content: &[u8]) -> io::Result<PathBuf> {
    match DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        // Another user could put another authority into it.
        return Err(io::Error::other(format!("{} is not this user's alone", folder.display())));
    }
    let path = folder.join(name);
    if fs::read(&path).is_ok_and(|there| there == content) {
        return Ok(path);
    }
    let new = folder.join(format!("{name}.{}", std::process::id()));
    let written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).and_then(|mut file| file.write_all(content));
    match written.and_then(|()| fs::rename(&new, &path)) {
        Ok(()) => Ok(path),
        Err(error) => {
            let _ = fs::remove_file(&new);
            Err(error)
        }
    }
}
