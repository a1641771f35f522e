//! `molde job`: look at and cancel jobs; and waiting for one, which other commands share.

use std::time::Duration;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::{Failure, Result};
use crate::output::{Column, Output, line, plain};
use crate::progress;

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("KIND", "/kind"),
    ("STATE", "/state"),
    ("STEP", "/step"),
    ("%", "/percent"),
    ("IMAGE", "/image"),
    ("SERVER", "/server"),
    ("CREATED", "/created_at"),
];
const POLL: Duration = Duration::from_millis(500);

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub enum Job {
    /// List jobs, newest first
    List {
        /// Only jobs in this state: queued, running, done, failed or cancelled
        #[arg(long)]
        state: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Every project's jobs, for administrators
        #[arg(long)]
        all_projects: bool,
    },
    /// Show one job
    Show {
        /// Its id
        id: String,
    },
    /// Show what a job wrote about itself
    Log {
        /// Its id
        id: String,
    },
    /// Show a job's progress until it ends
    Watch {
        /// Its id
        id: String,
    },
    /// Ask a job to stop
    Cancel {
        /// Its id
        id: String,
    },
}

impl Job {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        match self {
            Self::List { state, limit, all_projects } => {
                let state = state.map(|state| format!("&state={}", escape(&state))).unwrap_or_default();
                let answer =
                    client.get(&format!("/molde/v1/jobs?limit={limit}&all_projects={all_projects}{state}")).await?;
                output.list(&answer["jobs"], COLUMNS)
            }
            Self::Show { id } => output.show(&get(client, &id).await?),
            Self::Log { id } => {
                let answer = client.get(&format!("/molde/v1/jobs/{}/log", escape(&id))).await?;
                output.list(&answer["lines"], &[("AT", "/at"), ("STEP", "/step"), ("TEXT", "/text")])
            }
            Self::Watch { id } => output.show(&wait(client, &id, "job").await?),
            Self::Cancel { id } => {
                let answer =
                    client.send(Method::POST, &format!("/molde/v1/jobs/{}/cancel", escape(&id)), &json!({})).await?;
                output.done(&format!("job {} will stop", plain(&id)), &answer["job"])
            }
        }
    }
}

async fn get(client: &Client, id: &str) -> Result<Value> {
    let mut answer = client.get(&format!("/molde/v1/jobs/{}", escape(id))).await?;
    Ok(answer["job"].take())
}

/// Shows a job's progress until it ends; fails with the job's own sentence if it failed. Where stderr is no terminal,
/// each line of the job's log and each new step is printed instead.
pub(crate) async fn wait(client: &Client, id: &str, label: &str) -> Result<Value> {
    let bar = progress::percent(label);
    let mut told = String::new();
    let mut lines = 0;
    loop {
        let job = get(client, id).await?;
        let (step, percent) =
            (job["step"].as_str().unwrap_or("waiting").to_owned(), job["percent"].as_u64().unwrap_or(0));
        bar.set_position(percent);
        bar.set_message(step.clone());
        if bar.is_hidden() && told != step {
            eprintln!("{label}: {percent} % {step}");
        }
        told = step;
        lines = tell_log(client, id, lines, &bar).await?;
        match job["state"].as_str() {
            Some("done") => {
                bar.finish_and_clear();
                return Ok(job);
            }
            Some(state @ ("failed" | "cancelled")) => {
                bar.finish_and_clear();
                let why = job["error"].as_str().unwrap_or(state);
                return Err(Failure::new(format!("job {id} {state}: {}", plain(why))));
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

async fn tell_log(client: &Client, id: &str, after: u64, bar: &indicatif::ProgressBar) -> Result<u64> {
    let answer = client.get(&format!("/molde/v1/jobs/{}/log?after={after}", escape(id))).await?;
    for entry in answer["lines"].as_array().into_iter().flatten() {
        let text = format!(
            "  {}: {}",
            plain(entry["step"].as_str().unwrap_or_default()),
            plain(entry["text"].as_str().unwrap_or_default())
        );
        bar.suspend(|| eprintln!("{text}"));
    }
    Ok(answer["next"].as_u64().unwrap_or(after))
}

/// Escapes a text for one segment of a path or a query value.
pub(crate) fn escape(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// Prints the id that a later command needs.
pub(crate) fn told_job(output: Output, sentence: &str, answer: &Value) -> Result<()> {
    if output == Output::Json {
        return crate::output::print_json(answer);
    }
    line(sentence)
}
