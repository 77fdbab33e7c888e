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

/// Writes the file anew, as the system's roots change, and gives its path. Without the system's roots there is none: the authority alone in
/// their place would keep programs from everything that gnomon does not intercept.
pub fn beside(authority: &Path) -> Option<PathBuf> {
    with_roots_of(Path::new("/"), authority)
}

/// The same with the roots of the system below this folder.
fn with_roots_of(root: &Path, authority: &Path) -> Option<PathBuf> {
    let system = system_bundle(root)?;
    let bundle = authority.with_file_name(BUNDLE);
    match write(&system, authority, &bundle) {
        Ok(()) => Some(bundle),
        Err(error) => {
            tracing::warn!("{}: {error}; there is no file that a program could take for all of its roots", bundle.display());
            None
        }
    }
}

fn write(system: &Path, authority: &Path, bundle: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let both = merge(&read_certificates(system)?, &[], &read_certificates(authority)?);
    if fs::read(bundle).is_ok_and(|there| there == both.pem.as_bytes()) {
        return Ok(());
    }
    let draft = bundle.with_file_name(".bundle.draft");
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
    file.write_all(both.pem.as_bytes())?;
    // As readable as the authority, for the same programs.
    fs::set_permissions(&draft, fs::metadata(authority)?.permissions())?;
    fs::rename(&draft, bundle)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use gnomon_tls::CertificateAuthority;

    #[test]
    fn there_is_a_file_for_programs_only_where_it_has_the_system_s_roots_beside_ours() {
        let [state, company, root] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        for folder in [&state, &company] {
            CertificateAuthority::load_or_create(folder.path()).unwrap();
        }
        let authority = state.path().join("ca.pem");
        assert_eq!(with_roots_of(root.path(), &authority), None, "the system has no roots");
        let system = root.path().join("etc/ssl/certs/ca-certificates.crt");
        fs::create_dir_all(system.parent().unwrap()).unwrap();
        fs::write(&system, "").unwrap();
        assert_eq!(with_roots_of(root.path(), &authority), None, "none can be read");
        assert!(!state.path().join(BUNDLE).exists());
        fs::write(&system, fs::read(company.path().join("ca.pem")).unwrap()).unwrap();
        let bundle = with_roots_of(root.path(), &authority).unwrap();
        let trusted = read_certificates(&bundle).unwrap();
        let both = [system, authority].map(|file| read_certificates(&file).unwrap()).concat();
        assert!(trusted.len() == 2 && both.iter().all(|certificate| trusted.contains(certificate)), "{trusted:?}");
    }
}
