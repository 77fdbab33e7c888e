//! Whose sessions and calls are.

/// The owner of what gnomon does itself.
pub(crate) const OWN: &str = "";

/// Whose a session with a server is.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Whose share of a program's processes it takes.
    pub holder: &'a str,
    /// Whose fault it is where a program ends in it.
    pub ends: &'a str,
}

impl Owner<'_> {
    /// gnomon itself, on behalf of nobody or of everybody.
    pub(crate) const OWN: Self = Self { holder: OWN, ends: OWN };
}
