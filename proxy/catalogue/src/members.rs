//! One JSON object, member by member, its values as they came: how names are changed without touching
//! anything else.

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::HashSet, fmt, ops::Range, sync::OnceLock};

/// Most members of an object that is looked into.
const MAX_MEMBERS: usize = 4096;

/// The members of an object, in their order.
#[derive(Debug, Default)]
pub struct Members<'a>(Vec<(Key<'a>, &'a str)>);

#[derive(Debug, PartialEq, Eq, Hash, Clone)]
struct Key<'a>(Cow<'a, str>);

impl<'a> Members<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// When it is none, a member stands twice, or there are more than 4096.
    pub fn read(text: &'a [u8]) -> Result<Self, serde_json::Error> {
        from_json(text)
    }

    /// The members of an object that may be missing.
    ///
    /// # Errors
    /// See [`Members::read`].
    pub fn of(text: Option<&'a Bytes>) -> Result<Self, serde_json::Error> {
        text.map_or_else(|| Ok(Self::default()), |text| Self::read(text))
    }

    /// The JSON text of a member; `null` is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| key.0 == name).map(|(_, value)| *value)
    }

    /// A member that is a text, decoded.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        #[derive(Deserialize)]
        struct Text<'b>(#[serde(borrow)] Cow<'b, str>);
        self.get(name).and_then(|json| serde_json::from_str::<Text<'_>>(json).ok()).map(|text| text.0)
    }

    /// A member that is a truth value.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name) {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        }
    }

    /// A member that is an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Members<'a>> {
        self.get(name).and_then(|json| serde_json::from_str(json).ok())
    }

    /// The names and JSON texts of its members.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(key, value)| (&*key.0, *value))
    }

    /// The object with these members changed: `Some` is put in place of the old value or at the end,
    /// `None` is taken out.
    #[must_use]
    pub fn with(&self, changes: &[(&str, Option<&str>)]) -> Bytes {
        let size: usize = self.0.iter().map(|(key, value)| key.0.len() + value.len() + 4).sum();
        let mut text = Vec::with_capacity(size + changes.iter().map(|(k, v)| k.len() + v.map_or(0, str::len) + 4).sum::<usize>() + 2);
        let put = |text: &mut Vec<u8>, key: &str, value: &str| {
            text.push(if text.is_empty() { b'{' } else { b',' });
            text.extend_from_slice(quoted(key).as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes());
        };
        for (key, value) in self.iter() {
            match changes.iter().find(|(name, _)| *name == key) {
                None => put(&mut text, key, value),
                Some((_, Some(value))) => put(&mut text, key, value),
                Some((_, None)) => {}
            }
        }
        for (key, value) in changes {
            if let (Some(value), None) = (value, self.get(key)) {
                put(&mut text, key, value);
            }
        }
        if text.is_empty() {
            text.push(b'{');
        }
        text.push(b'}');
        text.into()
    }
}

/// Reads JSON. That it is UTF-8 is seen at once, which takes less than to look at each of its strings.
///
/// # Errors
/// See [`serde_json::from_slice`].
pub(crate) fn from_json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(text) {
        Ok(text) => serde_json::from_str(text),
        // Parsed again for an error with the fault's position.
        Err(_) => serde_json::from_slice(text),
    }
}

/// An object that is looked into more than once, and read once.
#[derive(Clone, Debug)]
pub struct Object {
    text: Bytes,
    /// The positions of its members, once they were looked for; none where they cannot be read.
    places: OnceLock<Option<Vec<MemberSpan>>>,
}

/// A member.
#[derive(Clone, Debug)]
struct MemberSpan {
    /// The name's position where it is in the text without escapes, without the quotes; else the name itself.
    key: Result<Range<usize>, Box<str>>,
    value: Range<usize>,
}

impl Object {
    /// The object that this text is, unread.
    #[must_use]
    pub fn new(text: Bytes) -> Self {
        Self { text, places: OnceLock::new() }
    }

    /// The text as it came.
    #[must_use]
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// The members; none where [`Members::read`] has none.
    #[must_use]
    pub fn members(&self) -> Option<Members<'_>> {
        let text = std::str::from_utf8(&self.text).ok()?;
        if let Some(places) = self.places.get() {
            let member = |place: &'_ MemberSpan| {
                let key = match &place.key {
                    Ok(range) => Cow::Borrowed(text.get(range.clone())?),
                    Err(name) => Cow::Owned(name.to_string()),
                };
                Some((Key(key), text.get(place.value.clone())?))
            };
            return places.as_ref()?.iter().map(member).collect::<Option<_>>().map(Members);
        }
        let members: Option<Members<'_>> = serde_json::from_str(text).ok();
        let _ = self.places.set(members.as_ref().map(|members| members.places(text)));
        members
    }
}

impl<'a> Members<'a> {
    /// The positions of members in the text that they were read from.
    fn places(&self, text: &'a str) -> Vec<MemberSpan> {
        let range = |part: &str| {
            let start = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
            start..start.wrapping_add(part.len())
        };
        let key = |key: &Key<'a>| match &key.0 {
            Cow::Borrowed(name) => Ok(range(name)),
            Cow::Owned(name) => Err(name.as_str().into()),
        };
        self.0.iter().map(|(name, value)| MemberSpan { key: key(name), value: range(value) }).collect()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(name)))
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(Key<'de>, &'de str)> = Vec::new();
                let mut many = HashSet::new();
                while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    let twice = if members.len() < 16 {
                        members.iter().any(|(other, _)| *other == key)
                    } else {
                        if many.is_empty() {
                            many.extend(members.iter().map(|(key, _)| key.clone()));
                        }
                        !many.insert(key.clone())
                    };
                    if twice {
                        return Err(de::Error::custom(format_args!("duplicate field `{}`", key.0)));
                    }
                    if members.len() == MAX_MEMBERS {
                        return Err(de::Error::custom("more members than are looked at"));
                    }
                    members.push((key, value.get()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// A text as JSON.
#[must_use]
pub fn quoted(text: &str) -> String {
    // Names mostly need nothing done.
    if text.bytes().all(|byte| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) {
        return ["\"", text, "\""].concat();
    }
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_member_leaves_the_others_as_they_came() {
        let members = Members::read(br#"{ "name" : "a_b", "arguments": {"x" : 1e400} , "n\u0061": null}"#).unwrap();
        let changed = members.with(&[("name", Some("\"b\"")), ("gone", None), ("new", Some("1"))]);
        assert_eq!(changed, r#"{"name":"b","arguments":{"x" : 1e400},"na":null,"new":1}"#);
        assert_eq!(members.text("name").as_deref(), Some("a_b"));
        assert_eq!(Members::default().with(&[]), "{}");
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_however_it_is_spelled() {
        assert!(Members::read(br#"{"name":1,"n\u0061me":2}"#).is_err());
        let mut many = (0..100).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>();
        assert!(Members::read(format!("{{{}}}", many.join(",")).as_bytes()).is_ok());
        many.push("\"k3\":0".to_owned());
        assert!(Members::read(format!("{{{}}}", many.join(",")).as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "null", "7", "\"x\"", "{"] {
            assert!(Members::read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_object_says_the_same_however_often_it_is_looked_into() {
        let text = r#" {"a": [1, {"b":2}] , "n\u0061me":"\u00e9","é":"ü","":null} "#;
        let object = Object::new(Bytes::from(text));
        let first: Vec<(String, String)> = owned(&object);
        assert_eq!(first[1], ("name".to_owned(), r#""\u00e9""#.to_owned()));
        for again in [&object, &object.clone()] {
            assert_eq!(owned(again), first);
        }
        assert_eq!(first, Members::read(text.as_bytes()).map(|members| pairs(&members)).unwrap_or_default());
    }

    #[test]
    fn what_is_no_object_stays_none() {
        for text in ["[]", r#"{"a":1,"a":2}"#, "{", "\u{fe}"] {
            let object = Object::new(Bytes::from(text));
            assert!(object.members().is_none() && object.members().is_none(), "{text}");
        }
    }

    fn owned(object: &Object) -> Vec<(String, String)> {
        object.members().map(|members| pairs(&members)).unwrap_or_default()
    }

    fn pairs(members: &Members<'_>) -> Vec<(String, String)> {
        members.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn texts_are_quoted_as_json_has_them() {
        for text in ["", "tools/call", "a b!#[]~", "a\"b", "a\\b", "\u{7}", "größe", "\u{7f}", "\u{2028}"] {
            assert_eq!(serde_json::from_str::<String>(&quoted(text)).unwrap(), text);
        }
    }
}
