//! Takes credentials out of what a server answers: some echo what they were sent.
//!
//! The search is for the credential as it was sent, as it is and as JSON, URLs and Base64 write it. A server that means to give its own
//! credential away can encode it in any other way: it has it.

use crate::encode::encoded;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

/// The shortest secret that is replaced: shorter ones occur in texts by chance.
const SHORTEST: usize = 4;
/// The replacement for a secret.
const INSTEAD: &[u8] = b"[secret]";

/// Finds secrets in bytes and replaces them.
#[derive(Clone, Debug, Default)]
pub struct Veil(Vec<Finder<'static>>);

impl Veil {
    /// Hides these. Those of fewer than four bytes are not looked for.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut spellings: Vec<Vec<u8>> = Vec::new();
        for secret in secrets.into_iter().filter(|secret| secret.len() >= SHORTEST) {
            let json = serde_json::Value::from(secret).to_string();
            let json = json.trim_matches('"');
            let base64 = [STANDARD.encode(secret), STANDARD_NO_PAD.encode(secret), URL_SAFE_NO_PAD.encode(secret)];
            spellings.extend([secret, json, &encoded(secret)].map(|text| text.as_bytes().to_vec()));
            spellings.extend(base64.map(String::into_bytes));
        }
        spellings.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
        spellings.dedup();
        Self(spellings.iter().map(|spelling| Finder::new(spelling).into_owned()).collect())
    }

    /// The text without them. What holds none is not copied.
    #[must_use]
    pub fn over(&self, text: Bytes) -> Bytes {
        self.0.iter().fold(text, |text, finder| {
            let mut at = 0;
            let mut out: Option<BytesMut> = None;
            while let Some(found) = finder.find(&text[at..]) {
                let out = out.get_or_insert_with(BytesMut::new);
                out.extend_from_slice(&text[at..at + found]);
                out.extend_from_slice(INSTEAD);
                at += found + finder.needle().len();
            }
            match out {
                None => text,
                Some(mut out) => {
                    out.extend_from_slice(&text[at..]);
                    out.freeze()
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_seen_in_none_of_its_usual_spellings() {
        let veil = Veil::new(["s3cr\"t/ü", "user:pass", "s3cr\"t/ü-longer", "ab"]);
        let text = format!(
            "a {} b {} c {} d s3cr\"t/ü e s3cr\"t/ü-longer f ab",
            STANDARD.encode("user:pass"),
            serde_json::json!("s3cr\"t/ü"),
            encoded("s3cr\"t/ü")
        );
        let seen = veil.over(Bytes::from(text));
        assert_eq!(seen, "a [secret] b \"[secret]\" c [secret] d [secret] e [secret] f ab");
        let nothing = Bytes::from_static(b"nothing to hide");
        assert_eq!(veil.over(nothing.clone()).as_ptr(), nothing.as_ptr());
    }
}
