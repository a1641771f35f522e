//! Both databases take the same steps: a migration has the same file name for SQLite and for PostgreSQL.

use std::collections::BTreeSet;

const FOLDERS: [&str; 2] = ["crates/catalog/migrations/sqlite/", "crates/catalog/migrations/postgres/"];

/// Breaches among the paths of the tree.
pub(super) fn check(paths: &[String]) -> Vec<String> {
    let [sqlite, postgres] = FOLDERS.map(|folder| names(paths, folder));
    let mut found: Vec<String> = sqlite.difference(&postgres).map(|name| lacking(FOLDERS[1], name)).collect();
    found.extend(postgres.difference(&sqlite).map(|name| lacking(FOLDERS[0], name)));
    for (folder, names) in FOLDERS.iter().zip([&sqlite, &postgres]) {
        found.extend(repeated_numbers(folder, names));
    }
    found
}

fn names<'a>(paths: &'a [String], folder: &str) -> BTreeSet<&'a str> {
    paths.iter().filter_map(|path| path.strip_prefix(folder)).collect()
}

fn lacking(folder: &str, name: &str) -> String {
    format!("{folder}: the migration {name} of the other database is missing here")
}

fn repeated_numbers(folder: &str, names: &BTreeSet<&str>) -> Vec<String> {
    let number = |name: &str| name.split('_').next().unwrap_or_default().to_owned();
    let ordered: Vec<&&str> = names.iter().collect();
    let twice = ordered.windows(2).filter(|pair| number(pair[0]) == number(pair[1]));
    twice.map(|pair| format!("{folder}: {} and {} have the same number", pair[0], pair[1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expect(sqlite: &[&str], postgres: &[&str], breaches: usize) {
        let with =
            |folder: &str, names: &[&str]| names.iter().map(|name| format!("{folder}{name}")).collect::<Vec<_>>();
        let paths = [with(FOLDERS[0], sqlite), with(FOLDERS[1], postgres)].concat();
        let found = check(&paths);
        assert_eq!(found.len(), breaches, "{found:#?}");
    }

    #[test]
    fn both_databases_have_the_same_migrations() {
        expect(&["0001_first.sql", "0002_jobs.sql"], &["0001_first.sql", "0002_jobs.sql"], 0);
        expect(&["0001_first.sql", "0002_jobs.sql"], &["0001_first.sql"], 1);
        expect(&["0001_first.sql"], &["0002_first.sql"], 2);
    }

    #[test]
    fn a_number_is_given_once() {
        let names = ["0001_first.sql", "0001_second.sql"];
        expect(&names, &names, 2);
    }
}
