//! Why the journal could not be opened, written or read, each with the next step. None of these texts has a password in it.

use crate::{PostgresUrl, identifier};
use gnomon_ledger_model::Cause;
use sqlx::{Error, postgres::PgDatabaseError};
use std::io;
use thiserror::Error as ErrorText;

/// An error of opening the journal.
#[derive(Debug, ErrorText)]
pub enum PostgresOpenError {
    /// The server cannot be reached, is not the expected one, or refuses the login.
    #[error("cannot connect to {at}: {source}; {next}")]
    Unreachable {
        /// The URL, without its password.
        at: String,
        /// The error of the system, TLS or the server.
        source: Cause,
        /// The remedy.
        next: String,
    },
    /// A password or the certificates of authorities are not to be had.
    #[error("cannot connect to {at}: {cause}")]
    Setup {
        /// The URL, without its password.
        at: String,
        /// Why, and what to do.
        cause: String,
    },
    /// The role lacks rights.
    #[error("the role may not do in {at} what gnomon does; let the owner of the database run: {grant}")]
    MissingRights {
        /// The URL, without its password.
        at: String,
        /// SQL that gives the rights.
        grant: String,
    },
    /// Another program's schema has the name.
    #[error("the schema gnomon in {at} belongs to another program; use another database")]
    NotAJournal {
        /// The URL, without its password.
        at: String,
    },
    /// The database cannot keep every text.
    #[error("the database of {at} has the encoding {found}; create one for gnomon: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0")]
    Encoding {
        /// The URL, without its password.
        at: String,
        /// Its encoding.
        found: String,
    },
    /// The journal is not there any more, or is an older one: the database was made anew or restored while gnomon ran.
    #[error("the journal in {at} is not the one that was opened; if the database was restored, restart gnomon")]
    Replaced {
        /// The URL, without its password.
        at: String,
    },
    /// A newer gnomon wrote it.
    #[error("the journal in {at} was written by a newer gnomon (schema {found}, this one knows {known}); upgrade gnomon on this host")]
    Newer {
        /// The URL, without its password.
        at: String,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The database refuses.
    #[error("cannot open the journal of decisions in {at}: {source}; the server's log may say more")]
    Database {
        /// The URL, without its password.
        at: String,
        /// The database's error.
        source: Cause,
    },
}

/// An error of a call, as the cause of a [`gnomon_ledger_model::StoreError`] or a [`gnomon_ledger_model::ReadError`].
#[derive(Debug, ErrorText)]
pub enum CallError {
    /// Connecting failed.
    #[error(transparent)]
    Open(#[from] PostgresOpenError),
    /// Timed out.
    #[error("{at} did not answer within {seconds} s; look at the server and at the network that leads there")]
    Silent {
        /// The URL, without its password.
        at: String,
        /// The seconds that the call waited.
        seconds: u64,
    },
    /// The server refuses, or the connection broke. Nothing was kept.
    #[error("{at} refuses: {source}; {next}")]
    Refused {
        /// The URL, without its password.
        at: String,
        /// The server's error.
        source: Cause,
        /// The remedy.
        next: &'static str,
    },
    /// All was sent, and the answer did not come.
    #[error("{at} did not confirm: {cause}; it may have been kept: look before deciding again")]
    MaybeKept {
        /// The URL, without its password.
        at: String,
        /// The cause.
        cause: String,
    },
    /// PostgreSQL has no such texts.
    #[error("PostgreSQL cannot keep a NUL character, and the {column} of a decision has one; nothing was kept: leave the character out")]
    Nul {
        /// The column.
        column: &'static str,
    },
}

/// The SQLSTATE of a server's error.
fn code(error: &Error) -> Option<&str> {
    error.as_database_error()?.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::code)
}

/// The server's message, without the line of its own source that the driver adds; else the driver's.
pub(crate) fn said(error: Error) -> Cause {
    match error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) {
        Some(said) => format!("{} ({})", said.message(), said.code()).into(),
        None => error.into(),
    }
}

/// True if the connection failed, and not the statement.
pub(crate) fn is_broken(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) => true,
        // The server ends, or ended the connection: it was idle for too long, or in a transaction.
        error => code(error).is_some_and(|code| code.starts_with("57P") || code.starts_with("08") || code == "25P03"),
    }
}

/// True if the role lacks a right.
pub(crate) fn is_forbidden(error: &Error) -> bool {
    code(error) == Some("42501")
}

/// The error of a connection that was not made.
pub(crate) fn unreachable(url: &PostgresUrl, source: Error) -> PostgresOpenError {
    let at = url.to_string();
    let next = match &source {
        Error::Tls(error) if error.to_string().contains("does not support TLS") => {
            "turn on `ssl` in the server's postgresql.conf, as gnomon's decisions never go over a network in the clear".to_owned()
        }
        Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            "name the host as the server's certificate has it, and the file of the authority that issued it with sslrootcert=".to_owned()
        }
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => "the server's log may say more".to_owned(),
        Error::Io(_) => "is the server running, and does it listen there?".to_owned(),
        // SASLprep names the character that it does not allow.
        Error::Configuration(error) if error.to_string().contains("password") => {
            let cause = "the password has a character that SASLprep does not allow; set another one".to_owned();
            return PostgresOpenError::Setup { at, cause };
        }
        error => match code(error) {
            Some("28P01" | "28000") => {
                "look at the password (in the URL, PGPASSWORD or a passfile), and at the server's pg_hba.conf".to_owned()
            }
            Some("3D000") => {
                format!(
                    "let an administrator run: CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0",
                    identifier::quoted(url.database())
                )
            }
            Some("53300") => "the server has no connection left: raise its max_connections, or end some".to_owned(),
            _ => "the server's log may say more".to_owned(),
        },
    };
    PostgresOpenError::Unreachable { at, source: said(source), next }
}

/// The error of a connection that was not made in time.
pub(crate) fn late(url: &PostgresUrl, seconds: u64) -> PostgresOpenError {
    let source = format!("no answer within {seconds} s").into();
    let next = "look at the server and at the network that leads there".to_owned();
    PostgresOpenError::Unreachable { at: url.to_string(), source, next }
}

/// The error of a call that the server refused before anything was kept.
pub(crate) fn refused(url: &PostgresUrl, source: Error) -> CallError {
    let next = match code(&source) {
        Some("57014" | "55P03") => "it took too long, as where another writer holds its turn; try again",
        Some("25006") => "this server takes no writes: name the primary in the URL",
        Some("42501") => "restart gnomon to learn which rights the role lacks",
        Some("53100") => "make room on the server's disk",
        Some("53200") => "the server has no memory left",
        _ if is_broken(&source) => "try again",
        _ => "the server's log may say more",
    };
    CallError::Refused { at: url.to_string(), source: said(source), next }
}
