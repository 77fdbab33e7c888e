//! Request and response bodies of an upstream's connection. Each holds the request's claim on its connection, as a request has ended once
//! both its bodies have.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::ending::Sending;

/// A body that requests can have.
pub trait RequestBody: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static {}

impl<B> RequestBody for B
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
}

/// A hold on a connection, given back when dropped.
pub(crate) trait Lease: Send + Sync {}

/// The body of an upstream's answer. As long as it is there, its connection or its stream carries nothing else.
pub struct UpstreamBody {
    // First: the rest of it is given up before its connection is looked at.
    body: Incoming,
    lease: Option<Arc<dyn Lease>>,
}

impl UpstreamBody {
    pub(crate) fn new(body: Incoming, lease: Arc<dyn Lease>) -> Self {
        let lease = (!body.is_end_stream()).then_some(lease);
        Self { body, lease }
    }
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.body.fmt(f)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(None) = polled {
            self.lease = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request.
pub(crate) struct Outgoing<B> {
    body: B,
    lease: Option<Arc<dyn Lease>>,
    sending: Option<Sending>,
}

impl<B> Outgoing<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, lease: None, sending: None }
    }

    /// Tells its connection once all of it is on its way.
    pub(crate) fn tell(&mut self, sending: Option<Sending>) {
        self.sending = sending;
    }

    pub(crate) fn hold(&mut self, lease: Option<Arc<dyn Lease>>) {
        self.lease = lease;
    }
}

impl<B: Body + Unpin> Body for Outgoing<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
