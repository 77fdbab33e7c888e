//! The declaration of keys: each once, in the section of the file that it belongs to.
//!
//! A declaration says the key's name, what it does, its type, its form (how it is written, within which bounds), what holds
//! without it, and a sample. What reads the file, fills in defaults and shows a configuration is made of that, and so are the
//! schema and the reference page. There are two macros: [`section!`] is for mappings of which there is one, and of which every key may be
//! left out; [`mapping!`] for the entries of lists and what stands within them, as servers, portals and scopes, where a key may be needed,
//! or depend on others.

use crate::{
    Check,
    key::{Key, Shape},
};
use serde_json::Value;
use serde_saphyr::Spanned;
use std::{collections::BTreeMap, marker::PhantomData};

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

/// A way to show a value of a type.
pub(crate) trait Show<T>: Written {
    /// The value in the file's notation.
    fn show(value: &T) -> Value;
    /// The same; none where the key is left out of what is shown.
    fn shown(value: &T) -> Option<Value> {
        Some(Self::show(value))
    }
}

/// A way to write a value of a type.
pub(crate) trait Form<T>: Show<T> {
    /// The value; what holds without it where nothing is written; none where what is written is refused.
    fn read(source: Self::Source, default: T, check: &mut Check<'_>) -> Option<T>;
}

/// A raw value that may be absent.
pub(crate) trait Absent {
    /// True if nothing is written.
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Absent for BTreeMap<K, V> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// A text that has to be there.
impl Absent for Spanned<String> {
    fn is_absent(&self) -> bool {
        false
    }
}

/// A path that has to be there.
impl Absent for String {
    fn is_absent(&self) -> bool {
        false
    }
}

/// A mapping of the file whose keys are checked one by one.
pub(crate) trait Section: Default {
    /// The raw form.
    type Source: Default + Absent;
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

impl<T: Section> Show<T> for Part<T> {
    fn show(value: &T) -> Value {
        value.show()
    }
}

impl<T: Section> Form<T> for Part<T> {
    fn read(source: T::Source, _: T, check: &mut Check<'_>) -> Option<T> {
        Some(T::read(source, check))
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
        crate::declare::in_words(&<$form as crate::declare::Show<$type>>::show(&crate::declare::value_or_empty!($($default)?)))
    };
}

/// The same; neither is there where there has to be a value. What is said goes before a default that depends on other keys.
macro_rules! said_or_shown_or_needed {
    ($form:ty, [$($type:ty = $default:expr)?], $said:literal) => { $said.to_owned() };
    ($form:ty, [$type:ty = $default:expr],) => { crate::declare::said_or_shown!($form, $type, [] $default) };
    ($form:ty, [],) => { String::new() };
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

        impl crate::declare::Absent for $source {
            fn is_absent(&self) -> bool {
                true $(&& crate::declare::Absent::is_absent(&self.$key))*
            }
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
                $(shown.insert(stringify!($key).to_owned(), <$form as crate::declare::Show<$type>>::show(&self.$key));)*
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

/// A mapping whose keys may be needed, or depend on each other: `name: Type as Form = default, sample "…";`. They are read in the order in
/// which they stand, and what is said of one may name those before it, as read, and those after it, as written:
///
/// - `= default` holds without the key. Where what is written is refused, the others are read with the default, so that all that is wrong is
///   told, and of the mapping there is none.
/// - `fit EXPRESSION` in place of a default makes the value, an `Option`, of what is written; with none the reading ends.
/// - Neither: without the key the value is that of an empty one.
///
/// `without "…"` says in words what holds without the key, `needed: true` that it has to be there. `with (check, …)` names what is at hand.
///
/// A mapping may describe one of several things, as a server is a program or has a URL. Then each has its keys in a type of its own, and the
/// keys `by hand`, which have no type (`name as Form, without "…", sample "…";`), are read and shown by the code that chooses between them.
macro_rules! mapping {
    (
        $(#[$meta:meta])* pub struct $name:ident, written $source:ident $(: $derive:ident)? at $at:literal, with ($($given:tt)*) {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $type:ty as $form:ty $(= $default:expr)? $(, fit $fit:expr)? $(, without $said:literal)? $(, needed: $needed:tt)? $(, sample $sample:literal)?;
            )*
        }
    ) => {
        crate::declare::written_keys! {
            struct $source $(: $derive)? at $at {
                $([$($doc)*] $key $form, [$($type = $default)?] [$($said)?] [$($needed)?] [$($sample)?];)*
            }
        }
        crate::declare::checked! {
            $(#[$meta])* struct $name of $source, ($($given)*) { $([$($doc)*] $key: $type, $form, [$($default)?] [$($fit)?];)* }
        }
    };
    (
        struct $source:ident at $at:literal {
            by hand $by_hand:ident {
                $(
                    $(#[doc = $hand_doc:literal])*
                    $hand:ident as $hand_form:ty $(, without $hand_said:literal)? $(, needed: $hand_needed:tt)? $(, sample $hand_sample:literal)?;
                )*
            }
            $(
                $(#[$meta:meta])* pub struct $name:ident, written $group:ident, with ($($given:tt)*) {
                    $(
                        $(#[doc = $doc:literal])*
                        $key:ident: $type:ty as $form:ty $(= $default:expr)? $(, fit $fit:expr)? $(, without $said:literal)? $(, needed: $needed:tt)? $(, sample $sample:literal)?;
                    )*
                }
            )*
        }
    ) => {
        crate::declare::written_keys! {
            struct $source at $at {
                $([$($hand_doc)*] $hand $hand_form, [] [$($hand_said)?] [$($hand_needed)?] [$($hand_sample)?];)*
                $($([$($doc)*] $key $form, [$($type = $default)?] [$($said)?] [$($needed)?] [$($sample)?];)*)*
            }
        }

        #[derive(Debug)]
        pub(crate) struct $by_hand {
            $(pub $hand: <$hand_form as crate::declare::Written>::Source,)*
        }

        $(
            #[derive(Debug)]
            pub(crate) struct $group {
                $(pub $key: <$form as crate::declare::Written>::Source,)*
            }

            impl crate::declare::Absent for $group {
                fn is_absent(&self) -> bool {
                    true $(&& crate::declare::Absent::is_absent(&self.$key))*
                }
            }

            crate::declare::checked! {
                $(#[$meta])* struct $name of $group, ($($given)*) { $([$($doc)*] $key: $type, $form, [$($default)?] [$($fit)?];)* }
            }
        )*

        impl $source {
            /// The keys of each.
            pub fn apart(self) -> ($by_hand, $($group,)*) {
                let Self { $($hand,)* $($($key,)*)* } = self;
                ($by_hand { $($hand),* }, $($group { $($key),* },)*)
            }
        }
    };
    (
        struct $source:ident $(: $derive:ident)? at $at:literal {
            $(
                $(#[doc = $doc:literal])*
                $key:ident as $form:ty $(, without $said:literal)? $(, needed: $needed:tt)? $(, sample $sample:literal)?;
            )*
        }
    ) => {
        crate::declare::written_keys! {
            struct $source $(: $derive)? at $at { $([$($doc)*] $key $form, [] [$($said)?] [$($needed)?] [$($sample)?];)* }
        }
    };
}

/// The raw form of a mapping, and its keys in the table.
macro_rules! written_keys {
    (
        struct $source:ident $(: $derive:ident)? at $at:literal {
            $([$($doc:literal)*] $key:ident $form:ty, [$($type:ty = $default:expr)?] [$($said:literal)?] [$($needed:tt)?] [$($sample:literal)?];)*
        }
    ) => {
        #[derive(Debug, $($derive,)? serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $source {
            $(
                #[cfg_attr(not(any($($needed)?)), serde(default))]
                pub $key: <$form as crate::declare::Written>::Source,
            )*
        }

        impl crate::declare::Absent for $source {
            fn is_absent(&self) -> bool {
                true $(&& crate::declare::Absent::is_absent(&self.$key))*
            }
        }

        impl crate::declare::Mapping for $source {
            fn declare(table: &mut Vec<crate::key::Key>) {
                $(
                    let default = crate::declare::said_or_shown_or_needed!($form, [$($type = $default)?], $($said)?);
                    crate::declare::declare::<$form>(concat!($at, stringify!($key)), default, &[$($sample)?], &[$($doc),*], table);
                )*
            }
        }
    };
}

/// The checked form of a mapping: how it is read, and how it is shown.
macro_rules! checked {
    (
        $(#[$meta:meta])* struct $name:ident of $source:ident, ($check:ident $(, $given:ident: $given_type:ty)*) {
            $([$($doc:literal)*] $key:ident: $type:ty, $form:ty, [$($default:expr)?] [$($fit:expr)?];)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])* pub $key: $type,)*
        }

        impl $name {
            /// Checks what is written; none where something is refused.
            pub(crate) fn read(source: $source, $check: &mut crate::Check<'_> $(, $given: $given_type)*) -> Option<Self> {
                let $source { $($key),* } = source;
                let whole = std::cell::Cell::new(true);
                $(let $key: $type = crate::declare::checked_key!($form, $type, $key, $check, whole, [$($default)?] [$($fit)?]);)*
                whole.get().then_some(Self { $($key),* })
            }

            /// Its keys in the file's notation.
            pub(crate) fn show(&self) -> serde_json::Value {
                let mut shown = serde_json::Map::new();
                $(
                    if let Some(value) = <$form as crate::declare::Show<$type>>::shown(&self.$key) {
                        shown.insert(stringify!($key).trim_start_matches("r#").to_owned(), value);
                    }
                )*
                shown.into()
            }
        }
    };
}

/// The value of a key of a mapping.
macro_rules! checked_key {
    ($form:ty, $type:ty, $raw:ident, $check:ident, $whole:ident, [] [$fit:expr]) => {
        $fit?
    };
    ($form:ty, $type:ty, $raw:ident, $check:ident, $whole:ident, [] []) => {
        <$form as crate::declare::Form<$type>>::read($raw, Default::default(), $check)?
    };
    ($form:ty, $type:ty, $raw:ident, $check:ident, $whole:ident, [$default:expr] []) => {
        match <$form as crate::declare::Form<$type>>::read($raw, $default, $check) {
            Some(value) => value,
            None => {
                $whole.set(false);
                $default
            }
        }
    };
}

pub(crate) use {checked, checked_key, mapping, said_or_shown, said_or_shown_or_needed, section, value_or_empty, written_keys};
