//! The declaration of keys: each once, in the section of the file that it belongs to.
//!
//! A declaration says the key's name, what it does, its type, its form (how it is written, within which bounds), what holds
//! without it, and a sample. What reads the file, fills in defaults and shows a configuration is made of that, and so are the
//! schema and the reference page. There are two macros: [`section!`] is for mappings whose keys are checked one by one;
//! [`mapping!`] for those whose keys have to fit together, as in a server or a portal, which code of their own checks.

use crate::{
    Check,
    key::{Key, Shape},
};
use serde_json::Value;
use serde_saphyr::Spanned;
use std::marker::PhantomData;

/// A way to write a value.
pub(crate) trait Written {
    /// The type in the file; nothing but the type is checked.
    type Source;
    /// Its shape in the schema and on the reference page.
    const SHAPE: Shape;
    /// Adds the key to the table, or its own keys if it is a mapping.
    fn declare(key: Key, table: &mut Vec<Key>) {
        table.push(key);
    }
}

/// A way to write a value of a type.
pub(crate) trait Form<T>: Written {
    /// The value; what holds without it where nothing is written; none where what is written is refused.
    fn read(source: Self::Source, default: T, check: &mut Check<'_>) -> Option<T>;
    /// The value in the file's notation.
    fn show(value: &T) -> Value;
}

/// A mapping of the file whose keys are checked one by one.
pub(crate) trait Section: Default {
    /// The raw form.
    type Source: Default;
    /// The checked values; what is refused is as if it were not there.
    fn read(source: Self::Source, check: &mut Check<'_>) -> Self;
    /// The values in the file's notation.
    fn show(&self) -> Value;
    /// Adds its keys to the table.
    fn declare(table: &mut Vec<Key>);
}

/// A mapping within another.
pub(crate) struct Part<T>(PhantomData<T>);

impl<T: Section> Written for Part<T> {
    type Source = T::Source;
    const SHAPE: Shape = Shape::Mapping;
    fn declare(_: Key, table: &mut Vec<Key>) {
        T::declare(table);
    }
}

impl<T: Section> Form<T> for Part<T> {
    fn read(source: T::Source, _: T, check: &mut Check<'_>) -> Option<T> {
        Some(T::read(source, check))
    }

    fn show(value: &T) -> Value {
        value.show()
    }
}

/// A mapping that code of its own checks, as it is written.
pub(crate) trait Mapping {
    /// Adds its keys to the table.
    fn declare(table: &mut Vec<Key>);
}

/// Ways to write such mappings: one, one that need not be there, a list of them.
macro_rules! of_mappings {
    ($($(#[$doc:meta])* $name:ident: $source:ty;)*) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name<E>(PhantomData<E>);

            impl<E: Mapping> Written for $name<E> {
                type Source = $source;
                const SHAPE: Shape = Shape::Mapping;
                fn declare(_: Key, table: &mut Vec<Key>) {
                    E::declare(table);
                }
            }
        )*
    };
}

of_mappings! {
    /// A mapping.
    One: E;
    /// A mapping that need not be there.
    Maybe: Option<Spanned<E>>;
    /// A list of mappings.
    Many: Vec<E>;
}

/// Adds what a declaration says to the table. Without a sample the default is one.
pub(crate) fn declare<F: Written>(path: &'static str, default: String, sample: &[&str], doc: &[&str], table: &mut Vec<Key>) {
    let sample = sample.first().map_or_else(|| default.clone(), |sample| (*sample).to_owned());
    let doc = doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    F::declare(Key { path, shape: F::SHAPE, default, sample, doc }, table);
}

/// A default as the reference page has it.
pub(crate) fn in_words(shown: &Value) -> String {
    match shown {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(in_words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// The default of a key: the declared one, else that of its type.
macro_rules! value_or_empty {
    () => {
        Default::default()
    };
    ($value:expr) => {
        $value
    };
}

/// The default on the reference page of a key without a value.
macro_rules! said_or_shown {
    ($form:ty, $type:ty, [$said:literal]) => { $said.to_owned() };
    ($form:ty, $type:ty, [] $($default:expr)?) => {
        crate::declare::in_words(&<$form as crate::declare::Form<$type>>::show(&crate::declare::value_or_empty!($($default)?)))
    };
}

/// The same; neither is there where there has to be a value.
macro_rules! said_or_shown_or_needed {
    ($form:ty, $type:ty = $default:expr,) => { crate::declare::said_or_shown!($form, $type, [] $default) };
    ($form:ty, , $said:literal) => { $said.to_owned() };
    ($form:ty, ,) => { String::new() };
}

/// A mapping whose keys are checked one by one: `name: Type as Form = default, sample "…";`. In place of a default, `without "…"` says
/// what holds where the type is empty, as a list without entries. Without a sample the default is one. A mapping or list that has
/// keys of its own needs neither. `beside` are fields that are no keys. Keys are read, named in errors and shown in this order.
macro_rules! section {
    (
        $(#[$meta:meta])* pub struct $name:ident, written $source:ident at $at:literal {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $type:ty as $form:ty $(= $default:expr)? $(, without $said:literal)? $(, sample $sample:literal)?;
            )*
        }
        $(beside { $($(#[$beside_meta:meta])* pub $beside:ident: $beside_type:ty,)* })?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])* pub $key: $type,)*
            $($($(#[$beside_meta])* pub $beside: $beside_type,)*)?
        }

        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $source {
            $(pub $key: <$form as crate::declare::Written>::Source,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($key: crate::declare::value_or_empty!($($default)?),)*
                    $($($beside: Default::default(),)*)?
                }
            }
        }

        impl crate::declare::Section for $name {
            type Source = $source;

            fn read(source: $source, check: &mut crate::Check<'_>) -> Self {
                let plain = Self::default();
                Self {
                    $($key: <$form as crate::declare::Form<$type>>::read(source.$key, plain.$key, check)
                        .unwrap_or_else(|| crate::declare::value_or_empty!($($default)?)),)*
                    $($($beside: plain.$beside,)*)?
                }
            }

            fn show(&self) -> serde_json::Value {
                let mut shown = serde_json::Map::new();
                $(shown.insert(stringify!($key).to_owned(), <$form as crate::declare::Form<$type>>::show(&self.$key));)*
                shown.into()
            }

            fn declare(table: &mut Vec<crate::key::Key>) {
                $(
                    let default = crate::declare::said_or_shown!($form, $type, [$($said)?] $($default)?);
                    crate::declare::declare::<$form>(concat!($at, stringify!($key)), default, &[$($sample)?], &[$($doc),*], table);
                )*
            }
        }
    };
}

/// A mapping whose keys have to fit together: `name as Form, without "…", sample "…";`, or `name as Form => Type = default, sample "…";`
/// where `Source::name` is to read the value. `needed: true` stands where there has to be one.
macro_rules! mapping {
    (
        $(#[$meta:meta])* struct $source:ident at $at:literal {
            $(
                $(#[doc = $doc:literal])*
                $key:ident as $form:ty $(=> $type:ty = $default:expr)? $(, without $said:literal)? $(, needed: $needed:tt)? $(, sample $sample:literal)?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $source {
            $(
                #[cfg_attr(not(any($($needed)?)), serde(default))]
                pub $key: <$form as crate::declare::Written>::Source,
            )*
        }

        impl $source {
            $($(
                /// The value of this key.
                pub fn $key(source: <$form as crate::declare::Written>::Source, check: &mut crate::Check<'_>) -> Option<$type> {
                    <$form as crate::declare::Form<$type>>::read(source, $default, check)
                }
            )?)*
        }

        impl crate::declare::Mapping for $source {
            fn declare(table: &mut Vec<crate::key::Key>) {
                $(
                    let default = crate::declare::said_or_shown_or_needed!($form, $($type = $default)?, $($said)?);
                    crate::declare::declare::<$form>(concat!($at, stringify!($key)), default, &[$($sample)?], &[$($doc),*], table);
                )*
            }
        }
    };
}

pub(crate) use {mapping, said_or_shown, said_or_shown_or_needed, section, value_or_empty};
