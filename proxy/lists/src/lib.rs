//! What of a portal's servers is shown to whom, under which names, and where a name leads.
//!
//! [`lists::PortalLists`] holds the servers. Lists are answered from what was fetched of them last, through a view that is made once
//! for callers who may know the same ([`view`]); a request finds its server by the names in it ([`route`]), and only by those that
//! its caller may know.
//!
//! It deliberately asks no server: what is fetched, and when, is `gnomon-upstream`'s; passing a request on is the portal's.
//!
//! What an attacker controls: clients the names they ask for, servers those they list. A name that nobody showed leads nowhere, and
//! says no more than one that does not exist.
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
