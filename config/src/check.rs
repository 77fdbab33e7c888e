//! Checks: the parsed file becomes a configuration, and errors are collected.

use crate::{ConfigError, SecretRef, raw::Wrong, secret::NotAReference};
use gnomon_access::yaml::hint;
use gnomon_confine::Digest;
use serde_saphyr::{Location, Spanned};
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A scope of a user, and where the configuration names that one.
#[derive(Clone, Debug)]
pub struct ScopeUser {
    /// `file:line:column`.
    pub place: String,
    /// The scope.
    pub scope: String,
}

/// Turns written values into checked ones and collects what is wrong with them.
pub(crate) struct Check<'a> {
    /// The file that is read.
    pub file: &'a Path,
    /// The folder of the file, which paths in it are relative to.
    pub dir: &'a Path,
    wrong: Vec<Wrong>,
    secret_files: RefCell<Vec<PathBuf>>,
    /// The users of scopes that were met.
    pub scope_users: Vec<ScopeUser>,
}

impl<'a> Check<'a> {
    /// Checks the values of this file.
    pub fn of(file: &'a Path) -> Self {
        Self {
            file,
            dir: file.parent().unwrap_or(Path::new("")),
            wrong: Vec::new(),
            secret_files: RefCell::default(),
            scope_users: Vec::new(),
        }
    }

    /// The files of the secrets that were met.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn end(self) -> Result<Vec<PathBuf>, ConfigError> {
        if self.wrong.is_empty() { Ok(self.secret_files.take()) } else { Err(told(self.file, &self.wrong)) }
    }

    /// A place as errors name it.
    pub fn place(&self, at: Location) -> String {
        place(self.file, at)
    }

    /// Remembers what is wrong at a place.
    pub fn refuse(&mut self, place: Location, cause: String) {
        self.wrong.push(Wrong { place: Some(place), cause });
    }

    /// Notes an error, and gives no value.
    pub fn refused<T>(&mut self, place: Location, cause: String) -> Option<T> {
        self.refuse(place, cause);
        None
    }

    /// `expected` is for types whose own error says too little.
    pub fn parsed<T: FromStr<Err: ToString>>(&mut self, text: &Spanned<String>, expected: &str) -> Option<T> {
        match text.value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                let cause = if expected.is_empty() { error.to_string() } else { format!("`{}` is not {expected}", text.value) };
                self.refuse(text.referenced, cause);
                None
            }
        }
    }

    /// A SHA-256.
    pub fn digest(&mut self, text: &Spanned<String>) -> Option<Digest> {
        self.parsed(text, "a SHA-256 of 64 hexadecimal digits; `sha256sum FILE` says it")
    }

    /// Paths, relative to the file.
    pub fn paths(&self, texts: Vec<String>) -> Vec<PathBuf> {
        texts.into_iter().map(|text| self.dir.join(text)).collect()
    }

    /// Reads a reference, and remembers where it leads.
    pub fn secret(&self, text: &str) -> Result<SecretRef, NotAReference> {
        let secret = SecretRef::parse(text, self.dir)?;
        if let SecretRef::File(path) = &secret {
            self.secret_files.borrow_mut().push(path.clone());
        }
        Ok(secret)
    }

    /// The value that a word stands for; an unknown word is an error.
    pub fn choice<T: Clone>(&mut self, word: &Spanned<String>, known: &[(&str, T)]) -> Option<T> {
        let found = known.iter().find(|(name, _)| *name == word.value).map(|(_, value)| value.clone());
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            self.refuse(word.referenced, format!("`{}` is not known here{}", word.value, hint(&word.value, &names)));
        }
        found
    }
}

fn place(path: &Path, at: Location) -> String {
    format!("{}:{}:{}", path.display(), at.line(), at.column())
}

/// The errors, one line each.
pub(crate) fn told(path: &Path, wrong: &[Wrong]) -> ConfigError {
    let line = |wrong: &Wrong| match &wrong.place {
        Some(at) if *at != Location::UNKNOWN => format!("{}: {}", place(path, *at), wrong.cause),
        _ => format!("{}: {}", path.display(), wrong.cause),
    };
    ConfigError::new(wrong.iter().map(line).collect::<Vec<_>>().join("\n"))
        .next("`gnomon config schema` and docs/reference/config.md name every key")
}
