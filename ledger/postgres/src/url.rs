//! The location of the journal: `postgres://user@host:port/database`, parsed strictly. Options that would weaken the connection are refused
//! here, and only a password is ever taken from the environment.
//!
//! An error quotes no part of the text that could be of a password: one with `@`, `/` or `?` in it ends elsewhere than its author meant.

use crate::password::{self, Password};
use gnomon_kit::percent;
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};
use thiserror::Error;

const PORT: u16 = 5432;
const KNOWN: &str = "host, passfile, port, sslmode, sslrootcert";
/// The modes that libpq knows and that do not verify the server.
const WEAK: [&str; 5] = ["disable", "allow", "prefer", "require", "verify-ca"];

/// An error in the URL of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PostgresUrlError {
    /// The scheme is not `postgres` or `postgresql`.
    #[error("not a PostgreSQL URL; write postgres://user@host/database")]
    Scheme,
    /// An `@` where none can be.
    #[error("the URL has an `@` too many; within a user or a password write %40 for `@`, %2F for `/`, %3F for `?` and %23 for `#`")]
    StrayAt,
    /// The URL has a `#`.
    #[error("the URL has a `#`; within a user or a password write %23")]
    Fragment,
    /// A part is missing.
    #[error("the URL names no {0}; write postgres://user@host/database")]
    Missing(&'static str),
    /// A part has a value that is not allowed.
    #[error("the {part} of the URL {problem}")]
    Part {
        /// The part.
        part: &'static str,
        /// The problem, and the remedy.
        problem: &'static str,
    },
    /// A setting that is not known here.
    #[error("the URL has a setting {name:?} that gnomon does not know; it knows {KNOWN}")]
    Setting {
        /// Its name.
        name: String,
    },
    /// A setting is there twice.
    #[error("the URL has the setting {name} twice; leave one out")]
    Twice {
        /// Its name.
        name: &'static str,
    },
    /// The server would not be known.
    #[error(
        "sslmode={mode} does not make sure that the server is the one that was meant, and whoever is between could decide in its place; \
         write sslmode=verify-full, with sslrootcert=FILE where its certificate is of an authority of your own"
    )]
    Weak {
        /// The mode that was written.
        mode: &'static str,
    },
    /// The `sslmode` is unknown.
    #[error("sslmode={mode:?} is unknown; over a network it is verify-full, which need not be written")]
    SslMode {
        /// The mode that was written.
        mode: String,
    },
}

/// The way to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// TLS over TCP, with the roots of this file besides the system's.
    Network { name: String, roots: Option<PathBuf> },
    /// The folder of a Unix socket.
    Socket(PathBuf),
}

/// The address of the journal, and the user. What it prints has no password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    user: String,
    password: Option<Password>,
    passfile: Option<PathBuf>,
    host: Host,
    port: u16,
    database: String,
}

impl FromStr for PostgresUrl {
    type Err = PostgresUrlError;

    fn from_str(text: &str) -> Result<Self, PostgresUrlError> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")).ok_or(PostgresUrlError::Scheme)?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if rest.contains('@') || authority.matches('@').count() > 1 {
            return Err(PostgresUrlError::StrayAt);
        }
        if rest.contains('#') {
            return Err(PostgresUrlError::Fragment);
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        // Before any setting, which an error names: without a user, it may be of a password.
        let (user, server) = authority.split_once('@').ok_or(PostgresUrlError::Missing("user"))?;
        let settings = Settings::of(query)?;
        let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
        let (name, port) = host_and_port(server)?;
        let user = named("user", decoded("user", user)?)?;
        let password = password.map(|password| decoded("password", password)).transpose()?.map(Password);
        let database = path.strip_prefix('/').unwrap_or(path);
        if database.contains('/') {
            return Err(PostgresUrlError::Part { part: "database", problem: "has a `/`; write %2F" });
        }
        let database = named("database", decoded("database", database)?)?;
        let name = settings.host.map_or(name, Ok)?;
        let port = settings.port.map_or(port, |port| number(&port))?;
        let host = match settings.sslmode {
            _ if name.starts_with('/') => Host::Socket(name.into()),
            Some(mode) if mode != "verify-full" => {
                let weak = WEAK.into_iter().find(|weak| *weak == mode);
                return Err(weak.map_or(PostgresUrlError::SslMode { mode }, |mode| PostgresUrlError::Weak { mode }));
            }
            _ => Host::Network { name: host_name(name)?, roots: settings.sslrootcert.map(PathBuf::from) },
        };
        Ok(Self { user, password, passfile: settings.passfile.map(PathBuf::from), host, port, database })
    }
}

/// The settings after the `?`.
#[derive(Default)]
struct Settings {
    host: Option<String>,
    passfile: Option<String>,
    port: Option<String>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
}

impl Settings {
    fn of(query: &str) -> Result<Self, PostgresUrlError> {
        let mut settings = Self::default();
        for setting in query.split('&').filter(|setting| !setting.is_empty()) {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            let (name, into) = match name {
                "host" => ("host", &mut settings.host),
                "passfile" => ("passfile", &mut settings.passfile),
                "port" => ("port", &mut settings.port),
                "sslmode" => ("sslmode", &mut settings.sslmode),
                "sslrootcert" => ("sslrootcert", &mut settings.sslrootcert),
                _ => return Err(PostgresUrlError::Setting { name: name.to_owned() }),
            };
            if into.replace(named(name, decoded(name, value)?)?).is_some() {
                return Err(PostgresUrlError::Twice { name });
            }
        }
        Ok(settings)
    }
}

/// The host, if it is valid, and the port. The caller decides which of two errors to report: a host may be named elsewhere.
type HostAndPort = (Result<String, PostgresUrlError>, Result<u16, PostgresUrlError>);

fn host_and_port(server: &str) -> Result<HostAndPort, PostgresUrlError> {
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(PostgresUrlError::Part { part: "host", problem: "has a `[` without its `]`" })?,
        None => server.find(':').map_or((server, ""), |colon| server.split_at(colon)),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => Ok(PORT),
        None => Err(PostgresUrlError::Part { part: "host", problem: "does not end after `]`; write [2001:db8::1]:5432" }),
        Some(port) => number(port),
    };
    Ok((decoded("host", host).and_then(|host| named("host", host)), port))
}

fn number(port: &str) -> Result<u16, PostgresUrlError> {
    let number = port.parse().ok().filter(|number| *number != 0);
    number.ok_or(PostgresUrlError::Part { part: "port", problem: "is not a number from 1 to 65535" })
}

fn named(part: &'static str, text: String) -> Result<String, PostgresUrlError> {
    if text.is_empty() { Err(PostgresUrlError::Missing(part)) } else { Ok(text) }
}

fn host_name(name: String) -> Result<String, PostgresUrlError> {
    let problem = if name.contains(',') {
        "names several; name one"
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':')) {
        "has characters that a name does not have; write a name, an address, or the path of a socket's folder as ?host=/run/postgresql"
    } else {
        return Ok(name);
    };
    Err(PostgresUrlError::Part { part: "host", problem })
}

/// The longest file of authorities, bytes.
const MAX_PEM: u64 = 16 << 20;

/// The certificates in a file of authorities. The driver would take one without a certificate, and tell of a missing one as if it were
/// the server.
fn certificates(file: &Path) -> Result<Vec<u8>, String> {
    let about = |cause: &dyn fmt::Display| {
        format!("sslrootcert {}: {cause}; name a file with the certificate of an authority, PEM", file.display())
    };
    let pem = gnomon_files::read(file, MAX_PEM).map_err(|error| about(&error))?;
    let begin = b"-----BEGIN CERTIFICATE-----";
    if pem.windows(begin.len()).any(|at| at == begin) { Ok(pem) } else { Err(about(&"no certificate is in it")) }
}

/// A part without its percent signs. A NUL would end it early in the protocol.
fn decoded(part: &'static str, text: &str) -> Result<String, PostgresUrlError> {
    let broken = PostgresUrlError::Part { part, problem: "has a `%` without two hexadecimal digits; write %25 for `%`" };
    let bytes = percent::bytes(text).ok_or(broken)?;
    match String::from_utf8(bytes) {
        Ok(text) if text.contains('\0') => Err(PostgresUrlError::Part { part, problem: "has a NUL character" }),
        Ok(text) => Ok(text),
        Err(_) => Err(PostgresUrlError::Part { part, problem: "is not UTF-8" }),
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, database, .. } = self;
        let (user, database) = (percent::encoded(user), percent::encoded(database));
        match host {
            Host::Network { name, .. } if name.contains(':') => write!(f, "postgres://{user}@[{name}]:{port}/{database}"),
            Host::Network { name, .. } => write!(f, "postgres://{user}@{name}:{port}/{database}"),
            Host::Socket(folder) => write!(f, "postgres://{user}@:{port}/{database}?host={}", folder.display()),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

impl PostgresUrl {
    /// True if the URL itself has a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// The role.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The database's name.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// For the driver, which takes from the environment what is not set here; all but a certificate of the client and `PGOPTIONS` is. They
    /// hold a password, and print it: they are not kept.
    pub(crate) fn options(&self) -> Result<PgConnectOptions, String> {
        let options = PgConnectOptions::new_without_pgpass()
            .port(self.port)
            .username(&self.user)
            .database(&self.database)
            .application_name("gnomon")
            // No root that PGSSLROOTCERT names: this text has none in it.
            .ssl_root_cert_from_pem(Vec::new())
            .disable_statement_logging();
        let options = match &self.host {
            Host::Socket(folder) => options.socket(folder).ssl_mode(PgSslMode::Disable),
            Host::Network { name, roots } => {
                let options = options.host(name).ssl_mode(PgSslMode::VerifyFull);
                let roots = roots.as_deref().map(certificates).transpose()?;
                roots.into_iter().fold(options, PgConnectOptions::ssl_root_cert_from_pem)
            }
        };
        let password = match &self.password {
            Some(password) => Some(password.clone()),
            None => {
                password::found(self.passfile.as_deref(), &[&self.host_in_passfile(), &self.port.to_string(), &self.database, &self.user])?
            }
        };
        Ok(password.iter().fold(options, |options, Password(password)| options.password(password)))
    }

    /// A passfile says `localhost` for the socket that libpq was built with.
    fn host_in_passfile(&self) -> String {
        match &self.host {
            Host::Network { name, .. } => name.clone(),
            Host::Socket(folder) if folder == Path::new("/run/postgresql") || folder == Path::new("/var/run/postgresql") => {
                "localhost".to_owned()
            }
            Host::Socket(folder) => folder.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<PostgresUrl, String> {
        text.parse().map_err(|error: PostgresUrlError| error.to_string())
    }

    #[test]
    fn a_url_says_where_and_prints_without_its_password() {
        for (text, shown) in [
            ("postgres://ada@db.example.com/decisions", "postgres://ada@db.example.com:5432/decisions"),
            ("postgresql://ada:s3cret@db:6432/d?sslmode=verify-full&sslrootcert=/etc/ca.pem", "postgres://ada@db:6432/d"),
            ("postgres://a%40b:s3cret%2F%3F@[2001:db8::1]:1/%C3%BC", "postgres://a%40b@[2001:db8::1]:1/%C3%BC"),
            ("postgres://ada@/d?host=/run/postgresql", "postgres://ada@:5432/d?host=/run/postgresql"),
            ("postgres://ada@:7/d?host=/run/postgresql&sslmode=disable", "postgres://ada@:7/d?host=/run/postgresql"),
            ("postgres://ada:s3cret@%2Frun%2Fpostgresql/d", "postgres://ada@:5432/d?host=/run/postgresql"),
            ("postgres://ada@db/d?host=other&port=7", "postgres://ada@other:7/d"),
        ] {
            let url = read(text).unwrap();
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), format!("PostgresUrl({shown})")));
        }
        assert_eq!(read("postgres://ada:%73%C3%BC@h/d").unwrap().password, Some(Password("sü".to_owned())));
    }

    #[test]
    fn over_a_network_the_server_must_be_known() {
        for mode in WEAK {
            let error = read(&format!("postgres://ada@db/d?sslmode={mode}")).unwrap_err();
            assert!(error.starts_with(&format!("sslmode={mode} does not make sure")) && error.contains("verify-full"), "{error}");
            assert!(read(&format!("postgres://ada@/d?sslmode={mode}&host=/run")).is_ok());
        }
        assert!(read("postgres://ada@db/d?sslmode=full").unwrap_err().starts_with("sslmode=\"full\" is unknown"));
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_reason() {
        for (text, why) in [
            ("mysql://ada@db/d", "not a PostgreSQL URL"),
            ("postgres://db/d", "names no user"),
            ("postgres://@db/d", "names no user"),
            ("postgres://ada@/d", "names no host"),
            ("postgres://ada@db", "names no database"),
            ("postgres://ada@db/", "names no database"),
            ("postgres://ada@db/a/b", "has a `/`"),
            ("postgres://ada@db:0/d", "port of the URL is not a number"),
            ("postgres://ada@db:x/d", "port of the URL is not a number"),
            ("postgres://ada@[::1/d", "without its `]`"),
            ("postgres://ada@[::1]x/d", "does not end after `]`"),
            ("postgres://ada@a,b/d", "names several"),
            ("postgres://ada@a b/d", "characters that a name does not have"),
            ("postgres://ada@db/d?sslcert=x", "setting \"sslcert\" that gnomon does not know"),
            ("postgres://ada@db/d?port=1&port=2", "the setting port twice"),
            ("postgres://ada@db/d?host=", "names no host"),
            ("postgres://a%zz@db/d", "has a `%` without two"),
            ("postgres://a%0@db/d", "has a `%` without two"),
            ("postgres://a%00@db/d", "has a NUL"),
            ("postgres://a%ff@db/d", "is not UTF-8"),
            ("postgres://ada@db/d#x", "has a `#`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn no_error_has_a_part_of_a_password_that_ends_elsewhere_than_was_meant() {
        for text in [
            "postgres://ada:s3cret",
            "postgres://ada:x?s3cret=s3cret",
            "postgres://ada:s3cret/s3cret@db/d",
            "postgres://ada:s3cret?s3cret=s3cret@db/d",
            "postgres://ada:s3cret#s3cret@db/d",
            "postgres://ada:s3cret@s3cret@db/d",
            "postgres://ada:%s3cret@db/d",
            "postgres://ada:s3cret%ff@db/d",
            "postgres://ada:s3cret@db:s/d",
            "postgres://ada@db/d?password=s3cret",
        ] {
            let error = text.parse::<PostgresUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn any_user_password_and_database_are_what_they_were(user in "[^\\x00]{1,20}", password in "[^\\x00]{1,20}", database in "[^\\x00]{1,20}") {
            let text = format!("postgres://{}:{}@db/{}", percent::encoded(&user), percent::encoded(&password), percent::encoded(&database));
            let url: PostgresUrl = text.parse().unwrap();
            prop_assert_eq!((url.user(), url.database(), &url.password), (&*user, &*database, &Some(Password(password))));
            let shown: PostgresUrl = url.to_string().parse().unwrap();
            prop_assert_eq!(shown, PostgresUrl { password: None, ..url });
        }

        #[test]
        fn any_text_is_a_url_or_none(text in "(postgres://)?([a:@/?&=%\\[\\]#,0-9é\\x00]|host|sslmode|verify-full){0,20}") {
            if let Ok(url) = text.parse::<PostgresUrl>() {
                prop_assert!(!url.user.is_empty() && !url.database.is_empty());
            }
        }

        #[test]
        fn no_error_has_a_part_of_a_password(password in "[@:/?#%&=\\[\\]]{0,3}(s3cret)[@:/?#%&=\\[\\]]{0,3}(s3cret)?") {
            let shown = match format!("postgres://ada:{password}@db/d").parse::<PostgresUrl>() {
                Ok(url) => format!("{url} {url:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!shown.contains("s3cret"), "{}", shown);
        }
    }
}
