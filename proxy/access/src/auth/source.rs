//! The `auth` section of the configuration: one block or a list of them, each with its `mode`. Checked here, so that later code can rely on
//! it. Secrets are references; the configuration's owner fetches them.

use super::{
    AuthConfig, Mode,
    certificate::{CertificateClient, Certificates},
    oidc::{ALGORITHMS, Algorithm, ClaimNames, ClaimPath, Introspection, OidcConfig, UnverifiedEmail, is_safe},
    tokens::{MAX_SERVICE_TOKENS, ServiceToken, unhex},
};
use crate::{
    glob::{Flavour, Glob},
    policy::{PolicyError, Report, sha256, unread},
    yaml::hint,
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::{Location, Spanned};
use smol_str::SmolStr;
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

type Texts = Option<Vec<Spanned<String>>>;

/// The `auth` of a portal, as written.
#[derive(Debug, Default)]
pub struct AuthSource(Vec<Block>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    mode: Spanned<String>,
    issuer: Option<Spanned<String>>,
    audience: Texts,
    jwks_url: Option<Spanned<String>>,
    algorithms: Texts,
    scopes: Texts,
    claims: Option<Spanned<ClaimsSource>>,
    leeway_seconds: Option<Spanned<u64>>,
    introspection: Option<Spanned<IntrospectionSource>>,
    tokens: Option<Spanned<Vec<TokenSource>>>,
    clients: Option<Spanned<Vec<ClientSource>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ClaimsSource {
    user: Option<Spanned<String>>,
    groups: Option<Spanned<String>>,
    unverified_email: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IntrospectionSource {
    url: Spanned<String>,
    client_id: String,
    client_secret: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenSource {
    name: Spanned<String>,
    sha256: Spanned<String>,
    #[serde(default)]
    groups: Vec<String>,
    expires: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientSource {
    name: Spanned<String>,
    sha256: Texts,
    subject: Texts,
    san: Texts,
    #[serde(default)]
    groups: Vec<String>,
}

impl<'de> Deserialize<'de> for AuthSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = AuthSource;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a block with `mode:`, or a list of such blocks")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AuthSource, A::Error> {
                Ok(AuthSource(vec![Block::deserialize(MapAccessDeserializer::new(map))?]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AuthSource, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = list.next_element()? {
                    blocks.push(block);
                }
                Ok(AuthSource(blocks))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Resolves a reference to a secret: the secret, or the cause of failure.
pub type Secrets<'s> = &'s dyn Fn(&str) -> Result<String, String>;

const MODES: &[&str] = &["none", "oidc", "tokens", "mtls"];

impl AuthSource {
    /// Reads an `auth` of its own file; a larger configuration embeds the type.
    ///
    /// # Errors
    /// If the text is not YAML, or has an unknown key or a wrong type, with its place.
    pub fn parse(text: &str, file: &str) -> Result<Self, PolicyError> {
        serde_saphyr::from_str(text).map_err(|error| unread(file, &error))
    }

    /// Checks it. `resource` is the portal's URL as clients know it, which tokens must be issued for.
    ///
    /// # Errors
    /// Everything that is wrong with it, with places.
    pub fn build(&self, file: &str, resource: &str, secrets: Secrets<'_>) -> Result<AuthConfig, PolicyError> {
        let mut report = Report::new(file);
        let modes: Vec<Mode> = self.0.iter().filter_map(|block| block.build(resource, secrets, &mut report)).collect();
        let open = |block: &&Block| block.mode.value == "none";
        if let Some(block) = self.0.iter().find(open).filter(|_| self.0.len() > 1) {
            report.at::<()>(block.mode.referenced, "`none` beside another mode would let everybody in; remove one of them");
        }
        let mut issuers: Vec<&str> = Vec::new();
        for issuer in self.0.iter().filter_map(|block| block.issuer.as_ref()) {
            if issuers.contains(&issuer.value.as_str()) {
                report.at::<()>(issuer.referenced, "this issuer is given twice; merge the two");
            }
            issuers.push(&issuer.value);
        }
        if self.0.is_empty() {
            report.at::<()>(Location::UNKNOWN, "`auth` is empty; write `mode: none`, `oidc`, `tokens` or `mtls`");
        }
        report.finish(AuthConfig { modes, resource: resource.to_owned() })
    }
}

impl Block {
    fn build(&self, resource: &str, secrets: Secrets<'_>, report: &mut Report<'_>) -> Option<Mode> {
        self.keys_of_other_modes(report);
        match self.mode.value.as_str() {
            "none" => Some(Mode::None),
            "oidc" => self.oidc(resource, secrets, report).map(|one| Mode::Oidc(Box::new(one))),
            "tokens" => self.tokens(report).map(Mode::Tokens),
            "mtls" => self.certificates(report).map(Mode::Mtls),
            other => report.at(self.mode.referenced, format!("`{other}` is not a mode{}", hint(other, MODES))),
        }
    }

    fn keys_of_other_modes(&self, report: &mut Report<'_>) {
        let first = |texts: &Texts| texts.as_ref().map(|texts| texts.first().map_or(self.mode.referenced, |text| text.referenced));
        let given = [
            ("issuer", "oidc", self.issuer.as_ref().map(|one| one.referenced)),
            ("audience", "oidc", first(&self.audience)),
            ("jwks_url", "oidc", self.jwks_url.as_ref().map(|one| one.referenced)),
            ("algorithms", "oidc", first(&self.algorithms)),
            ("scopes", "oidc", first(&self.scopes)),
            ("claims", "oidc", self.claims.as_ref().map(|one| one.referenced)),
            ("leeway_seconds", "oidc", self.leeway_seconds.as_ref().map(|one| one.referenced)),
            ("introspection", "oidc", self.introspection.as_ref().map(|one| one.referenced)),
            ("tokens", "tokens", self.tokens.as_ref().map(|one| one.referenced)),
            ("clients", "mtls", self.clients.as_ref().map(|one| one.referenced)),
        ];
        for (key, mode, at) in given {
            if let Some(at) = at.filter(|_| mode != self.mode.value && MODES.contains(&self.mode.value.as_str())) {
                report.at::<()>(at, format!("`{key}` belongs to `mode: {mode}`, and this is `mode: {}`", self.mode.value));
            }
        }
    }

    fn oidc(&self, resource: &str, secrets: Secrets<'_>, report: &mut Report<'_>) -> Option<OidcConfig> {
        let Some(issuer) = &self.issuer else {
            return report.at(self.mode.referenced, "`mode: oidc` needs `issuer`, the provider's address as its tokens have it");
        };
        let safe = |url: &Spanned<String>, report: &mut Report<'_>| {
            if !is_safe(&url.value) {
                report.at::<()>(url.referenced, format!("`{}` is not an https address (http is for this machine only)", url.value));
            }
        };
        safe(issuer, report);
        self.jwks_url.iter().for_each(|url| safe(url, report));
        let algorithm = |text: &Spanned<String>, report: &mut Report<'_>| match ALGORITHMS.iter().find(|(name, _)| *name == text.value) {
            Some((_, algorithm)) => Some(*algorithm),
            None => {
                let known: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
                report.at(text.referenced, format!("`{}` is not accepted{}", text.value, hint(&text.value, &known)))
            }
        };
        let algorithms = match &self.algorithms {
            None => vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA],
            Some(texts) => texts.iter().filter_map(|text| algorithm(text, report)).collect(),
        };
        if algorithms.is_empty() {
            report.at::<()>(self.mode.referenced, "no algorithm is accepted; name one, or remove `algorithms`");
        }
        let introspection = self.introspection.as_ref().and_then(|source| {
            safe(&source.value.url, report);
            match secrets(&source.value.client_secret.value) {
                Ok(client_secret) => {
                    Some(Introspection { url: source.value.url.value.clone(), client_id: source.value.client_id.clone(), client_secret })
                }
                Err(cause) => report.at(source.value.client_secret.referenced, cause),
            }
        });
        let leeway = self.leeway_seconds.as_ref();
        if let Some(leeway) = leeway.filter(|leeway| leeway.value > 600) {
            report.at::<()>(leeway.referenced, "more than 600 seconds; set the clocks instead");
        }
        let texts = |texts: &Texts| texts.iter().flatten().map(|text| text.value.clone()).collect::<Vec<_>>();
        let audiences = Some(texts(&self.audience)).filter(|all| !all.is_empty()).unwrap_or_else(|| vec![resource.to_owned()]);
        let scopes: Vec<SmolStr> = texts(&self.scopes).into_iter().map(SmolStr::new).collect();
        for scope in self.scopes.iter().flatten().filter(|scope| !is_scope(&scope.value)) {
            report.at::<()>(scope.referenced, "a scope has no spaces, quotes or backslashes (RFC 6749 3.3)");
        }
        Some(OidcConfig {
            issuer: issuer.value.clone(),
            audiences,
            jwks_url: self.jwks_url.as_ref().map(|url| url.value.clone()),
            algorithms,
            scopes,
            claims: self.claims.as_ref().map_or_else(ClaimNames::default, |claims| claim_names(&claims.value, report)),
            leeway: Duration::from_secs(leeway.map_or(60, |leeway| leeway.value)),
            introspection,
        })
    }

    fn tokens(&self, report: &mut Report<'_>) -> Option<Vec<ServiceToken>> {
        let Some(tokens) = self.tokens.as_ref().filter(|tokens| !tokens.value.is_empty()) else {
            return report.at(self.mode.referenced, "`mode: tokens` needs `tokens`, a list of `{ name, sha256 }`");
        };
        if tokens.value.len() > MAX_SERVICE_TOKENS {
            return report.at(tokens.referenced, format!("more than {MAX_SERVICE_TOKENS} tokens"));
        }
        let mut seen: Vec<(&str, [u8; 32])> = Vec::new();
        let mut all = Vec::new();
        for source in &tokens.value {
            let hash = match sha256(&source.sha256.value).ok().and_then(|text| unhex(&text)) {
                Some(hash) => hash,
                None => {
                    // The value is not quoted: it may be the token.
                    report.at::<()>(source.sha256.referenced, "this is not a token's SHA-256: 64 hexadecimal digits");
                    continue;
                }
            };
            if seen.iter().any(|(name, other)| *name == source.name.value || *other == hash) {
                report.at::<()>(source.name.referenced, format!("`{}` or its token is listed twice", source.name.value));
            }
            seen.push((&source.name.value, hash));
            let expires = source.expires.as_ref().and_then(|text| match moment(&text.value) {
                Some(at) => Some(at),
                None => report.at(text.referenced, format!("`{}` is not a date; write it like 2027-01-31", text.value)),
            });
            let groups = source.groups.iter().map(SmolStr::new).collect();
            all.push(ServiceToken { name: named(&source.name, report), sha256: hash, groups, expires });
        }
        Some(all)
    }

    fn certificates(&self, report: &mut Report<'_>) -> Option<Certificates> {
        let Some(clients) = &self.clients else { return Some(Certificates::Any) };
        let mut all = Vec::new();
        for source in &clients.value {
            if source.sha256.is_none() && source.subject.is_none() && source.san.is_none() {
                report.at::<()>(source.name.referenced, "name how the client is recognised: give `sha256`, `subject` or `san`");
            }
            let hashes = source.sha256.as_ref().map(|texts| {
                let read = |text: &Spanned<String>| match sha256(&text.value) {
                    Ok(hash) => Some(hash),
                    Err(message) => report.at(text.referenced, message),
                };
                texts.iter().filter_map(read).collect()
            });
            let globs =
                |texts: &Texts| texts.as_ref().map(|texts| texts.iter().map(|text| Glob::new(&text.value, Flavour::Name)).collect());
            all.push(CertificateClient {
                sha256: hashes,
                subject: globs(&source.subject),
                san: globs(&source.san),
                groups: source.groups.iter().map(SmolStr::new).collect(),
                name: named(&source.name, report),
            });
        }
        Some(Certificates::Listed(all))
    }
}

fn named(name: &Spanned<String>, report: &mut Report<'_>) -> SmolStr {
    if name.value.is_empty() || name.value.len() > 128 || name.value.chars().any(char::is_control) {
        report.at::<()>(name.referenced, "a name has 1 to 128 characters");
    }
    SmolStr::new(&name.value)
}

/// RFC 6749 3.3.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

fn claim_names(source: &ClaimsSource, report: &mut Report<'_>) -> ClaimNames {
    let mut names = ClaimNames::default();
    let path = |text: &Spanned<String>| ClaimPath(SmolStr::new(&text.value));
    if let Some(text) = &source.user {
        names.user = path(text);
    }
    if let Some(text) = &source.groups {
        names.groups = path(text);
    }
    if let Some(word) = &source.unverified_email {
        match word.value.as_str() {
            "ignore" => names.unverified_email = UnverifiedEmail::Ignore,
            "accept" => names.unverified_email = UnverifiedEmail::Accept,
            other => {
                report.at::<()>(word.referenced, format!("`{other}` is not known here{}", hint(other, &["ignore", "accept"])));
            }
        }
    }
    names
}

/// A date, from whose first second in UTC on it holds, or a time of RFC 3339.
fn moment(text: &str) -> Option<SystemTime> {
    let date = Date::parse(text, format_description!("[year]-[month]-[day]"));
    let at = date.map(|date| date.midnight().assume_utc()).or_else(|_| OffsetDateTime::parse(text, &Rfc3339)).ok()?;
    Some(at.into())
}
