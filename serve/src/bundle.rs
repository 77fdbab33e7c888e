//! The system's roots and gnomon's authority in one file. What replaces a program's roots (`SSL_CERT_FILE`) must have both: the program
//! reaches servers on the bypass list as well, and all of them once gnomon is disarmed.

use gnomon_host::trust::{merge, read_certificates, system_bundle};
use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// The file's name in the state folder.
const BUNDLE: &str = "bundle.pem";

/// Writes the file anew, as the system's roots change, and gives its path. Where that cannot be done, the authority's own.
pub fn beside(authority: &Path) -> PathBuf {
    let bundle = authority.with_file_name(BUNDLE);
    match write(authority, &bundle) {
        Ok(true) => bundle,
        Ok(false) => authority.to_owned(),
        Err(error) => {
            tracing::warn!(
                "{}: {error}; programs that take it for all of their roots know {} alone",
                bundle.display(),
                authority.display()
            );
            authority.to_owned()
        }
    }
}

/// False where the system has no roots.
fn write(authority: &Path, bundle: &Path) -> Result<bool, Box<dyn std::error::Error>> {
    let Some(system) = system_bundle(Path::new("/")) else { return Ok(false) };
    let both = merge(&read_certificates(&system)?, &[], &read_certificates(authority)?);
    if fs::read(bundle).is_ok_and(|there| there == both.pem.as_bytes()) {
        return Ok(true);
    }
    let draft = bundle.with_extension("draft");
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
    file.write_all(both.pem.as_bytes())?;
    // As readable as the authority, for the same programs.
    fs::set_permissions(&draft, fs::metadata(authority)?.permissions())?;
    fs::rename(&draft, bundle)?;
    Ok(true)
}
