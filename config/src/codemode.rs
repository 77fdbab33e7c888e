//! Bounds of Code Mode.

use super::{Check, raw};
use gnomon_codemode::Limits;
use serde_json::{Value, json};
use std::time::Duration;

/// What scripts may take.
#[derive(Clone, Debug)]
pub struct CodeMode {
    pub limits: Limits,
    /// Scripts that run at the same time.
    pub workers: usize,
}

impl Default for CodeMode {
    fn default() -> Self {
        Self { limits: Limits::default(), workers: 128 }
    }
}

impl CodeMode {
    pub(super) fn to_json(&self) -> Value {
        let Self { limits, workers } = self;
        json!({
            "sandbox_seconds": limits.sandbox_time.as_secs(),
            "wall_seconds": limits.wall_time.as_secs(),
            "heap_mib": limits.heap >> 20,
            "stack_kib": limits.stack >> 10,
            "calls": limits.calls,
            "in_flight": limits.in_flight,
            "arguments_kib": limits.arguments >> 10,
            "result_kib": limits.result >> 10,
            "logs_kib": limits.logs >> 10,
            "code_kib": limits.code >> 10,
            "workers": workers,
        })
    }
}

impl Check<'_> {
    pub(super) fn codemode(&mut self, raw: raw::CodeMode) -> CodeMode {
        let plain = CodeMode::default();
        let its = plain.limits;
        let limits = Limits {
            sandbox_time: Duration::from_secs(self.number(raw.sandbox_seconds, "codemode.sandbox_seconds", its.sandbox_time.as_secs())),
            wall_time: Duration::from_secs(self.number(raw.wall_seconds, "codemode.wall_seconds", its.wall_time.as_secs())),
            heap: self.number(raw.heap_mib, "codemode.heap_mib", its.heap >> 20) << 20,
            stack: self.number(raw.stack_kib, "codemode.stack_kib", its.stack >> 10) << 10,
            calls: self.number(raw.calls, "codemode.calls", its.calls),
            in_flight: self.number(raw.in_flight, "codemode.in_flight", its.in_flight),
            arguments: self.number(raw.arguments_kib, "codemode.arguments_kib", its.arguments >> 10) << 10,
            answer: its.answer,
            result: self.number(raw.result_kib, "codemode.result_kib", its.result >> 10) << 10,
            logs: self.number(raw.logs_kib, "codemode.logs_kib", its.logs >> 10) << 10,
            code: self.number(raw.code_kib, "codemode.code_kib", its.code >> 10) << 10,
        };
        CodeMode { limits, workers: self.number(raw.workers, "codemode.workers", plain.workers) }
    }
}
