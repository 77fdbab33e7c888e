//! Secrets, put where the document says that they belong, into the requests of the operations that ask for them.

use super::InvalidApi;
use base64::{Engine, engine::general_purpose::STANDARD};
use gnomon_openapi::{Draft, Placement, SecurityScheme, encoded};
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use smol_str::SmolStr;

/// The credentials of one API.
pub(super) struct Credentials(Vec<(SmolStr, Placed)>);

/// A secret in its place.
enum Placed {
    Header(HeaderName, HeaderValue),
    Query(String, String),
    /// The name, and the whole pair.
    Cookie(String, String),
}

impl Credentials {
    /// Credentials of these secrets for these schemes.
    pub fn new(schemes: &[SecurityScheme], secrets: &[(String, String)]) -> Result<Self, InvalidApi> {
        let mut placed = Vec::with_capacity(secrets.len());
        for (name, secret) in secrets {
            let Some(scheme) = schemes.iter().find(|scheme| scheme.name == *name) else {
                let known: Vec<&str> = schemes.iter().map(|scheme| scheme.name.as_str()).collect();
                return Err(InvalidApi::Scheme(name.clone(), if known.is_empty() { "none".to_owned() } else { known.join(", ") }));
            };
            let header = |header: HeaderName, text: &str| {
                let mut value = HeaderValue::from_str(text).map_err(|_| InvalidApi::Secret(name.clone()))?;
                value.set_sensitive(true);
                Ok::<_, InvalidApi>(Placed::Header(header, value))
            };
            let place = match &scheme.placement {
                Placement::Header(place) => header(place.clone(), secret)?,
                Placement::Bearer => header(AUTHORIZATION, &format!("Bearer {secret}"))?,
                Placement::Basic => header(AUTHORIZATION, &format!("Basic {}", STANDARD.encode(secret)))?,
                Placement::Query(place) => Placed::Query(place.clone(), encoded(secret)),
                Placement::Cookie(place) => Placed::Cookie(place.clone(), format!("{place}={}", encoded(secret))),
                Placement::Unsupported(why) => return Err(InvalidApi::Unsupported(name.clone(), why.clone())),
            };
            placed.push((scheme.name.clone(), place));
        }
        Ok(Self(placed))
    }

    fn of(&self, scheme: &SmolStr) -> Option<&Placed> {
        self.0.iter().find(|(name, _)| name == scheme).map(|(_, placed)| placed)
    }

    /// Puts in what the first alternative asks for of which all is there. An argument that would stand in its place goes.
    pub fn put(&self, needs: &[Vec<SmolStr>], draft: &mut Draft) {
        let met = needs.iter().find(|names| names.iter().all(|name| self.of(name).is_some()));
        for placed in met.into_iter().flatten().filter_map(|name| self.of(name)) {
            match placed {
                Placed::Header(name, value) => {
                    draft.headers.insert(name.clone(), value.clone());
                }
                Placed::Query(name, value) => {
                    draft.query.retain(|(other, _)| other != name);
                    draft.query.push((name.clone(), value.clone()));
                }
                Placed::Cookie(name, pair) => {
                    draft.cookies.retain(|other| other.split_once('=').is_none_or(|(other, _)| other != name));
                    draft.cookies.push(pair.clone());
                }
            }
        }
    }
}
