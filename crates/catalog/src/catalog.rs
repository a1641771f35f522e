//! The catalog itself: where it is, and how a transaction on it begins.
//!
//! SQLite has one connection that writes and several that read; whoever wants to write waits, in
//! order, for that one connection instead of spinning on the file's lock. PostgreSQL has one pool.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::str::FromStr as _;
use std::sync::Once;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, Connection as _, Executor as _};

use crate::dialect::Dialect;
use crate::fields::Fields as _;
use crate::{Error, ErrorKind, Result, Tx};

/// Connections that read a SQLite file at once; each is a thread.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL; its default allows 100 over all nodes.
const POSTGRES_CONNECTIONS: u32 = 16;
/// How long a transaction waits for its turn before the caller is told that the catalog is busy.
const TURN: Duration = Duration::from_secs(30);

/// What Molde remembers. Clones share their connections.
#[derive(Clone)]
pub struct Catalog {
    dialect: Dialect,
    readers: AnyPool,
    writers: AnyPool,
}

impl fmt::Debug for Catalog {
    /// Says which database it is, and not where: an address may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Catalog").field(&self.dialect).finish()
    }
}

impl Catalog {
    /// Opens the catalog at `url` and brings its schema up to date.
    ///
    /// `sqlite:///var/lib/molde/catalog.db` names a file, which is made if it is not there, readable by
    /// its owner only; everything after `sqlite://` is the path, byte for byte, without escapes or
    /// parameters. `postgres://user:password@host:port/database` names a database whose encoding is UTF-8.
    ///
    /// Fails when the schema is newer than this program knows.
    pub async fn connect(url: &str) -> Result<Self> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);

        let (dialect, options) = match url.strip_prefix("sqlite://") {
            Some(path) => {
                make_private_file(path)?;
                (Dialect::Sqlite, AnyConnectOptions::from_str(&sqlite_url(path))?)
            }
            None if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                (Dialect::Postgres, AnyConnectOptions::from_str(url)?)
            }
            None => {
                let text = "the catalog's address begins with neither `sqlite://` nor `postgres://`";
                return Err(Error::new(ErrorKind::Invalid, text));
            }
        };
        migrate(dialect, &options).await?;
        let catalog = match dialect {
            Dialect::Sqlite => Self {
                dialect,
                readers: pool(dialect, &options, false, SQLITE_READERS),
                writers: pool(dialect, &options, true, 1),
            },
            Dialect::Postgres => {
                let pool = pool(dialect, &options, true, POSTGRES_CONNECTIONS);
                Self { dialect, readers: pool.clone(), writers: pool }
            }
        };
        catalog.ping().await?;
        tracing::debug!(?dialect, "the catalog is open");
        Ok(catalog)
    }

    /// Begins a transaction in which all reads see the same moment. Writes in it fail.
    pub async fn read(&self) -> Result<Tx> {
        let inner = self.readers.begin_with(self.dialect.begin_read()).await?;
        Ok(Tx::new(inner, self.dialect, false))
    }

    /// Begins a transaction that may write.
    ///
    /// On SQLite it is the only one until it ends: keep it short, and never wait for anything else
    /// inside it. On PostgreSQL a `get` of an image or a server keeps other writers from that row.
    pub async fn write(&self) -> Result<Tx> {
        let inner = self.writers.begin_with(self.dialect.begin_write()).await?;
        Ok(Tx::new(inner, self.dialect, true))
    }

    /// Returns whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.readers.acquire().await?.execute("SELECT 1").await?;
        Ok(())
    }

    /// Closes all connections and waits for those in use. Later calls fail.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}

fn pool(dialect: Dialect, options: &AnyConnectOptions, writer: bool, size: u32) -> AnyPool {
    AnyPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(TURN)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                connection.execute(dialect.on_connect(writer)).await?;
                Ok(())
            })
        })
        .connect_lazy_with(options.clone())
}

/// Runs the missing migrations on a connection of their own: one that failed half way keeps
/// PostgreSQL's advisory lock, and closing the connection is what gives it back.
async fn migrate(dialect: Dialect, options: &AnyConnectOptions) -> Result<()> {
    let mut connection = AnyConnection::connect_with(options).await?;
    connection.execute(dialect.on_connect(true)).await?;
    let done = async {
        if dialect == Dialect::Postgres {
            check_encoding(&mut connection).await?;
        }
        dialect.migrator().run_direct(None, &mut connection, false).await.map_err(Error::from)
    }
    .await;
    let closed = connection.close().await;
    done?;
    Ok(closed?)
}

/// Refuses a database in which text would not sort by its UTF-8 bytes.
async fn check_encoding(connection: &mut AnyConnection) -> Result<()> {
    let row = sqlx::query("SELECT current_setting('server_encoding') AS encoding").fetch_one(connection).await?;
    let encoding: String = row.field("encoding")?;
    if encoding == "UTF8" {
        return Ok(());
    }
    let text = format!("the catalog's database has the encoding {encoding}; make it with ENCODING 'UTF8'");
    Err(Error::new(ErrorKind::Invalid, text))
}

/// Makes the file before SQLite does, so that hashes and sealed secrets are never readable by others.
/// SQLite gives its log the same permissions.
fn make_private_file(path: &str) -> Result<()> {
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    made.map(drop).map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("the catalog `{path}` cannot be opened")).because(error)
    })
}

/// Escapes a path so that the driver finds the same bytes in it.
fn sqlite_url(path: &str) -> String {
    let mut url = String::from("sqlite://");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn futures_may_move_between_threads() {
        fn check<T: Send>(_: &T) {}
        fn all(catalog: &Catalog) {
            check(&Catalog::connect(""));
            check(&catalog.read());
            check(&catalog.write());
            check(&catalog.ping());
            check(&catalog.close());
        }
        let _ = all;
    }

    #[tokio::test]
    async fn sqlite_syncs_checks_and_keeps_readers_from_writing() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::connect(&format!("sqlite://{}/catalog.db", folder.path().display())).await.unwrap();
        let pragma = async |pool: &AnyPool, text: &'static str| -> i64 {
            sqlx::query_scalar(text).fetch_one(pool).await.unwrap()
        };
        assert_eq!(pragma(&catalog.writers, "PRAGMA synchronous").await, 2, "FULL");
        assert_eq!(pragma(&catalog.writers, "PRAGMA foreign_keys").await, 1);
        assert_eq!(pragma(&catalog.writers, "PRAGMA query_only").await, 0);
        assert_eq!(pragma(&catalog.readers, "PRAGMA query_only").await, 1);
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&catalog.readers).await.unwrap();
        assert_eq!(mode, "wal");
        assert_eq!(format!("{catalog:?}"), "Catalog(Sqlite)");
    }

    #[test]
    fn a_path_keeps_its_bytes() {
        assert_eq!(sqlite_url("/data/catalog.db"), "sqlite:///data/catalog.db");
        assert_eq!(sqlite_url("/João/a b?c#d%20"), "sqlite:///Jo%C3%A3o/a%20b%3Fc%23d%2520");
    }
}
