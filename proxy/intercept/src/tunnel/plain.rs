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
use tokio::{io::AsyncReadExt, time::timeout};

impl Tunnel {
    pub(super) async fn http(mut self, speaks: Speaks, toward: Toward) {
        let by_address = self.original.is_some() || self.host.parse::<std::net::IpAddr>().is_ok();
        let name = match (self.original, &self.through) {
            // Whoever says to be a proxy can say to have reached any name.
            (Some(original), Some(_)) => original.ip().to_string(),
            // What it is to fetch each request names.
            _ if toward == Toward::Proxy => self.host.clone(),
            _ if by_address => self.name_in_host().await,
            _ => self.host.clone(),
        };
        let (mut connection, _) = self.asking.open(&self.shared.inspector, self.observe(Channel::Http));
        let _ = connection.hello(&name, self.port, &Hello::default());
        if name != self.host && self.original.is_none() {
            // What the client asked the proxy for stays known beside the name that it says within.
            connection = self.under_all_names(connection, &[&self.host]).await;
        }
        if name == self.host {
            // Nobody vouches for a name: those that the address has count as well.
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
        if let Some(server) = self.server.take() {
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
        // What did not come in time is waited for by whoever serves the request.
        let _ = timeout(self.shared.options.hello_timeout, read).await;
        self.seen = buffer.freeze();
        match host_in(&self.seen) {
            Some(name) if name != self.host && self.leads_to_original(&name).await => name,
            _ => self.host.clone(),
        }
    }
}
