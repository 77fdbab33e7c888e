//! The readings of a body that its `Content-Encoding` headers leave open.
//!
//! Where more than one coding is named, receivers do not agree: some undo all of them, some the last or the first, some those of
//! one line, and some pass over names that they do not know.

use super::{Coding, Unsupported};

/// Most readings of one body beside that of the whole chain.
pub const MAX_OTHER_READINGS: usize = 8;

/// The readings beside the chain of all codings that [`super::parse_content_encoding`] gives for these values: each coding that is named
/// anywhere in them alone, and each two that follow one another, in either order; the first [`MAX_OTHER_READINGS`], of pairs those at either
/// end before others. Each is in the order in which it must be undone. There is none where the chain is one coding, or none.
pub fn other_readings<'a>(values: impl Iterator<Item = &'a [u8]>, chain: &Result<Vec<Coding>, Unsupported>) -> Vec<Vec<Coding>> {
    if chain.as_ref().is_ok_and(|chain| chain.len() <= 1) {
        return Vec::new();
    }
    let named: Vec<Coding> = values.flat_map(|value| value.split(|byte| !byte.is_ascii_alphanumeric())).filter_map(coding).collect();
    let pairs = || {
        let ends = named.windows(2).next_back().into_iter().chain(named.windows(2).next());
        ends.chain(named.windows(2).rev())
    };
    let alone = named.iter().rev().map(|coding| vec![*coding]);
    let undone = pairs().map(|pair| pair.iter().rev().copied().collect());
    let turned = pairs().map(<[Coding]>::to_vec);
    let mut others: Vec<Vec<Coding>> = Vec::new();
    for reading in alone.chain(undone).chain(turned) {
        if others.len() == MAX_OTHER_READINGS {
            break;
        }
        if !others.contains(&reading) && chain.as_ref() != Ok(&reading) {
            others.push(reading);
        }
    }
    others
}

/// The coding that a word means, also within a token that is not one of the list's: `gzip;q=1`, `x-deflate`.
fn coding(word: &[u8]) -> Option<Coding> {
    const WORDS: [(&str, Coding); 7] = [
        ("gzip", Coding::Gzip),
        ("deflate", Coding::Deflate),
        ("zlib", Coding::Deflate),
        ("br", Coding::Brotli),
        ("brotli", Coding::Brotli),
        ("zstd", Coding::Zstd),
        ("zstandard", Coding::Zstd),
    ];
    WORDS.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes())).map(|(_, coding)| coding)
}

#[cfg(test)]
mod tests {
    use super::{
        super::parse_content_encoding,
        Coding::{self, Brotli, Deflate, Gzip, Zstd},
        MAX_OTHER_READINGS, other_readings,
    };

    fn of(values: &[&str]) -> Vec<Vec<Coding>> {
        other_readings(values.iter().map(|value| value.as_bytes()), &parse_content_encoding(values.iter().copied()))
    }

    #[test]
    fn of_several_codings_each_alone_and_each_step_is_a_reading_and_of_one_there_is_no_other() {
        for one in [&[][..], &["identity"], &["gzip"], &["X-GZIP"], &["identity, br", ""]] {
            assert!(of(one).is_empty(), "{one:?}");
        }
        assert_eq!(of(&["deflate", "deflate"]), [vec![Deflate]]);
        for two in [&["br", "deflate"][..], &["br, deflate"], &["br,identity", "DEFLATE"]] {
            assert_eq!(of(two), [vec![Deflate], vec![Brotli], vec![Brotli, Deflate]], "{two:?}");
        }
        for unknown in [&["foo", "zstd"][..], &["zstd, foo"], &["zstd;q=1"], &["\"zstd\""], &["x-zstd"]] {
            assert_eq!(of(unknown), [vec![Zstd]], "{unknown:?}");
        }
        assert!(of(&["foo"]).is_empty());
        // Of a chain that is too long to be undone as a whole, its steps.
        let three = of(&["gzip, br", "zstd"]);
        for reading in [vec![Gzip], vec![Brotli], vec![Zstd], vec![Zstd, Brotli], vec![Brotli, Gzip]] {
            assert!(three.contains(&reading), "{reading:?}");
        }
    }

    #[test]
    fn however_many_codings_are_named_there_are_few_readings_and_those_of_either_end_are_among_them() {
        let lines = ["gzip, br", "zstd, zstd, deflate, gzip, zstd, br, deflate, deflate", "br, zstd, deflate"];
        let readings = of(&lines);
        assert_eq!(readings.len(), MAX_OTHER_READINGS);
        for reading in [vec![Gzip], vec![Brotli], vec![Zstd], vec![Deflate], vec![Brotli, Gzip], vec![Deflate, Zstd]] {
            assert!(readings.contains(&reading), "{reading:?}");
        }
    }
}
