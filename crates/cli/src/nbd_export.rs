//! Serving images and objects over NBD: `molde image serve`, `molde object serve`, `molde nbd`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::Result;
use crate::job::escape;
use crate::output::{Column, Output, line, print_json};

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("IMAGE", "/image"),
    ("BUCKET", "/bucket"),
    ("KEY", "/key"),
    ("FORMAT", "/format"),
    ("EXPIRES", "/expires_at"),
];

/// What can be done with what is served over NBD.
#[derive(Debug, Subcommand)]
pub enum Nbd {
    /// List what the project serves
    List,
    /// Serve something no longer; its clients are cut off
    Close {
        /// Ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// How long something is served.
#[derive(Debug, Args)]
pub struct Life {
    /// How long: a number with s, m, h or d, at most 7d
    #[arg(long = "for", value_name = "TIME", value_parser = seconds, default_value = "4h")]
    seconds: u32,
}

impl Nbd {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        match self {
            Self::List => output.list(&client.get("/molde/v1/exports").await?["exports"], COLUMNS),
            Self::Close { ids } => {
                for id in ids {
                    client.delete(&format!("/molde/v1/exports/{}", escape(&id))).await?;
                    output.done(&format!("export {id} is closed"), &json!({"id": id}))?;
                }
                Ok(())
            }
        }
    }
}

/// Serves what `of` names, prints the URI, and tells people what to do with it.
pub(crate) async fn serve(client: &Client, output: Output, mut of: Value, life: &Life) -> Result<()> {
    of["seconds"] = json!(life.seconds);
    let answer = client.send(Method::POST, "/molde/v1/exports", &of).await?;
    let export = &answer["export"];
    if output == Output::Json {
        return print_json(export);
    }
    let text = |name: &str| export[name].as_str().unwrap_or_default().to_owned();
    let uri = text("uri");
    line(&uri)?;
    eprintln!(
        "{} bytes, read-only, until {}; whoever knows the URI can read them.",
        export["size"],
        text("expires_at")
    );
    eprintln!("  nbdcopy '{uri}' disk.raw");
    eprintln!("  qemu-img convert -f raw -O qcow2 '{uri}' disk.qcow2");
    eprintln!("  molde nbd close {}", text("id"));
    if uri.starts_with("nbds") {
        eprintln!(
            "nbdcopy takes `?tls-certificates=FOLDER` at the end of the URI, qemu-img the object `tls-creds-x509`."
        );
    }
    Ok(())
}

fn seconds(text: &str) -> std::result::Result<u32, String> {
    let wrong = || "write a number with s, m, h or d, such as `90m`".to_owned();
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let number: u32 = number.parse().map_err(|_| wrong())?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [("30s", 30), ("90m", 5400), ("4h", 14400), ("7d", 604_800)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "h", "4", "4ñ", "0s", "-1h", "4294967295d", "1.5h"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
