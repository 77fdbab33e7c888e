//! The two files of an authority, put in place so that no key is ever overwritten, and so that a crash can be told from a file that
//! somebody removed.
//!
//! Both are written whole beside their places (`.new`), then the key is renamed, then the certificate. A key whose certificate still
//! stands beside its place is a crash between the two. Callers hold the lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{CERTIFICATE_FILE, CaCertificate, CaError, CertificateAuthority, KEY_FILE, belongs_with, io_error, read_text};

/// Puts a pair in the place of which there is none.
pub(super) fn put(state_dir: &Path, certificate: &str, key: &str) -> Result<(), CaError> {
    stage(&state_dir.join(CERTIFICATE_FILE), certificate, 0o644)?;
    stage(&state_dir.join(KEY_FILE), key, 0o600)?;
    sync(state_dir)?;
    settle(&state_dir.join(KEY_FILE))?;
    finish(state_dir)
}

/// Puts the certificate beside its key.
pub(super) fn finish(state_dir: &Path) -> Result<(), CaError> {
    settle(&state_dir.join(CERTIFICATE_FILE))?;
    sync(state_dir)
}

/// The certificate that a crash kept from its place beside the key; none where what is there is not the certificate of this key.
pub(super) fn unfinished(state_dir: &Path) -> Result<Option<CaCertificate>, CaError> {
    let (staged, key) = (staged(&state_dir.join(CERTIFICATE_FILE)), state_dir.join(KEY_FILE));
    if !is_there(&staged)? || !is_there(&key)? {
        return Ok(None);
    }
    let read = |path: &Path| File::open(path).map_err(io_error("opening", path)).and_then(|file| read_text(file, path));
    let (pem, key_pem) = (read(&staged)?, read(&key)?);
    let certificate = CaCertificate::parse(&staged, pem).ok();
    Ok(certificate.filter(|certificate| CertificateAuthority::pair(certificate.clone(), &key_pem, &staged, &key).is_ok()))
}

/// Moves a pair out of its places, or what there is of one: `ca.key.replaced-1` and so on, the certificate with the same number.
pub(super) fn set_aside(state_dir: &Path) -> Result<(), CaError> {
    let aside = |file: &str, number: u32| state_dir.join(format!("{file}.replaced-{number}"));
    let files = [CERTIFICATE_FILE, KEY_FILE];
    let mut number = 1;
    while is_there(&aside(files[0], number))? || is_there(&aside(files[1], number))? {
        number += 1;
    }
    for file in files {
        let path = state_dir.join(file);
        if is_there(&path)? {
            fs::rename(&path, aside(file, number)).map_err(io_error("moving", &path))?;
        }
    }
    sync(state_dir)
}

/// Whether anything is at this path.
pub(super) fn is_there(path: &Path) -> Result<bool, CaError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_error("looking at", path)(e)),
    }
}

fn staged(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Writes a file beside its place with its final owner and mode. One that is left there is a crash's.
fn stage(path: &Path, content: &str, mode: u32) -> Result<(), CaError> {
    let temporary = staged(path);
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_error("removing", &temporary)(e)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(io_error("creating", &temporary))?;
    if let Some(folder) = path.parent() {
        belongs_with(&file, folder).map_err(io_error("handing over", &temporary))?;
    }
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(io_error("writing", &temporary))
}

fn settle(path: &Path) -> Result<(), CaError> {
    if is_there(path)? {
        return Err(io_error("creating", path)(io::ErrorKind::AlreadyExists.into()));
    }
    fs::rename(staged(path), path).map_err(io_error("creating", path))
}

/// A rename is on disk only once the directory is.
fn sync(state_dir: &Path) -> Result<(), CaError> {
    File::open(state_dir).and_then(|dir| dir.sync_all()).map_err(io_error("syncing", state_dir))
}
