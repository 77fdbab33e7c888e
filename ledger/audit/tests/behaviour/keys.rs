//! The key and its file.

use crate::stage::Stage;
use gnomon_audit::{KeyError, PublicKey, SigningKey};
use std::{fs, os::unix::fs::PermissionsExt};

#[test]
fn a_key_is_made_once_and_only_its_owner_reads_it() {
    let stage = Stage::new();
    let (first, again) = (stage.key(), stage.key());
    assert_eq!(first.public(), again.public());
    let mode = fs::metadata(stage.path("audit.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = first.public().to_string();
    assert_eq!(PublicKey::parse(&format!("{text}\n")), Some(first.public()));
    assert_eq!(format!("{first:?}"), format!("SigningKey({text})"));
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let stage = Stage::new();
    stage.key();
    fs::set_permissions(stage.path("audit.key"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(SigningKey::open(&stage.path("audit.key")), Err(KeyError::Open(_))));
}

#[test]
fn a_file_that_is_not_a_key_is_refused_and_left_alone() {
    let stage = Stage::new();
    fs::write(stage.path("audit.key"), b"something").unwrap();
    fs::set_permissions(stage.path("audit.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(SigningKey::open(&stage.path("audit.key")), Err(KeyError::Malformed(_))));
    assert_eq!(fs::read(stage.path("audit.key")).unwrap(), b"something");
}
