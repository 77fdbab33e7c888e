//! What servers read in an address besides what is written in it: escapes undone, dots and slashes resolved. A rule that names a resource or a
//! path means the place, however it is spelt.

use gnomon_kit::percent;
use gnomon_observe::{Field, FieldRef};
use smol_str::SmolStr;
use std::borrow::Cow;
use url::Url;

/// How often escapes are undone, as servers behind proxies undo them again.
const TWICE: usize = 2;

/// The other readings of a field's text; none for most texts, and of fields that are no addresses.
pub(crate) fn others(field: &FieldRef, text: &str) -> Vec<SmolStr> {
    let FieldRef::Field(field @ (Field::ResourceUri | Field::UrlPath)) = field else { return Vec::new() };
    let mut found: Vec<SmolStr> = Vec::new();
    let mut add = |reading: &str| {
        if reading != text && !found.iter().any(|known| known == reading) {
            found.push(reading.into());
        }
    };
    if *field == Field::UrlPath {
        if text.contains(['%', '\\', ';']) || text.contains("/.") || text.contains("//") {
            for reading in unescaped(text) {
                let place = without_dots(&reading);
                add(&reading);
                add(&place);
            }
        }
        return found;
    }
    for written in unescaped(text) {
        add(&written);
        // As the URL standard has it, which the servers of the SDKs follow.
        let Ok(url) = Url::parse(&written) else { continue };
        add(url.as_str());
        unescaped(url.as_str()).for_each(|reading| add(&reading));
        let path = without_dots(url.path());
        if path != url.path() {
            // Empty segments are none to a file system.
            add(&url.as_str().replacen(url.path(), &path, 1));
        }
    }
    found
}

/// The text as it is written, and with its escapes undone, as often as there are any.
fn unescaped(text: &str) -> impl Iterator<Item = String> + use<> {
    let mut next = Some(text.to_owned());
    let mut left = TWICE;
    std::iter::from_fn(move || {
        let this = next.take()?;
        if left > 0 && this.contains('%') {
            left -= 1;
            next = match percent::decoded(&this) {
                Cow::Owned(plain) if plain != this => Some(plain),
                _ => None,
            };
        }
        Some(this)
    })
}

/// A path without parameters, empty segments and dots (RFC 3986, 5.2.4); backslashes are slashes.
fn without_dots(path: &str) -> String {
    let mut place: Vec<&str> = Vec::new();
    for segment in path.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(place.pop()),
            name => place.push(name),
        }
    }
    format!("/{}", place.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_resource_that_servers_take_for_it_is_read_as_it() {
        for (place, spellings) in [
            (
                "file:///etc/passwd",
                &[
                    "file:///x/../etc/passwd",
                    "file:///etc/./passwd",
                    "file:/etc/passwd",
                    "file:etc/passwd",
                    "file://localhost/etc/passwd",
                    "file:\\\\\\etc\\passwd",
                    "file:///%2e/etc/passwd",
                    "file:////etc/passwd",
                    "file:///etc/pass%77d",
                    "file:///etc/pass%2577d",
                    "FILE:///etc/passwd",
                ][..],
            ),
            ("docs://secret/x", &["docs://secret/y/../x", "docs://%73ecret/x", "docs://secret/%78"]),
            ("note://secret/plan", &["note://secret:/plan"]),
        ] {
            for spelling in spellings {
                let read = others(&FieldRef::Field(Field::ResourceUri), spelling);
                assert!(read.iter().any(|reading| reading == place), "{spelling}: {read:?}");
            }
        }
        assert!(others(&FieldRef::Field(Field::ResourceUri), "file:///etc/passwd").is_empty());
        assert!(others(&FieldRef::Field(Field::ToolName), "file:/etc/passwd").is_empty());
    }

    #[test]
    fn every_spelling_of_a_path_that_servers_route_alike_is_read_as_it() {
        for spelling in ["/%6dcp", "/%6d%63%70", "//mcp", "/a/../mcp", "/./mcp", "/mcp/", "/mcp;x=1", "/%256dcp", "\\mcp"] {
            let read = others(&FieldRef::Field(Field::UrlPath), spelling);
            assert!(spelling == "/mcp/" || read.iter().any(|reading| reading == "/mcp"), "{spelling}: {read:?}");
        }
        for plain in ["/mcp", "/api/v1/items", ""] {
            assert!(others(&FieldRef::Field(Field::UrlPath), plain).is_empty(), "{plain}");
        }
    }

    #[test]
    fn whatever_the_text_there_are_few_readings() {
        for text in ["%25".repeat(10_000), "../".repeat(10_000), "file:".repeat(1000), format!("a://{}", "%2e%2e/".repeat(5000))] {
            assert!(others(&FieldRef::Field(Field::ResourceUri), &text).len() <= 16);
        }
    }
}
