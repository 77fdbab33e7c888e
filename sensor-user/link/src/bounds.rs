//! Texts and lists that cannot be longer than their type says, on either end.

use std::fmt;
use std::ops::Deref;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// More than a bound allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{length} where at most {bound} are allowed")]
pub struct TooMany {
    /// Bytes of a text, or entries of a list.
    pub length: usize,
    /// The most there may be.
    pub bound: usize,
}

/// UTF-8 of at most `N` bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Text<const N: usize>(String);

/// A path or command line.
pub type Long = Text<4096>;
/// A name or a reason.
pub type Name = Text<256>;
/// A word out of our own tables.
pub type Label = Text<64>;

impl<const N: usize> Text<N> {
    /// # Errors
    /// More than `N` bytes.
    pub fn new(text: impl Into<String>) -> Result<Self, TooMany> {
        let text = text.into();
        if text.len() > N { Err(TooMany { length: text.len(), bound: N }) } else { Ok(Self(text)) }
    }

    /// The longest prefix of the text that fits, cut between characters.
    pub fn cut(text: &str) -> Self {
        Self(text.get(..text.floor_char_boundary(N)).unwrap_or_default().to_owned())
    }

    /// The longest prefix of a path or an argument that fits, with U+FFFD in place of what is not UTF-8.
    pub fn lossy(bytes: &[u8]) -> Self {
        let (start, _) = bytes.split_at(bytes.len().min(N));
        Self::cut(&String::from_utf8_lossy(start))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> TryFrom<String> for Text<N> {
    type Error = TooMany;

    fn try_from(text: String) -> Result<Self, TooMany> {
        Self::new(text)
    }
}

impl<const N: usize> From<Text<N>> for String {
    fn from(text: Text<N>) -> Self {
        text.0
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A list of at most `N` entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct List<T, const N: usize>(Vec<T>);

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const N: usize> List<T, N> {
    /// # Errors
    /// More than `N` entries.
    pub fn new(entries: Vec<T>) -> Result<Self, TooMany> {
        if entries.len() > N { Err(TooMany { length: entries.len(), bound: N }) } else { Ok(Self(entries)) }
    }

    /// The first `N` entries.
    pub fn cut(entries: impl IntoIterator<Item = T>) -> Self {
        Self(entries.into_iter().take(N).collect())
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const N: usize> IntoIterator for List<T, N> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for List<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T, const N: usize>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Entries<T, N> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {N} entries")
            }

            /// Stops at the bound: a length that lies costs no memory.
            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
                let mut read = Vec::new();
                while let Some(entry) = entries.next_element()? {
                    if read.len() == N {
                        return Err(A::Error::custom("a list above its bound"));
                    }
                    read.push(entry);
                }
                Ok(read)
            }
        }

        deserializer.deserialize_seq(Entries::<T, N>(std::marker::PhantomData)).map(Self)
    }
}
