//! The answer to a caller that is not authenticated (RFC 6750 3, RFC 9728 5.1): the fault, and where to get a token.

use http::{HeaderValue, StatusCode};
use smol_str::SmolStr;
use std::fmt::Write;
use thiserror::Error;

use super::bearer::BearerError;

/// The reason for not accepting a caller. Says nothing of the token but its fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// No credential was sent.
    #[error("this server asks for a token")]
    Missing,
    /// No client certificate was sent, and nothing else is accepted.
    #[error("this server asks for a client certificate")]
    NoCertificate,
    /// The client certificate belongs to no known client.
    #[error("the client certificate is not one of a known client")]
    UnknownCertificate,
    /// Several `Authorization` headers, another scheme, strange characters, too long.
    #[error("the Authorization header cannot be read: one `Bearer` token is expected")]
    Unreadable,
    /// Not a token of a trusted issuer.
    #[error("the token is not known here")]
    Unknown,
    /// No JWT, or one that cannot be read unambiguously.
    #[error("the token is malformed")]
    Malformed,
    /// `none`, a symmetric algorithm, or one that is not configured.
    #[error("the token is signed with an algorithm that is not accepted")]
    Algorithm,
    /// A token of another kind: an ID token, a logout token.
    #[error("the token is not an access token")]
    Kind,
    /// Signed by a key that the issuer does not have.
    #[error("the token is signed with a key that its issuer does not have")]
    Key,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// Issued by an untrusted issuer.
    #[error("the token's issuer is not trusted here")]
    Issuer,
    /// For another server (RFC 8707).
    #[error("the token was issued for another server")]
    Audience,
    /// Too late.
    #[error("the token has expired")]
    Expired,
    /// Too early.
    #[error("the token is not valid yet")]
    NotYet,
    /// Bound to a key or certificate that was not shown.
    #[error("the token is bound to a key that was not shown")]
    Binding,
    /// More groups, scopes or the like than are kept.
    #[error("the token has more groups or scopes than can be judged")]
    TooMany,
    /// The token was not granted for this.
    #[error("the token was not granted the scope that is needed")]
    Scope,
    /// The identity provider cannot be reached.
    #[error("the identity provider cannot be reached; try again soon")]
    Unreachable,
}

impl Rejection {
    /// The label for metrics and events.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Rejection::Missing => "missing",
            Rejection::NoCertificate => "no_certificate",
            Rejection::UnknownCertificate => "unknown_certificate",
            Rejection::Unreadable => "unreadable",
            Rejection::Unknown => "unknown",
            Rejection::Malformed => "malformed",
            Rejection::Algorithm => "algorithm",
            Rejection::Kind => "kind",
            Rejection::Key => "key",
            Rejection::Signature => "signature",
            Rejection::Issuer => "issuer",
            Rejection::Audience => "audience",
            Rejection::Expired => "expired",
            Rejection::NotYet => "not_yet",
            Rejection::Binding => "binding",
            Rejection::TooMany => "too_many",
            Rejection::Scope => "scope",
            Rejection::Unreachable => "unreachable",
        }
    }

    /// RFC 6750 3.1; a request without any credential gets no error code.
    const fn code(self) -> Option<&'static str> {
        match self {
            Rejection::Missing | Rejection::NoCertificate | Rejection::UnknownCertificate | Rejection::Unreachable => None,
            Rejection::Unreadable => Some("invalid_request"),
            Rejection::Scope => Some("insufficient_scope"),
            _ => Some("invalid_token"),
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Rejection::Scope | Rejection::UnknownCertificate => StatusCode::FORBIDDEN,
            // A 401 would send people to log in again, which cannot help.
            Rejection::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

impl From<BearerError> for Rejection {
    fn from(_: BearerError) -> Self {
        Rejection::Unreadable
    }
}

/// The refusal of a request: status, `WWW-Authenticate`, body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// 401, 403, or 503 when the identity provider cannot be reached.
    pub status: StatusCode,
    /// `WWW-Authenticate`. To be left out with 503.
    pub www_authenticate: HeaderValue,
    /// One line for people.
    pub text: SmolStr,
    /// The reason.
    pub rejection: Rejection,
}

/// The hints about this server that a challenge carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Advice {
    /// The URL of the RFC 9728 document.
    pub(crate) resource_metadata: Option<String>,
    /// The scopes to ask for.
    pub(crate) scopes: Vec<SmolStr>,
}

impl Advice {
    pub(crate) fn challenge(&self, rejection: Rejection) -> Challenge {
        let mut value = String::from("Bearer realm=\"gnomon\"");
        if let Some(code) = rejection.code() {
            let _ = write!(value, ", error=\"{code}\", error_description=\"{rejection}\"");
        }
        if !self.scopes.is_empty() {
            let _ = write!(value, ", scope=\"{}\"", self.scopes.join(" "));
        }
        if let Some(url) = &self.resource_metadata {
            let _ = write!(value, ", resource_metadata=\"{url}\"");
        }
        // `error_description` may not hold a quote or backslash, and none of the texts does.
        let value: String = value.chars().filter(|c| matches!(c, ' '..='~')).collect::<String>().replace('`', "'");
        let www_authenticate = HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("Bearer"));
        Challenge { status: rejection.status(), www_authenticate, text: rejection.to_string().into(), rejection }
    }
}
