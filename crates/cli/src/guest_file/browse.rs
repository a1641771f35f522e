//! `molde guest ls`, `cat` and `find`: files of a guest.

use std::io::{self, Write};

use clap::Args;
use guest::{Browser, Entry, EntryKind};
use serde_json::{Value, json};

use super::From;
use crate::error::{Failure, Result};
use crate::output::{Output, line, plain, print_json};

/// Bytes of a file that are in memory at once.
const PIECE: usize = 4 << 20;

/// Lists a folder of the guest.
#[derive(Debug, Args)]
pub struct Ls {
    #[command(flatten)]
    from: From,
    /// The folder, or a file
    #[arg(default_value = "/")]
    path: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints files of the guest, as they are.
#[derive(Debug, Args)]
pub struct Cat {
    #[command(flatten)]
    from: From,
    /// Paths in the guest
    #[arg(required = true)]
    paths: Vec<String>,
}

/// Lists everything below a folder of the guest; links are not followed.
#[derive(Debug, Args)]
pub struct Find {
    #[command(flatten)]
    from: From,
    /// The folder
    #[arg(default_value = "/")]
    path: String,
    /// Only what has this in its name
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Print JSON, one object on each line
    #[arg(long)]
    json: bool,
}

impl Ls {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let browser = self.from.look(Browser::open)?;
        let entries = match browser.list(&self.path) {
            Some(entries) => entries,
            None => vec![browser.entry(&self.path, false).ok_or_else(|| missing(&self.path))?],
        };
        if self.json || output == Output::Json {
            return print_json(&entries.iter().map(entry_json).collect());
        }
        entries.iter().try_for_each(|entry| line(&row(entry)))
    }
}

impl Cat {
    pub(super) fn run(self) -> Result<()> {
        let browser = self.from.look(Browser::open)?;
        let mut stdout = io::stdout().lock();
        for path in &self.paths {
            let mut at = 0;
            loop {
                let bytes = browser.read(path, at, PIECE)?;
                if bytes.is_empty() {
                    break;
                }
                stdout.write_all(&bytes)?;
                at += bytes.len() as u64;
            }
        }
        stdout.flush()?;
        Ok(())
    }
}

impl Find {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let browser = self.from.look(Browser::open)?;
        browser.entry(&self.path, true).ok_or_else(|| missing(&self.path))?;
        let is_json = self.json || output == Output::Json;
        let mut told = Ok(());
        browser.walk(&self.path, &mut |entry| {
            let name = entry.path.rsplit('/').next().unwrap_or_default();
            if told.is_ok() && self.name.as_ref().is_none_or(|part| name.contains(part.as_str())) {
                told = line(&if is_json { entry_json(entry).to_string() } else { plain(&entry.path) });
            }
        });
        told?;
        browser.take_notes().iter().for_each(|note| eprintln!("note: {}", plain(note)));
        Ok(())
    }
}

fn missing(path: &str) -> Failure {
    Failure::new(format!("nothing stands at `{}` in the guest", plain(path)))
}

pub(super) fn entry_json(entry: &Entry) -> Value {
    json!({
        "path": entry.path, "kind": entry.kind.as_str(), "size": entry.length, "mode": format!("{:04o}", entry.mode),
        "uid": entry.uid, "gid": entry.gid, "target": entry.target,
    })
}

fn row(entry: &Entry) -> String {
    let kind = match entry.kind {
        EntryKind::File => '-',
        EntryKind::Folder => 'd',
        EntryKind::Link => 'l',
        EntryKind::Special => 's',
    };
    let target = entry.target.as_ref().map(|target| format!(" -> {}", plain(target))).unwrap_or_default();
    let (mode, uid, gid, length) = (entry.mode, entry.uid, entry.gid, entry.length);
    format!("{kind}{mode:04o} {uid:>6} {gid:>6} {length:>12} {}{target}", plain(&entry.path))
}
