//! The loads of the sensor bench: a process of its own, in the cgroup that is observed, which does as it is told.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Cgroups, Place, Quad, Turns};
use crate::contender::in_cgroup;

/// What the process is told, a line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// HTTPS requests over connections that are kept, for so long.
    Kept(Duration),
    /// A TCP connection, a full TLS handshake and a request, over and over, for so long.
    New(Duration),
    /// So many TCP connections to this port, one after the other, each closed once it was accepted and closed there.
    Plain {
        /// How many.
        count: u32,
        /// Of 127.0.0.1.
        port: u16,
    },
    /// Blocks in turns, see [`Loads::turns`].
    Turns(Turns),
    /// To go to a cgroup; what is made from now on is made there.
    Enter(Place),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(length) => write!(f, "kept {}", length.as_millis()),
            Self::New(length) => write!(f, "new {}", length.as_millis()),
            Self::Plain { count, port } => write!(f, "plain {count} {port}"),
            Self::Turns(turns) => write!(f, "{turns}"),
            Self::Enter(place) => write!(f, "enter {}", place.name()),
        }
    }
}

impl FromStr for Order {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match *words {
            ["kept", millis] => Self::Kept(Duration::from_millis(millis.parse()?)),
            ["new", millis] => Self::New(Duration::from_millis(millis.parse()?)),
            ["plain", count, port] => Self::Plain { count: count.parse()?, port: port.parse()? },
            ["turns", kind, inner] => Self::Turns(Turns::read(kind, inner)?),
            ["enter", place] => Self::Enter(Place::read(place)?),
            _ => bail!("no such order: {line}"),
        })
    }
}

/// What came of an order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Done {
    /// Requests answered, or connections made.
    pub count: u64,
    /// For each second.
    pub rate: f64,
}

/// The process that loads.
pub struct Loads {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Loads {
    /// Starts it in the cgroup that is observed. It reaches the upstream at this port of localhost and trusts this CA.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(program: &Path, cgroups: &Cgroups, upstream: (u32, u16), ca: &Path) -> Result<Self> {
        let (pid, port) = upstream;
        let mut command = in_cgroup(&cgroups.at(Place::Observed), program);
        command.arg("--upstream-port").arg(port.to_string()).arg("--upstream-pid").arg(pid.to_string());
        command.arg("--cgroups").arg(cgroups.home()).arg("--ca").arg(ca);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting the loads")?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (to, from) = to.zip(from).context("no pipes to the loads")?;
        Ok(Self { child, to, from: BufReader::new(from) })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order and waits until it is done.
    ///
    /// # Errors
    /// The load failed; its process has said why.
    pub fn run(&mut self, order: Order) -> Result<Done> {
        let answer = self.ask(order)?;
        let (count, rate) = answer.trim().split_once(' ').context("an answer of two numbers")?;
        Ok(Done { count: count.parse()?, rate: rate.parse()? })
    }

    /// Has blocks done in turns, over sockets made for that.
    ///
    /// # Errors
    /// As [`Loads::run`].
    pub fn turns(&mut self, turns: Turns) -> Result<Vec<Quad>> {
        let answer = self.ask(Order::Turns(turns))?;
        let quads = answer.trim().split(", ").map(str::parse).collect::<Result<Vec<Quad>>>()?;
        ensure!(quads.len() == 2 * turns.kind.quads() as usize, "{turns}: {} were done", quads.len());
        Ok(quads)
    }

    fn ask(&mut self, order: Order) -> Result<String> {
        writeln!(self.to, "{order}")?;
        let mut line = String::new();
        ensure!(self.from.read_line(&mut line)? > 0, "the load failed: {order}");
        Ok(line)
    }
}

impl Drop for Loads {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sensor::Kind;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let turns = Turns { kind: Kind::Bare, inner: Place::Aside };
        let all = [
            Order::Kept(Duration::from_millis(700)),
            Order::New(Duration::from_secs(1)),
            Order::Plain { count: 3, port: 443 },
            Order::Turns(turns),
            Order::Enter(Place::Apart),
        ];
        for order in all {
            assert_eq!(order.to_string().parse::<Order>().unwrap(), order);
        }
        for wrong in ["plain 3", "turns kept elsewhere", "turns slow apart"] {
            assert!(wrong.parse::<Order>().is_err(), "{wrong}");
        }
    }
}
