//! The kernel half, attached, and what may be done to it from several threads.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use gnomon_host::doctor::{CAPABILITIES, Capability, Need};
use gnomon_link::{Count, FeatureState, Label, List, Name, ScopeChange};
use gnomon_sensor::{CgroupId, Execs, Failed, Feature, HandedOver, Loader, Mode, Options, Outcome, Program, Scope, Sensor, Starts, Status};
use serde::{Deserialize, Serialize};

use crate::closed::Closed;
use crate::scopes::{Asked, DesiredScopes, Teeth};
use crate::{ServiceError, translate};

/// The state behind the lock.
#[derive(Debug)]
struct Held {
    sensor: Sensor,
    wanted: DesiredScopes,
    /// True once the serving process is gone and this one stays.
    stays: bool,
    /// The scopes recorded as kept closed.
    written: Vec<(u64, Scope)>,
}

impl Held {
    /// Observes only, until scopes are set.
    fn new(sensor: Sensor) -> Self {
        Self { sensor, wanted: DesiredScopes::new(), stays: false, written: Vec::new() }
    }
}

/// Without these no connection is redirected, as its owner would be unknown.
const REDIRECT: [Program; 3] = [Program::Connect4, Program::SockOps, Program::Sockopt];

/// The feature that says whether the bound on processor time is kept.
pub(crate) const CPU_BOUND: &str = "cpu_bound";

/// The sensor's use of the processor: the share of one core when last measured, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Use by the programs of the kernel half, on whichever processor they ran.
    pub(crate) kernel: u64,
    /// Use by this process.
    pub(crate) process: u64,
}

/// The kernel half.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// `None` once detached.
    held: Mutex<Option<Held>>,
    about: About,
    later: Mutex<Later>,
}

/// Changes to features since they were attached.
#[derive(Debug, Default)]
struct Later {
    /// Features whose state has changed, and why.
    changed: BTreeMap<&'static str, (FeatureState, String)>,
    taken: Taken,
}

/// Facts that are fixed once everything is attached.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    features: List<gnomon_link::Feature, 64>,
    own_cgroup: u64,
    /// Its folder; empty where the program before did not say it.
    #[serde(default)]
    own_folder: String,
    mark: NonZeroU32,
    redirect: FeatureState,
}

/// The kernel half, on its way through exec(2).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handed {
    sensor: HandedOver,
    about: About,
}

/// How deep gnomon's own cgroup is searched for others.
const OWN_LEVELS: usize = 4;

fn is_below(folder: &Path, cgroup: u64, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1) else { return false };
    let folders = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).any(|path| CgroupId::of(&path).is_ok_and(|id| id.0 == cgroup) || is_below(&path, cgroup, levels))
}

impl Kernel {
    /// Loads everything and attaches what this kernel can do.
    pub(crate) fn attach(cgroup: &Path, own_cgroup: &Path, ring_bytes: u32, lacking: &[&Capability]) -> Result<Self, ServiceError> {
        let mark = random_mark()?;
        let options = Options { mark, ring_bytes, ..Options::new(cgroup, own_cgroup) };
        let mut loader = Loader::new(&options)?;
        // Before anything is attached, so that none of our own connections is seen.
        let own_folder = own_cgroup.to_string_lossy().into_owned();
        let own_cgroup = CgroupId::of(own_cgroup)?;
        loader.sensor().scopes()?.exclude(own_cgroup)?;
        let attached = loader.attach_all();
        if attached.iter().all(|(_, status)| *status != Status::Ok) {
            let (program, reason) = attached.iter().map(|(program, status)| (program.name(), reason(status))).next().unwrap_or_default();
            return Err(ServiceError::NothingAttached { program, reason });
        }
        for (program, status) in attached.iter().filter(|(_, status)| *status != Status::Ok) {
            tracing::warn!("{} is not attached: {}", program.name(), reason(status));
        }
        let redirects = attached.iter().filter(|(program, _)| REDIRECT.contains(program)).all(|(_, status)| *status == Status::Ok);
        let owners = (Feature::NamespacedOwners.name(), loader.namespaced_owners());
        let lineage = (Feature::TaskLineage.name(), loader.task_lineage());
        let fixed = [(Feature::Cgroup2.name(), Status::Ok), (Feature::Maps.name(), Status::Ok), owners, lineage, (CPU_BOUND, Status::Ok)];
        let programs = attached.iter().map(|(program, status)| (program.name(), status.clone()));
        let found = fixed.into_iter().chain(programs).map(|(name, status)| feature(name, &status));
        let optional = CAPABILITIES.iter().filter(|capability| capability.need == Need::Optional).map(|capability| {
            let lacks = lacking.iter().any(|lacking| lacking.bit == capability.bit);
            let status = if lacks { Status::Broken(format!("without {capability}")) } else { Status::Ok };
            feature(&capability.name.to_ascii_lowercase(), &status)
        });
        let about = About {
            features: List::cut(found.chain(optional)),
            own_cgroup: own_cgroup.0,
            own_folder,
            mark,
            redirect: if redirects { FeatureState::Ok } else { FeatureState::Broken },
        };
        Ok(Self { held: Mutex::new(Some(Held::new(loader.finish()))), about, later: Mutex::default() })
    }

    /// Keeps everything attached across exec(2).
    pub(crate) fn hand_over(self) -> Result<Handed, KernelError> {
        let held = self.held.into_inner().ok_or(KernelError::Detached)?;
        Ok(Handed { sensor: held.sensor.hand_over()?, about: self.about })
    }

    /// Takes over what this process kept attached when it was another program.
    ///
    /// # Safety
    /// See [`Sensor::take_over`].
    pub(crate) unsafe fn take_over(handed: Handed) -> Result<Self, KernelError> {
        // SAFETY: the caller's promise.
        let sensor = unsafe { Sensor::take_over(handed.sensor)? };
        Ok(Self { held: Mutex::new(Some(Held::new(sensor))), about: handed.about, later: Mutex::default() })
    }

    /// The mark of our listeners.
    pub(crate) fn mark(&self) -> NonZeroU32 {
        self.about.mark
    }

    /// The state of redirecting.
    pub(crate) fn redirect(&self) -> FeatureState {
        self.about.redirect
    }

    /// The features that were attached, and the reasons for those that were not.
    pub(crate) fn features(&self) -> List<gnomon_link::Feature, 64> {
        let later = self.later();
        let now = |found: &gnomon_link::Feature| match later.changed.get(found.name.as_str()) {
            Some((state, why)) => gnomon_link::Feature { name: found.name.clone(), state: *state, reason: Name::cut(why) },
            None => found.clone(),
        };
        List::cut(self.about.features.iter().map(now))
    }

    /// Reports a changed state of a feature.
    pub(crate) fn say(&self, feature: &'static str, state: FeatureState, why: &str) {
        self.later().changed.insert(feature, (state, why.to_owned()));
    }

    /// Clears the report of a feature that works again.
    pub(crate) fn unsay(&self, feature: &str) {
        self.later().changed.remove(feature);
    }

    /// Takes the processor time when last measured.
    pub(crate) fn took(&self, taken: Taken) {
        self.later().taken = taken;
    }

    /// The run time of all programs together, as long as the kernel counted.
    pub(crate) fn run_time(&self) -> Duration {
        let lock = self.lock();
        let spent = Program::ALL.into_iter().filter_map(|program| lock.as_ref()?.sensor.run_time(program)).map(|(spent, _)| spent);
        Duration::from_nanos(spent.sum())
    }

    /// Detaches one program. Returns whether it was attached.
    pub(crate) fn detach_one(&self, program: Program) -> Result<bool, KernelError> {
        self.with(|sensor| Ok(sensor.detach(program)))
    }

    /// Attaches one program again, to the cgroup below which connections are seen.
    pub(crate) fn attach_one(&self, program: Program, seen: BorrowedFd<'_>) -> Result<bool, KernelError> {
        self.with(|sensor| sensor.attach_again(program, seen))
    }

    /// Detaches everything, also where further references exist.
    pub(crate) fn detach(&self) {
        self.lock().take();
    }

    pub(crate) fn ring(&self) -> Result<OwnedFd, KernelError> {
        self.with(|sensor| sensor.ring())
    }

    pub(crate) fn execs(&self) -> Result<Execs, KernelError> {
        self.with(|sensor| sensor.execs())
    }

    pub(crate) fn heartbeat(&self) -> Result<OwnedFd, KernelError> {
        self.with(|sensor| sensor.heartbeat())
    }

    /// Sets the port that connections are redirected to. It is not set where a program is missing that tells their owners: without a port
    /// there is no listener, and scopes apply their setting for that case.
    pub(crate) fn set_port(&self, port: u16) -> Result<(), KernelError> {
        match self.about.redirect {
            FeatureState::Ok => self.with(|sensor| sensor.set_port(port)),
            _ => Ok(()),
        }
    }

    pub(crate) fn set_explicit_port(&self, port: u16) -> Result<(), KernelError> {
        self.with(|sensor| sensor.set_explicit_port(port))
    }

    /// Has starts of programs reported, or remembered only.
    pub(crate) fn set_starts(&self, starts: Starts) -> Result<(), KernelError> {
        self.with(|sensor| sensor.set_starts(starts))
    }

    /// Refuses an address, as [`Sensor::refuse_for`].
    pub(crate) fn refuse_for(&self, failed: Failed, time: Duration) -> Result<(), KernelError> {
        self.with(|sensor| sensor.refuse_for(failed, time))
    }

    /// Adds a scope of `gnomon exec`, as [`DesiredScopes::take_in`].
    pub(crate) fn take_in(&self, asked: Asked, lineage: Vec<u64>) -> Result<(), KernelError> {
        self.with_scopes(|sensor, wanted| wanted.take_in(sensor, asked, lineage))
    }

    /// Removes a scope of `gnomon exec`, as [`DesiredScopes::let_out`].
    pub(crate) fn let_out(&self, cgroup: u64) -> Result<(), KernelError> {
        self.with_scopes(|sensor, wanted| wanted.let_out(sensor, cgroup))
    }

    /// The number of scopes that send connections to the proxy at this moment.
    pub(crate) fn redirecting(&self) -> usize {
        self.lock().as_ref().map_or(0, |held| held.wanted.redirecting())
    }

    /// True if a scope refuses what cannot be redirected, at this moment or as soon as gnomon is armed again.
    pub(crate) fn fails_closed(&self) -> bool {
        self.lock().as_ref().is_some_and(|held| held.wanted.fails_closed())
    }

    /// Takes in scopes as the sensor before this one kept them closed.
    pub(crate) fn inherit(&self, scopes: &[(u64, Scope)]) -> Result<(), KernelError> {
        if let Some(held) = self.lock().as_mut() {
            held.written = scopes.to_vec();
        }
        self.with_scopes(|sensor, wanted| scopes.iter().try_for_each(|(cgroup, scope)| wanted.inherit(sensor, *cgroup, *scope)))
    }

    /// Releases unclaimed scopes, as [`DesiredScopes::lapse`].
    pub(crate) fn lapse(&self, closed: &Closed) -> Result<(), KernelError> {
        {
            let mut lock = self.lock();
            let Held { sensor, wanted, stays, .. } = lock.as_mut().ok_or(KernelError::Detached)?;
            if *stays {
                return Ok(());
            }
            wanted.lapse(sensor)?;
        }
        self.write_down(closed);
        Ok(())
    }

    /// Keeps scopes closed, as [`DesiredScopes::stay`], and records them for the next sensor.
    pub(crate) fn stay(&self, closed: &Closed) -> Result<(), ServiceError> {
        let mut lock = self.lock();
        let Held { wanted, stays, written, .. } = lock.as_mut().ok_or(KernelError::Detached)?;
        *stays = true;
        wanted.stay();
        *written = wanted.closed();
        closed.keep(written.clone())
    }

    /// Records the scopes to be kept closed if they changed, for the next sensor, should this one be killed.
    pub(crate) fn write_down(&self, closed: &Closed) {
        let mut lock = self.lock();
        let Some(Held { wanted, written, .. }) = lock.as_mut() else { return };
        if !wanted.has_changed() {
            return;
        }
        let now = wanted.closed();
        if *written == now {
            return;
        }
        match closed.keep(now.clone()) {
            Ok(()) => *written = now,
            Err(error) => tracing::warn!("scopes that fail closed are open for a moment if this process is killed: {error}"),
        }
    }

    /// The reason that connections are not redirected.
    pub(crate) fn why_not_redirect(&self) -> String {
        let missing = REDIRECT.iter().find_map(|program| {
            let found = self.about.features.iter().find(|feature| feature.name.as_str() == program.name())?;
            (found.state != FeatureState::Ok).then(|| format!("{} is not attached ({})", program.name(), found.reason))
        });
        missing.unwrap_or_else(|| "it is not known why".to_owned())
    }

    /// True if the programs that refuse connections are attached.
    pub(crate) fn refuses(&self) -> bool {
        self.unattached().is_none()
    }

    fn unattached(&self) -> Option<(&'static str, String)> {
        [Program::Connect4, Program::Connect6].iter().find_map(|program| {
            let found = self.about.features.iter().find(|feature| feature.name.as_str() == program.name())?;
            (found.state != FeatureState::Ok).then(|| (program.name(), found.reason.as_str().to_owned()))
        })
    }

    /// Lets scopes act as set, or only observe.
    pub(crate) fn turn(&self, teeth: Teeth) -> Result<(), KernelError> {
        self.with_scopes(|sensor, wanted| wanted.turn(sensor, teeth))
    }

    /// Carries out a change that the proxy asks for.
    pub(crate) fn change(&self, change: &ScopeChange) -> Result<(), ChangeError> {
        match change {
            // Otherwise connections made by the proxy would be redirected to it.
            ScopeChange::Set { cgroup, .. } | ScopeChange::Remove { cgroup } if self.is_own(*cgroup) => Err(ChangeError::Own),
            ScopeChange::Set { cgroup, settings } => {
                let scope = translate::scope(settings)?;
                self.with_scopes(|sensor, wanted| wanted.set(sensor, *cgroup, scope))?;
                self.reached(&scope)
            }
            ScopeChange::Remove { cgroup } => Ok(self.with_scopes(|sensor, wanted| wanted.forget(sensor, *cgroup))?),
            ScopeChange::Default { settings } => {
                let scope = translate::scope(settings)?;
                self.with_scopes(|sensor, wanted| wanted.set_default(sensor, scope))?;
                self.reached(&scope)
            }
        }
    }

    /// Whether it is gnomon's own cgroup or one below.
    fn is_own(&self, cgroup: u64) -> bool {
        cgroup == self.about.own_cgroup || is_below(Path::new(&self.about.own_folder), cgroup, OWN_LEVELS)
    }

    /// Checks that the programs which a scope needs are attached.
    fn reached(&self, scope: &Scope) -> Result<(), ChangeError> {
        match self.unattached() {
            Some((program, reason)) if matches!(scope.mode, Mode::Redirect(_)) => Err(ChangeError::NotAttached { program, reason }),
            _ => Ok(()),
        }
    }

    /// The counters, outcome by outcome; those with a reason as `fail_open:stale_heartbeat`.
    pub(crate) fn counters(&self) -> Result<List<gnomon_link::Program, 64>, KernelError> {
        let Taken { kernel, process } = self.later().taken;
        let counts = [count(gnomon_link::COST_KERNEL, kernel), count(gnomon_link::COST_PROCESS, process)];
        let cost = gnomon_link::Program { name: Label::cut(gnomon_link::COST), counts: List::cut(counts) };
        self.with(|sensor| {
            let counters = sensor.counters()?;
            Ok(List::cut(
                Program::ALL
                    .map(|program| {
                        let counted = Outcome::ALL.map(|outcome| {
                            let reason = outcome.reason().map(|reason| format!(":{}", reason.name())).unwrap_or_default();
                            count(&format!("{}{reason}", outcome.name()), counters.get(program, outcome))
                        });
                        // Runs that the kernel skipped, which the program itself cannot count.
                        let missed = sensor.missed(program).map(|missed| count("missed", missed));
                        gnomon_link::Program { name: Label::cut(program.name()), counts: List::cut(counted.into_iter().chain(missed)) }
                    })
                    .into_iter()
                    .chain([cost]),
            ))
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Sensor) -> Result<T, gnomon_sensor::SensorError>) -> Result<T, KernelError> {
        self.with_scopes(|sensor, _| work(sensor))
    }

    fn with_scopes<T>(
        &self,
        work: impl FnOnce(&mut Sensor, &mut DesiredScopes) -> Result<T, gnomon_sensor::SensorError>,
    ) -> Result<T, KernelError> {
        let mut held = self.lock();
        let Held { sensor, wanted, .. } = held.as_mut().ok_or(KernelError::Detached)?;
        Ok(work(sensor, wanted)?)
    }

    fn later(&self) -> MutexGuard<'_, Later> {
        self.later.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        // State that a panic could have left half done is in the kernel, and consistent there.
        self.held.lock()
    }
}

fn count(name: &str, count: u64) -> Count {
    Count { outcome: Label::cut(name), count }
}

/// An error of the kernel half.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    #[error("the sensor is ending")]
    Detached,
    #[error(transparent)]
    Sensor(#[from] gnomon_sensor::SensorError),
}

impl From<KernelError> for ServiceError {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::Detached => crate::os("go on")(io::Error::other(error.to_string())),
            KernelError::Sensor(error) => Self::Kernel(error),
        }
    }
}

/// An error of changing a scope.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("this is the cgroup of gnomon itself")]
    Own,
    /// The scope is recorded all the same, for the programs that are attached.
    #[error("nothing is redirected or refused, as {program} is not attached ({reason}): `gnomon doctor` says who is in its place")]
    NotAttached { program: &'static str, reason: String },
    #[error(transparent)]
    Ports(#[from] gnomon_sensor::TooManyPorts),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// A random, secret mark: a process that may set marks in a network namespace of its own could impersonate us with it.
fn random_mark() -> Result<NonZeroU32, ServiceError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| crate::os("get a random number")(io::Error::other(error.to_string())))?;
    Ok(NonZeroU32::new(u32::from_ne_bytes(bytes)).unwrap_or(NonZeroU32::MAX))
}

fn feature(name: &str, status: &Status) -> gnomon_link::Feature {
    let state = match status {
        Status::Ok => FeatureState::Ok,
        Status::Unsupported(_) => FeatureState::Unsupported,
        Status::Broken(_) => FeatureState::Broken,
        Status::NotApplicable => FeatureState::NotApplicable,
    };
    gnomon_link::Feature { name: Label::cut(name), state, reason: Name::cut(&reason(status)) }
}

fn reason(status: &Status) -> String {
    match status {
        Status::Ok | Status::NotApplicable => String::new(),
        Status::Unsupported(why) | Status::Broken(why) => why.clone(),
    }
}
