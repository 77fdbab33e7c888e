//! The desired scopes, and which of them are in force: all while gnomon is armed, and none that redirects or refuses while it is disarmed.
//!
//! The proxy sets the scopes of the configuration; those of `gnomon exec` are kept here. Neither weakens the other: `gnomon exec` redirects
//! everything or changes nothing; it leads out of no scope that it is called in; and inside a configured scope that refuses what cannot be
//! redirected, so does a scope of `gnomon exec`.
//!
//! The kernel half knows only the scopes in force, so disarming needs nothing from its programs.

use std::collections::{BTreeMap, BTreeSet};

use gnomon_link::EXEC_SCOPES;
use gnomon_sensor::{CgroupId, Fail, Mode, Ports, Quic, Redirect, Scope, Sensor, SensorError};
use serde::{Deserialize, Serialize};

/// The effect of the kill switch on scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Teeth {
    /// Scopes act as they are set.
    In,
    /// Scopes only observe.
    Drawn,
}

/// What a `gnomon exec` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Asked {
    /// To redirect everything.
    Redirect,
    /// The scope that applies where it was called. Also set in the kernel half, which searches only a limited number of cgroup levels.
    Nothing,
}

/// A scope of `gnomon exec`.
#[derive(Debug)]
struct Exec {
    asked: Asked,
    id: u32,
    /// The ids of its cgroup and of those above it, innermost first. A cgroup is never moved (cgroups(7)).
    lineage: Vec<u64>,
}

/// The desired scopes, as opposed to those in force.
#[derive(Debug)]
pub(crate) struct DesiredScopes {
    teeth: Teeth,
    default: Scope,
    configured: BTreeMap<u64, Scope>,
    /// Configured scopes that the previous sensor kept closed, and that the proxy has not set yet.
    inherited: BTreeSet<u64>,
    execs: BTreeMap<u64, Exec>,
    /// How many scopes of `gnomon exec` have been numbered so far.
    numbered: u32,
    /// True if those of the configuration have changed since the last look.
    changed: bool,
}

impl DesiredScopes {
    /// No scopes; observes only.
    pub(crate) fn new() -> Self {
        let default = Scope { id: 0, mode: Mode::Observe };
        Self {
            teeth: Teeth::In,
            default,
            configured: BTreeMap::new(),
            inherited: BTreeSet::new(),
            execs: BTreeMap::new(),
            numbered: 0,
            changed: false,
        }
    }

    /// Sets a scope of the configuration.
    pub(crate) fn set(&mut self, sensor: &mut Sensor, cgroup: u64, scope: Scope) -> Result<(), SensorError> {
        self.changed = true;
        let before = self.configured.insert(cgroup, scope);
        let done = self.settle(sensor, cgroup);
        match (&done, before) {
            (Ok(()), _) => _ = self.inherited.remove(&cgroup),
            (Err(_), Some(before)) => _ = self.configured.insert(cgroup, before),
            (Err(_), None) => _ = self.configured.remove(&cgroup),
        }
        done
    }

    /// Adds a scope of the configuration as the sensor before this one had it.
    pub(crate) fn inherit(&mut self, sensor: &mut Sensor, cgroup: u64, scope: Scope) -> Result<(), SensorError> {
        self.set(sensor, cgroup, scope)?;
        self.inherited.insert(cgroup);
        Ok(())
    }

    /// Releases inherited scopes that were never claimed.
    pub(crate) fn lapse(&mut self, sensor: &mut Sensor) -> Result<(), SensorError> {
        std::mem::take(&mut self.inherited).into_iter().try_for_each(|cgroup| self.forget(sensor, cgroup))
    }

    /// Keeps inherited scopes, as no proxy is left that could claim them.
    pub(crate) fn stay(&mut self) {
        self.inherited.clear();
    }

    /// The scopes of the configuration that refuse what cannot be redirected.
    pub(crate) fn closed(&self) -> Vec<(u64, Scope)> {
        self.configured.iter().filter(|(_, scope)| fails_closed(scope)).map(|(cgroup, scope)| (*cgroup, *scope)).collect()
    }

    /// Removes a scope of the configuration.
    pub(crate) fn forget(&mut self, sensor: &mut Sensor, cgroup: u64) -> Result<(), SensorError> {
        self.changed = true;
        self.configured.remove(&cgroup);
        self.inherited.remove(&cgroup);
        self.settle(sensor, cgroup)
    }

    /// True if those of the configuration have changed since the last call.
    pub(crate) fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Adds a scope of `gnomon exec`, given by the numbers of its cgroup and of those above it, innermost first.
    pub(crate) fn take_in(&mut self, sensor: &mut Sensor, asked: Asked, lineage: Vec<u64>) -> Result<(), SensorError> {
        let Some(cgroup) = lineage.first().copied() else { return Ok(()) };
        self.numbered = self.numbered.wrapping_add(1);
        self.execs.insert(cgroup, Exec { asked, id: EXEC_SCOPES | self.numbered, lineage });
        let done = self.settle(sensor, cgroup);
        if done.is_err() {
            self.execs.remove(&cgroup);
        }
        done
    }

    /// Removes this scope of `gnomon exec`, in which nothing runs any more.
    pub(crate) fn let_out(&mut self, sensor: &mut Sensor, cgroup: u64) -> Result<(), SensorError> {
        self.execs.remove(&cgroup);
        self.settle(sensor, cgroup)
    }

    pub(crate) fn set_default(&mut self, sensor: &mut Sensor, scope: Scope) -> Result<(), SensorError> {
        sensor.scopes()?.set_default(self.holds(scope))?;
        self.default = scope;
        Ok(())
    }

    /// Applies all scopes again. All are tried, and the first error is returned: the caller tries again.
    pub(crate) fn turn(&mut self, sensor: &mut Sensor, teeth: Teeth) -> Result<(), SensorError> {
        self.teeth = teeth;
        let default = self.holds(self.default);
        let mut scopes = sensor.scopes()?;
        let mut done = scopes.set_default(default);
        for (cgroup, scope) in self.all() {
            done = done.and(scopes.set(CgroupId(cgroup), self.holds(scope)));
        }
        done
    }

    /// The number of them that redirect at this moment.
    pub(crate) fn redirecting(&self) -> usize {
        let redirects = |scope: &Scope| matches!(self.holds(*scope).mode, Mode::Redirect(_));
        self.all().map(|(_, scope)| scope).chain([self.default]).filter(redirects).count()
    }

    /// True if any of them refuses what cannot be redirected, at this moment or as soon as gnomon is armed again.
    pub(crate) fn fails_closed(&self) -> bool {
        self.all().map(|(_, scope)| scope).chain([self.default]).any(|scope| fails_closed(&scope))
    }

    /// Sets the desired scope of a cgroup in the kernel half, and those below it that depend on it.
    fn settle(&self, sensor: &mut Sensor, cgroup: u64) -> Result<(), SensorError> {
        let mut scopes = sensor.scopes()?;
        let within = self.execs.iter().filter(|(_, exec)| exec.lineage.contains(&cgroup)).map(|(cgroup, _)| *cgroup);
        within.chain([cgroup]).collect::<BTreeSet<u64>>().into_iter().try_for_each(|cgroup| match self.of(cgroup) {
            Some(scope) => scopes.set(CgroupId(cgroup), self.holds(scope)),
            None => scopes.remove(CgroupId(cgroup)),
        })
    }

    fn all(&self) -> impl Iterator<Item = (u64, Scope)> {
        let cgroups: BTreeSet<u64> = self.configured.keys().chain(self.execs.keys()).copied().collect();
        cgroups.into_iter().filter_map(|cgroup| Some((cgroup, self.of(cgroup)?)))
    }

    /// The scope of this cgroup itself; `None` leaves it to the one above.
    fn of(&self, cgroup: u64) -> Option<Scope> {
        let Some(exec) = self.execs.get(&cgroup) else { return self.configured.get(&cgroup).copied() };
        match exec.asked {
            Asked::Redirect => Some(self.redirects(exec)),
            Asked::Nothing => exec.lineage.iter().find_map(|above| match self.execs.get(above) {
                Some(outer) if outer.asked == Asked::Redirect => Some(self.redirects(outer)),
                _ => self.configured.get(above).copied(),
            }),
        }
    }

    /// A scope of `gnomon exec` that redirects takes precedence over a configured one, as it intercepts everything; the configured one
    /// still decides what happens to connections that cannot be redirected.
    fn redirects(&self, exec: &Exec) -> Scope {
        let fail = match exec.lineage.iter().find_map(|above| self.configured.get(above)).map(|scope| scope.mode) {
            Some(Mode::Redirect(governing)) => governing.fail,
            Some(Mode::Observe | Mode::Off) | None => Fail::Open,
        };
        Scope { id: exec.id, mode: Mode::Redirect(Redirect { ports: Ports::All, quic: Quic::Refuse, fail }) }
    }

    fn holds(&self, scope: Scope) -> Scope {
        match (self.teeth, scope.mode) {
            // With the id of the default scope: otherwise a connection that this scope does not redirect would be reported as going around
            // it.
            (Teeth::Drawn, Mode::Redirect(_)) => Scope { id: 0, mode: Mode::Observe },
            (Teeth::In, _) | (Teeth::Drawn, Mode::Observe | Mode::Off) => scope,
        }
    }
}

fn fails_closed(scope: &Scope) -> bool {
    matches!(scope.mode, Mode::Redirect(Redirect { fail: Fail::Closed, .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(fail: Fail) -> Mode {
        Mode::Redirect(Redirect { ports: Ports::All, quic: Quic::Refuse, fail })
    }

    #[test]
    fn without_teeth_nothing_redirects_or_refuses_and_opting_out_stays() {
        let scope = |mode| Scope { id: 7, mode };
        let mut wanted = DesiredScopes::new();
        assert_eq!(wanted.holds(scope(redirect(Fail::Closed))), scope(redirect(Fail::Closed)));
        wanted.teeth = Teeth::Drawn;
        assert_eq!(wanted.holds(scope(redirect(Fail::Closed))), Scope { id: 0, mode: Mode::Observe });
        assert_eq!(wanted.holds(scope(Mode::Off)), scope(Mode::Off));
    }

    fn wanted(execs: &[(Asked, &[u64])]) -> DesiredScopes {
        let mut wanted = DesiredScopes::new();
        for (number, (asked, lineage)) in (1..).zip(execs) {
            wanted.execs.insert(lineage[0], Exec { asked: *asked, id: EXEC_SCOPES | number, lineage: lineage.to_vec() });
        }
        wanted
    }

    #[test]
    fn a_scope_of_exec_reads_everything_and_fails_as_the_configured_one_around_it_says_whichever_came_first() {
        let mut wanted = wanted(&[(Asked::Redirect, &[3, 2, 1])]);
        assert_eq!(wanted.of(3), Some(Scope { id: EXEC_SCOPES | 1, mode: redirect(Fail::Open) }));
        wanted.configured.insert(1, Scope { id: 9, mode: redirect(Fail::Closed) });
        assert_eq!(wanted.of(3).unwrap().mode, redirect(Fail::Closed));
        // The nearest configured scope decides.
        wanted.configured.insert(2, Scope { id: 8, mode: Mode::Observe });
        assert_eq!(wanted.of(3).unwrap().mode, redirect(Fail::Open));
        // Also one of the same cgroup; the scope of `gnomon exec` still redirects.
        wanted.configured.insert(3, Scope { id: 7, mode: redirect(Fail::Closed) });
        assert_eq!(wanted.of(3).unwrap().mode, redirect(Fail::Closed));
        assert_eq!(wanted.redirecting(), 2);
        wanted.execs.clear();
        assert_eq!(wanted.of(3).unwrap().id, 7);
        assert_eq!(wanted.of(4), None);
    }

    #[test]
    fn asking_for_nothing_leads_out_of_neither_a_configured_scope_nor_one_of_exec() {
        let mut wanted = wanted(&[(Asked::Nothing, &[5, 4, 3, 2, 1]), (Asked::Nothing, &[4, 3, 2, 1]), (Asked::Nothing, &[12, 11, 1])]);
        assert_eq!((wanted.of(5), wanted.of(12)), (None, None), "there is nothing to lead out of");
        wanted.configured.insert(2, Scope { id: 9, mode: redirect(Fail::Closed) });
        assert_eq!(wanted.of(5), wanted.of(2));
        assert_eq!(wanted.of(12), None, "it is in another cgroup");
        wanted.execs.insert(3, Exec { asked: Asked::Redirect, id: EXEC_SCOPES | 9, lineage: vec![3, 2, 1] });
        assert_eq!(wanted.of(5), wanted.of(3));
        assert_eq!(wanted.of(4), Some(Scope { id: EXEC_SCOPES | 9, mode: redirect(Fail::Closed) }));
        // A configured scope of an inner cgroup is the nearest.
        wanted.configured.insert(4, Scope { id: 10, mode: Mode::Off });
        assert_eq!(wanted.of(5), wanted.configured.get(&4).copied());
    }
}
