//! The object stores that only the slow tests start: packages of Debian, and one program from npm at a pinned version.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{find, run};
use crate::{packages, workspace};

/// Microsoft's emulator of Azure Blob Storage, the last one for the Node of Debian 12 and 13; also the stamp of a
/// finished installation.
const AZURITE: &str = "azurite@3.35.0";

/// Installs the peers under `target/peers` unless they stand there already, and returns that folder.
pub(crate) fn install() -> Result<PathBuf> {
    packages::ensure(&packages::SLOW)?;
    let folder = workspace::target()?.join("peers");
    let (npm, stamp) = (folder.join("npm"), folder.join("installed.txt"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == AZURITE) {
        return Ok(folder);
    }
    println!("installing the object stores of the slow tests into {}", folder.display());
    fs::create_dir_all(&npm).with_context(|| format!("cannot make {}", npm.display()))?;
    let program = find("npm").context("`npm` is not on the PATH")?;
    run(Command::new(program).args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&npm).arg(AZURITE))?;
    fs::write(&stamp, AZURITE).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(folder)
}
