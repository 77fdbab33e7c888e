//! Conversions of bytes that the kernel half wrote into the types that both halves share.

use aya::Pod;

/// The value at the beginning of the bytes; `None` if they are too few.
pub(crate) fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: there are as many bytes as the type has, any bytes make a valid value of a `Pod` type, and
    // the read asks for no alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
