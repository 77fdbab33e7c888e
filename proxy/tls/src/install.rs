//! Putting the CA certificate into the system's trust store, taking it out, and telling whether it is in.
//!
//! Debian's layout: certificates dropped into a directory, and a command that rebuilds one bundle
//! of them all. Programs with trust stores of their own (Firefox, Java, Node without
//! `--use-system-ca`) are not reached by this.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::{CaCertificate, error::next_of};

/// A system trust store: where its parts are.
#[derive(Debug, Clone)]
pub struct TrustStore {
    /// The file that is ours.
    pub certificate: PathBuf,
    /// The bundle that programs read.
    pub bundle: PathBuf,
    /// The command that rebuilds the bundle.
    pub update: PathBuf,
}

impl Default for TrustStore {
    /// Debian's and Ubuntu's places.
    fn default() -> Self {
        Self {
            certificate: PathBuf::from("/usr/local/share/ca-certificates/gnomon-ca.crt"),
            bundle: PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
            update: PathBuf::from("/usr/sbin/update-ca-certificates"),
        }
    }
}

/// Whether the system trusts the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreStatus {
    /// The bundle contains it.
    Trusted,
    /// Our file is there, but the bundle was not rebuilt since.
    NotInBundle,
    /// Our file holds another certificate, of an earlier authority or another host.
    OtherCertificate,
    /// Not installed.
    Absent,
}

/// An error of reading or changing the trust store. Each text names the next step where there is one.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Changing the system's trust store needs root.
    #[error("{} cannot be changed without root; run the same command with sudo", .0.display())]
    NeedsRoot(PathBuf),
    /// The directory for local certificates is missing.
    #[error("{} does not exist: is the package ca-certificates installed?", .0.display())]
    NoStore(PathBuf),
    /// A file operation failed.
    #[error("{}: {cause}{}", .path.display(), next_of(.cause))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// The command that rebuilds the bundle failed.
    #[error("{} failed: {cause}", .command.display())]
    Update {
        /// The command.
        command: PathBuf,
        /// The exit status, and the end of the output.
        cause: String,
    },
}

/// The work of the bundle's command.
enum Rebuild {
    /// A file is new.
    Add,
    /// A file is gone or has changed: without `--fresh` Debian's command leaves the old certificate's
    /// links in /etc/ssl/certs.
    Fresh,
}

impl TrustStore {
    /// Whether this store trusts `ca`. Changes nothing and needs no privilege.
    ///
    /// # Errors
    /// When a file is there but cannot be read.
    pub fn status(&self, ca: &CaCertificate) -> Result<StoreStatus, InstallError> {
        if certificates(&self.bundle)?.iter().any(|c| c == ca.der()) {
            return Ok(StoreStatus::Trusted);
        }
        let ours = certificates(&self.certificate)?;
        Ok(match ours.as_slice() {
            [] => StoreStatus::Absent,
            all if all.contains(ca.der()) => StoreStatus::NotInBundle,
            _ => StoreStatus::OtherCertificate,
        })
    }

    /// Writes the certificate and rebuilds the bundle. An earlier certificate of ours is replaced.
    ///
    /// # Errors
    /// [`InstallError::NeedsRoot`] without the right to write there.
    pub fn install(&self, ca: &CaCertificate) -> Result<(), InstallError> {
        let rebuild = if self.certificate.exists() { Rebuild::Fresh } else { Rebuild::Add };
        let temporary = self.certificate.with_extension("new");
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&temporary)
            .and_then(|mut file| file.write_all(ca.pem().as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, &self.certificate));
        written.map_err(|e| self.io(e))?;
        self.rebuild(rebuild)
    }

    /// Removes our certificate and rebuilds the bundle. Nothing to remove is no error.
    ///
    /// # Errors
    /// [`InstallError::NeedsRoot`] without the right to write there.
    pub fn uninstall(&self) -> Result<(), InstallError> {
        match fs::remove_file(&self.certificate) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(self.io(e)),
            Ok(()) => self.rebuild(Rebuild::Fresh),
        }
    }

    fn rebuild(&self, how: Rebuild) -> Result<(), InstallError> {
        let failed = |cause: String| InstallError::Update { command: self.update.clone(), cause };
        let arguments: &[&str] = match how {
            Rebuild::Add => &[],
            Rebuild::Fresh => &["--fresh"],
        };
        let output = Command::new(&self.update).args(arguments).stdin(Stdio::null()).output().map_err(|e| failed(e.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or_default();
        Err(failed(format!("{}: {last}", output.status)))
    }

    fn io(&self, cause: io::Error) -> InstallError {
        let path = self.certificate.clone();
        match cause.kind() {
            io::ErrorKind::PermissionDenied => InstallError::NeedsRoot(path),
            io::ErrorKind::NotFound => InstallError::NoStore(path.parent().map(Path::to_owned).unwrap_or(path)),
            _ => InstallError::Io { path, cause },
        }
    }
}

/// The certificates in a PEM file; none when it does not exist. What cannot be parsed is skipped:
/// it is not ours.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, InstallError> {
    match fs::read(path) {
        Ok(text) => Ok(CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(cause) => Err(InstallError::Io { path: path.to_owned(), cause }),
    }
}
