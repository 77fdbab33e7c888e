//! Chores that are not cargo.
fn main() {}
