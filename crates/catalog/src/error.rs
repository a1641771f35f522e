//! Why the catalog could not do what it was asked: a kind for programs, a sentence for people.

use std::fmt;

use sqlx::error::ErrorKind as Violation;
use sqlx::migrate::MigrateError;

/// What every function of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A row with this name or id exists already, or a row that is still referred to was to be deleted.
    Conflict,
    /// A value does not fit the catalog: a NUL character, a number beyond 2^63, a list that is too long.
    Invalid,
    /// A project would have more of something than its quota allows.
    Quota,
    /// The row a request builds on, such as the marker of a page, does not exist.
    Missing,
    /// The database is busy, full, or out of reach; the same request may succeed later.
    Unavailable,
    /// A fault of this program or of the database's contents.
    Other,
}

/// Returned when the catalog could not do what it was asked; the database's own words are the source.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    text: String,
    table: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Returns what a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the table whose row exists already, when the error is such a conflict.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), table: None, source: None }
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Database(database) = &error {
            let table = unique_table(database.as_ref());
            let (kind, text) = judge(database.as_ref(), table.as_deref());
            return Self { kind, text, table, source: Some(Box::new(error)) };
        }
        let (kind, text) = match &error {
            sqlx::Error::PoolTimedOut => {
                (ErrorKind::Unavailable, "the catalog is busy: no connection became free in time")
            }
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                (ErrorKind::Unavailable, "the catalog's database cannot be reached")
            }
            sqlx::Error::Configuration(_) => (ErrorKind::Invalid, "the catalog's address is not understood"),
            _ => (ErrorKind::Other, "the catalog's database answered in an unexpected way"),
        };
        Self::new(kind, text).because(error)
    }
}

impl From<MigrateError> for Error {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(version) => Self::new(
                ErrorKind::Other,
                format!(
                    "the catalog was written by a newer Molde: it has schema version {version}, which this one does not know; run that release, or restore an older copy of the catalog"
                ),
            ),
            MigrateError::VersionMismatch(version) => Self::new(
                ErrorKind::Other,
                format!(
                    "the catalog's schema version {version} is not the one of this release; it was made by another build"
                ),
            ),
            MigrateError::Execute(error) => error.into(),
            other => Self::new(ErrorKind::Other, "the catalog's schema cannot be brought up to date").because(other),
        }
    }
}

/// Returns the table of a unique violation. PostgreSQL tells it; SQLite says it in words only
/// (`UNIQUE constraint failed: buckets.project, buckets.name`).
fn unique_table(error: &dyn sqlx::error::DatabaseError) -> Option<String> {
    if !error.is_unique_violation() {
        return None;
    }
    let told = error.table().map(str::to_owned);
    told.or_else(|| Some(error.message().split_once("failed: ")?.1.split('.').next()?.to_owned()))
}

fn judge(error: &dyn sqlx::error::DatabaseError, table: Option<&str>) -> (ErrorKind, String) {
    match error.kind() {
        Violation::UniqueViolation => {
            return (
                ErrorKind::Conflict,
                format!("a row of {} with this name or id exists already", table.unwrap_or("a table")),
            );
        }
        Violation::ForeignKeyViolation => {
            let text = "the row is still referred to by another, or refers to one that does not exist";
            return (ErrorKind::Conflict, text.to_owned());
        }
        _ => {}
    }
    let code = error.code().unwrap_or_default();
    // SQLite's codes are numbers below 10 000, with detail above the lowest byte; a SQLSTATE has five characters.
    let (kind, text) = match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => judge_sqlite(number & 0xff),
        _ => judge_sqlstate(&code),
    };
    (kind, text.to_owned())
}

/// Judges a primary result code (sqlite.org/rescode.html).
fn judge_sqlite(code: u32) -> (ErrorKind, &'static str) {
    match code {
        5 | 6 => (ErrorKind::Unavailable, "the catalog is busy: another process holds its lock"),
        10 => (ErrorKind::Unavailable, "the catalog's disk failed to read or write"),
        13 => (ErrorKind::Unavailable, "the catalog's disk is full"),
        14 => (ErrorKind::Unavailable, "the catalog's file cannot be opened"),
        11 | 26 => (ErrorKind::Other, "the catalog's file is damaged, or is no SQLite database"),
        18 => (ErrorKind::Invalid, "a value is too long for the catalog"),
        _ => (ErrorKind::Other, "the catalog refused a statement"),
    }
}

/// Judges a SQLSTATE (PostgreSQL manual, appendix A).
fn judge_sqlstate(code: &str) -> (ErrorKind, &'static str) {
    match code {
        "22021" => (ErrorKind::Invalid, "a text holds a NUL character, which the catalog cannot keep"),
        "54000" => (ErrorKind::Invalid, "a value is too long for the catalog"),
        "40001" | "40P01" => {
            (ErrorKind::Unavailable, "the catalog is busy: two transactions got into each other's way")
        }
        "55P03" | "57014" => (ErrorKind::Unavailable, "the catalog is busy: a lock did not become free in time"),
        "53100" => (ErrorKind::Unavailable, "the catalog's disk is full"),
        _ if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
            (ErrorKind::Unavailable, "the catalog's database cannot serve now")
        }
        _ => (ErrorKind::Other, "the catalog refused a statement"),
    }
}
