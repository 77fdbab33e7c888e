//! The chain of stages, and the budget they share.

use super::stage::{Progress, Stage};
use super::{Coding, DecodeError, DecodeLimits};

/// Undoes the content codings of one body.
#[derive(Debug)]
pub struct Decoder {
    stages: Vec<Stage>,
    limits: DecodeLimits,
    fed: u64,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// A decoder for the codings in the order of [`super::parse_content_encoding`]. Of none, it
    /// hands the bytes on without limits.
    pub fn new(codings: &[Coding], limits: DecodeLimits) -> Self {
        Self { stages: codings.iter().copied().map(Stage::new).collect(), limits, fed: 0, failed: None }
    }

    /// Decodes the next bytes. Before this returns, `sink` gets all plaintext they make possible.
    ///
    /// # Errors
    /// The body cannot be decoded; further calls give the same error. Plaintext before the fault
    /// may be missing where it arrived in the same call.
    pub fn feed(&mut self, input: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        self.fed += input.len() as u64;
        let budget = Budget { limits: self.limits, fed: self.fed };
        drive(&mut self.stages, &budget, input, sink).inspect_err(|error| {
            self.failed = Some(*error);
        })
    }

    /// Says that the body ended. A body of no bytes at all is complete.
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
}

/// The limits, and how many coded bytes came in so far.
struct Budget {
    limits: DecodeLimits,
    fed: u64,
}

impl Budget {
    /// How many of `fresh` bytes may go out after `made`, and what is wrong if not all.
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

/// Pushes bytes through the stages; each stage's plaintext goes on before it decodes more.
fn drive(stages: &mut [Stage], budget: &Budget, mut input: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), DecodeError> {
    let Some((stage, rest)) = stages.split_first_mut() else {
        if !input.is_empty() {
            sink(input);
        }
        return Ok(());
    };
    if input.is_empty() {
        return Ok(());
    }
    loop {
        let step = stage.step(input)?;
        input = input.get(step.read..).unwrap_or_default();
        let plain = stage.output(step.written);
        let (admitted, verdict) = budget.admit(stage.made(), step.written);
        drive(rest, budget, plain.get(..admitted).unwrap_or_default(), sink)?;
        verdict?;
        stage.add_made(step.written);
        match step.progress {
            Progress::Failed(error) => return Err(error),
            Progress::More => {}
            Progress::Drained if input.is_empty() => return Ok(()),
            // A decoder that neither reads nor writes will not get further.
            Progress::Drained if step.read == 0 && step.written == 0 => {
                return Err(DecodeError::Corrupt);
            }
            Progress::Drained => {}
        }
    }
}
