//! Tokens of well-known services, told by how they begin.

use std::ops::Range;

/// How the tokens of well-known services begin, and how long they are at least.
const KNOWN: [(&str, usize, &str); 26] = [
    ("ghp_", 36, "github-token"),
    ("gho_", 36, "github-token"),
    ("ghs_", 36, "github-token"),
    ("ghu_", 36, "github-token"),
    ("github_pat_", 40, "github-token"),
    ("glpat-", 20, "gitlab-token"),
    ("sk-ant-", 40, "anthropic-key"),
    ("sk-proj-", 40, "openai-key"),
    ("sk-", 35, "openai-key"),
    ("xoxb-", 30, "slack-token"),
    ("xoxp-", 30, "slack-token"),
    ("xapp-", 30, "slack-token"),
    ("AKIA", 20, "aws-key-id"),
    ("ASIA", 20, "aws-key-id"),
    ("AIza", 39, "google-key"),
    ("ya29.", 30, "google-token"),
    ("npm_", 36, "npm-token"),
    ("pypi-", 40, "pypi-token"),
    ("hf_", 34, "huggingface-token"),
    ("sk_live_", 24, "stripe-key"),
    ("rk_live_", 24, "stripe-key"),
    ("lin_api_", 32, "linear-key"),
    ("ntn_", 40, "notion-token"),
    ("secret_", 40, "notion-token"),
    ("ATATT3", 60, "atlassian-token"),
    ("eyJ", 60, "jwt"),
];

/// The kind of token that a value is by its beginning and length, or of key by its wrapping; none of anything else.
#[must_use]
pub fn known_token(value: &str) -> Option<&'static str> {
    if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY") {
        return Some("private-key");
    }
    let is_token = value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'=' | b'+' | b'/'));
    let found = KNOWN.iter().find(|(begins, least, _)| is_token && value.len() >= *least && value.starts_with(begins));
    found.map(|(.., kind)| *kind)
}

/// The least of letters and digits in a row that a token has, and a name that people give does not.
const RANDOM: usize = 16;

/// The places of such tokens within a text, in bytes, from the front on: behind anything but a letter or digit. Where they stand in a text of
/// other things, words that begin alike are told from them (`secret_manager_list_versions`): a token has letters and digits, or small
/// and capital letters, in a row.
pub(crate) fn tokens_in(text: &str) -> Vec<Range<usize>> {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'+');
    let (bytes, mut found, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= RANDOM) {
        if at.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(u8::is_ascii_alphanumeric) {
            at += 1;
            continue;
        }
        let known = KNOWN.iter().find(|(begins, ..)| rest.starts_with(begins.as_bytes()));
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        match known {
            Some((begins, least, _)) if length >= *least && is_random(rest.get(begins.len()..length).unwrap_or_default()) => {
                found.push(at..at + length);
                at += length;
            }
            _ => at += 1,
        }
    }
    found
}

fn is_random(body: &[u8]) -> bool {
    body.split(|byte| !byte.is_ascii_alphanumeric()).filter(|run| run.len() >= RANDOM).any(|run| {
        let has = |is: fn(&u8) -> bool| run.iter().any(is);
        has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) || has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_where_they_stand_and_names_that_begin_alike_are_none() {
        let github = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
        for text in [github.to_owned(), format!("echo_{github}"), format!("/a/{github}/b"), format!("x={github}&y"), format!("ä{github}ä")]
        {
            let found = tokens_in(&text);
            assert_eq!(found.iter().map(|place| &text[place.clone()]).collect::<Vec<_>>(), [github], "{text}");
        }
        for text in [
            "",
            "ghp_short",
            "secret_manager_list_secret_versions_in_a_project",
            "hf_model_search_with_filters_and_sort_order",
            "npm_package_search_with_all_versions_listed",
            "task-0123456789abcdefghijABCDEFGHIJ0123456789",
            "list_pull_requests",
        ] {
            assert!(tokens_in(text).is_empty(), "{text}");
        }
    }
}
