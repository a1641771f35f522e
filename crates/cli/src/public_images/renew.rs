//! `molde catalog sync`: a newer image for each line that was added, where there is one.

use std::collections::BTreeSet;

use clap::Args;
use distributions::{Definitions, Mirror, Wanted};
use serde_json::{Value, json};

use super::bring::{As, Brought, bring};
use super::published::{self, Line, Published};
use super::{Fetch, From};
use crate::client::Client;
use crate::error::{Failure, Result};
use crate::image;
use crate::output::{Column, Output};

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("VERSION", "/version"),
    ("ARCHITECTURE", "/architecture"),
    ("STATE", "/state"),
    ("IMAGE", "/image"),
    ("HIDDEN", "/hidden"),
    ("DELETED", "/deleted"),
];

/// Publishes what is newer than the images that were added, and hides the older ones.
#[derive(Debug, Args)]
pub struct Sync {
    /// Of the hidden ones of each version and processor, keep so many; delete older ones that no server was made from
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    fetch: Fetch,
}

impl Sync {
    pub(super) async fn run(self, client: &Client, output: Output) -> Result<()> {
        let definitions = self.from.definitions()?;
        let lines = published::all(client).await?;
        let mirror = self.from.mirror(&definitions)?;
        let (mut rows, mut failed) = (Vec::new(), 0);
        for (line, images) in &lines {
            // One mirror that is down keeps no other distribution from being renewed.
            let row = match self.renew(client, &definitions, &mirror, line, images).await {
                Ok(row) => row,
                Err(failure) => {
                    failed += 1;
                    eprintln!("{}: {failure}", line.name());
                    json!({"state": "failed", "image": images.first().map(Published::id), "error": failure.to_string()})
                }
            };
            rows.push(named(line, row));
        }
        output.list(&rows.into(), COLUMNS)?;
        match failed {
            0 => Ok(()),
            _ => Err(Failure::new(format!("{failed} of {} could not be renewed", lines.len()))
                .with_hint("what is published stays as it is; run `molde catalog sync` again later")),
        }
    }

    async fn renew(
        &self,
        client: &Client,
        definitions: &Definitions,
        mirror: &Mirror,
        line: &Line,
        images: &[Published],
    ) -> Result<Value> {
        let (distribution, version) = definitions.find(&line.family, Some(&line.version))?;
        let wanted = Wanted { distribution, version, arch: &line.arch };
        // A new image is to those who use it what the last one was.
        let last = images.first().map(|last| (last.name().to_owned(), last.visibility().to_owned()));
        let (name, visibility) = last.unwrap_or_else(|| (line.name(), "private".to_owned()));
        let new = As { name: &name, visibility: &visibility };
        let Brought { image, new, hidden } = bring(client, mirror, wanted, &self.fetch, images, new).await?;
        let id = image::id(&image);
        let deleted = match self.keep {
            Some(keep) => delete(client, &id, images, keep).await?,
            None => Vec::new(),
        };
        let state = if new { "published" } else { "newest" };
        Ok(json!({"state": state, "image": id, "hidden": hidden, "deleted": deleted}))
    }
}

fn named(line: &Line, mut row: Value) -> Value {
    let Line { family, version, arch } = line;
    for (name, value) in [("name", family), ("version", version), ("architecture", arch)] {
        row[name] = json!(value);
    }
    row
}

/// Deletes the older images but the newest `keep`, if nobody protected them and no server was made from them.
async fn delete(client: &Client, newest: &str, images: &[Published], keep: usize) -> Result<Vec<String>> {
    let servers = client.get("/molde/v1/servers").await?;
    let servers = servers["servers"].as_array().cloned().unwrap_or_default();
    let used: BTreeSet<&str> = servers.iter().filter_map(|server| server["image"].as_str()).collect();
    let mut deleted = Vec::new();
    for image in images.iter().filter(|image| image.id() != newest).skip(keep) {
        let id = image.id();
        if !image.is_protected() && !used.contains(id.as_str()) {
            client.delete(&format!("/v2/images/{id}")).await?;
            deleted.push(id);
        }
    }
    Ok(deleted)
}
