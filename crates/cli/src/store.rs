//! `molde store`: the chunk store, for operators.

use clap::Subcommand;
use indicatif::HumanBytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::bundle::{BUNDLE_HELP, Bundle, UNBUNDLE_HELP, Unbundle};
use crate::client::Client;
use crate::error::Result;
use crate::job::{told_job, wait};
use crate::output::{Column, Output, line, plain};

const PROJECTS: &[Column] =
    &[("PROJECT", "/project"), ("CONTENTS", "/count"), ("LENGTH", "/length"), ("DATA", "/data"), ("STORED", "/stored")];
const CONTENTS: &[Column] = &[
    ("HELD BY", "/name"),
    ("PROJECT", "/project"),
    ("LENGTH", "/length"),
    ("DATA", "/data"),
    ("STORED", "/stored"),
    ("FREED IF DELETED", "/freed"),
];
const REBUILD_HELP: &str = "\
Start the server with a new catalog, the store and its master key, then run this. Of an image or object the store has the
bytes and the project; names, properties and users were in the catalog. Disks become images, other files objects of the
bucket `recovered`, in projects named `recovered-ID` where the project is not known; you become their administrator.
Running it again, or with a catalog that is an old copy, adds what is missing.";
const PACKS: &[Column] = &[("PACKS", "/packs"), ("BYTES", "/bytes"), ("FATE", "/meaning")];

/// What can be done with the store.
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Show how the store stands: its packs, when they were read back, damage, and whether an alarm has stopped collection
    Show,
    /// Show what is kept and what it costs: in all, for each project, and what deleting each content would free
    Stats {
        /// How many contents to list, those first whose deletion frees most
        #[arg(long, value_name = "N", default_value_t = 20)]
        contents: usize,
    },
    /// Follow every image and object down to its chunks; fails and names them if any is damaged
    Verify {
        /// Read, open and hash every byte as well
        #[arg(long)]
        deep: bool,
        /// Return at once and leave the job to the server
        #[arg(long)]
        no_wait: bool,
    },
    /// Make records for what lies in the store and has none, after the loss of the catalog
    #[command(after_help = REBUILD_HELP)]
    Rebuild {
        /// Return at once and leave the job to the server
        #[arg(long)]
        no_wait: bool,
    },
    /// Collect garbage now: what nothing refers to is gone after two runs
    Gc {
        /// Only show what would go, and why the rest stays
        #[arg(long)]
        dry_run: bool,
    },
    /// Allow collection again after an alarm; verify the store first
    ClearAlarm,
    /// Write an image to one file, NOT encrypted, to be carried to another server
    #[command(after_help = BUNDLE_HELP)]
    Bundle(Bundle),
    /// Make an image from a bundle
    #[command(after_help = UNBUNDLE_HELP)]
    Unbundle(Unbundle),
}

impl Store {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        match self {
            Self::Show => {
                let answer = client.get("/molde/v1/store").await?;
                output.show(&answer["store"])
            }
            Self::Stats { contents } => {
                let answer = client.get(&format!("/molde/v1/store/stats?contents={contents}")).await?;
                stats(output, &answer["stats"])
            }
            Self::Verify { deep, no_wait } => {
                let answer = client.send(Method::POST, "/molde/v1/store/verify", &json!({"deep": deep})).await?;
                job(client, output, &answer, "verify", no_wait).await
            }
            Self::Rebuild { no_wait } => {
                let answer = client.send(Method::POST, "/molde/v1/store/rebuild", &json!({})).await?;
                job(client, output, &answer, "rebuild", no_wait).await
            }
            Self::Gc { dry_run } => {
                let answer = client.send(Method::POST, "/molde/v1/store/collect", &json!({"dry_run": dry_run})).await?;
                report(output, &answer["collection"])
            }
            Self::ClearAlarm => {
                let answer = client.send(Method::POST, "/molde/v1/store/clear-alarm", &json!({})).await?;
                output.done("collection may go on", &answer["store"])
            }
            Self::Bundle(bundle) => bundle.run(client, output).await,
            Self::Unbundle(unbundle) => unbundle.run(client, output).await,
        }
    }
}

/// Follows a job to its end, or tells which it is.
async fn job(client: &Client, output: Output, answer: &Value, label: &str, no_wait: bool) -> Result<()> {
    let id = answer["job"]["id"].as_str().unwrap_or_default();
    if no_wait {
        return told_job(output, &format!("job {id} was begun; see it with `molde job show {id}`"), answer);
    }
    let job = wait(client, id, label).await?;
    output.done(&format!("{label}: done"), &json!({"job": job}))
}

fn stats(output: Output, stats: &Value) -> Result<()> {
    if output == Output::Json {
        return crate::output::print_json(stats);
    }
    let bytes = |value: &Value| HumanBytes(value.as_u64().unwrap_or(0)).to_string();
    let ratio = |value: &Value| format!("{:.2}", value.as_f64().unwrap_or(1.0));
    let rows = |list: &Value, name: &dyn Fn(&Value) -> String| -> Value {
        let row = |entry: &Value| {
            json!({
                "name": name(entry),
                "count": entry["count"],
                "project": entry["project"]["name"],
                "length": bytes(&entry["length"]),
                "data": bytes(&entry["data"]),
                "stored": bytes(&entry["stored"]),
                "freed": bytes(&entry["freed_if_deleted"]),
            })
        };
        list.as_array().into_iter().flatten().map(row).collect()
    };
    output.list(&rows(&stats["projects"], &|_| String::new()), PROJECTS)?;
    if stats["contents"].as_array().is_some_and(|contents| !contents.is_empty()) {
        line("")?;
        output.list(&rows(&stats["contents"], &holders), CONTENTS)?;
    }
    line(&format!(
        "\n{} in {} contents, {} of it data: stored in {} (dedup {}x, compression {}x); the packs take {}",
        bytes(&stats["length"]),
        stats["count"].as_u64().unwrap_or(0),
        bytes(&stats["data"]),
        bytes(&stats["stored"]),
        ratio(&stats["dedup_ratio"]),
        ratio(&stats["compression_ratio"]),
        bytes(&stats["pack_bytes"]),
    ))
}

/// Returns who holds a content, in a few words.
fn holders(entry: &Value) -> String {
    let holders: Vec<String> = entry["holders"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|holder| {
            let name = holder["name"].as_str().or(holder["id"].as_str()).unwrap_or_default();
            format!("{} {}", holder["kind"].as_str().unwrap_or_default(), plain(name))
        })
        .collect();
    if holders.is_empty() {
        format!("content {}", entry["content"].as_str().unwrap_or_default())
    } else {
        holders.join(", ")
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
