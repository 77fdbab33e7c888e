//! Making runtimes trust one more authority without taking any from them.
//!
//! No variable reaches all runtimes, and most of those there are *replace* what a runtime trusts. So
//! a program is given a bundle of everything (the system's roots, whatever the variables already
//! named, and our authority) by all of them. Nothing on the host is changed: [`merge`] makes the
//! bundle, the caller writes it where it likes.
//!
//! What a file contains besides certificates, a private key say, never gets into the bundle. One
//! bundle serves all variables, so a certificate that was named for one runtime counts for all of
//! that program's; a caller that minds makes a bundle for each file in [`already_named`].
//!
//! Java is not reached by any variable: see [`BEYOND_VARIABLES`].

mod bundle;
mod variables;

pub use bundle::{Bundle, MAX_BUNDLE, SYSTEM_BUNDLES, TrustError, merge, read_certificates, system_bundle};
pub use variables::{BEYOND_VARIABLES, Beyond, CA_VARIABLES, CaVariable, Named, already_named, proxy_variables, variables};
