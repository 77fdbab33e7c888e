//! Rules and catalogues that ship with gnomon.
