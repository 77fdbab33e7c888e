//! The scopes that are wanted, and what of them holds: all while gnomon is armed, and nothing that redirects or refuses
//! while it is not.
//!
//! The kernel half knows only what holds, so that disarming needs no program of it to be asked anything.

use std::collections::BTreeMap;

use gnomon_sensor::{CgroupId, Error, Mode, Scope, Sensor};

/// Scopes of ours are told from the proxy's by the highest bit of their number.
pub(crate) const OURS: u32 = 1 << 31;

/// Whether scopes may do more than observe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Teeth {
    In,
    Drawn,
}

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Wanted {
    teeth: Teeth,
    default: Scope,
    scopes: BTreeMap<u64, Scope>,
}

impl Wanted {
    /// Nothing but to observe.
    pub(crate) fn new() -> Self {
        Self { teeth: Teeth::In, default: Scope { id: 0, mode: Mode::Observe }, scopes: BTreeMap::new() }
    }

    pub(crate) fn set(&mut self, sensor: &mut Sensor, cgroup: u64, scope: Scope) -> Result<(), Error> {
        sensor.scopes()?.set(CgroupId(cgroup), self.holds(scope))?;
        self.scopes.insert(cgroup, scope);
        Ok(())
    }

    pub(crate) fn forget(&mut self, sensor: &mut Sensor, cgroup: u64) -> Result<(), Error> {
        self.scopes.remove(&cgroup);
        sensor.scopes()?.remove(CgroupId(cgroup))
    }

    pub(crate) fn set_default(&mut self, sensor: &mut Sensor, scope: Scope) -> Result<(), Error> {
        sensor.scopes()?.set_default(self.holds(scope))?;
        self.default = scope;
        Ok(())
    }

    /// Puts it in force. All scopes are tried, and the first error is told: the caller tries again.
    pub(crate) fn turn(&mut self, sensor: &mut Sensor, teeth: Teeth) -> Result<(), Error> {
        self.teeth = teeth;
        let default = self.holds(self.default);
        let mut scopes = sensor.scopes()?;
        let mut done = scopes.set_default(default);
        for (cgroup, scope) in &self.scopes {
            done = done.and(scopes.set(CgroupId(*cgroup), self.holds(*scope)));
        }
        done
    }

    /// The redirecting scope that the proxy wants for a cgroup, given by the numbers of it and of those above it, innermost first:
    /// what the configuration says of a program, whatever scopes of ours it is in.
    pub(crate) fn governing(&self, lineage: impl IntoIterator<Item = u64>) -> Option<Scope> {
        let theirs = |cgroup| self.scopes.get(&cgroup).copied().filter(|scope| scope.id & OURS == 0);
        lineage.into_iter().find_map(theirs).filter(|scope| matches!(scope.mode, Mode::Redirect(_)))
    }

    /// How many of them redirect at this moment.
    pub(crate) fn redirecting(&self) -> usize {
        let redirects = |scope: &&Scope| matches!(self.holds(**scope).mode, Mode::Redirect(_));
        self.scopes.values().chain([&self.default]).filter(redirects).count()
    }

    fn holds(&self, scope: Scope) -> Scope {
        match (self.teeth, scope.mode) {
            // Under the number of the default: what a scope of this number does not redirect would be taken for a way around it.
            (Teeth::Drawn, Mode::Redirect(_)) => Scope { id: 0, mode: Mode::Observe },
            (Teeth::In, _) | (Teeth::Drawn, Mode::Observe | Mode::Off) => scope,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_sensor::{Fail, Ports, Quic, Redirect};

    #[test]
    fn without_teeth_nothing_redirects_or_refuses_and_opting_out_stays() {
        let redirect = Mode::Redirect(Redirect { ports: Ports::All, quic: Quic::Refuse, fail: Fail::Closed });
        let scope = |mode| Scope { id: 7, mode };
        let mut wanted = Wanted::new();
        assert_eq!(wanted.holds(scope(redirect)), scope(redirect));
        wanted.teeth = Teeth::Drawn;
        assert_eq!(wanted.holds(scope(redirect)), Scope { id: 0, mode: Mode::Observe });
        assert_eq!(wanted.holds(scope(Mode::Off)), scope(Mode::Off));
    }
}
