//! House rules that a machine can check, over every file that git knows or would add.
//!
//! A rule is a function from a file (or from the whole tree) to sentences; each has a test that shows it a breach.

mod arrows;
mod files;
mod migrations;
mod source;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::capture;
use crate::workspace;
use source::Source;

/// Every breach in the tree under `root`, one sentence each, with the place in front.
pub(crate) fn violations(root: &Path) -> Result<Vec<String>> {
    let paths = paths(root)?;
    let mut found = arrows::check(&workspace::metadata()?);
    found.extend(migrations::check(&paths));
    for path in paths.iter().filter(|path| path.ends_with(".rs")) {
        let text = fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        found.extend(files::check(&Source::new(path, &text)));
    }
    found.sort();
    Ok(found)
}

/// The paths of the tree's files, relative to `root`; what git ignores is not part of the tree.
fn paths(root: &Path) -> Result<Vec<String>> {
    let listed = capture(Command::new("git").current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let present = |path: &&str| !path.is_empty() && root.join(path).is_file();
    Ok(listed.split('\0').filter(present).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_keeps_the_house_rules() {
        let found = violations(workspace::root()).unwrap();
        assert!(found.is_empty(), "{} breaches:\n{}", found.len(), found.join("\n"));
    }

    #[test]
    fn the_tree_is_seen() {
        let paths = paths(workspace::root()).unwrap();
        assert!(paths.iter().any(|path| path == "xtask/src/tidy.rs"), "{paths:?}");
        assert!(!paths.iter().any(|path| path.starts_with("target/")));
    }
}
