//! `molde quota`: what a project may have at most, and what it has.

use std::str::FromStr;

use clap::{Args, Subcommand};
use model::sizes::Size;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::Result;
use crate::identity;
use crate::output::{Column, Output};

const COLUMNS: &[Column] = &[("RESOURCE", "/resource"), ("LIMIT", "/limit"), ("USED", "/used"), ("LEFT", "/left")];

/// What can be done with quotas.
#[derive(Debug, Subcommand)]
pub enum Quota {
    /// Show the limits of a project, what it uses and what is left
    Show {
        /// The project's id or name; yours where it is not told
        project: Option<String>,
    },
    /// Set limits of a project; those that are not named stay. What is there already stays in any case
    Set {
        /// The project's id or name
        project: String,
        #[command(flatten)]
        limits: Limits,
    },
}

/// Limits to be set.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Limits {
    /// Bytes in the store, each counted once, compressed: such as `100GiB`, or `unlimited`
    #[arg(long, value_name = "SIZE")]
    stored: Option<Limit<Size>>,
    /// Objects in all buckets, or `unlimited`
    #[arg(long, value_name = "COUNT")]
    objects: Option<Limit<u64>>,
    /// Images, or `unlimited`
    #[arg(long, value_name = "COUNT")]
    images: Option<Limit<u64>>,
}

/// A limit, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit<T>(Option<T>);

impl<T: FromStr> FromStr for Limit<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "unlimited" { Ok(Self(None)) } else { text.parse().map(|limit| Self(Some(limit))) }
    }
}

impl Limits {
    /// Returns what the server is asked to set.
    fn body(&self) -> Value {
        let mut body = json!({});
        let stored = self.stored.map(|limit| limit.0.map(|size| size.0));
        let counts = [("objects", self.objects), ("images", self.images)];
        let counts = counts.map(|(name, limit)| (name, limit.map(|limit| limit.0)));
        for (name, limit) in [("stored_bytes", stored)].into_iter().chain(counts) {
            if let Some(limit) = limit {
                body[name] = json!(limit);
            }
        }
        body
    }
}

impl Quota {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        let answer = match self {
            Self::Show { project: None } => client.get("/molde/v1/quota").await?,
            Self::Show { project: Some(project) } => {
                let id = identity::find(client, "project", &project).await?;
                client.get(&format!("/molde/v1/projects/{id}/quota")).await?
            }
            Self::Set { project, limits } => {
                let id = identity::find(client, "project", &project).await?;
                client.send(Method::PUT, &format!("/molde/v1/projects/{id}/quota"), &limits.body()).await?
            }
        };
        match output {
            Output::Json => output.show(&answer["quota"]),
            Output::Table => output.list(&rows(&answer["quota"]), COLUMNS),
        }
    }
}

/// Makes a row of each resource, with sizes as people read them.
fn rows(quota: &Value) -> Value {
    let row = |(resource, name): (&str, &str)| {
        let told = |field: &str| match quota[resource][field].as_u64() {
            None => json!("unlimited"),
            Some(bytes) if resource == "stored_bytes" => json!(Size(bytes).to_string()),
            Some(count) => json!(count),
        };
        json!({"resource": name, "limit": told("limit"), "used": told("used"), "left": told("left")})
    };
    [("stored_bytes", "stored"), ("objects", "objects"), ("images", "images")].map(row).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_as_the_server_takes_them() {
        let limits = Limits {
            stored: Some("100 GiB".parse().unwrap()),
            objects: None,
            images: Some("unlimited".parse().unwrap()),
        };
        assert_eq!(limits.body(), json!({"stored_bytes": 100_u64 << 30, "images": null}));
        assert!("100 GB".parse::<Limit<Size>>().is_err() && "-1".parse::<Limit<u64>>().is_err());
    }

    #[test]
    fn rows_have_units_and_say_unlimited() {
        let quota = json!({
            "stored_bytes": {"limit": 1 << 30, "used": 1 << 29, "left": 1 << 29},
            "objects": {"limit": null, "used": 7, "left": null},
            "images": {"limit": 5, "used": 6, "left": 0},
        });
        let expect = json!([
            {"resource": "stored", "limit": "1 GiB", "used": "512 MiB", "left": "512 MiB"},
            {"resource": "objects", "limit": "unlimited", "used": 7, "left": "unlimited"},
            {"resource": "images", "limit": 5, "used": 6, "left": 0},
        ]);
        assert_eq!(rows(&quota), expect);
    }
}
