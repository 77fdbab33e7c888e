use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Barrier};

use gnomon_tls::{CaCertificate, CaError, CertificateAuthority, Provenance};
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
fn a_crash_between_key_and_certificate_heals_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    CertificateAuthority::load_or_create(dir.path()).unwrap();
    std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
    std::fs::write(dir.path().join("ca.new"), "half a fi").unwrap();
    let (_, provenance) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    assert_eq!(provenance, Provenance::Created);
    assert_eq!(mode(&dir.path().join("ca.key")), 0o600);
    let (_, provenance) = CertificateAuthority::load_or_create(dir.path()).unwrap();
    assert_eq!(provenance, Provenance::Loaded);
}

#[test]
fn files_that_are_something_else_are_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), "hello").unwrap();
    let error = CertificateAuthority::load_or_create(dir.path()).unwrap_err();
    assert!(matches!(error, CaError::Malformed { .. }) && error.to_string().contains("ca.pem"), "{error}");
}
