//! `molde catalog add`: the newest image of a distribution, published.

use clap::Args;
use distributions::Wanted;
use serde_json::Value;

use super::bring::{As, bring};
use super::published::{self, Line};
use super::{Fetch, From};
use crate::client::Client;
use crate::error::Result;
use crate::output::Output;

/// Publishes the newest image of a distribution.
#[derive(Debug, Args)]
pub struct Add {
    /// Which one: NAME for its newest version, or NAME:VERSION; `molde catalog list` shows them
    #[arg(value_name = "NAME[:VERSION]")]
    distribution: String,
    /// For which processor: x86_64 or aarch64; that of this machine if not told
    #[arg(long, default_value = std::env::consts::ARCH, hide_default_value = true)]
    arch: String,
    /// Who sees it: private, shared, community or public
    #[arg(long, default_value = "public")]
    visibility: String,
    /// What to call it; NAME-VERSION-ARCH if not told
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    fetch: Fetch,
}

impl Add {
    pub(super) async fn run(self, client: &Client, output: Output) -> Result<()> {
        let definitions = self.from.definitions()?;
        let (name, version) = match self.distribution.split_once(':') {
            Some((name, version)) => (name, Some(version)),
            None => (self.distribution.as_str(), None),
        };
        let (distribution, version) = definitions.find(name, version)?;
        let wanted = Wanted { distribution, version, arch: &self.arch };
        let line = Line::of(wanted);
        let known = published::all(client).await?.remove(&line).unwrap_or_default();
        let mirror = self.from.mirror(&definitions)?;
        let name = self.name.unwrap_or_else(|| line.name());
        let new = As { name: &name, visibility: &self.visibility };
        let brought = bring(client, &mirror, wanted, &self.fetch, &known, new).await?;
        if !brought.new && output == Output::Table {
            let id = brought.image["id"].as_str().unwrap_or_default();
            return output.done(&format!("image {id} is the newest one already"), &Value::Null);
        }
        output.show(&brought.image)
    }
}
