#![allow(clippy::unwrap_used)]

use super::*;
use flate2::{Compression, write::GzEncoder};
use minisign::KeyPair;
use std::{fs, io::Cursor};
use tar::{Builder, EntryType, Header};

struct Publisher(KeyPair);

impl Publisher {
    fn new() -> Self {
        Self(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    fn key(&self) -> FeedKey {
        self.0.pk.to_base64().parse().unwrap()
    }

    fn sign(&self, archive: &[u8]) -> String {
        minisign::sign(None, &self.0.sk, Cursor::new(archive), Some("rules"), None).unwrap().into_string()
    }

    fn feed(&self, archive: &[u8]) -> Result<Feed, Complaint> {
        Feed::open(archive, &self.sign(archive), &self.key())
    }
}

/// An archive whose names are written as they are, also those that a well-behaved tool refuses.
fn archive(files: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, text) in files {
        let mut header = Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        tar.append(&header, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn edition(version: &str, rule: &str) -> Vec<u8> {
    let about = format!("version: '{version}'\n");
    archive(&[
        ("feed.yml", EntryType::Regular, &about),
        ("shadow-mcp/", EntryType::Directory, ""),
        ("shadow-mcp/one.yml", EntryType::Regular, rule),
    ])
}

#[test]
fn an_archive_is_looked_at_only_under_its_own_signature_by_the_configured_key() {
    let (publisher, other) = (Publisher::new(), Publisher::new());
    let bytes = edition("2026.11.23", "title: One");
    let signature = publisher.sign(&bytes);
    let feed = Feed::open(&bytes, &signature, &publisher.key()).unwrap();
    assert_eq!(feed.version.to_string(), "2026.11.23");
    assert_eq!(feed.files("shadow-mcp").unwrap(), [("shadow-mcp/one.yml".to_owned(), "title: One".to_owned())]);
    assert!(feed.files("detections").is_none());

    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    let garbage = b"no archive at all".as_slice();
    for (bytes, signature, key) in [
        (bytes.as_slice(), signature.as_str(), other.key()),
        (bytes.as_slice(), other.sign(&bytes).as_str(), publisher.key()),
        (changed.as_slice(), signature.as_str(), publisher.key()),
        (garbage, signature.as_str(), publisher.key()),
        (bytes.as_slice(), "", publisher.key()),
        (bytes.as_slice(), "untrusted comment: x\nnonsense\n", publisher.key()),
    ] {
        let error = Feed::open(bytes, signature, &key).unwrap_err();
        assert!(error.to_string().contains("signature does not hold"), "{error}");
    }
}

#[test]
fn what_is_signed_keeps_within_bounds_and_names_nothing_outside() {
    let publisher = Publisher::new();
    let about = ("feed.yml", EntryType::Regular, "version: '1'\n");
    let rule = ("shadow-mcp/one.yml", EntryType::Regular, "title: One");
    for (files, expected) in [
        (vec![about, rule, ("../../etc/cron.d/x", EntryType::Regular, "x")], "is not one of a feed"),
        (vec![about, rule, ("/etc/cron.d/x", EntryType::Regular, "x")], "is not one of a feed"),
        (vec![about, rule, ("shadow-mcp/.hidden.yml", EntryType::Regular, "x")], "is not one of a feed"),
        (vec![about, rule, ("shadow-mcp/a b.yml", EntryType::Regular, "x")], "is not one of a feed"),
        (vec![about, rule, ("shadow-mcp/link.yml", EntryType::Symlink, "")], "neither a file nor a folder"),
        (vec![about, rule, ("shadow-mcp/link.yml", EntryType::Link, "")], "neither a file nor a folder"),
        (vec![about, rule, ("shadow-mcp/deep/one.yml", EntryType::Regular, "x")], "not a file of rules"),
        (vec![about, rule, ("shadow-mcp/tool.sh", EntryType::Regular, "x")], "not a file of rules"),
        (vec![about, rule, rule], "in it twice"),
        (vec![rule], "has no feed.yml"),
        (vec![about], "has no rules"),
        (vec![("feed.yml", EntryType::Regular, "version: [1]\n"), rule], "no version"),
        (vec![("feed.yml", EntryType::Regular, "version: '../1'\n"), rule], "is not a version"),
    ] {
        let error = publisher.feed(&archive(&files)).unwrap_err();
        assert!(error.to_string().contains(expected), "{files:?}: {error}");
    }
    let many: Vec<String> = (0..=MOST_FILES).map(|n| format!("shadow-mcp/{n}.yml")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), EntryType::Regular, "x")).collect();
    assert!(publisher.feed(&archive(&many)).unwrap_err().to_string().contains("more than 20000 files"));
    // 80 MiB of one letter are 80 KiB as they are sent.
    let long = "x".repeat(80 << 20);
    let error = publisher.feed(&archive(&[about, ("shadow-mcp/one.yml", EntryType::Regular, &long)])).unwrap_err();
    assert!(error.to_string().contains("bytes"), "{error}");
}

#[test]
fn versions_are_compared_by_their_numbers() {
    let version = |text: &str| text.parse::<Version>().unwrap();
    assert!(version("2026.9.30") < version("2026.11.1") && version("2026.11") < version("2026.11.1"));
    assert_eq!(version("2026.11"), version("2026.11.0"));
    for text in ["", ".", "1.", "a", "1..2", "-1", "1.2.3.4.5.6.7.8.9", "99999999999", "1/2", "+1"] {
        assert!(text.parse::<Version>().is_err(), "{text}");
    }
}

#[test]
fn an_edition_that_was_changed_where_it_is_kept_is_not_used_and_the_one_before_comes_back() {
    let (publisher, dir) = (Publisher::new(), tempfile::tempdir().unwrap());
    let folder = dir.path().join("feed");
    let editions = Editions::of(&folder).unwrap();
    assert!(editions.current(&publisher.key()).unwrap().is_none());
    for version in ["1", "2", "3"] {
        let bytes = edition(version, "title: One");
        editions.install(&publisher.feed(&bytes).unwrap(), &bytes, &publisher.sign(&bytes)).unwrap();
    }
    let names = |editions: &Editions| {
        let (current, before) = editions.named().unwrap();
        (current.map(|version| version.to_string()), before.map(|version| version.to_string()))
    };
    assert_eq!(names(&editions), (Some("3".into()), Some("2".into())));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 5, "two editions with signatures, and which is in force");

    // By whoever may write there: other rules, another edition under this one's name, another file's name.
    fs::write(folder.join("3.tar.gz"), edition("3", "title: Nothing")).unwrap();
    assert!(editions.current(&publisher.key()).unwrap_err().to_string().contains("signature does not hold"));
    fs::copy(folder.join("2.tar.gz"), folder.join("3.tar.gz")).unwrap();
    fs::copy(folder.join("2.tar.gz.minisig"), folder.join("3.tar.gz.minisig")).unwrap();
    assert!(editions.current(&publisher.key()).unwrap_err().to_string().contains("it is version 2"));
    fs::write(folder.join("current"), "../../3\n").unwrap();
    assert!(editions.named().unwrap_err().to_string().contains("is not a version"));
    fs::write(folder.join("current"), "3\n2\n").unwrap();

    assert_eq!(editions.roll_back(&publisher.key()).unwrap().unwrap().to_string(), "2");
    assert_eq!(editions.current(&publisher.key()).unwrap().unwrap().version.to_string(), "2");
    assert!(editions.current(&Publisher::new().key()).is_err(), "another key does not sign it");
    assert_eq!(editions.roll_back(&publisher.key()).unwrap(), None);
    assert!(editions.current(&publisher.key()).unwrap().is_none());
    assert!(editions.roll_back(&publisher.key()).unwrap_err().to_string().contains("no feed is in force"));
}

#[test]
fn editions_that_were_taken_back_are_remembered_until_a_newer_one_is_installed() {
    let (publisher, dir) = (Publisher::new(), tempfile::tempdir().unwrap());
    let editions = Editions::of(&dir.path().join("feed")).unwrap();
    let install = |version: &str| {
        let bytes = edition(version, "title: One");
        editions.install(&publisher.feed(&bytes).unwrap(), &bytes, &publisher.sign(&bytes)).unwrap();
    };
    let refused = || editions.refused().iter().map(ToString::to_string).collect::<Vec<_>>();
    install("1");
    install("3");
    editions.roll_back(&publisher.key()).unwrap();
    assert_eq!(refused(), ["3"]);
    install("2");
    assert_eq!(refused(), ["3"], "it is still not wanted");
    editions.remove().unwrap();
    assert_eq!(refused(), ["2", "3"]);
    assert!(editions.current(&publisher.key()).unwrap().is_none());
    install("4");
    assert_eq!(refused(), Vec::<String>::new());
}

#[test]
fn nothing_is_written_through_a_link_that_the_serving_process_could_have_made() {
    let (publisher, dir, elsewhere) = (Publisher::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = dir.path().join("feed");
    std::os::unix::fs::symlink(elsewhere.path(), &folder).unwrap();
    assert!(Editions::of(&folder).unwrap_err().to_string().contains("is a link"));
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    for name in ["1.tar.draft", "1.tar.gz", "1.tar.gz.draft", "current", "current.draft", "1.tar.gz.minisig"] {
        std::os::unix::fs::symlink(&victim, folder.join(name)).unwrap();
    }
    let bytes = edition("1", "title: One");
    let editions = Editions::of(&folder).unwrap();
    editions.install(&publisher.feed(&bytes).unwrap(), &bytes, &publisher.sign(&bytes)).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(editions.current(&publisher.key()).unwrap().is_some());
}
