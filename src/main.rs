//! The one command that people run.
fn main() {}
