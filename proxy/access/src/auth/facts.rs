//! The facts that a credential proves, before the connection's own facts join them.

use crate::{AuthMethod, Caller, Device, Names, Peer};
use smol_str::SmolStr;
use std::time::SystemTime;

/// The facts that a credential proves about its bearer.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) subject: SmolStr,
    pub(crate) user: Option<SmolStr>,
    pub(crate) email: Option<SmolStr>,
    pub(crate) groups: Names,
    pub(crate) domain: Option<SmolStr>,
    pub(crate) acr: Option<SmolStr>,
    pub(crate) amr: Names,
    pub(crate) client: Option<SmolStr>,
    pub(crate) method: AuthMethod,
    pub(crate) expires: Option<SystemTime>,
    pub(crate) scopes: Names,
    /// The certificate that the token is bound to (RFC 8705 3.1), as SHA-256 in hexadecimal.
    pub(crate) bound_to: Option<SmolStr>,
}

impl Facts {
    pub(crate) fn new(method: AuthMethod) -> Self {
        Self {
            subject: SmolStr::new_static("anonymous"),
            user: None,
            email: None,
            groups: Names::Unknown,
            domain: None,
            acr: None,
            amr: Names::Unknown,
            client: None,
            method,
            expires: None,
            scopes: Names::Unknown,
            bound_to: None,
        }
    }

    /// Joins what the connection tells.
    pub(crate) fn caller(self, peer: &Peer, device: Option<Device>, country: Option<SmolStr>) -> Caller {
        Caller {
            subject: self.subject,
            user: self.user,
            email: self.email,
            groups: self.groups,
            domain: self.domain,
            acr: self.acr,
            amr: self.amr,
            client: self.client,
            address: peer.address.ip().to_canonical(),
            country,
            device,
            process: peer.process.clone(),
            method: self.method,
            expires: self.expires,
            scopes: self.scopes,
        }
    }
}
