//! What is learnt of a client's connection as its requests come.

use crate::{rule_addresses::leads_to, shared::Shared, upload::Upload};
use gnomon_http::{Binding, Destination, Dialer, Pools, asks_for_a_bound_login, binds_a_connection};
use http::{HeaderMap, StatusCode, header};
use smol_str::SmolStr;
use std::{borrow::Cow, net::IpAddr, sync::OnceLock};

/// Shared by the requests of one connection.
#[derive(Debug, Default)]
pub(crate) struct Learnt {
    /// Set once somebody logs in for the connection: then its requests go over upstream connections of their own.
    binding: OnceLock<Binding>,
    /// The first name that requests give the server at the connection's address and that leads there.
    name: OnceLock<SmolStr>,
}

impl Learnt {
    /// The destination of a request with these headers, which are those that go on.
    pub fn destination<'a>(&self, pools: &Pools<Upload>, to: &'a Destination, headers: &HeaderMap) -> Cow<'a, Destination> {
        let mut credentials = headers.get_all(header::AUTHORIZATION).iter().chain(headers.get_all(header::PROXY_AUTHORIZATION));
        if credentials.any(|value| binds_a_connection(value.as_bytes())) {
            self.binding.get_or_init(|| pools.binding());
        }
        match self.binding.get() {
            Some(binding) => Cow::Owned(to.clone().bound_to(binding)),
            None => Cow::Borrowed(to),
        }
    }

    /// A server has answered like this.
    pub fn answered(&self, pools: &Pools<Upload>, status: StatusCode, headers: &HeaderMap) {
        if asks_for_a_bound_login(status, headers) {
            self.binding.get_or_init(|| pools.binding());
        }
    }

    /// Whether upstream connections are this client connection's own.
    pub fn is_bound(&self) -> bool {
        self.binding.get().is_some()
    }

    /// Whether what a request calls its server is a name of the address that its connection is for.
    pub async fn leads_there(&self, shared: &Shared, destination: &Destination, name: &str) -> bool {
        if destination.is_through_a_proxy() {
            // Its address is the proxy's.
            return false;
        }
        if self.name.get().is_some_and(|known| known == name) {
            return true;
        }
        let address = destination.address().map(|address| address.ip());
        let Some(ip) = address.or_else(|| destination.host().parse::<IpAddr>().ok()) else { return false };
        let dialer: Dialer = shared.dialer.on_behalf_of(destination.principal().clone());
        let leads = leads_to(&dialer, name, destination.port(), ip).await;
        if leads {
            let _ = self.name.set(SmolStr::new(name));
        }
        leads
    }
}
