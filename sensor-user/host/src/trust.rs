//! Making runtimes trust one more authority without taking any from them.
//!
//! No variable reaches all runtimes, and most of those there are *replace* what a runtime trusts. So
//! a program is given a bundle of everything (the system's roots, whatever the variables already
//! named, and our authority) by all of them. Nothing on the host is changed: [`merge`] makes the
//! bundle, the caller writes it where it likes.
//!
//! Other contents of a file, such as a private key, never get into the bundle. One
//! bundle serves all variables, so a certificate that was named for one runtime counts for all of
//! that program's; a caller that minds makes a bundle for each file in [`already_named`].
//!
//! Java reads no PEM: it is given a store of its own by [`java_options`]. Where a program is not started by us, see
//! [`BEYOND_VARIABLES`].

mod bundle;
mod java;
mod variables;

pub use bundle::{Bundle, MAX_BUNDLE, SYSTEM_BUNDLES, TrustError, merge, read_certificates, system_bundle};
pub use java::{JAVA_OPTIONS, java_options, java_store};
pub use variables::{BEYOND_VARIABLES, Beyond, CA_VARIABLES, CaVariable, Named, already_named, proxy_variables, variables};
