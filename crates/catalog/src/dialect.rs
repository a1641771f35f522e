//! Everything that differs between SQLite and PostgreSQL.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Which database a statement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// Number, name, text for SQLite, text for PostgreSQL.
type Change = (i64, &'static str, &'static str, &'static str);

/// The schema's history. Only ever add to it: old releases must survive a new schema.
const CHANGES: &[Change] = &[
    (
        1,
        "begin",
        include_str!("../migrations/sqlite/0001_begin.sql"),
        include_str!("../migrations/postgres/0001_begin.sql"),
    ),
    (
        2,
        "collection",
        include_str!("../migrations/sqlite/0002_collection.sql"),
        include_str!("../migrations/postgres/0002_collection.sql"),
    ),
    (
        3,
        "exports",
        include_str!("../migrations/sqlite/0003_exports.sql"),
        include_str!("../migrations/postgres/0003_exports.sql"),
    ),
    (
        4,
        "quotas",
        include_str!("../migrations/sqlite/0004_quotas.sql"),
        include_str!("../migrations/postgres/0004_quotas.sql"),
    ),
    (
        5,
        "scrub",
        include_str!("../migrations/sqlite/0005_scrub.sql"),
        include_str!("../migrations/postgres/0005_scrub.sql"),
    ),
    (
        6,
        "reports",
        include_str!("../migrations/sqlite/0006_reports.sql"),
        include_str!("../migrations/postgres/0006_reports.sql"),
    ),
];

impl Dialect {
    /// Returns the statement that begins a transaction in which all reads see one moment, and writes fail.
    pub(crate) fn begin_read(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN DEFERRED",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// Returns the statement that begins a transaction that writes.
    pub(crate) fn begin_write(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        }
    }

    /// Returns what a new connection runs first; `writer` tells SQLite's one writer from its readers.
    pub(crate) fn on_connect(self, writer: bool) -> &'static str {
        match (self, writer) {
            // Cache sizes are in KiB, and taken as far as they are used. The busy time-out only meets other processes: in this one there is one writer.
            (Self::Sqlite, true) => {
                "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA cache_size = -32768"
            }
            (Self::Sqlite, false) => "PRAGMA busy_timeout = 10000; PRAGMA query_only = ON; PRAGMA cache_size = -8192",
            // Without these a peer that hangs inside a transaction would hold its locks for ever.
            (Self::Postgres, _) => {
                "SET lock_timeout = '15s'; SET idle_in_transaction_session_timeout = '60s'; SET statement_timeout = '60s'"
            }
        }
    }

    /// Returns an expression for the database's clock, in microseconds since the epoch.
    pub(crate) fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000000 AS BIGINT)",
            Self::Postgres => "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000 AS BIGINT)",
        }
    }

    /// Returns an expression for a column of bytes as hexadecimal digits.
    pub(crate) fn hex(self, column: &'static str) -> String {
        match self {
            Self::Sqlite => format!("hex({column})"),
            Self::Postgres => format!("encode({column}, 'hex')"),
        }
    }

    /// Returns the end of a `SELECT` that keeps its rows from other writers until the transaction ends.
    pub(crate) fn lock(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR NO KEY UPDATE",
        }
    }

    /// Returns the end of a `SELECT` that takes a row nobody else is taking.
    pub(crate) fn skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// Returns the schema's history as `sqlx` wants it.
    pub(crate) fn migrator(self) -> Migrator {
        let migrations = CHANGES.iter().map(|&(number, name, sqlite, postgres)| {
            let text = match self {
                Self::Sqlite => sqlite,
                Self::Postgres => postgres,
            };
            Migration::new(number, name.into(), MigrationType::Simple, text.into_sql_str(), false)
        });
        Migrator::with_migrations(migrations.collect())
    }
}
