//! Skills (SEP-2640) as servers list them, and as clients know them.
//!
//! A skill is listed with the digest and size of each of its files, and its readers are to verify them: so bytes of files are never
//! touched, and an entry of which this cannot be done is left out, alone. Its URI has the server's id as its first part; its last part
//! is the skill's name, which stands in the file as well, and stays.

use crate::names::exposed_name;
use bytes::Bytes;
use gnomon_upstream::{as_text, catalogue::Kind, members::Members, rpc::quoted};
use serde_json::value::RawValue;
use smol_str::SmolStr;

/// The end of a skill's URI.
const FILE: &str = "/SKILL.md";
/// Most files of a skill, and most bytes of them (SEP-2640).
const MOST_FILES: usize = 512;
const MOST_BYTES: u64 = 16 << 20;
/// Longest URI.
const LONGEST: usize = 2048;

/// A skill that clients may know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skill {
    /// Its URI, the server's own.
    pub uri: SmolStr,
    /// The entry as clients know it, JSON.
    pub text: Bytes,
}

/// Why a skill is not offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Its URI, if it says one.
    pub uri: Option<SmolStr>,
    /// Why.
    pub why: &'static str,
}

/// Reads an entry of a server; `None` of a server is one whose own names clients know.
///
/// # Errors
/// Why it is not offered.
pub fn skill(server: Option<&str>, entry: &str) -> Result<Skill, Unfit> {
    let members = Members::read(entry.as_bytes()).map_err(|_| Unfit { uri: None, why: "it is not an object of distinct members" })?;
    let uri = members.text("uri").map(|uri| SmolStr::new(uri.chars().take(LONGEST).collect::<String>()));
    let text = fit(server, &members).map_err(|why| Unfit { uri: uri.clone(), why })?;
    Ok(Skill { uri: uri.unwrap_or_default(), text: text.unwrap_or_else(|| Bytes::copy_from_slice(entry.as_bytes())) })
}

fn fit(server: Option<&str>, entry: &Members<'_>) -> Result<Option<Bytes>, &'static str> {
    let uri = entry.text("uri").ok_or("it has no `uri`")?;
    let folder = uri.strip_suffix(FILE).filter(|_| uri.len() <= LONGEST).ok_or("its `uri` is not the URI of a SKILL.md")?;
    let about = entry.object("frontmatter").ok_or("it has no `frontmatter`")?;
    let (Some(name), Some(_)) = (about.text("name"), about.text("description")) else {
        return Err("its `frontmatter` lacks name or description");
    };
    if folder.rsplit('/').next() != Some(&*name) {
        return Err("its name is not the last part of its `uri`");
    }
    if entry.text("resources").as_deref() == Some("dynamic") {
        return Err("its files are not listed (`dynamic`), so nobody could tell whether they are what was offered");
    }
    let listed =
        entry.get("resources").and_then(|json| serde_json::from_str::<Vec<&RawValue>>(json).ok()).ok_or("it has no list of `resources`")?;
    if listed.len() > MOST_FILES {
        return Err("it has more than 512 files");
    }
    let (mut bytes, mut has_own, mut files) = (0u64, false, Vec::with_capacity(listed.len()));
    for raw in &listed {
        let file = Members::read(raw.get().as_bytes()).map_err(|_| "one of its `resources` is not an object of distinct members")?;
        let at = file.text("uri").ok_or("one of its `resources` has no `uri`")?;
        let within = at.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        if !within || at.len() > LONGEST || at.split('/').any(|part| matches!(part, "." | "..")) {
            return Err("one of its `resources` is of another place");
        }
        let digest = file.text("digest").ok_or("one of its `resources` has no `digest`")?;
        let is_hex = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !digest.strip_prefix("sha256:").is_some_and(is_hex) {
            return Err("one of its `resources` has a `digest` that is not a SHA-256");
        }
        let size =
            file.get("size").and_then(|json| serde_json::from_str::<u64>(json).ok()).ok_or("one of its `resources` has no `size`")?;
        (bytes, has_own) = (bytes.saturating_add(size), has_own || at == uri);
        files.push(server.map(|server| file.with(&[("uri", Some(&quoted(&exposed_name(Kind::Resource, server, &at))))])));
    }
    if bytes > MOST_BYTES {
        return Err("its files are larger than 16 MiB");
    }
    if !has_own {
        return Err("its SKILL.md is not among its `resources`");
    }
    let Some(server) = server else { return Ok(None) };
    let files: Vec<&str> = files.iter().flatten().map(|file| as_text(file)).collect();
    let (known, files) = (quoted(&exposed_name(Kind::Resource, server, &uri)), format!("[{}]", files.join(",")));
    Ok(Some(entry.with(&[("uri", Some(&known)), ("resources", Some(&files))])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn entry() -> Value {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let file = |uri: &str| json!({"uri": uri, "digest": digest, "size": 7, "vendor": 1.0});
        json!({
            "uri": "skill://acme/refunds/SKILL.md", "frontmatter": {"name": "refunds", "description": "d", "more": [1]},
            "resources": [file("skill://acme/refunds/SKILL.md"), file("skill://acme/refunds/a/b.md")], "vendor": {"kept": 1.0},
        })
    }

    #[test]
    fn an_entry_keeps_all_that_its_server_wrote_but_its_uris() {
        let known = skill(Some("one"), &entry().to_string()).unwrap();
        let mut new = entry();
        new["uri"] = "skill://one/acme/refunds/SKILL.md".into();
        new["resources"][0]["uri"] = "skill://one/acme/refunds/SKILL.md".into();
        new["resources"][1]["uri"] = "skill://one/acme/refunds/a/b.md".into();
        assert_eq!((known.uri.as_str(), serde_json::from_slice::<Value>(&known.text).unwrap()), ("skill://acme/refunds/SKILL.md", new));
        assert_eq!(skill(None, &entry().to_string()).unwrap().text, entry().to_string());
    }

    #[test]
    fn what_nobody_could_hold_to_its_digests_is_not_offered() {
        for (at, value, why) in [
            ("/resources", json!("dynamic"), "dynamic"),
            ("/resources", json!([]), "SKILL.md is not among"),
            ("/resources/1/uri", json!("skill://acme/other/b.md"), "another place"),
            ("/resources/1/uri", json!("skill://acme/refunds/../other/b.md"), "another place"),
            ("/resources/1/digest", json!("md5:1"), "SHA-256"),
            ("/resources/1/digest", json!(format!("sha256:{}", "0A".repeat(32))), "SHA-256"),
            ("/resources/1/size", json!(-1), "size"),
            ("/resources/1/size", json!(17 << 20), "16 MiB"),
            ("/frontmatter/name", json!("other"), "last part"),
            ("/frontmatter/description", Value::Null, "lacks"),
            ("/uri", json!("skill://acme/refunds"), "SKILL.md"),
        ] {
            let mut wrong = entry();
            *wrong.pointer_mut(at).unwrap() = value;
            let unfit = skill(Some("one"), &wrong.to_string()).unwrap_err();
            assert!(unfit.why.contains(why), "{at}: {unfit:?}");
        }
    }
}
