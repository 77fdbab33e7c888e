//! `gnomon sandbox-zygote`: what executions of Code Mode are forked from. Not for people: its standard input is a socket.

use clap::Args;
use std::process::ExitCode;

#[derive(Args)]
pub struct SandboxZygote {}

impl SandboxZygote {
    pub fn run(self) -> ExitCode {
        gnomon_codemode::zygote::run()
    }
}
