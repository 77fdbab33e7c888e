//! Tokens of well-known services, told by how they begin.

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
