//! Runs one guest: boots it, reads its console, and stops it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::report::{Ending, Report};

/// The longest that a guest may run. On two idle processors one takes about four minutes, beside compilers and fuzzers ten.
const LIMIT: Duration = Duration::from_secs(1500);
/// The longest that a guest may print nothing. The longest test takes a tenth of that on an idle machine.
const SILENCE: Duration = Duration::from_secs(600);
/// The longest from power on to our first line. It takes about twenty seconds, on a busy machine sixty.
const BOOTING: Duration = Duration::from_secs(180);
/// Every line of ours contains this.
const OURS: &str = "GUEST ";
/// How often a guest is booted whose kernel panics or never runs a program of ours. Emulation is not perfect: a random fault passes the
/// next time, one of ours comes back each time.
const AGAIN: usize = 3;
/// What a panic prints: that of a trap, and that of any other fault, which `oops=panic` turns into one.
const PANICS: [&str; 2] = ["PANIC", "Kernel panic"];
/// More than any guest prints; a longer log is an error.
const MAX_LOG: usize = 4 << 20;

impl Ending {
    /// For the progress line.
    pub fn in_a_word(&self) -> String {
        match self {
            Self::Done(report) => report.counts(),
            Self::Panicked => "its kernel panicked each time".into(),
            Self::Unbooted(_) => "its kernel did not come up, each time".into(),
            Self::Cut(_) => "ended before its last line".into(),
        }
    }

    fn of(log: &str) -> Self {
        match Report::read(log) {
            Some(report) => Self::Done(report),
            None if PANICS.iter().any(|sign| log.contains(sign)) => Self::Panicked,
            None => {
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(15)..].join("\n");
                if log.contains(OURS) { Self::Cut(tail) } else { Self::Unbooted(tail) }
            }
        }
    }

    /// Whether the fault may be the emulator's.
    const fn may_pass(&self) -> bool {
        matches!(self, Self::Panicked | Self::Unbooted(_))
    }
}

/// Boots until the kernel comes up without a panic, at most [`AGAIN`] times. The log of the last boot is kept in `log`.
pub fn run(kernel: &Path, image: &Path, log: &Path) -> Result<Ending> {
    let mut ending = Ending::Panicked;
    for attempt in 0..=AGAIN {
        let said = boot(kernel, image, log)?;
        ending = Ending::of(&said);
        if !ending.may_pass() {
            break;
        }
        eprintln!("{}: boot {} of at most {}: {}", log.display(), attempt + 1, AGAIN + 1, ending.in_a_word());
    }
    Ok(ending)
}

/// The emulator; killed when dropped.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots once. Returns the console output up to power off, or up to a time limit.
fn boot(kernel: &Path, image: &Path, log: &Path) -> Result<String> {
    let mut command = Command::new("qemu-system-x86_64");
    // Without cmpxchg16b: the allocator of 6.12 and the emulation of QEMU 7.2 do not work together. With it about every fifth boot
    // panicked, without it none of the first sixteen.
    command.args([
        "-accel",
        "tcg",
        "-cpu",
        "max,cx16=off",
        "-m",
        "768",
        "-smp",
        "1",
        "-nodefaults",
        "-no-reboot",
        "-nographic",
        "-serial",
        "stdio",
    ]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(image);
    // A fault stops the guest at once. Mitigations protect nobody here and cost a third of the time. The timer check counts ticks against a
    // delay loop: if the emulator waits for a processor meanwhile, the kernel finds no timer and gives up.
    command.args(["-append", "console=ttyS0 quiet oops=panic panic=-1 mitigations=off no_timer_check"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut emulator = Emulator(command.spawn().context("starting qemu-system-x86_64")?);
    let console = emulator.0.stdout.take().context("the guest's console")?;
    let (to, from) = mpsc::channel();
    // The thread ends with the emulator's output.
    std::thread::spawn(move || {
        let mut console = BufReader::new(console.take(MAX_LOG as u64));
        let mut line = Vec::new();
        while console.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if to.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    let started = Instant::now();
    let mut file = File::create(log).with_context(|| format!("writing {}", log.display()))?;
    let mut said = String::new();
    let mut limit = BOOTING;
    while let Ok(line) = from.recv_timeout(SILENCE.min(limit.saturating_sub(started.elapsed()))) {
        if line.contains(OURS) {
            limit = LIMIT;
        }
        // The time shows which test is slow.
        writeln!(file, "{:6.1} {line}", started.elapsed().as_secs_f64())?;
        said.push_str(&line);
        said.push('\n');
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_without_its_last_line_has_failed_and_one_that_panicked_may_try_again() {
        assert!(matches!(Ending::of("GUEST kernel 6.1\nGUEST test a ... ok\n"), Ending::Cut(tail) if tail.contains("test a")));
        for panic in ["traps: PANIC: double fault", "Kernel panic - not syncing: Fatal exception"] {
            assert_eq!(Ending::of(&format!("GUEST kernel 6.12\n{panic}\n")), Ending::Panicked);
        }
    }

    #[test]
    fn a_kernel_that_fell_silent_before_it_ran_anything_of_ours_is_booted_again_and_a_test_that_did_is_not() {
        assert!(Ending::of("Booting from ROM...\n..MP-BIOS bug: 8254 timer not connected to IO-APIC\n").may_pass());
        assert!(Ending::of("").may_pass());
        assert!(!Ending::of("Booting from ROM...\nGUEST kernel 6.1\nGUEST test a ... ok\n").may_pass());
    }
}
