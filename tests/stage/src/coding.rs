//! Content codings in both directions: whole bodies are encoded, and decoded as early as the coding allows.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

/// One content coding, or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
    /// `deflate` as RFC 9110 defines it: in a zlib frame.
    Zlib,
    /// `deflate` as some clients send it: without the zlib frame.
    RawDeflate,
    Brotli,
    Zstd,
    /// gzip first, brotli around it.
    GzipThenBrotli,
}

impl Coding {
    pub const ALL: [Coding; 7] = [Self::Identity, Self::Gzip, Self::Zlib, Self::RawDeflate, Self::Brotli, Self::Zstd, Self::GzipThenBrotli];

    /// The `Content-Encoding` header, in the order in which codings were applied.
    pub fn header(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zlib | Self::RawDeflate => Some("deflate"),
            Self::Brotli => Some("br"),
            Self::Zstd => Some("zstd"),
            Self::GzipThenBrotli => Some("gzip, br"),
        }
    }

    pub fn encode(self, plain: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::default();
        match self {
            Self::Identity => plain.to_vec(),
            Self::Gzip => finish(flate2::write::GzEncoder::new(Vec::new(), level), plain, |e| e.finish()),
            Self::Zlib => finish(flate2::write::ZlibEncoder::new(Vec::new(), level), plain, |e| e.finish()),
            Self::RawDeflate => finish(flate2::write::DeflateEncoder::new(Vec::new(), level), plain, |e| e.finish()),
            Self::Brotli => {
                let mut coded = Vec::new();
                brotli::BrotliCompress(&mut &*plain, &mut coded, &brotli::enc::BrotliEncoderParams::default()).unwrap();
                coded
            }
            Self::Zstd => zstd::encode_all(plain, 0).unwrap(),
            Self::GzipThenBrotli => Self::Brotli.encode(&Self::Gzip.encode(plain)),
        }
    }
}

/// Brotli with the largest window that there is, 16 MiB.
pub fn brotli_with_large_window(plain: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    let params = brotli::enc::BrotliEncoderParams { quality: 5, lgwin: 24, ..Default::default() };
    brotli::BrotliCompress(&mut &*plain, &mut coded, &params).unwrap();
    coded
}

fn finish<E: Write>(mut encoder: E, plain: &[u8], end: impl FnOnce(E) -> io::Result<Vec<u8>>) -> Vec<u8> {
    encoder.write_all(plain).unwrap();
    end(encoder).unwrap()
}

/// Decodes as much as the bytes received so far allow.
pub struct Decoder {
    input: Box<dyn Write + Send>,
    output: Shared,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoder {
    /// A decoder for this `Content-Encoding`; an unknown coding is passed on as it is.
    pub fn new(content_encoding: Option<&str>) -> Self {
        let output = Shared::default();
        let mut input: Box<dyn Write + Send> = Box::new(output.clone());
        for coding in content_encoding.unwrap_or_default().split(',') {
            input = match coding.trim() {
                "gzip" => Box::new(flate2::write::GzDecoder::new(input)),
                "deflate" => Box::new(EitherDeflate::Undecided(Some(input))),
                "br" => Box::new(brotli::DecompressorWriter::new(input, 4096)),
                "zstd" => Box::new(zstd::stream::write::Decoder::new(input).unwrap()),
                _ => input,
            };
        }
        Self { input, output }
    }

    /// Returns the plain text that these further bytes give.
    pub fn feed(&mut self, raw: &[u8]) -> Vec<u8> {
        // The upstream acts on what it could decode; an error in what follows does not concern it.
        let _ = self.input.write_all(raw);
        let _ = self.input.flush();
        std::mem::take(&mut *self.output.0.lock().unwrap())
    }
}

/// `deflate` with or without the zlib frame; the first byte tells which.
enum EitherDeflate {
    Undecided(Option<Box<dyn Write + Send>>),
    Zlib(flate2::write::ZlibDecoder<Box<dyn Write + Send>>),
    Raw(flate2::write::DeflateDecoder<Box<dyn Write + Send>>),
}

impl Write for EitherDeflate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let (Self::Undecided(inner), Some(first)) = (&mut *self, bytes.first()) {
            let inner = inner.take().unwrap();
            *self = if first & 0x0f == 8 {
                Self::Zlib(flate2::write::ZlibDecoder::new(inner))
            } else {
                Self::Raw(flate2::write::DeflateDecoder::new(inner))
            };
        }
        match self {
            Self::Undecided(_) => Ok(bytes.len()),
            Self::Zlib(inner) => inner.write(bytes),
            Self::Raw(inner) => inner.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Undecided(_) => Ok(()),
            Self::Zlib(inner) => inner.flush(),
            Self::Raw(inner) => inner.flush(),
        }
    }
}

#[test]
fn every_coding_gives_back_its_text_byte_by_byte() {
    let plain = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    for coding in Coding::ALL {
        let coded = coding.encode(plain);
        let mut decoder = Decoder::new(coding.header());
        let decoded: Vec<u8> = coded.chunks(1).flat_map(|byte| decoder.feed(byte)).collect();
        assert_eq!(decoded, plain, "{coding:?}");
    }
}
