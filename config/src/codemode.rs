//! Bounds of Code Mode.

use crate::{declare::section, forms::Number};
use gnomon_codemode::Limits;
use std::time::Duration;

section! {
    /// Limits of scripts.
    pub struct CodeMode, written CodeModeSource at "codemode." {
        /// Computing time of a script of Code Mode, seconds of a processor; waiting for tools, or for a busy host, is not counted.
        sandbox_seconds: u64 as Number<1, 60> = 5;
        /// Time of a script in all, seconds. Many clients give up after 60 s.
        wall_seconds: u64 as Number<1, 600> = 50;
        /// Memory of a script, MiB.
        heap_mib: usize as Number<4, 512> = 64;
        /// Its stack, KiB.
        stack_kib: usize as Number<64, 4096> = 512;
        /// Tool calls of a script.
        calls: u32 as Number<1, 10_000> = 100;
        /// Tool calls of a script at the same time; further ones wait.
        in_flight: u32 as Number<1, 256> = 16;
        /// Arguments of one such call, KiB of JSON.
        arguments_kib: usize as Number<1, 1024> = 256;
        /// One tool's answer to it, KiB of JSON.
        answer_kib: usize as Number<1, 8192> = 4096;
        /// A script's result, KiB of JSON. A model is given its first 24,000 characters; the rest is kept for ten minutes.
        result_kib: usize as Number<1, 8192> = 1024;
        /// Console output of a script, KiB.
        logs_kib: usize as Number<1, 1024> = 16;
        /// A script's code, KiB.
        code_kib: usize as Number<1, 1024> = 64;
        /// Scripts that run at the same time; 64 more wait for at most 10 s.
        workers: usize as Number<1, 256> = 128;
    }
}

impl CodeMode {
    /// The bounds of one script.
    pub fn limits(&self) -> Limits {
        Limits {
            sandbox_time: Duration::from_secs(self.sandbox_seconds),
            wall_time: Duration::from_secs(self.wall_seconds),
            heap: self.heap_mib << 20,
            stack: self.stack_kib << 10,
            calls: self.calls,
            in_flight: self.in_flight,
            arguments: self.arguments_kib << 10,
            answer: self.answer_kib << 10,
            result: self.result_kib << 10,
            logs: self.logs_kib << 10,
            code: self.code_kib << 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_keys_the_bounds_are_those_that_code_mode_has_by_itself() {
        assert_eq!(CodeMode::default().limits(), Limits::default());
    }
}
