//! The caller of a request, as far as proven. Facts, not decisions: each says whether it is known, absent or was never told, because
//! policy treats the last two differently.

use smol_str::{SmolStr, format_smolstr};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::Deref,
    time::SystemTime,
};

/// The most groups, scopes and the like of one caller. A caller with more is refused, the list never cut: a
/// group that fell away could be the one that a `deny` names.
pub const MAX_NAMES: usize = 1024;

/// Names of one kind (groups, scopes, authentication methods) that a caller has.
///
/// Reads like a slice, which is empty if the credential has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// The caller's credential says nothing about them.
    #[default]
    Unknown,
    /// These and no others.
    Known(Vec<SmolStr>),
}

impl Deref for Names {
    type Target = [SmolStr];
    fn deref(&self) -> &[SmolStr] {
        match self {
            Names::Unknown => &[],
            Names::Known(names) => names,
        }
    }
}

impl<S: Into<SmolStr>> FromIterator<S> for Names {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Names::Known(names.into_iter().map(Into::into).collect())
    }
}

impl<S: Into<SmolStr>> From<Vec<S>> for Names {
    fn from(names: Vec<S>) -> Self {
        names.into_iter().collect()
    }
}

/// The means by which a caller was authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// Not at all.
    None,
    /// By a JWT of the identity provider.
    Oidc,
    /// By an opaque token that the identity provider vouched for (RFC 7662).
    Introspection,
    /// By a service token.
    Token,
    /// By a client certificate.
    Mtls,
}

impl AuthMethod {
    /// The word in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            AuthMethod::None => "none",
            AuthMethod::Oidc => "oidc",
            AuthMethod::Introspection => "introspection",
            AuthMethod::Token => "token",
            AuthMethod::Mtls => "mtls",
        }
    }
}

/// A client certificate that TLS has verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// SHA-256 of the certificate, 64 lowercase hexadecimal digits.
    pub sha256: SmolStr,
    /// The common name of its subject.
    pub subject: Option<SmolStr>,
    /// Its subject alternative names: DNS names, addresses of mail, URIs. DNS names are in lower case.
    pub names: Vec<SmolStr>,
}

/// The program behind a connection of this host, as the kernel attests it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Path of the executable.
    pub executable: Option<SmolStr>,
    /// SHA-256 of the executable, 64 lowercase hexadecimal digits.
    pub sha256: Option<SmolStr>,
    /// Name of the user that it runs as.
    pub user: Option<SmolStr>,
    /// Path of its cgroup, from the root of the hierarchy.
    pub cgroup: Option<SmolStr>,
    /// The systemd unit that it belongs to.
    pub unit: Option<SmolStr>,
}

/// An authenticated caller.
///
/// Holds no credential: it may be logged and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Stable and unique: what sessions are bound to. Of an OIDC caller issuer and `sub`, of others their kind and name.
    pub subject: SmolStr,
    /// The name that policy's `users` and the audit know them by.
    pub user: Option<SmolStr>,
    /// Verified address of mail, in lower case.
    pub email: Option<SmolStr>,
    /// Groups.
    pub groups: Names,
    /// The organisation's domain: of the mail address, or what the provider says. In lower case.
    pub domain: Option<SmolStr>,
    /// The strength of the log-in (OIDC `acr`).
    pub acr: Option<SmolStr>,
    /// Means of the log-in (OIDC `amr`).
    pub amr: Names,
    /// The OAuth client (`azp`, `client_id`).
    pub client: Option<SmolStr>,
    /// The source address of the connection.
    pub address: IpAddr,
    /// ISO 3166-1 code of the country that the address belongs to, if a database says so.
    pub country: Option<SmolStr>,
    /// The client certificate.
    pub device: Option<Device>,
    /// The program, attested by the sensor.
    pub process: Option<Process>,
    /// The means of authentication.
    pub method: AuthMethod,
    /// The expiry of the proof.
    pub expires: Option<SystemTime>,
    /// The scopes granted to the token.
    pub scopes: Names,
}

impl Caller {
    /// An anonymous caller at this address.
    #[must_use]
    pub fn anonymous(address: IpAddr) -> Self {
        Self {
            subject: SmolStr::new_static("anonymous"),
            user: None,
            email: None,
            groups: Names::Unknown,
            domain: None,
            acr: None,
            amr: Names::Unknown,
            client: None,
            address: address.to_canonical(),
            country: None,
            device: None,
            process: None,
            method: AuthMethod::None,
            expires: None,
            scopes: Names::Unknown,
        }
    }

    /// True if the proof has expired at this time. A long stream outlives its token: ask again when it matters.
    #[must_use]
    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// One line for people: `anna (finance) at 10.0.0.7 by oidc`.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.email.as_ref().or(self.user.as_ref()).unwrap_or(&self.subject);
        write!(f, "{}", printable(name))?;
        if !self.groups.is_empty() {
            let groups: Vec<_> = self.groups.iter().map(|group| printable(group)).collect();
            write!(f, " ({})", groups.join(", "))?;
        }
        write!(f, " at {}", self.address)?;
        if let Some(device) = &self.device {
            let name = device.subject.clone().unwrap_or_else(|| format_smolstr!("{:.16}", device.sha256));
            write!(f, " on {}", printable(&name))?;
        }
        if let Some(executable) = self.process.as_ref().and_then(|process| process.executable.as_ref()) {
            write!(f, " with {}", printable(executable))?;
        }
        write!(f, " by {}", self.method.as_str())
    }
}

/// A stranger's text, made fit for a terminal.
pub(crate) fn printable(text: &str) -> SmolStr {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The facts of a connection besides the headers of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The source address.
    pub address: SocketAddr,
    /// The client's certificate chain, its own first, **already verified** by TLS.
    pub certificate: Option<Vec<rustls_pki_types::CertificateDer<'static>>>,
    /// The program, attested by the sensor.
    pub process: Option<Process>,
}

impl Peer {
    /// A connection that tells nothing but where it comes from.
    #[must_use]
    pub const fn at(address: SocketAddr) -> Self {
        Self { address, certificate: None, process: None }
    }
}
