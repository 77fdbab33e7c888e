//! The chain of stages, and the budget they share.

use super::stage::{Progress, Stage};
use super::{Coding, DecodeError, DecodeLimits};

/// Undoes the content codings of one body.
#[derive(Debug)]
pub struct Decoder {
    stages: Vec<Stage>,
    limits: DecodeLimits,
    /// Coded bytes that the first stage has read.
    fed: u64,
    failed: Option<DecodeError>,
}

/// The progress of [`Decoder::feed_some`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// All plaintext that the input makes possible is out.
    Through,
    /// More plaintext is pending: call again with the rest of the input, even if it is empty.
    Behind,
}

impl Decoder {
    /// Most bytes that [`Decoder::feed_some`] makes at a time, with all codings, beyond one buffer of 16 KiB.
    pub const STEP: usize = 128 << 10;

    /// A decoder for the codings in the order of [`super::parse_content_encoding`]. Of none, it
    /// hands the bytes on without limits.
    pub fn new(codings: &[Coding], limits: DecodeLimits) -> Self {
        Self { stages: codings.iter().copied().map(Stage::new).collect(), limits, fed: 0, failed: None }
    }

    /// Decodes the next bytes. Before this returns, `sink` gets all plaintext they make possible,
    /// however much that is: see [`Decoder::feed_some`].
    ///
    /// # Errors
    /// The body cannot be decoded; further calls give the same error. Plaintext before the fault
    /// may be missing where it arrived in the same call.
    pub fn feed(&mut self, mut input: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
        while self.feed_some(&mut input, sink)? == Pace::Behind {}
        Ok(())
    }

    /// Decodes the next bytes as far as [`Decoder::STEP`] reaches, and leaves in `input` what was not read of them: a few
    /// bytes may make gigabytes.
    ///
    /// # Errors
    /// As [`Decoder::feed`].
    pub fn feed_some(&mut self, input: &mut &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<Pace, DecodeError> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        if self.stages.is_empty() {
            if !input.is_empty() {
                sink(input);
            }
            *input = &[];
            return Ok(Pace::Through);
        }
        self.drive(input, sink).inspect_err(|error| self.failed = Some(*error))
    }

    /// Bytes of memory that it takes, about. A window that a body announces counts from the moment that [`Decoder::feed_some`] has
    /// read so, when it hands back control before any of it is allocated.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.stages.iter().map(Stage::memory).sum()
    }

    /// Bytes that it has made so far, those between two codings included: what decoding has cost.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.stages.iter().map(Stage::made).fold(0, u64::saturating_add)
    }

    /// Ends the body. A body of no bytes at all is complete.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], or the error of an earlier call.
    pub fn finish(&mut self, _sink: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
        // Eager decoders hold nothing back, so the end itself brings no plaintext.
        match self.failed {
            Some(failed) => Err(failed),
            None if self.stages.iter().any(Stage::is_broken_off) => {
                self.failed = Some(DecodeError::Truncated);
                Err(DecodeError::Truncated)
            }
            None => Ok(()),
        }
    }

    /// Pushes bytes through the stages; each stage's plaintext goes on before it decodes more.
    fn drive(&mut self, input: &mut &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<Pace, DecodeError> {
        let mut made = 0;
        while let Some(index) = self.next_stage(input) {
            if made >= Self::STEP {
                return Ok(Pace::Behind);
            }
            let last = index + 1 == self.stages.len();
            let (before, rest) = self.stages.split_at_mut(index);
            let Some(stage) = rest.first_mut() else { break };
            if let Some(fault) = stage.fault {
                return Err(fault);
            }
            let coded = before.last().map_or(*input, |before| before.kept());
            let step = stage.step(coded)?;
            let idle = step.read == 0 && step.written == 0 && !coded.is_empty();
            match before.last_mut() {
                Some(before) => before.consume(step.read),
                None => {
                    *input = input.get(step.read..).unwrap_or_default();
                    self.fed += step.read as u64;
                }
            }
            let budget = Budget { limits: self.limits, fed: self.fed };
            let (admitted, verdict) = budget.admit(stage.made(), step.written);
            stage.add_made(step.written);
            made += step.written;
            stage.more = matches!(step.progress, Progress::More);
            stage.fault = match (verdict, step.progress) {
                (Err(error), _) | (Ok(()), Progress::Failed(error)) => Some(error),
                // A decoder that neither reads nor writes will not get further.
                (Ok(()), Progress::Drained) if idle => Some(DecodeError::Corrupt),
                (Ok(()), Progress::Drained | Progress::More) => None,
            };
            let announces = stage.announces();
            match last {
                true if admitted > 0 => sink(stage.output(admitted)),
                true => {}
                false => stage.keep(admitted),
            }
            if announces && self.next_stage(input).is_some() {
                return Ok(Pace::Behind);
            }
        }
        Ok(Pace::Through)
    }

    /// The stage that goes on: the last one that can.
    fn next_stage(&self, input: &[u8]) -> Option<usize> {
        let has_input = |index: usize| match index.checked_sub(1) {
            Some(before) => self.stages.get(before).is_some_and(|before| !before.kept().is_empty()),
            None => !input.is_empty(),
        };
        (0..self.stages.len()).rev().find(|index| {
            let goes_on = |stage: &Stage| stage.more || stage.fault.is_some();
            has_input(*index) || self.stages.get(*index).is_some_and(goes_on)
        })
    }
}

/// The limits, and how many coded bytes were read so far.
struct Budget {
    limits: DecodeLimits,
    fed: u64,
}

impl Budget {
    /// The number of `fresh` bytes that may go out after `made`, and the error if not all may.
    fn admit(&self, made: u64, fresh: usize) -> (usize, Result<(), DecodeError>) {
        let left = self.limits.max_output.saturating_sub(made);
        if fresh as u64 > left {
            // Below `fresh`, so it fits.
            return (left as usize, Err(DecodeError::OutputExceeded));
        }
        let total = made + fresh as u64;
        let allowed = self.fed.saturating_mul(u64::from(self.limits.max_ratio));
        if total > self.limits.ratio_floor && total > allowed {
            return (fresh, Err(DecodeError::RatioExceeded));
        }
        (fresh, Ok(()))
    }
}
