//! Log-ins that hold for a connection and not for a request: NTLM (MS-NTHT), Negotiate (RFC 4559), CredSSP (MS-CSSP).
//!
//! Their server takes whatever comes next on the connection for the one who logged in. So once a client's connection shows such a
//! log-in, all that follows on it goes over upstream connections of its own ([`Binding`]), over HTTP/1.1, as these schemes ask for. A
//! connection on which a server asked for such a log-in carries no further request of others. The trade-off: schemes are known by name;
//! one that is bound to a connection and is not in the list is taken for one that is not.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use http::{HeaderMap, StatusCode, header};

/// The schemes that are bound to a connection.
const SCHEMES: [&[u8]; 5] = [b"ntlm", b"negotiate", b"kerberos", b"nego2", b"credssp"];

/// Whether this is the value of a header that logs in, or asks for a log-in, by a scheme that is bound to a connection. A challenge may
/// name several schemes (RFC 9110 section 11.6.1).
#[must_use]
pub fn binds_a_connection(value: &[u8]) -> bool {
    let mut words = value.split(|byte| matches!(byte, b' ' | b'\t' | b','));
    words.any(|word| SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)))
}

/// Whether an answer asks for such a log-in.
#[must_use]
pub fn asks_for_a_bound_login(status: StatusCode, headers: &HeaderMap) -> bool {
    let challenges = match status {
        StatusCode::UNAUTHORIZED => header::WWW_AUTHENTICATE,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => header::PROXY_AUTHENTICATE,
        _ => return false,
    };
    headers.get_all(challenges).iter().any(|value| binds_a_connection(value.as_bytes()))
}

/// Upstream connections of one client's connection, which carry no other requests ([`Destination::bound_to`](crate::Destination::bound_to)).
/// They are closed when this is dropped, those in use once their requests have ended.
pub struct Binding {
    pub(crate) id: u64,
    pools: Weak<dyn Unbind>,
}

/// Closes what is bound.
pub(crate) trait Unbind: Send + Sync {
    fn unbind(&self, id: u64);
}

impl Binding {
    pub(crate) fn new(pools: &Arc<impl Unbind + 'static>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let pools = Arc::downgrade(pools);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), pools }
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        if let Some(pools) = self.pools.upgrade() {
            pools.unbind(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_ins_that_hold_for_a_connection_are_known_by_their_scheme() {
        for bound in ["NTLM TlRMTVNTUAAB", "negotiate YII=", "Negotiate", "Basic realm=\"a\", NTLM", "Kerberos x", "CredSSP TlRMTVNT"] {
            assert!(binds_a_connection(bound.as_bytes()), "{bound}");
        }
        for free in ["Basic bnRsbQ==", "Bearer ntlm.x", "Digest realm=\"ntlm\"", "DPoP x", ""] {
            assert!(!binds_a_connection(free.as_bytes()), "{free}");
        }
        let mut headers = HeaderMap::new();
        headers.append("www-authenticate", "Basic realm=\"a\"".parse().unwrap());
        headers.append("www-authenticate", "NTLM".parse().unwrap());
        assert!(asks_for_a_bound_login(StatusCode::UNAUTHORIZED, &headers) && !asks_for_a_bound_login(StatusCode::OK, &headers));
        assert!(!asks_for_a_bound_login(StatusCode::PROXY_AUTHENTICATION_REQUIRED, &headers));
    }
}
