//! The steps from gnomon's process to the program: every right is taken away on the way, and none comes back.
//!
//! The order matters, so it stands in one place: [`enter`], read from top to bottom.

use crate::{
    LaunchError, calls,
    files::{self, Grants},
    group::Group,
    inherited, limits, pin,
    plan::{Demand, Plan},
    report::{Layer, Missing, Report, Weight},
    rights,
};
use rustix::{
    fs::Mode,
    io::{FdFlags, fcntl_setfd},
    process::{Signal, getppid, set_parent_process_death_signal, umask},
};
use std::{
    fs::{self, File},
    io::{self, Seek as _},
    os::{
        fd::AsRawFd as _,
        unix::{fs::FileExt as _, process::CommandExt as _},
    },
    path::PathBuf,
    process::Command,
};

/// The exit code of a shell for a program that cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// And what we say of one that is not to be.
const REFUSED: u8 = 125;

/// The reason for having no control group where none was delegated.
const NOT_DELEGATED: &str = "gnomon's cgroup is not delegated to it";

/// The layers, as they are applied.
#[derive(Default)]
struct Layers {
    held: Vec<Layer>,
    missing: Vec<Missing>,
}

impl Layers {
    fn note(&mut self, layer: Layer, applied: Result<(), impl ToString>) {
        match applied {
            Ok(()) => self.held.push(layer),
            Err(why) => self.missing.push(Missing { layer, why: why.to_string(), weight: Weight::Remarkable }),
        }
    }
}

/// Becomes the program. Returns only if it does not: the exit code.
///
/// For a process of one thread that was started for this by its keeper, whose number is `keeper`.
pub fn enter(plan: &Plan, keeper: u32) -> u8 {
    // First of all, as it closes whatever this process itself opens.
    inherited::close_others();
    let (mut command, layers) = match prepare(plan, keeper) {
        Ok(prepared) => prepared,
        Err(refusal) => {
            // If the report cannot be written, the exit code says it.
            let _ = Report::Refused(refusal).write();
            return REFUSED;
        }
    };
    if (Report::Ready { layers: layers.held, missing: layers.missing }).write().is_err() {
        return REFUSED;
    }
    let error = command.exec();
    eprintln!("gnomon: {} cannot be executed: {error}", plan.command.first().map_or("", String::as_str));
    NOT_EXECUTABLE
}

fn prepare(plan: &Plan, keeper: u32) -> Result<(Command, Layers), LaunchError> {
    let mut layers = Layers::default();
    layers.note(Layer::Session, rustix::process::setsid().map(drop));
    umask(Mode::from_raw_mode(0o077));

    // Still as gnomon's user: the program's own user may not be able to read pinned files, nor to pass the folders above its paths.
    let program = plan.command.first().map(PathBuf::from).ok_or_else(|| LaunchError::new("it has no command", "the command is empty"))?;
    let pinned = pin::check(&program, &plan.pins)?;
    let grants = Grants::of(plan).map_err(|error| LaunchError::new("a path that it may read or write cannot be granted", error))?;
    let prepared = files::prepare(&grants, plan.network);

    // Before the user changes, who may not make one.
    match Group::of(plan, keeper) {
        Some(group) => layers.note(Layer::Group, group.enter(plan.limits)),
        None => layers.missing.push(Missing { layer: Layer::Group, why: NOT_DELEGATED.to_owned(), weight: Weight::Ordinary }),
    }
    // Before the user changes, as the limits of a user without rights cannot be raised to what they were meant to be.
    let uid = plan.account.map_or_else(|| rustix::process::geteuid().as_raw(), |account| account.uid);
    layers.note(Layer::Limits, limits::apply(plan.limits, uid));

    rights::unbind();
    if let Some(account) = plan.account {
        rights::take_up(account).map_err(|error| LaunchError::new("its user cannot be taken up", error))?;
        layers.held.push(Layer::User);
    }
    let folder = plan.cwd.as_ref().unwrap_or(&plan.home);
    std::env::set_current_dir(folder)
        .map_err(|error| LaunchError::new("its folder cannot be entered", format!("entering {}: {error}", folder.display())))?;
    // For temporary files. It usually exists; the program will report any other error.
    let _ = fs::create_dir(plan.home.join("tmp"));
    // Root keeps what makes it root only where the plan says that the program is root.
    rights::give_up().map_err(|error| LaunchError::new("its rights cannot be taken away", error))?;
    layers.held.extend([Layer::Capabilities, Layer::NoNewPrivileges]);

    // A change of user clears it, so it comes after. The keeper may have ended before.
    layers.note(Layer::Lifeline, set_parent_process_death_signal(Some(Signal::KILL)));
    if getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned()) != Some(keeper) {
        return Err(LaunchError::new("it is no longer wanted", "the process that keeps it is gone"));
    }

    let enforced = files::restrict(prepared);
    layers.note(Layer::Files, enforced.files);
    layers.note(Layer::Scope, enforced.scope);
    // Last: what comes before needs calls that are denied from here on.
    layers.note(Layer::Calls, calls::restrict(plan.network));
    if plan.demand == Demand::Enforced
        && let Some(missing) = layers.missing.iter().find(|missing| matches!(missing.layer, Layer::Files | Layer::Calls))
    {
        let why =
            format!("`{}` cannot be confined here: {}; `confine: best_effort` runs the server all the same", missing.layer, missing.why);
        return Err(LaunchError::new("this host cannot confine it", why));
    }

    let name = &plan.command[0];
    let mut command = match pinned {
        None => Command::new(name),
        Some(file) => Command::new(executable(file).map_err(|error| LaunchError::new("its program cannot be executed", error))?),
    };
    command.arg0(name).args(&plan.command[1..]);
    Ok((command, layers))
}

/// A path that means this very file, whatever its name means by now.
fn executable(mut file: File) -> io::Result<String> {
    let mut first = [0; 2];
    // A script is opened once more by its interpreter, under this name, so the descriptor must still be there. What is
    // behind it is the same.
    if file.read_at(&mut first, 0)? == 2 && &first == b"#!" {
        file.rewind()?;
        fcntl_setfd(&file, FdFlags::empty())?;
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // The descriptor is closed when this process ends or executes.
    std::mem::forget(file);
    Ok(path)
}
