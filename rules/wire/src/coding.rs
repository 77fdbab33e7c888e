//! Decoders for `Content-Encoding` (RFC 9110 section 8.4), pushed and eager.
//!
//! Eager means: after [`Decoder::feed`] the sink has seen every plaintext byte that the receiver's
//! decoder could have made from the same bytes. A proxy that forwards what it fed can therefore
//! never have forwarded plaintext it has not seen. gzip, deflate and br decode bit by bit; zstd
//! decodes a compressed block when its last byte arrives, as the format asks of every decoder (its
//! entropy streams are read backwards), and raw blocks byte by byte.
//!
//! Memory per coding: the window (32 KiB; br up to 16 MiB, zstd up to 8 MiB as the stream asks
//! for) and 16 KiB of output. What a few bytes make may be gigabytes: [`Decoder::feed_some`] makes a
//! step of it at a time, and bombs end at [`DecodeLimits`].

mod counted;
mod decoder;
mod readings;
mod stage;

pub use decoder::{Decoder, Pace};
pub use readings::{MAX_OTHER_READINGS, other_readings};

/// A content coding we can undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 1952, one to [`MAX_MEMBERS`] members.
    Gzip,
    /// RFC 1950, or the raw RFC 1951 stream that some senders mean by it; told apart by the header.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878, one frame, window at most 8 MiB (RFC 9659).
    Zstd,
}

impl Coding {
    /// The token in `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// A `Content-Encoding` we cannot undo.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A coding that is not one of [`Coding`].
    #[error("unsupported content coding {0:?}")]
    Coding(smol_str::SmolStr),
    /// More than [`MAX_STACKED`] codings on top of each other.
    #[error("more than {MAX_STACKED} content codings")]
    Stacked,
}

/// Most members of one gzip stream; tools that write many use 64 KiB of plaintext for each.
pub const MAX_MEMBERS: u32 = 1024;

/// Most codings on top of each other.
pub const MAX_STACKED: usize = 2;

/// Reads the values of all `Content-Encoding` headers, in order. The result is in the order they
/// must be undone: the coding applied last comes first. `identity` is dropped, `x-gzip` is `gzip`.
pub fn parse_content_encoding<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<Coding>, Unsupported> {
    let mut codings = Vec::new();
    for token in values.flat_map(|value| value.split(',')) {
        let token = token.trim_matches([' ', '\t']);
        codings.push(match token.to_ascii_lowercase().as_str() {
            "" | "identity" => continue,
            "gzip" | "x-gzip" => Coding::Gzip,
            "deflate" => Coding::Deflate,
            "br" => Coding::Brotli,
            "zstd" => Coding::Zstd,
            _ => {
                let shown: String = token.chars().take(32).collect();
                return Err(Unsupported::Coding(shown.into()));
            }
        });
    }
    if codings.len() > MAX_STACKED {
        return Err(Unsupported::Stacked);
    }
    codings.reverse();
    Ok(codings)
}

/// Limits on the plaintext that a decoder may produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Most plaintext bytes per coded byte, once past the floor.
    pub max_ratio: u32,
    /// Plaintext bytes up to which the ratio is not judged: short bodies compress by any ratio.
    pub ratio_floor: u64,
    /// Most plaintext bytes in all.
    pub max_output: u64,
}

impl Default for DecodeLimits {
    /// 1,100 to 1 beyond 64 MiB, and 256 MiB in all. DEFLATE's own bound is 1,032 to 1, and equal rows reach it; the others
    /// compress a lot of nothing by far more.
    fn default() -> Self {
        Self { max_ratio: 1100, ratio_floor: 64 << 20, max_output: 256 << 20 }
    }
}

/// An error of decoding a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not of this coding, or a checksum is wrong.
    #[error("corrupt content coding")]
    Corrupt,
    /// The body ended inside the coded stream.
    #[error("truncated content coding")]
    Truncated,
    /// Bytes after the end of the coded stream.
    #[error("data after the end of the content coding")]
    TrailingData,
    /// More plaintext per coded byte than [`DecodeLimits::max_ratio`].
    #[error("compression ratio exceeds the limit")]
    RatioExceeded,
    /// More plaintext than [`DecodeLimits::max_output`].
    #[error("decoded size exceeds the limit")]
    OutputExceeded,
    /// More gzip members than [`MAX_MEMBERS`].
    #[error("more gzip members than the limit")]
    MembersExceeded,
}

impl DecodeError {
    /// The stable name used in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt_encoding",
            Self::Truncated => "truncated",
            Self::TrailingData => "trailing_data",
            Self::RatioExceeded => "ratio_exceeded",
            Self::OutputExceeded => "output_exceeded",
            Self::MembersExceeded => "members_exceeded",
        }
    }
}

#[cfg(test)]
mod tests;
