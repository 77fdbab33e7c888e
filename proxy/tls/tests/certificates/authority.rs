use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Barrier};

use gnomon_tls::{CaCertificate, CaError, CertificateAuthority, Present, Provenance};
use x509_parser::prelude::{FromDer, X509Certificate};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn the_key_is_for_its_owner_only_and_the_certificate_file_holds_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, provenance) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    assert_eq!(provenance, Provenance::Created);
    assert_eq!(mode(&dir.path().join("ca.key")), 0o600);
    let pem = std::fs::read_to_string(dir.path().join("ca.pem")).unwrap();
    assert_eq!(pem, ca.certificate_pem());
    assert!(!pem.contains("PRIVATE"));
}

#[test]
fn the_authority_is_what_it_says_and_may_sign_leaves_only() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, _) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    assert!(ca.subject().starts_with("CN=gnomon CA "), "{}", ca.subject());
    assert_eq!((ca.not_after() - ca.not_before()).whole_days(), 3653);
    assert_eq!(ca.fingerprint_sha256().split(':').count(), 32);
    let (_, x509) = X509Certificate::from_der(ca.certificate().der()).unwrap();
    let constraints = x509.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = x509.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    assert!(x509.iter_extensions().any(|e| e.oid == x509_parser::oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER));
}

#[test]
fn a_restart_loads_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    let (second, provenance) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    assert_eq!(provenance, Provenance::Loaded);
    assert_eq!(first.fingerprint_sha256(), second.fingerprint_sha256());
    let public = CaCertificate::load(dir.path()).unwrap().unwrap();
    assert_eq!(public.fingerprint_sha256(), first.fingerprint_sha256());
}

#[test]
fn first_starts_at_the_same_time_end_with_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    let start = Arc::new(Barrier::new(4));
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let (path, start) = (dir.path().to_owned(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                let (ca, provenance) = CertificateAuthority::load_or_create(&path).unwrap();
                (ca.fingerprint_sha256(), provenance)
            })
        })
        .collect();
    let ends: Vec<_> = starts.into_iter().map(|s| s.join().unwrap()).collect();
    assert!(ends.iter().all(|(fingerprint, _)| *fingerprint == ends[0].0));
    assert_eq!(ends.iter().filter(|(_, p)| *p == Provenance::Created).count(), 1);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_helps() {
    let dir = tempfile::tempdir().unwrap();
    CertificateAuthority::load_or_create(dir.path()).unwrap();
    let key = dir.path().join("ca.key");
    for exposed in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(exposed)).unwrap();
        let error = CertificateAuthority::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, CaError::KeyExposed { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("chmod 600 {}", key.display())), "{error}");
    }
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    CertificateAuthority::load_or_create(one.path()).unwrap();
    CertificateAuthority::load_or_create(other.path()).unwrap();
    std::fs::copy(other.path().join("ca.key"), one.path().join("ca.key")).unwrap();
    assert!(matches!(CertificateAuthority::load_or_create(one.path()), Err(CaError::Mismatch { .. })));
    std::fs::remove_file(one.path().join("ca.key")).unwrap();
    assert!(matches!(CertificateAuthority::load_or_create(one.path()), Err(CaError::KeyMissing { .. })));
}

#[test]
fn a_key_without_its_certificate_is_refused_and_no_key_is_ever_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (ca, _) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    let (certificate, key) = (std::fs::read(at("ca.pem")).unwrap(), std::fs::read(at("ca.key")).unwrap());
    std::fs::remove_file(at("ca.pem")).unwrap();
    // Nor does the certificate of another authority beside it make it a crash's.
    let other = tempfile::tempdir().unwrap();
    CertificateAuthority::load_or_create(other.path()).unwrap();
    std::fs::copy(other.path().join("ca.pem"), at("ca.pem.new")).unwrap();
    let imported = CertificateAuthority::import(dir.path(), &other.path().join("ca.pem"), &other.path().join("ca.key"), Present::Keep);
    for error in [CertificateAuthority::load_or_create(dir.path()).unwrap_err(), imported.unwrap_err()] {
        assert!(matches!(error, CaError::CertificateMissing { .. }), "{error:?}");
        assert!(error.to_string().contains("put the certificate back") && error.to_string().contains("move the key away"), "{error}");
        assert_eq!(std::fs::read(at("ca.key")).unwrap(), key);
    }
    std::fs::write(at("ca.pem"), certificate).unwrap();
    let (back, provenance) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    assert_eq!((back.fingerprint_sha256(), provenance), (ca.fingerprint_sha256(), Provenance::Loaded));
    // Replacing on demand keeps what was there.
    for _ in 0..2 {
        CertificateAuthority::import(dir.path(), &other.path().join("ca.pem"), &other.path().join("ca.key"), Present::Replace).unwrap();
    }
    assert_eq!(std::fs::read(at("ca.key.replaced-1")).unwrap(), key);
    assert_eq!(std::fs::read(at("ca.key.replaced-2")).unwrap(), std::fs::read(at("ca.key")).unwrap());
    assert_eq!((mode(&at("ca.key")), mode(&at("ca.key.replaced-1"))), (0o600, 0o600));
    assert!(at("ca.pem.replaced-1").exists());
}

#[test]
fn a_crash_before_between_or_after_key_and_certificate_heals_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // Before: both are beside their places, in part.
    std::fs::write(at("ca.pem.new"), "half a fi").unwrap();
    std::fs::write(at("ca.key.new"), "half a fi").unwrap();
    assert!(CertificateAuthority::load(dir.path()).unwrap().is_none());
    let (ca, provenance) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    assert_eq!(provenance, Provenance::Created);
    // Between: the key is in its place.
    std::fs::rename(at("ca.pem"), at("ca.pem.new")).unwrap();
    assert!(CertificateAuthority::load(dir.path()).unwrap().is_none() && at("ca.pem.new").exists());
    let (healed, provenance) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    assert_eq!((healed.fingerprint_sha256(), provenance), (ca.fingerprint_sha256(), Provenance::Created));
    let (_, provenance) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    assert_eq!(provenance, Provenance::Loaded);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{left:?}");
    assert_eq!(mode(&at("ca.key")), 0o600);
}

#[test]
fn files_that_are_something_else_are_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), "hello").unwrap();
    let error = CertificateAuthority::load_or_create(dir.path()).unwrap_err();
    assert!(matches!(error, CaError::Malformed { .. }) && error.to_string().contains("ca.pem"), "{error}");
}

#[test]
fn a_cause_is_told_once_and_with_the_step_that_helps() {
    let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let error = CaError::Io { action: "opening", path: "/x/ca.pem".into(), cause: denied };
    assert_eq!(error.to_string(), "opening /x/ca.pem: permission denied; run the same command with sudo, or as the user whose it is");
    assert!(std::error::Error::source(&error).is_none(), "printed behind `because:`, it would stand there twice");
}
