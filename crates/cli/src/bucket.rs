//! `molde bucket`: make, list and remove buckets.

use clap::Subcommand;
use serde_json::json;

use crate::client::Client;
use crate::error::Result;
use crate::output::Output;
use crate::s3::S3;

/// What can be done with buckets.
#[derive(Debug, Subcommand)]
pub enum Bucket {
    /// Make a bucket
    Create {
        /// Its name
        name: String,
    },
    /// List your project's buckets
    List,
    /// Remove an empty bucket
    Delete {
        /// Its name
        name: String,
    },
}

impl Bucket {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        let s3 = S3::new(client)?;
        match self {
            Self::Create { name } => {
                s3.create_bucket(&name).await?;
                output.done(&format!("bucket `{name}` is made"), &json!({"name": name}))
            }
            Self::List => {
                let buckets = s3.buckets().await?;
                output.list(&buckets.into(), &[("NAME", "/name"), ("CREATED", "/created_at")])
            }
            Self::Delete { name } => {
                s3.delete_bucket(&name).await?;
                output.done(&format!("bucket `{name}` is gone"), &json!({"name": name}))
            }
        }
    }
}
