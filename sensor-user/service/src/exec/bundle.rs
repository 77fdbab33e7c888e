//! The certificates that a redirected program needs: those of the system, and our authority.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use gnomon_host::trust::{TrustError, merge, read_certificates, system_bundle};

/// The file's name, beside the socket; the one for Java differs in its ending.
const NAME: &str = "ca-bundle.pem";

/// An error of writing the bundle.
#[derive(Debug, thiserror::Error)]
pub(super) enum BundleError {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("{0}: {1}")]
    Write(PathBuf, io::Error),
}

/// Writes the bundle in PEM and for Java, unless both files are current. Every user may read them. Returns the path of the PEM file.
pub(super) fn publish(authority: &Path, folder: &Path) -> Result<PathBuf, BundleError> {
    let ours = read_certificates(authority)?;
    let roots = match system_bundle(Path::new("/")) {
        Some(path) => read_certificates(&path)?,
        None => Vec::new(),
    };
    let merged = merge(&roots, &[], &ours);
    let path = folder.join(NAME);
    for (path, content) in [(path.with_extension("jks"), &merged.java[..]), (path.clone(), merged.pem.as_bytes())] {
        if !fs::read(&path).is_ok_and(|there| there == content) {
            // Replaced atomically: a concurrent reader sees the old or the new one.
            replace(folder, &path, content).map_err(|error| BundleError::Write(path, error))?;
        }
    }
    Ok(path)
}

fn replace(folder: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
