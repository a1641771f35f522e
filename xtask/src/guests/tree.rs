//! A root tree of Debian 12 by mmdebstrap and a script of ours, with the packages of this machine's own mirror.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command::{capture, run};
use crate::{apt_sources, packages};

const SUITE: &str = "bookworm";

/// What a tree is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    /// Packages beyond the smallest system, parted by commas.
    pub(crate) include: &'static str,
    /// A script that is run on the tree with its folder.
    pub(crate) script: &'static str,
}

impl Recipe {
    /// All that the tree is made from: another text makes another tree.
    pub(crate) fn text(&self) -> String {
        format!("{SUITE} {}\n{}", self.include, self.script)
    }

    /// Makes a tree owned by root in the place of what is at `tree`; `folder` is for what it takes on the way.
    pub(crate) fn make(&self, folder: &Path, tree: &Path) -> Result<()> {
        let machine = capture(Command::new("dpkg").arg("--print-architecture"))?;
        ensure!(machine.trim() == "amd64", "the guest is an amd64 Debian, and this machine is {}", machine.trim());
        remove(tree)?;
        let (script, sources) = (folder.join("guest.sh"), write_sources(folder)?);
        fs::write(&script, self.script)?;
        let mut command = packages::as_root("mmdebstrap")?;
        command.args(["--mode=root", "--variant=minbase", &format!("--include={}", self.include)]);
        command.arg("--aptopt=APT::Install-Recommends \"false\"");
        command.args(apt_options()?.iter().map(|option| format!("--aptopt={option}")));
        for excluded in ["doc", "man", "info", "locale"] {
            command.arg(format!("--dpkgopt=path-exclude=/usr/share/{excluded}/*"));
        }
        command.arg(format!("--customize-hook=sh {} \"$1\"", quoted(&script)));
        command.arg(SUITE).arg(tree).arg(sources);
        run(&mut command)
    }
}

/// This machine's own package source, for the guest's suite.
pub(crate) fn write_sources(folder: &Path) -> Result<PathBuf> {
    let host = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = host.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or(SUITE);
    let sources = apt_sources::of_this_machine()?;
    let source = sources
        .iter()
        .find(|source| source.has_suite(SUITE) || source.has_suite(codename))
        .with_context(|| format!("no package source in /etc/apt offers {codename}: the guest comes from there"))?;
    let file = folder.join(format!("guest.{}", source.form().extension()));
    fs::write(&file, source.with_suite(SUITE)).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// How this machine's apt reaches its mirror: proxies, and what it overlooks in a frozen snapshot.
pub(crate) fn apt_options() -> Result<Vec<String>> {
    const WANTED: [&str; 4] = ["::Proxy ", "::Check-Valid-Until ", "::Check-Date ", "::CaInfo "];
    let dump = capture(Command::new("apt-config").arg("dump"))?;
    let reaching = |line: &&str| line.starts_with("Acquire::") && WANTED.iter().any(|wanted| line.contains(wanted));
    Ok(dump.lines().filter(reaching).map(|line| line.trim_end_matches(';').to_owned()).collect())
}

/// Removes a tree, whoever owns it.
pub(crate) fn remove(tree: &Path) -> Result<()> {
    if !tree.exists() {
        return Ok(());
    }
    capture(packages::as_root("rm")?.args(["-r", "-f", "--one-file-system"]).arg(tree)).map(drop)
}

/// `path` as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        let path = Path::new("/tmp/it's a \"test\" $HOME");
        let said = capture(Command::new("sh").args(["-c", &format!("printf %s {}", quoted(path))])).unwrap();
        assert_eq!(said, path.display().to_string());
    }
}
