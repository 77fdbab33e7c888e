//! What the targets share: one input is a choice byte and the bytes to parse.

/// Splits an input into the choice it begins with and the bytes to parse.
pub fn choice(input: &[u8]) -> Option<(u8, &[u8])> {
    let (choice, bytes) = input.split_first()?;
    Some((*choice, bytes))
}

/// A chunk size from 1 to 16.
pub fn chunk_size(choice: u8) -> usize {
    usize::from(choice % 16) + 1
}
