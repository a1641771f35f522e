//! `molde store`: the chunk store, for operators.

use clap::Subcommand;
use indicatif::HumanBytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::Result;
use crate::output::{Column, Output, line};

const PACKS: &[Column] = &[("PACKS", "/packs"), ("BYTES", "/bytes"), ("FATE", "/meaning")];

/// What can be done with the store.
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Show when garbage was collected last, and whether an alarm has stopped that
    Show,
    /// Collect garbage now: what nothing refers to is gone after two runs
    Gc {
        /// Only show what would go, and why the rest stays
        #[arg(long)]
        dry_run: bool,
    },
    /// Allow collection again after an alarm; verify the store first
    ClearAlarm,
}

impl Store {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        match self {
            Self::Show => {
                let answer = client.get("/molde/v1/store").await?;
                output.show(&answer["store"])
            }
            Self::Gc { dry_run } => {
                let answer = client.send(Method::POST, "/molde/v1/store/collect", &json!({"dry_run": dry_run})).await?;
                report(output, &answer["collection"])
            }
            Self::ClearAlarm => {
                let answer = client.send(Method::POST, "/molde/v1/store/clear-alarm", &json!({})).await?;
                output.done("collection may go on", &answer["store"])
            }
        }
    }
}

fn report(output: Output, collection: &Value) -> Result<()> {
    if output == Output::Json {
        return crate::output::print_json(collection);
    }
    output.list(&collection["packs"], PACKS)?;
    let count = |place: &str| collection.pointer(place).and_then(Value::as_u64).unwrap_or(0);
    let bytes = |place: &str| HumanBytes(count(place));
    line(&format!(
        "{} contents lead to {} in {} blobs",
        count("/contents"),
        bytes("/live/bytes"),
        count("/live/blobs")
    ))?;
    let strays = count("/stray_packs") + count("/stray_heads");
    if strays > 0 {
        line(&format!("{strays} objects of the store have no record"))?;
    }
    if collection["dry_run"] == json!(true) {
        return line("nothing was changed");
    }
    line(&format!(
        "removed {} packs of {}, copied {} out of {} packs that were mostly garbage",
        count("/removed/packs"),
        bytes("/removed/bytes"),
        bytes("/compacted/bytes"),
        count("/compacted/packs")
    ))
}
