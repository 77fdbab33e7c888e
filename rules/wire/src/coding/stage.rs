//! One coding: a common face for three decoder libraries.

use std::ops::Range;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation as _};

use super::counted::{Counted, Taken};
use super::{Coding, DecodeError, MAX_MEMBERS};

const OUTPUT: usize = 16 << 10;
/// Window bits of zlib and gzip (RFC 1951: 32 KiB).
const WINDOW_BITS: u8 = 15;
/// RFC 9659: decoders of the content coding need not support windows over 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Bytes that a decoder takes beside its window: tables, and our buffer of its output.
const TABLES: u64 = 48 << 10;
/// Largest windows, bytes (RFC 1951, [`ZSTD_WINDOW_LOG`]).
const DEFLATE_WINDOW: u64 = 1 << WINDOW_BITS;
const ZSTD_WINDOW: u64 = 1 << ZSTD_WINDOW_LOG;

/// The result of one step.
pub(super) struct Step {
    pub read: usize,
    pub written: usize,
    pub progress: Progress,
}

/// The result of a step: more output, more input needed, or the end.
pub(super) enum Progress {
    /// The output was full, or a new member may follow: step again.
    More,
    /// All that the input gave is out.
    Drained,
    /// Decoding failed; the output before the fault still counts.
    Failed(DecodeError),
}

pub(super) struct Stage {
    engine: Engine,
    position: Position,
    output: Box<[u8]>,
    made: u64,
    /// The window that the body announces, bytes, until its first output shows how much of it is allocated.
    announced: usize,
    /// The part of the output that the next stage has still to read.
    kept: Range<usize>,
    /// True if another step may produce more without more input.
    pub more: bool,
    /// The fault found after the output of this step.
    pub fault: Option<DecodeError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Untouched,
    Inside,
    Ended,
}

enum Engine {
    Gzip {
        inflate: Decompress,
        members: u32,
    },
    /// `deflate` before its second byte, which tells zlib from raw.
    Undecided(Option<u8>),
    Inflate(Decompress),
    Brotli(Box<BrotliState<Counted, Counted, Counted>>, Taken),
    Zstd(ZstdDecoder<'static>),
    /// The library could not be set up.
    Broken,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("position", &self.position).field("made", &self.made).finish_non_exhaustive()
    }
}

impl Stage {
    pub fn new(coding: Coding) -> Self {
        let engine = match coding {
            Coding::Gzip => Engine::Gzip { inflate: Decompress::new_gzip(WINDOW_BITS), members: 1 },
            Coding::Deflate => Engine::Undecided(None),
            Coding::Brotli => {
                let taken = Taken::default();
                let [bytes, words, codes] = [(); 3].map(|()| Counted::new(&taken));
                Engine::Brotli(Box::new(BrotliState::new(bytes, words, codes)), taken)
            }
            Coding::Zstd => zstd_decoder(),
        };
        Self {
            engine,
            position: Position::Untouched,
            output: vec![0; OUTPUT].into_boxed_slice(),
            made: 0,
            announced: 0,
            kept: 0..0,
            more: false,
            fault: None,
        }
    }

    pub fn output(&self, written: usize) -> &[u8] {
        self.output.get(..written).unwrap_or_default()
    }

    /// Keeps so much of the output for the next stage.
    pub fn keep(&mut self, written: usize) {
        self.kept = 0..written;
    }

    /// The kept bytes.
    pub fn kept(&self) -> &[u8] {
        self.output.get(self.kept.clone()).unwrap_or_default()
    }

    /// Drops bytes that the next stage has read.
    pub fn consume(&mut self, read: usize) {
        self.kept.start += read;
    }

    /// Plaintext bytes so far.
    pub const fn made(&self) -> u64 {
        self.made
    }

    pub const fn add_made(&mut self, written: usize) {
        self.made += written as u64;
        if written > 0 {
            self.announced = 0;
        }
    }

    /// Memory taken, bytes: of brotli what its decoder has allocated, of a zstd window as much as was made, up to the largest.
    pub fn memory(&self) -> usize {
        let window = match self.engine {
            _ if self.position == Position::Untouched => return 0,
            Engine::Broken => 0,
            Engine::Gzip { .. } | Engine::Undecided(_) | Engine::Inflate(_) => DEFLATE_WINDOW,
            Engine::Brotli(_, ref taken) => taken.bytes() as u64,
            Engine::Zstd(_) => self.made.min(ZSTD_WINDOW),
        };
        usize::try_from(TABLES + window).unwrap_or(usize::MAX).max(self.announced)
    }

    /// True between the first byte, which announces a large window, and the second, which has it allocated.
    pub const fn announces(&self) -> bool {
        self.announced > 0
    }

    pub fn is_broken_off(&self) -> bool {
        self.position == Position::Inside
    }

    /// Decodes some of the input into the output buffer.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, DecodeError> {
        if self.position == Position::Ended {
            if input.is_empty() {
                return Ok(drained(0));
            }
            self.next_member(input)?;
        }
        let begins = self.position == Position::Untouched;
        if begins {
            self.position = Position::Inside;
        }
        match &mut self.engine {
            Engine::Undecided(first) => {
                let Some(&byte) = input.first() else {
                    return Ok(drained(0));
                };
                let Some(first) = *first else {
                    *first = Some(byte);
                    return Ok(drained(1));
                };
                self.decide_deflate(first, byte)
            }
            Engine::Gzip { inflate, .. } | Engine::Inflate(inflate) => inflate_step(inflate, input, &mut self.output, &mut self.position),
            Engine::Brotli(state, _) => {
                // The first byte by itself, so that who accounts for memory knows of the window before it is allocated.
                let input = if begins { input.get(..1).unwrap_or_default() } else { input };
                self.announced = match input.first().filter(|_| begins) {
                    Some(first) => brotli_window(*first),
                    None => 0,
                };
                brotli_step(state, input, &mut self.output, &mut self.position)
            }
            Engine::Zstd(decoder) => {
                // Given a whole frame at once, libzstd decodes it by another function, which refuses
                // a few frames that the streaming one accepts. One byte first, and it always streams:
                // how a body was cut must not decide what it is.
                let input = if begins { &input[..input.len().min(1)] } else { input };
                let status = decoder.run_on_buffers(input, &mut self.output).map_err(|_| DecodeError::Corrupt)?;
                if status.remaining == 0 {
                    self.position = Position::Ended;
                }
                Ok(Step {
                    read: status.bytes_read,
                    written: status.bytes_written,
                    progress: after(status.bytes_written, self.output.len(), self.position),
                })
            }
            Engine::Broken => Err(DecodeError::Corrupt),
        }
    }

    /// gzip may go on with another member; nothing else may go on.
    fn next_member(&mut self, input: &[u8]) -> Result<(), DecodeError> {
        let Engine::Gzip { inflate, members } = &mut self.engine else {
            return Err(DecodeError::TrailingData);
        };
        if input.first() != Some(&0x1F) {
            return Err(DecodeError::TrailingData);
        }
        if *members >= MAX_MEMBERS {
            return Err(DecodeError::MembersExceeded);
        }
        *members += 1;
        *inflate = Decompress::new_gzip(WINDOW_BITS);
        self.position = Position::Inside;
        Ok(())
    }

    /// RFC 1950 section 2.2: method 8, window up to 32 KiB, and a check sum of the two bytes.
    /// Everything else is the raw stream that some senders mean by `deflate`.
    fn decide_deflate(&mut self, first: u8, second: u8) -> Result<Step, DecodeError> {
        let header = u16::from_be_bytes([first, second]);
        let zlib = first & 0x0F == 8 && first >> 4 <= 7 && header.is_multiple_of(31);
        let mut inflate = if zlib { Decompress::new_with_window_bits(true, WINDOW_BITS) } else { Decompress::new(false) };
        let both = [first, second];
        let mut step = inflate_step(&mut inflate, &both, &mut self.output, &mut self.position)?;
        self.engine = Engine::Inflate(inflate);
        if step.read < both.len() && !matches!(step.progress, Progress::Failed(_)) {
            // The raw stream ended in its first byte.
            step.progress = Progress::Failed(DecodeError::TrailingData);
        }
        // Of the two, only the second is in this step's input.
        step.read = 1;
        Ok(step)
    }
}

fn zstd_decoder() -> Engine {
    let Ok(mut decoder) = ZstdDecoder::new() else {
        return Engine::Broken;
    };
    match decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)) {
        Ok(()) => Engine::Zstd(decoder),
        Err(_) => Engine::Broken,
    }
}

fn drained(read: usize) -> Step {
    Step { read, written: 0, progress: Progress::Drained }
}

fn after(written: usize, room: usize, position: Position) -> Progress {
    if written == room && position != Position::Ended { Progress::More } else { Progress::Drained }
}

fn inflate_step(inflate: &mut Decompress, input: &[u8], output: &mut [u8], position: &mut Position) -> Result<Step, DecodeError> {
    let (read, written) = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, output, FlushDecompress::None);
    // Both differences are bounded by the slices.
    let read = (inflate.total_in() - read) as usize;
    let written = (inflate.total_out() - written) as usize;
    if let Ok(Status::StreamEnd) = status {
        *position = Position::Ended;
    }
    let progress = match status {
        Ok(_) => after(written, output.len(), *position),
        Err(_) => Progress::Failed(DecodeError::Corrupt),
    };
    Ok(Step { read, written, progress })
}

/// The window that the first byte of a body announces, bytes (RFC 7932 section 9.1); 0 if it is small, or none.
fn brotli_window(first: u8) -> usize {
    let bits = match (first & 1, first >> 1 & 7) {
        (0, _) | (_, 0) => return 0,
        (_, above) => 17 + u32::from(above),
    };
    1 << bits
}

fn brotli_step(
    state: &mut BrotliState<Counted, Counted, Counted>,
    input: &[u8],
    output: &mut [u8],
    position: &mut Position,
) -> Result<Step, DecodeError> {
    let (mut left, mut read) = (input.len(), 0);
    let (mut room, mut written, mut total) = (output.len(), 0, 0);
    let result = BrotliDecompressStream(&mut left, &mut read, input, &mut room, &mut written, output, &mut total, state);
    let progress = match result {
        BrotliResult::ResultSuccess => {
            *position = Position::Ended;
            Progress::Drained
        }
        BrotliResult::NeedsMoreInput => after(written, output.len(), *position),
        BrotliResult::NeedsMoreOutput => Progress::More,
        BrotliResult::ResultFailure => Progress::Failed(DecodeError::Corrupt),
    };
    Ok(Step { read, written, progress })
}
