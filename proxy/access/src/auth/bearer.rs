//! The `Authorization` header (RFC 6750 2.1): one bearer token, bounded, of the characters that a token may have. A token in
//! the URL or in a body is not looked for, as the MCP specification demands.

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use std::fmt;
use thiserror::Error;

/// The longest token, bytes. Tokens with hundreds of groups have about ten thousand.
pub const MAX_TOKEN: usize = 16 << 10;

/// A token as it was sent. Never shown, never stored: [`Token::sha256`] is used instead.
#[derive(Clone, Copy)]
pub(crate) struct Token<'h>(&'h str);

impl<'h> Token<'h> {
    pub(crate) const fn as_str(self) -> &'h str {
        self.0
    }

    pub(crate) fn sha256(self) -> [u8; 32] {
        hash(self.0.as_bytes())
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// SHA-256.
pub(crate) fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// An error in a header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum BearerError {
    #[error("more than one Authorization header was sent; send one")]
    Several,
    #[error("the Authorization header is not `Bearer` and a token; send one like that")]
    Scheme,
    #[error("the token is longer than {MAX_TOKEN} bytes")]
    TooLong,
    #[error("the token has characters that are not allowed in a token")]
    Characters,
}

/// The token of a request, if there is one.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<Token<'_>>, BearerError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(BearerError::Several);
    }
    token(value).map(Some)
}

fn token(value: &HeaderValue) -> Result<Token<'_>, BearerError> {
    let text = value.to_str().map_err(|_| BearerError::Characters)?;
    let (scheme, token) = text.split_once(' ').ok_or(BearerError::Scheme)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(BearerError::Scheme);
    }
    let token = token.trim_matches(' ');
    if token.len() > MAX_TOKEN {
        return Err(BearerError::TooLong);
    }
    // b64token of RFC 6750 2.1.
    let body = token.trim_end_matches('=');
    if body.is_empty() || !body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b)) {
        return Err(BearerError::Characters);
    }
    Ok(Token(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<String>, BearerError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        bearer(&headers).map(|token| token.map(|token| token.as_str().to_owned()))
    }

    #[test]
    fn one_token_of_allowed_characters_is_read() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["Bearer a.b-c_d~e+f/g=="]), Ok(Some("a.b-c_d~e+f/g==".to_owned())));
        assert_eq!(read(&["bEARER  abc "]), Ok(Some("abc".to_owned())));
        assert_eq!(read(&["Bearer a", "Bearer b"]), Err(BearerError::Several));
        for bad in ["Basic YTpi", "Bearer", "abc"] {
            assert_eq!(read(&[bad]), Err(BearerError::Scheme), "{bad}");
        }
        for bad in ["Bearer a b", "Bearer a,b", "Bearer =", "Bearer ", "Bearer \"a\""] {
            assert_eq!(read(&[bad]), Err(BearerError::Characters), "{bad}");
        }
    }

    #[test]
    fn a_huge_token_is_refused_unread() {
        assert_eq!(read(&[&format!("Bearer {}", "a".repeat(MAX_TOKEN + 1))]), Err(BearerError::TooLong));
    }

    #[test]
    fn a_token_is_never_shown() {
        let value = HeaderValue::from_static("Bearer secret");
        assert!(!format!("{:?}", token(&value).unwrap()).contains("secret"));
    }
}
