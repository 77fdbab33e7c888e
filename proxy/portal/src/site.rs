//! Several portals behind one listener: told apart by the host name and the path of each request.
//!
//! A portal that names the host under `hosts` goes before one that merely is on the loopback address. Where no portal fits, the
//! first that fits best refuses, so that a request is never answered by a portal that it was not sent to.

use crate::{Portal, front::without_port};
use http::{Request, header::HOST};
use std::sync::Arc;

/// How well a request fits a portal, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Nothing,
    Host,
    Path,
    /// The path, by a name of the loopback address.
    Local,
    /// The path, by a name of its own.
    Own,
}

/// The portal that a request is for.
pub(crate) fn portal<'a, B>(portals: &'a [Arc<Portal>], request: &Request<B>) -> Option<&'a Arc<Portal>> {
    let [first, others @ ..] = portals else { return None };
    if others.is_empty() {
        return Some(first);
    }
    let header = request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
    let host = without_port(request.uri().authority().map(|authority| authority.as_str()).or(header).unwrap_or_default());
    let path = request.uri().path();
    let mut best = (fit(first, host, path), first);
    for other in others {
        let fits = fit(other, host, path);
        if fits > best.0 {
            best = (fits, other);
        }
    }
    Some(best.1)
}

fn fit(portal: &Portal, host: &str, path: &str) -> Fit {
    let options = &portal.options;
    let named = options.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
    let is_here = options.path == path || portal.log_in.authenticator().metadata_path() == Some(path);
    match (is_here, named, portal.is_own_host(host)) {
        (true, true, _) => Fit::Own,
        (true, false, true) => Fit::Local,
        (true, false, false) => Fit::Path,
        (false, _, true) => Fit::Host,
        (false, _, false) => Fit::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CodeMode, Fetcher, PortalOptions, Prefix, SessionLimits};
    use gnomon_access::{AuthConfig, Authenticator, Policy};
    use gnomon_http::{AlpnCache, DialOptions, Dialer, PoolOptions, Pools, UpstreamTls};
    use std::collections::HashMap;

    fn at(id: &str, path: &str, hosts: &[&str]) -> Arc<Portal> {
        let tls = UpstreamTls::with_roots(rustls::RootCertStore::empty()).unwrap();
        let pools = Pools::new(Dialer::new(DialOptions::default()), tls, Arc::new(AlpnCache::default()), PoolOptions::default());
        Portal::new(PortalOptions {
            id: id.into(),
            servers: Vec::new(),
            prefix: Prefix::Always,
            labels: HashMap::new(),
            sessions: SessionLimits::default(),
            max_request: 1 << 20,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            origins: Vec::new(),
            path: path.to_owned(),
            policy: Arc::new(Policy::default()),
            authenticator: Arc::new(Authenticator::new(AuthConfig::open(), Arc::new(Fetcher::new(Arc::new(pools))))),
            owners: None,
            rules: None,
            acts: None,
            code_mode: CodeMode::Off,
            codemode: None,
            snippets: None,
            metrics: None,
        })
    }

    #[tokio::test]
    async fn a_request_is_for_the_portal_of_its_host_and_path_and_for_no_other() {
        let portals = [at("a", "/mcp", &["a.example"]), at("b", "/mcp", &["b.example"]), at("c", "/c", &[])];
        for (host, path, is) in [
            ("a.example", "/mcp", "a"),
            ("B.example:8443", "/mcp", "b"),
            ("localhost", "/mcp", "a"),
            ("localhost", "/c", "c"),
            ("LOCALHOST", "/c", "c"),
            // It refuses the name.
            ("evil.example", "/c", "c"),
            ("b.example", "/nothing", "b"),
            ("evil.example", "/nothing", "a"),
        ] {
            let request = Request::builder().uri(path).header(HOST, host).body(()).unwrap();
            assert_eq!(portal(&portals, &request).unwrap().options.id, is, "{host} {path}");
        }
    }
}
