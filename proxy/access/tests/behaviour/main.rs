//! The crate as callers, administrators and attackers see it.

#![allow(clippy::unwrap_used)]

mod attacks;
mod auth_mistakes;
mod certificates;
mod countries;
mod keys;
mod mistakes;
mod oidc;
mod opaque;
mod people;
mod policy;
mod properties;
mod provider;
mod real_provider;
mod reference;
mod service_tokens;
