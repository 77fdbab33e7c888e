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

/// Beginnings that are no words and begin no names that people give: what follows need not be long, nor in a row.
const DISTINCT: [&str; 27] = [
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "gnomon_",
    "sk-ant-",
    "sk-proj-",
    "sk_live_",
    "rk_live_",
    "sk_test_",
    "xoxa-",
    "xoxb-",
    "xoxe-",
    "xoxo-",
    "xoxp-",
    "xoxr-",
    "xoxs-",
    "xapp-",
    "AIza",
    "ya29.",
    "shpat_",
    "dop_v1_",
    "ATATT3",
    "eyJ",
];

/// The least of letters and digits in a row that a token has, and a name that people give does not; and the least that follows a beginning.
const RANDOM: usize = 16;
/// How all of them begin.
const FIRST: &[u8] = b"gsxAynprhlde";
/// Tokens are told by so many bytes behind their beginning.
const OPENING: usize = 256;

/// The places of such tokens within a text, in bytes, from the front on: behind anything but a letter or digit. Where they stand in a text of
/// other things, words that begin alike are told from them (`secret_manager_list_versions`): a token has letters and digits, or small
/// and capital letters, in a row.
pub(crate) fn tokens_in(text: &[u8]) -> Vec<Range<usize>> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+');
    let (mut found, mut at, mut is_behind_a_letter) = (Vec::new(), 0, false);
    while let Some((first, rest)) = text.get(at..).filter(|rest| rest.len() >= RANDOM).and_then(|rest| Some((rest.first()?, rest))) {
        if is_behind_a_letter || !FIRST.contains(first) {
            is_behind_a_letter = first.is_ascii_alphanumeric();
            at += 1;
            continue;
        }
        let begins = |begin: &&&str| rest.starts_with(begin.as_bytes());
        let body = |begin: &str| {
            let body = rest.get(begin.len()..).unwrap_or_default();
            let opening = body.get(..OPENING).unwrap_or(body);
            opening.get(..opening.iter().position(|byte| !is_part(byte)).unwrap_or(opening.len())).unwrap_or_default()
        };
        let is_distinct = DISTINCT.iter().find(begins).is_some_and(|begin| is_body(begin, body(begin)));
        let is_known = || KNOWN.iter().map(|(begin, ..)| begin).find(begins).is_some_and(|begin| is_random(body(begin)));
        if is_distinct || is_known() {
            let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
            found.push(at..at + length);
            at += length;
        } else {
            at += 1;
        }
        is_behind_a_letter = at.checked_sub(1).and_then(|before| text.get(before)).is_some_and(u8::is_ascii_alphanumeric);
    }
    found
}

/// What follows a beginning that stands for nothing else.
fn is_body(begin: &str, body: &[u8]) -> bool {
    let is_mixed =
        body.iter().any(u8::is_ascii_digit) || body.iter().any(u8::is_ascii_uppercase) && body.iter().any(u8::is_ascii_lowercase);
    match begin {
        // Two parts at least, as a JWT has them.
        "eyJ" => body.split(|byte| *byte == b'.').take(2).filter(|part| part.len() >= 8).count() == 2 || body.len() >= 57,
        _ if begin.starts_with("xox") => body.len() >= 10 && is_mixed,
        _ => body.len() >= RANDOM && is_mixed,
    }
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
    fn no_beginning_is_passed_over() {
        let begins = KNOWN.iter().map(|(begin, ..)| begin).chain(&DISTINCT);
        assert!(begins.map(|begin| begin.as_bytes()[0]).all(|first| FIRST.contains(&first)));
    }

    #[test]
    fn tokens_are_found_where_they_stand_and_names_that_begin_alike_are_none() {
        let github = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
        for text in [github.to_owned(), format!("echo_{github}"), format!("/a/{github}/b"), format!("x={github}&y"), format!("ä{github}ä")]
        {
            let found = tokens_in(text.as_bytes());
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
            "gnomon_search_all_the_servers",
            "sk_live_view_of_the_dashboard",
            "x_eyJ_is_how_a_header_begins",
        ] {
            assert!(tokens_in(text.as_bytes()).is_empty(), "{text}");
        }
    }
}
