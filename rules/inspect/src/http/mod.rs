//! HTTP: heads, content codings and bodies.

pub(crate) mod answer_body;
pub(crate) mod charset;
pub(crate) mod exchange;
pub(crate) mod named;
pub(crate) mod reading;
pub(crate) mod request;
pub(crate) mod response;
