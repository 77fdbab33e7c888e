//! The owners of sessions and calls.

/// The owner of what gnomon does itself.
pub(crate) const OWN: &str = "";

/// The owner of a session with a server.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The principal whose share of a program's processes it takes.
    pub holder: &'a str,
    /// The principal that is charged if a program ends during it.
    pub ends: &'a str,
}

impl Owner<'_> {
    /// gnomon itself, on no one caller's behalf.
    pub(crate) const OWN: Self = Self { holder: OWN, ends: OWN };
}
