//! Service tokens: for agents without a person. They are random, 256 bits, so a plain SHA-256 is all that has to be kept of
//! them, and a reader of the configuration cannot use it.

use super::bearer::{Token, hash};
use crate::{AuthMethod, Names};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use smol_str::SmolStr;
use std::{fmt, time::SystemTime};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::facts::Facts;

/// The most service tokens. Each costs 32 bytes of comparing per request that is not remembered.
pub const MAX_SERVICE_TOKENS: usize = 1024;
/// The prefix of service tokens, by which scanners for leaked secrets know them.
pub const TOKEN_PREFIX: &str = "gnomon_";

/// A new service token. Shown once, to the person who asked for it.
pub struct NewToken {
    /// The token.
    pub token: String,
    /// The token's SHA-256 for the configuration, 64 hexadecimal digits.
    pub sha256: String,
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken").field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

/// Generates a service token.
///
/// # Errors
/// When the system gives no random bytes.
pub fn generate_token() -> Result<NewToken, NoRandomness> {
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| NoRandomness)?;
    let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let sha256 = hex::encode(hash(token.as_bytes()));
    Ok(NewToken { token, sha256 })
}

/// 32 bytes of 64 hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

/// A service token as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceToken {
    /// The name of its owner in policy and audit.
    pub name: SmolStr,
    /// The token's SHA-256.
    pub sha256: [u8; 32],
    /// Groups it is in.
    pub groups: Vec<SmolStr>,
    /// Its expiry.
    pub expires: Option<SystemTime>,
}

/// All service tokens.
#[derive(Debug, Default)]
pub(crate) struct ServiceTokens(pub(crate) Vec<ServiceToken>);

impl ServiceTokens {
    /// Compares with every one of them, each in constant time.
    pub(crate) fn find(&self, token: Token<'_>) -> Option<&ServiceToken> {
        let hash = token.sha256();
        let (mut found, mut at) = (Choice::from(0), 0_u32);
        for (n, candidate) in (0_u32..).zip(&self.0) {
            let equal = candidate.sha256[..].ct_eq(&hash[..]);
            at = u32::conditional_select(&at, &n, equal);
            found |= equal;
        }
        if bool::from(found) { self.0.get(usize::try_from(at).ok()?) } else { None }
    }
}

impl ServiceToken {
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            subject: SmolStr::new(format!("token:{}", self.name)),
            user: Some(self.name.clone()),
            groups: Names::Known(self.groups.clone()),
            client: Some(self.name.clone()),
            expires: self.expires,
            ..Facts::new(AuthMethod::Token)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_token_is_found_by_its_hash_and_never_shown() {
        let made = generate_token().unwrap();
        assert_eq!(made.token.len(), TOKEN_PREFIX.len() + 43);
        assert_ne!(made.token, generate_token().unwrap().token);
        assert!(!format!("{made:?}").contains(&made.token));
        assert_eq!(hex::encode(unhex(&made.sha256).unwrap()), made.sha256);
        assert_eq!(unhex("zz"), None);
        assert_eq!(unhex(&"a".repeat(63)), None);
    }
}
