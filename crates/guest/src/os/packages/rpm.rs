//! The database of rpm: headers of packages in one of three stores.
//!
//! A header is read only as far as its first few fields go: file lists and scripts come after them and make up most of it.

mod bdb;
mod blob;
mod header;
mod ndb;
mod paged;
mod sqlite;

use std::ops::ControlFlow;

use self::blob::Blob;
use self::paged::Paged;
use super::found::Found;
use crate::pieces::Pieces;
use crate::text::clean;
use crate::tree::Tree;

/// Databases in the order in which they came to be used, the youngest first.
const DATABASES: [(&str, Store); 6] = [
    ("/usr/lib/sysimage/rpm/rpmdb.sqlite", Store::Sqlite),
    ("/var/lib/rpm/rpmdb.sqlite", Store::Sqlite),
    ("/usr/lib/sysimage/rpm/Packages.db", Store::Ndb),
    ("/var/lib/rpm/Packages.db", Store::Ndb),
    ("/usr/lib/sysimage/rpm/Packages", Store::BerkeleyDb),
    ("/var/lib/rpm/Packages", Store::BerkeleyDb),
];

/// How headers are kept.
#[derive(Debug, Clone, Copy)]
enum Store {
    Sqlite,
    Ndb,
    BerkeleyDb,
}

/// Is shown the header of each package; breaks when no more is wanted.
type Show<'a> = dyn FnMut(Blob<'_>) -> ControlFlow<()> + 'a;

/// Reads the first database that is there.
pub(super) fn read(tree: &Tree, found: &mut Found<'_>) {
    let at = |(path, store): &(&'static str, Store)| Some((*path, *store, tree.stream(path)?));
    let Some((path, store, file)) = DATABASES.iter().find_map(at) else { return };
    let log = match store {
        Store::Sqlite => tree.stream(&format!("{path}-wal")),
        _ => None,
    };
    let (answer, broken) = read_store(store, &file, log.as_ref().map(|log| log as &dyn Pieces), found);
    if let Err(fault) = answer {
        tree.note(format!("{path} was not read to its end: {}.", clean(fault.as_bytes())));
    }
    if broken > 0 {
        tree.note(format!("{broken} packages in {path} cannot be read."));
    }
}

/// Reads a database with its write-ahead log; returns whether it was read to its end, and how many headers cannot be read.
fn read_store(
    store: Store,
    file: &dyn Pieces,
    log: Option<&dyn Pieces>,
    found: &mut Found<'_>,
) -> (Result<(), String>, usize) {
    let mut broken = 0;
    let mut show = |blob: Blob<'_>| match header::read(blob) {
        Ok(package) => found.add(&package.name, &package.version(), package.arch.as_deref()),
        Err(_) => {
            broken += 1;
            ControlFlow::Continue(())
        }
    };
    let (file, log) = (Paged::new(file), log.map(Paged::new));
    let answer = match store {
        Store::Sqlite => sqlite::read(&file, log.as_ref(), &mut show),
        Store::Ndb => ndb::read(&file, &mut show),
        Store::BerkeleyDb => bdb::read(&file, &mut show),
    };
    (answer, broken)
}

#[cfg(test)]
mod tests;
