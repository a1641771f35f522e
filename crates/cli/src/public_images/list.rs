//! `molde catalog list`: what is known, until when it is looked after, how it is verified, and what of it is published.

use std::collections::BTreeMap;

use clap::Args;
use distributions::{Definitions, Distribution, Mirror, Release, Version, Wanted};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::published::{self, Line, Published};
use super::{From, is_over};
use crate::client::Client;
use crate::error::{Failure, Result};
use crate::output::{Column, Output};

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("TITLE", "/title"),
    ("ARCHITECTURES", "/architectures"),
    ("END OF LIFE", "/end_of_life"),
    ("VERIFIED BY", "/verified_by"),
    ("PUBLISHED", "/published"),
];

/// Lists what is known.
#[derive(Debug, Args)]
pub struct List {
    /// Also what is not looked after any more
    #[arg(long)]
    all: bool,
    /// Ask no mirror whether something newer is out
    #[arg(long)]
    offline: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: From,
}

impl List {
    pub(super) async fn run(self, client: Option<&Client>, output: Output) -> Result<()> {
        let output = if self.json { Output::Json } else { output };
        let definitions = self.from.definitions()?;
        let published = match client {
            Some(client) => published::all(client).await?,
            None => BTreeMap::new(),
        };
        let mirror = (!self.offline && !published.is_empty()).then(|| self.from.mirror(&definitions)).transpose()?;
        let mut rows = Vec::new();
        for (distribution, version) in versions(&definitions) {
            let there = there(distribution, version, &published, mirror.as_ref()).await;
            if self.all || !there.is_empty() || !is_over(version.end_of_life) {
                rows.push(row(distribution, version, &there));
            }
        }
        if output == Output::Table {
            rows.iter_mut().for_each(shorten);
        }
        output.list(&rows.into(), COLUMNS)
    }
}

fn versions(definitions: &Definitions) -> impl Iterator<Item = (&Distribution, &Version)> {
    definitions.all().flat_map(|known| known.versions.iter().rev().map(move |version| (known, version)))
}

/// What is published of a version, for each architecture.
async fn there(
    distribution: &Distribution,
    version: &Version,
    published: &BTreeMap<Line, Vec<Published>>,
    mirror: Option<&Mirror>,
) -> Vec<Value> {
    let mut there = Vec::new();
    for arch in version.architectures() {
        let wanted = Wanted { distribution, version, arch };
        let Some(newest) = published.get(&Line::of(wanted)).and_then(|images| images.first()) else { continue };
        let (newer, why) = match mirror {
            None => (None, None),
            Some(mirror) => match is_newer(mirror, wanted, newest).await {
                Ok(newer) => (Some(newer), None),
                Err(failure) => (None, Some(failure.to_string())),
            },
        };
        there.push(json!({
            "architecture": arch, "image": newest.id(), "build": newest.build(), "newer": newer, "unknown": why,
        }));
    }
    there
}

async fn is_newer(mirror: &Mirror, wanted: Wanted<'_>, newest: &Published) -> Result<bool, Failure> {
    Ok(Release::find(mirror, wanted, Timestamp::now()).await?.is_newer_than(&newest.known())?)
}

fn row(distribution: &Distribution, version: &Version, there: &[Value]) -> Value {
    let codename = Some(&version.codename).filter(|name| !name.is_empty());
    let codename = codename.map(|name| format!(" ({name})")).unwrap_or_default();
    json!({
        "name": format!("{}:{}", distribution.name, version.version),
        "title": format!("{} {}{codename}", distribution.title, version.version),
        "architectures": version.architectures().collect::<Vec<_>>(),
        "released": version.released.map(|day| day.to_string()),
        "end_of_life": version.end_of_life.map(|day| day.to_string()),
        "is_over": is_over(version.end_of_life),
        "verified_by": version.verified_by(),
        "published": there,
    })
}

/// Makes of a row what fits a line of a table.
fn shorten(row: &mut Value) {
    if row["is_over"] == true {
        row["end_of_life"] = json!(format!("{} (over)", row["end_of_life"].as_str().unwrap_or_default()));
    }
    let published = row["published"].as_array().into_iter().flatten().map(|there| {
        let (arch, build) =
            (there["architecture"].as_str().unwrap_or_default(), there["build"].as_str().unwrap_or_default());
        let more = match (&there["newer"], there["unknown"].as_str()) {
            (Value::Bool(true), _) => " (a newer one is out)".to_owned(),
            (_, Some(why)) => format!(" ({why})"),
            _ => String::new(),
        };
        json!(format!("{arch} {build}{more}"))
    });
    row["published"] = published.collect();
}
