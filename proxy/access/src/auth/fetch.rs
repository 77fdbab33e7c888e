//! The HTTP interface that authentication needs. Implementers verify TLS, set a time limit, follow no redirects to other hosts, and bound
//! the bytes read.

use bytes::Bytes;
use http::HeaderValue;
use std::{future::Future, pin::Pin};
use thiserror::Error;

/// The longest document that is read: key sets, metadata, introspection. An implementation stops reading beyond it.
pub const MAX_DOCUMENT: usize = 256 << 10;

/// An answer that is still to come.
pub type Fetched<'a> = Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + 'a>>;

/// An error of fetching a document. It is logged: implementations put no secret into it.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub struct FetchError(pub String);

/// Gets documents from the identity provider.
pub trait Fetch: Send + Sync {
    /// The body of a successful (2xx) GET.
    fn get<'a>(&'a self, url: &'a str) -> Fetched<'a>;

    /// The body of a successful (2xx) POST of a form, with this `Authorization`.
    fn post_form<'a>(&'a self, url: &'a str, form: Bytes, authorization: Option<HeaderValue>) -> Fetched<'a>;
}
