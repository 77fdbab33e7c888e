//! `gnomon exec`: this process joins a running gnomon and then becomes the program with execve(2). No process stays in between, so
//! terminal, signals, job control and exit code are the program's own.
//!
//! It deliberately does not close descriptors. Ours are closed on exec, and those that the caller opened for the
//! program are the program's.
#![deny(missing_docs)]

mod authority;
mod hosting;
mod person;
mod proxy;

pub use hosting::{Host, Stage, host};
pub use person::Person;

use gnomon_cli::{Complaint, Fault};
use gnomon_link::{Bundle, ExecEnd, LinkError, Long, Redirect, ToExec, ToGnomon, VERSION};
use std::{
    ffi::{OsStr, OsString},
    io::{self, ErrorKind, Write as _},
    net::SocketAddr,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// The longest that joining a running gnomon may take: it opens listeners and waits until the proxy accepts from them.
const JOIN: Duration = Duration::from_secs(15);
/// The longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(2);

/// The variable that names the socket for nested calls, where it is not the usual one.
pub const SOCKET_VARIABLE: &str = "GNOMON_EXEC_SOCKET";

/// Whether the program's environment names the proxy as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVariables {
    /// Set; connections of programs that ignore the variables are not seen unless the kernel redirects them.
    Set,
    /// Not set: the kernel half is enough.
    Unset,
}

/// The program to run, and how.
#[derive(Debug)]
pub struct Plan {
    /// The name or path of the program, looked up as a shell does.
    pub program: OsString,
    /// The program's arguments.
    pub arguments: Vec<OsString>,
    /// Whether its connections are sent through the proxy.
    pub redirect: Redirect,
    /// Whether its environment names the proxy as well.
    pub variables: ProxyVariables,
    /// The socket at which a running gnomon is joined.
    pub socket: PathBuf,
    /// The address of the proxy, for the variables.
    pub proxy: SocketAddr,
    /// The paths at which the proxy's authority may be.
    pub authorities: Vec<PathBuf>,
    /// The arguments of a gnomon of our own, started if none runs and we are root.
    pub own: Vec<OsString>,
}

/// Joins gnomon and becomes the program. Returns only if that fails.
pub fn run(plan: &Plan) -> Complaint {
    match prepare(plan) {
        Ok(mut command) => not_executed(&plan.program, &command.exec()),
        Err(complaint) => Complaint { fault: Fault::NotStarted, ..complaint },
    }
}

fn prepare(plan: &Plan) -> Result<Command, Complaint> {
    let person = Person::behind_sudo()?;
    let told = match plan.variables {
        ProxyVariables::Set => Some(proxy::check(plan.proxy, &plan.authorities)),
        ProxyVariables::Unset => None,
    };
    let hosted = if rustix::process::geteuid().is_root() && told.is_none() && !answers(&plan.socket) {
        Some(hosting::start(&plan.own)?)
    } else {
        None
    };
    // From here on with the person's rights: files are read and written, and scopes counted, as theirs.
    if let Some(person) = &person {
        person.take_up()?;
    }
    let mut command = Command::new(&plan.program);
    command.args(&plan.arguments);
    if let Some(person) = &person {
        command.envs(person.variables());
    }
    let socket = hosted.as_ref().map_or(plan.socket.as_path(), |hosted| hosted.socket());
    let joined = join(socket, &plan.program, plan.redirect);
    let bundle = match joined {
        Ok(Joined { cgroup, bundle }) => {
            if let Some(hosted) = hosted {
                command.env(SOCKET_VARIABLE, hosted.socket());
                hosted.runs_in(&cgroup)?;
            }
            bundle
        }
        Err(complaint) => match &told {
            Some(Ok(_)) => {
                say(format_args!("{complaint}; only what honours the proxy variables is seen"));
                None
            }
            Some(Err(_)) | None => return Err(complaint),
        },
    };
    let home = person.as_ref().map(Person::home);
    if let Some(told) = told {
        let ours = told?;
        if bundle.is_none() {
            say(format_args!("connections are not redirected: only those of programs that honour HTTPS_PROXY are seen"));
            command.envs(authority::beside_the_system(&ours, home)?);
        }
        command.envs(gnomon_host::trust::proxy_variables(plan.proxy));
    }
    if let Some(bundle) = bundle {
        command.envs(authority::bundled(&bundle, home)?);
    }
    Ok(command)
}

/// The answer of a gnomon that was joined.
struct Joined {
    cgroup: String,
    /// The file of the certificates that the program needs; `None` where nothing is intercepted.
    bundle: Option<PathBuf>,
}

fn answers(socket: &Path) -> bool {
    ExecEnd::connect(socket, CONNECT).is_ok()
}

fn join(socket: &Path, program: &OsStr, redirect: Redirect) -> Result<Joined, Complaint> {
    let shown = socket.display();
    let failed = |error: LinkError| {
        Complaint::own(format!("no running gnomon can be joined at {shown}: {error}"))
            .next("start one with `sudo gnomon run`, or use --proxy-env with a `gnomon run` of your own")
    };
    let gnomon = ExecEnd::connect(socket, CONNECT).map_err(failed)?;
    let wanted = ToGnomon::Join { version: VERSION, argv0: Long::cut(&program.to_string_lossy()), redirect };
    gnomon.send(&wanted, &[], CONNECT).map_err(failed)?;
    let received = gnomon.recv(JOIN).map_err(failed)?;
    match received.message {
        ToExec::Denied { detail, next, .. } => {
            Err(Complaint::own(format!("the gnomon at {shown} does not let this program in: {detail}")).next(next.to_string()))
        }
        ToExec::Joined { cgroup, bundle } => {
            let bundle = match bundle {
                Bundle::None => None,
                Bundle::At(path) => Some(PathBuf::from(path.to_string())),
                // Read here, while the descriptor is open.
                Bundle::Attached => {
                    let descriptor = received.descriptors.first().ok_or_else(|| Complaint::own("the bundle did not come"))?;
                    Some(authority::keep(Path::new(&format!("/proc/self/fd/{}", descriptor.as_raw_fd())))?)
                }
            };
            Ok(Joined { cgroup: cgroup.to_string(), bundle })
        }
    }
}

/// The message and exit status that shells give (POSIX, 2.8.2 Exit Status for Commands).
fn not_executed(program: &OsStr, error: &io::Error) -> Complaint {
    let program = program.to_string_lossy();
    let (fault, cause) = match error.kind() {
        ErrorKind::NotFound => (Fault::NotFound, format!("{program}: not found")),
        _ => (Fault::NotExecutable, format!("{program}: cannot be executed: {error}")),
    };
    Complaint { fault, ..Complaint::own(cause) }
}

fn say(what: std::fmt::Arguments<'_>) {
    // Standard error may be closed; the program runs all the same.
    let _ = writeln!(io::stderr(), "gnomon: {what}");
}
