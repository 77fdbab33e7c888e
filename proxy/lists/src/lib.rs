//! The entries of a portal's servers that each caller is shown, under which names, and the server that a name leads to.
//!
//! [`lists::PortalLists`] holds the servers. Lists are answered from what was fetched of them last, through a view that is made once
//! for callers who may know the same ([`view`]); a request finds its server by the names in it ([`route`]), and only by those that
//! its caller may know.
//!
//! It deliberately sends no request: fetching lists is `gnomon-upstream`'s; passing a request on is the portal's.
//!
//! Clients control the names they ask for, servers those they list. A name that was not shown leads nowhere, and
//! is answered like one that does not exist.
#![deny(missing_docs)]

mod capabilities;
mod given;
pub mod identifiers;
pub mod labels;
pub mod lists;
mod omitted;
mod pages;
pub mod route;
pub mod sight;
pub mod view;
