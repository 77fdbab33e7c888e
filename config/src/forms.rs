//! The notation of plain values: numbers within bounds, words, addresses, paths, texts, lists of those.

use crate::{
    Check, SecretRef,
    declare::{Form, Show, Written},
    key::Shape,
    raw::Names,
};
use gnomon_access::yaml::hint;
use gnomon_confine::Digest;
use gnomon_ledger::PostgresUrl;
use serde::Serialize;
use serde_json::{Value, json};
use serde_saphyr::Spanned;
use std::{collections::BTreeMap, marker::PhantomData, net::SocketAddr, path::PathBuf};

/// A whole number from `LOW` to `HIGH`, both included.
pub(crate) struct Number<const LOW: u64, const HIGH: u64>;

impl<const LOW: u64, const HIGH: u64> Written for Number<LOW, HIGH> {
    type Source = Option<Spanned<u64>>;
    const SHAPE: Shape = Shape::Number(LOW, HIGH);
}

impl<const LOW: u64, const HIGH: u64, T: TryFrom<u64> + Serialize> Form<T> for Number<LOW, HIGH> {
    fn read(source: Self::Source, default: T, check: &mut Check<'_>) -> Option<T> {
        let Some(number) = source else { return Some(default) };
        match T::try_from(number.value) {
            Ok(value) if (LOW..=HIGH).contains(&number.value) => Some(value),
            _ => check.refused(number.referenced, format!("{} is out of bounds; use {LOW} to {HIGH}", number.value)),
        }
    }
}

impl<const LOW: u64, const HIGH: u64, T: Serialize> Show<T> for Number<LOW, HIGH> {
    fn show(value: &T) -> Value {
        json!(value)
    }
}

/// An optional number within bounds.
pub(crate) struct MaybeNumber<const LOW: u64, const HIGH: u64>;

impl<const LOW: u64, const HIGH: u64> Written for MaybeNumber<LOW, HIGH> {
    type Source = Option<Spanned<u64>>;
    const SHAPE: Shape = Shape::Number(LOW, HIGH);
}

impl<const LOW: u64, const HIGH: u64> Form<Option<usize>> for MaybeNumber<LOW, HIGH> {
    fn read(source: Self::Source, default: Option<usize>, check: &mut Check<'_>) -> Option<Option<usize>> {
        match source {
            None => Some(default),
            Some(_) => Number::<LOW, HIGH>::read(source, 0, check).map(Some),
        }
    }
}

impl<const LOW: u64, const HIGH: u64> Show<Option<usize>> for MaybeNumber<LOW, HIGH> {
    fn show(value: &Option<usize>) -> Value {
        json!(value)
    }
}

/// A closed set of words with a value each.
pub(crate) trait Words: Sized + 'static {
    /// The words.
    const WORDS: &'static [&'static str];
    /// The value of a word.
    fn named(word: &str) -> Option<Self>;
    /// The word for it.
    fn word(&self) -> &'static str;
}

/// The words of an enum.
macro_rules! words {
    ($type:ty: $($word:literal => $variant:ident),+) => {
        impl crate::forms::Words for $type {
            const WORDS: &'static [&'static str] = &[$($word),+];
            fn named(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
            fn word(&self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}
pub(crate) use words;

/// A value written as one of a type's words.
pub(crate) struct Word<T>(PhantomData<T>);

impl<T: Words> Written for Word<T> {
    type Source = Option<Spanned<String>>;
    const SHAPE: Shape = Shape::Word(T::WORDS);
}

impl<T: Words> Form<T> for Word<T> {
    fn read(source: Self::Source, default: T, check: &mut Check<'_>) -> Option<T> {
        let Some(word) = source else { return Some(default) };
        T::named(&word.value)
            .or_else(|| check.refused(word.referenced, format!("`{}` is not known here{}", word.value, hint(&word.value, T::WORDS))))
    }
}

impl<T: Words> Show<T> for Word<T> {
    fn show(value: &T) -> Value {
        value.word().into()
    }
}

/// Ways to write something: what the file holds, and what the schema says of it.
macro_rules! written {
    ($($(#[$doc:meta])* $name:ident: $source:ty, $shape:expr;)*) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name;
            impl crate::declare::Written for $name {
                type Source = $source;
                const SHAPE: crate::key::Shape = $shape;
            }
        )*
    };
}
pub(crate) use written;

written! {
    /// An address with a port.
    Address: Option<Spanned<String>>, Shape::Text;
    /// A path, relative to the file.
    FilePath: Option<String>, Shape::Text;
    /// Paths, relative to the file.
    FilePaths: Vec<String>, Shape::Texts;
    /// Any words; none are as good as no key.
    Text: Option<String>, Shape::Text;
    /// A text that code of its own reads.
    OwnText: Option<Spanned<String>>, Shape::Text;
    /// The same, which has to be there.
    NeededText: Spanned<String>, Shape::Text;
    /// A path that has to be there.
    NeededPath: String, Shape::Text;
    /// A reference to a secret.
    Secret: Option<Spanned<String>>, Shape::Text;
    /// A digest in hexadecimal digits.
    Sha256: Option<Spanned<String>>, Shape::Text;
    /// Texts of which each is read by itself.
    Texts: Vec<Spanned<String>>, Shape::Texts;
    /// Patterns of hosts, which are kept as they are written.
    Hosts: Vec<Spanned<String>>, Shape::Texts;
    /// Texts by name.
    Variables: BTreeMap<String, Spanned<String>>, Shape::Variables;
    /// The URL of a database.
    Database: Option<Spanned<String>>, Shape::Text;
    /// A file, standard output, or neither.
    EventFile: Option<Spanned<String>>, Shape::Text;
    /// Rules that ship, by their packs.
    PackNames: Option<Spanned<Names>>, Shape::Packs;
}

/// A port of this host alone.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Form<SocketAddr> for Address {
    fn read(source: Self::Source, default: SocketAddr, check: &mut Check<'_>) -> Option<SocketAddr> {
        let Some(text) = source else { return Some(default) };
        check.parsed(&text, &format!("an address with a port, as {default}"))
    }
}

impl Show<SocketAddr> for Address {
    fn show(value: &SocketAddr) -> Value {
        value.to_string().into()
    }
}

impl Form<Option<PathBuf>> for FilePath {
    fn read(source: Self::Source, default: Option<PathBuf>, check: &mut Check<'_>) -> Option<Option<PathBuf>> {
        Some(source.map(|path| check.dir.join(path)).or(default))
    }
}

impl Show<Option<PathBuf>> for FilePath {
    fn show(value: &Option<PathBuf>) -> Value {
        value.as_ref().map(|path| path.display().to_string()).into()
    }
}

impl Form<Vec<PathBuf>> for FilePaths {
    fn read(source: Self::Source, _: Vec<PathBuf>, check: &mut Check<'_>) -> Option<Vec<PathBuf>> {
        Some(check.paths(source))
    }
}

impl Show<Vec<PathBuf>> for FilePaths {
    fn show(value: &Vec<PathBuf>) -> Value {
        value.iter().map(|path| path.display().to_string()).collect()
    }
}

impl Form<Option<String>> for Text {
    fn read(source: Self::Source, _: Option<String>, _: &mut Check<'_>) -> Option<Option<String>> {
        Some(source.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    }
}

impl Show<Option<String>> for Text {
    fn show(value: &Option<String>) -> Value {
        value.as_deref().into()
    }
}

impl Show<String> for NeededText {
    fn show(value: &String) -> Value {
        value.as_str().into()
    }
}

impl Form<PathBuf> for NeededPath {
    fn read(source: Self::Source, _: PathBuf, check: &mut Check<'_>) -> Option<PathBuf> {
        Some(check.dir.join(source))
    }
}

impl Show<PathBuf> for NeededPath {
    fn show(value: &PathBuf) -> Value {
        value.display().to_string().into()
    }
}

impl Form<Vec<String>> for Texts {
    fn read(source: Self::Source, _: Vec<String>, _: &mut Check<'_>) -> Option<Vec<String>> {
        Some(source.into_iter().map(|text| text.value).collect())
    }
}

impl Show<Vec<String>> for Texts {
    fn show(value: &Vec<String>) -> Value {
        json!(value)
    }
}

impl Form<Option<SecretRef>> for Secret {
    fn read(source: Self::Source, default: Option<SecretRef>, check: &mut Check<'_>) -> Option<Option<SecretRef>> {
        let Some(text) = source else { return Some(default) };
        match check.secret(&text.value) {
            Ok(secret) => Some(Some(secret)),
            Err(cause) => check.refused(text.referenced, cause.to_string()),
        }
    }
}

impl Show<Option<SecretRef>> for Secret {
    fn show(value: &Option<SecretRef>) -> Value {
        value.as_ref().map(ToString::to_string).into()
    }
}

impl Form<Option<Digest>> for Sha256 {
    fn read(source: Self::Source, default: Option<Digest>, check: &mut Check<'_>) -> Option<Option<Digest>> {
        match source {
            None => Some(default),
            Some(text) => check.digest(&text).map(Some),
        }
    }
}

impl Show<Option<Digest>> for Sha256 {
    fn show(value: &Option<Digest>) -> Value {
        value.map(|digest| digest.to_string()).into()
    }
}

impl Form<Option<PostgresUrl>> for Database {
    fn read(source: Self::Source, _: Option<PostgresUrl>, check: &mut Check<'_>) -> Option<Option<PostgresUrl>> {
        let Some(text) = source else { return Some(None) };
        let url: PostgresUrl = check.parsed(&text, "")?;
        if url.has_password() {
            let cause = "a password does not belong in the configuration: give it by PGPASSWORD, or by `?passfile=FILE`";
            return check.refused(text.referenced, cause.to_owned());
        }
        Some(Some(url))
    }
}

impl Show<Option<PostgresUrl>> for Database {
    fn show(value: &Option<PostgresUrl>) -> Value {
        value.as_ref().map(ToString::to_string).into()
    }
}

impl Form<Vec<String>> for Hosts {
    fn read(source: Self::Source, _: Vec<String>, check: &mut Check<'_>) -> Option<Vec<String>> {
        let is_one = |text: &Spanned<String>, check: &mut Check<'_>| check.parsed::<gnomon_inspect::HostPattern>(text, "").is_some();
        Some(source.into_iter().filter(|text| is_one(text, check)).map(|text| text.value).collect())
    }
}

impl Show<Vec<String>> for Hosts {
    fn show(value: &Vec<String>) -> Value {
        json!(value)
    }
}
