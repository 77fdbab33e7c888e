//! The key and its file.

use crate::stage::Stage;
use gnomon_audit::{KeyError, PublicKey, SigningKey, SqliteStore, StoreError};
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

#[tokio::test]
async fn no_new_key_is_made_for_an_audit_that_has_records() {
    let stage = Stage::new();
    let key = stage.path("audit.key");
    let of_chain = async || {
        let mut store = SqliteStore::open(&stage.path("audit.sqlite"), 1 << 30).await.unwrap();
        SigningKey::of_chain(&key, &mut store).await
    };
    let first = of_chain().await.unwrap();
    stage.play(1, 2).await;
    assert_eq!(of_chain().await.unwrap().public(), first.public());
    fs::rename(&key, stage.path("away.key")).unwrap();
    let missing = of_chain().await.unwrap_err();
    assert!(matches!(missing, StoreError::Key(KeyError::Missing(_))) && missing.to_string().contains("another folder"), "{missing}");
    assert!(!key.exists());
    SigningKey::open(&key).unwrap();
    assert!(matches!(of_chain().await, Err(StoreError::Key(KeyError::Another(_)))));
    fs::rename(stage.path("away.key"), &key).unwrap();
    assert_eq!(of_chain().await.unwrap().public(), first.public());
}
