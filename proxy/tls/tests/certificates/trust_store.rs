use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gnomon_tls::{CaCertificate, CertificateAuthority, InstallError, StoreStatus, TrustStore};

fn authority(dir: &Path) -> CaCertificate {
    CertificateAuthority::load_or_create(dir).unwrap().0.certificate().clone()
}

/// A store whose update command does what update-ca-certificates does, in a directory of its own.
fn store(dir: &Path) -> TrustStore {
    std::fs::create_dir(dir.join("local")).unwrap();
    let update = dir.join("update");
    std::fs::write(
        &update,
        format!(
            "#!/bin/sh\necho \"$@\" > {0}/arguments\ncat {0}/local/*.crt > {0}/bundle.crt 2>/dev/null || : > {0}/bundle.crt\n",
            dir.display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&update, std::fs::Permissions::from_mode(0o755)).unwrap();
    TrustStore { certificate: dir.join("local/gnomon-ca.crt"), bundle: dir.join("bundle.crt"), update }
}

#[test]
fn installing_makes_the_system_trust_us_and_uninstalling_reverses_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ca) = (store(dir.path()), authority(dir.path()));
    assert_eq!(store.status(&ca).unwrap(), StoreStatus::Absent);
    store.install(&ca).unwrap();
    assert_eq!(store.status(&ca).unwrap(), StoreStatus::Trusted);
    store.install(&ca).unwrap();
    store.uninstall().unwrap();
    // Only so does Debian's command remove the links that point to us.
    assert_eq!(std::fs::read_to_string(dir.path().join("arguments")).unwrap(), "--fresh\n");
    assert_eq!(store.status(&ca).unwrap(), StoreStatus::Absent);
    store.uninstall().unwrap();
}

#[test]
fn a_store_with_an_earlier_authority_says_so_until_it_is_replaced() {
    let (dir, earlier) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, ca) = (store(dir.path()), authority(dir.path()));
    store.install(&authority(earlier.path())).unwrap();
    assert_eq!(store.status(&ca).unwrap(), StoreStatus::OtherCertificate);
    store.install(&ca).unwrap();
    assert_eq!(store.status(&ca).unwrap(), StoreStatus::Trusted);
    std::fs::write(&store.bundle, "").unwrap();
    assert_eq!(store.status(&ca).unwrap(), StoreStatus::NotInBundle);
}

#[test]
fn a_failing_update_command_is_reported_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, ca) = (store(dir.path()), authority(dir.path()));
    std::fs::write(&store.update, "#!/bin/sh\necho disk full >&2\nexit 3\n").unwrap();
    let error = store.install(&ca).unwrap_err();
    assert!(error.to_string().contains("disk full"), "{error}");
    store.update = dir.path().join("no-such-command");
    assert!(matches!(store.install(&ca), Err(InstallError::Update { .. })));
}

#[test]
fn a_system_without_ca_certificates_is_told_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let store = TrustStore { certificate: dir.path().join("none/gnomon-ca.crt"), ..store(dir.path()) };
    assert!(matches!(store.install(&ca), Err(InstallError::NoStore(_))));
}
