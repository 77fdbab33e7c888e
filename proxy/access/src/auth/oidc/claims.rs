//! Claims of a token or of an introspection, checked one after the other. What they say is taken as facts only after issuer,
//! audience and time hold.

use crate::AuthMethod;
use crate::{
    MAX_NAMES, Names,
    auth::{challenge::Rejection, facts::Facts},
};
use serde_json::{Map, Value};
use smol_str::{SmolStr, format_smolstr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest name (user, group, scope), bytes.
const MAX_NAME: usize = 512;

/// The path of a claim: its name, or a JSON pointer (RFC 6901) where it begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(pub(crate) SmolStr);

impl ClaimPath {
    fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        match self.0.strip_prefix('/') {
            None => claims.get(self.0.as_str()),
            Some(rest) => {
                let (first, rest) = rest.split_once('/').map_or((rest, ""), |(first, rest)| (first, rest));
                let found = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
                if rest.is_empty() { Some(found) } else { found.pointer(&format!("/{rest}")) }
            }
        }
    }
}

/// The treatment of an email address that the provider does not call verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnverifiedEmail {
    /// Ignored: with many providers people choose their address themselves.
    #[default]
    Ignore,
    /// Accepted, as this provider verifies all and does not say so.
    Accept,
}

/// The names of the claims that hold each fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    /// The user's name. `sub` unless configured: what people can change must not name them.
    pub user: ClaimPath,
    /// Groups: a list, or one text.
    pub groups: ClaimPath,
    /// Mail that is not verified.
    pub unverified_email: UnverifiedEmail,
}

impl Default for ClaimNames {
    fn default() -> Self {
        let path = |name| ClaimPath(SmolStr::new_static(name));
        Self { user: path("sub"), groups: path("groups"), unverified_email: UnverifiedEmail::Ignore }
    }
}

/// The values that claims are verified against.
pub(crate) struct Expected<'e> {
    pub(crate) issuer: &'e str,
    pub(crate) audiences: &'e [String],
    pub(crate) leeway: Duration,
    pub(crate) now: SystemTime,
    pub(crate) names: &'e ClaimNames,
}

/// The source of claims. A JWT must have `iss`; an introspection response of the issuer itself need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Jwt,
    Introspection,
}

impl Expected<'_> {
    /// Checks the claims and reads the facts.
    pub(crate) fn facts(&self, claims: &Map<String, Value>, source: Source) -> Result<Facts, Rejection> {
        match claims.get("iss") {
            Some(Value::String(issuer)) if issuer == self.issuer => {}
            None if source == Source::Introspection => {}
            _ => return Err(Rejection::Issuer),
        }
        self.audience(claims.get("aud"))?;
        let expires = self.times(claims)?;
        let method = match source {
            Source::Jwt => AuthMethod::Oidc,
            Source::Introspection => AuthMethod::Introspection,
        };
        let bound_to = bound(claims.get("cnf"))?;
        let text = |name: &str| claims.get(name).map_or(Ok(None), |value| short(value).map(Some));
        let client = text("client_id")?.or(text("azp")?);
        let subject = match (text("sub")?, source, &client) {
            (Some(subject), ..) => format_smolstr!("{}|{subject}", self.issuer),
            // A client that speaks for itself; an issuer has no fragment, so this cannot equal a user's `sub`.
            (None, Source::Introspection, Some(client)) => format_smolstr!("{}#{client}", self.issuer),
            _ => return Err(Rejection::Malformed),
        };
        let email = self.email(claims);
        let domain = text("hd")?.or_else(|| email.as_ref().and_then(|mail| mail.rsplit_once('@').map(|(_, domain)| SmolStr::new(domain))));
        Ok(Facts {
            subject,
            user: self.names.user.find(claims).map_or(Ok(None), |value| short(value).map(Some))?,
            email,
            groups: listed(self.names.groups.find(claims), Listing::Whole)?,
            domain: domain.map(|domain| domain.to_ascii_lowercase().into()),
            acr: text("acr")?,
            amr: listed(claims.get("amr"), Listing::Whole)?,
            client,
            method,
            expires: Some(expires),
            scopes: match claims.get("scope").or_else(|| claims.get("scp")) {
                // A token that was granted nothing has no scopes; that is known.
                None => Names::Known(Vec::new()),
                found => listed(found, Listing::Spaced)?,
            },
            bound_to,
        })
    }

    /// Checks that we are in the audience (RFC 8707, RFC 9068 4). A token without `aud` is for no server.
    fn audience(&self, audience: Option<&Value>) -> Result<(), Rejection> {
        let is_ours = |value: &Value| value.as_str().is_some_and(|text| self.audiences.iter().any(|ours| ours == text));
        let ours = match audience {
            Some(Value::Array(all)) => all.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        if ours { Ok(()) } else { Err(Rejection::Audience) }
    }

    fn times(&self, claims: &Map<String, Value>) -> Result<SystemTime, Rejection> {
        let expires = instant(claims.get("exp"))?.ok_or(Rejection::Malformed)?;
        if expires + self.leeway <= self.now {
            return Err(Rejection::Expired);
        }
        if instant(claims.get("nbf"))?.is_some_and(|from| from > self.now + self.leeway) {
            return Err(Rejection::NotYet);
        }
        // Made in the future: not by this provider's clock.
        if instant(claims.get("iat"))?.is_some_and(|made| made > self.now + self.leeway) {
            return Err(Rejection::NotYet);
        }
        Ok(expires)
    }

    fn email(&self, claims: &Map<String, Value>) -> Option<SmolStr> {
        let mail = claims.get("email")?.as_str().filter(|mail| mail.len() <= MAX_NAME)?;
        // Some providers send the word.
        let verified = match claims.get("email_verified") {
            Some(Value::Bool(verified)) => *verified,
            Some(Value::String(word)) => word == "true",
            _ => self.names.unverified_email == UnverifiedEmail::Accept,
        };
        let (local, domain) = mail.rsplit_once('@')?;
        (verified && !local.is_empty() && !domain.is_empty()).then(|| mail.to_ascii_lowercase().into())
    }
}

/// A NumericDate (RFC 7519 2). Times beyond the year 9999 are refused.
fn instant(value: Option<&Value>) -> Result<Option<SystemTime>, Rejection> {
    let Some(value) = value else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..253_402_300_800.0).contains(seconds)).ok_or(Rejection::Malformed)?;
    Ok(Some(UNIX_EPOCH + Duration::from_secs_f64(seconds)))
}

/// The certificate that a token is bound to, which is checked. A token bound to any other key is refused, as possession cannot be proven
/// here and it might have been stolen from its owner (RFC 7800, RFC 9449 7.2).
fn bound(confirmation: Option<&Value>) -> Result<Option<SmolStr>, Rejection> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let Some(confirmation) = confirmation else { return Ok(None) };
    let thumbprint = confirmation.get("x5t#S256").and_then(Value::as_str).ok_or(Rejection::Binding)?;
    let only = confirmation.as_object().is_some_and(|all| all.len() == 1);
    match URL_SAFE_NO_PAD.decode(thumbprint) {
        Ok(hash) if hash.len() == 32 && only => Ok(Some(hex::encode(hash).into())),
        _ => Err(Rejection::Binding),
    }
}

fn short(value: &Value) -> Result<SmolStr, Rejection> {
    match value {
        Value::String(text) if !text.is_empty() && text.len() <= MAX_NAME => Ok(SmolStr::new(text)),
        _ => Err(Rejection::Malformed),
    }
}

/// The notation of several names in one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// A list; one text is one name.
    Whole,
    /// A list, or one text with spaces between (RFC 8693 4.2).
    Spaced,
}

fn listed(value: Option<&Value>, listing: Listing) -> Result<Names, Rejection> {
    let names: Vec<SmolStr> = match value {
        None | Some(Value::Null) => return Ok(Names::Unknown),
        Some(Value::Array(all)) if all.len() > MAX_NAMES => return Err(Rejection::TooMany),
        Some(Value::Array(all)) => all.iter().map(short).collect::<Result<_, _>>()?,
        Some(Value::String(text)) if listing == Listing::Spaced => {
            let mut names = text.split(' ').filter(|name| !name.is_empty());
            let kept: Vec<SmolStr> = names.by_ref().take(MAX_NAMES).map(SmolStr::new).collect();
            if names.next().is_some() {
                return Err(Rejection::TooMany);
            }
            kept
        }
        Some(one) => vec![short(one)?],
    };
    Ok(Names::Known(names))
}
