//! HTTP without TLS inside a tunnel.

use super::{Tunnel, peek::PEEK};
use crate::{
    first_bytes::{Speaks, head_is_over, host_in},
    framing::Twice,
    peek::Peeked,
    route::{Client, Route, Toward},
    serve::serve as serve_http,
};
use bytes::BytesMut;
use gnomon_http::{Alpn, Scheme, UpstreamStream};
use gnomon_inspect::Hello;
use gnomon_observe::Channel;
use gnomon_record::FlowOutcome;
use std::sync::Arc;
use tokio::{io::AsyncReadExt, time::timeout};

impl Tunnel {
    pub(super) async fn http(mut self, speaks: Speaks, toward: Toward) {
        let by_address = self.original.is_some() || self.host.parse::<std::net::IpAddr>().is_ok();
        let name = match (self.original, &self.through) {
            // A server that claims to be a proxy can claim to have reached any name.
            (Some(original), Some(_)) => original.ip().to_string(),
            // Each request names the URL to fetch.
            _ if toward == Toward::Proxy => self.host.clone(),
            _ if by_address => self.name_in_host().await,
            _ => self.host.clone(),
        };
        let (mut connection, _) = self.asking.open(&self.shared.inspector, self.observe(Channel::Http));
        let _ = connection.hello(&name, self.port, &Hello::default());
        if name != self.host && self.original.is_none() {
            // The name that the client asked the proxy for still counts beside the one inside.
            connection = self.under_all_names(connection, &[&self.host]).await;
        }
        if name == self.host {
            // The name is not verified: those that the address has count as well.
            connection = self.under_all_names(connection, &[]).await;
        }
        if self.through.is_some() {
            connection = connection.also_at(&self.host, self.port);
        }
        let alpn = if speaks == Speaks::Http2 { Alpn::H2 } else { Alpn::Http11 };
        // By address in a tunnel of ours: it is dialled as it was asked for, whatever the request calls it.
        let target = if self.original.is_some() { name.as_str() } else { self.host.as_str() };
        let Ok(destination) = self.destination(Scheme::Http, target, alpn) else {
            self.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new());
            return;
        };
        let destination = if toward == Toward::Proxy { destination.to_a_proxy() } else { destination };
        // A server that has begun to speak HTTP/2 takes no other request.
        if let Some(server) = self.server.take().filter(|_| !self.settings || speaks == Speaks::Http2) {
            self.shared.pools.offer(&destination, UpstreamStream::Plain(server));
        }
        self.shared.recorder.flow(FlowOutcome::Plain, Vec::new());
        let route = Route {
            connection,
            destination,
            toward,
            client: Client::of(&self.asking),
            sni: None,
            alpn: None,
            problem: None,
            seat: self.asking.seat.clone(),
            twice: Twice::default(),
            learnt: Arc::default(),
            departure: None,
            shared: self.shared.clone(),
        };
        serve_http(route, Peeked::new(self.seen, self.client), speaks).await;
    }

    /// The name that a request by address gives its server, if it is one of the address that was
    /// asked for; else the address. Nothing else vouches for a name without TLS.
    async fn name_in_host(&mut self) -> String {
        let mut buffer = BytesMut::from(&self.seen[..]);
        let read = async {
            while !head_is_over(&buffer) && buffer.len() < PEEK {
                buffer.reserve(4096);
                if !matches!(self.client.read_buf(&mut buffer).await, Ok(read) if read > 0) {
                    break;
                }
            }
        };
        // The task that serves the request waits for the rest.
        let _ = timeout(self.shared.options.hello_timeout, read).await;
        self.seen = buffer.freeze();
        match host_in(&self.seen) {
            Some(name) if name != self.host && self.leads_to_original(&name).await => name,
            _ => self.host.clone(),
        }
    }
}
