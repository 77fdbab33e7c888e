//! The place and the key of a feed of rules.

use crate::{
    Check,
    declare::{Form, Show},
    forms::OwnText,
};
use minisign_verify::PublicKey;
use serde_json::Value;
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The folder of installed feeds in a state folder.
pub fn feed_in(state_dir: &Path) -> PathBuf {
    state_dir.join("feed")
}

/// The place that editions of a feed are fetched from. The signature is beside the archive, with `.minisig` added to its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedPlace {
    /// An `https://` URL.
    Url(String),
    /// A file.
    File(PathBuf),
}

impl FeedPlace {
    /// Parses the text of the configuration; a file is relative to this folder.
    #[must_use]
    pub fn written(text: &str, dir: &Path) -> Self {
        if text.starts_with("https://") { Self::Url(text.to_owned()) } else { Self::File(dir.join(text)) }
    }

    /// The place of the signature.
    #[must_use]
    pub fn signature(&self) -> Self {
        match self {
            Self::Url(url) => Self::Url(format!("{url}.minisig")),
            Self::File(path) => Self::File(PathBuf::from(format!("{}.minisig", path.display()))),
        }
    }
}

impl fmt::Display for FeedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Form<Option<FeedPlace>> for OwnText {
    fn read(source: Self::Source, _: Option<FeedPlace>, check: &mut Check<'_>) -> Option<Option<FeedPlace>> {
        let Some(text) = source else { return Some(None) };
        match text.value.split_once("://") {
            Some((scheme, _)) if scheme != "https" => {
                check.refused(text.referenced, format!("{scheme}:// is not fetched from; use https:// or a file"))
            }
            _ => Some(Some(FeedPlace::written(&text.value, check.dir))),
        }
    }
}

impl Show<Option<FeedPlace>> for OwnText {
    fn show(value: &Option<FeedPlace>) -> Value {
        value.as_ref().map(ToString::to_string).into()
    }
}

/// The public key of minisign that signs a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedKey {
    text: String,
    key: PublicKey,
}

impl FeedKey {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl FromStr for FeedKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |error| format!("not a public key of minisign (the last line of its .pub file, as RWQ…): {error}");
        Ok(Self { text: text.to_owned(), key: PublicKey::from_base64(text).map_err(wrong)? })
    }
}

impl Form<Option<FeedKey>> for OwnText {
    fn read(source: Self::Source, _: Option<FeedKey>, check: &mut Check<'_>) -> Option<Option<FeedKey>> {
        Some(source.and_then(|text| check.parsed(&text, "")))
    }
}

impl Show<Option<FeedKey>> for OwnText {
    fn show(value: &Option<FeedKey>) -> Value {
        value.as_ref().map(|key| key.text.as_str()).into()
    }
}
