//! The credentials file: where a server is and who asks.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};

/// What `molde serve` writes as `DIR/credentials.json`, and every command reads.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// Address of the API, without a trailing slash.
    pub endpoint: String,
    /// Address of the S3 endpoint, without a trailing slash.
    pub s3_endpoint: String,
    /// Region name.
    pub region: String,
    /// Name of the identity domain of user and project.
    pub domain: String,
    /// Name of the project.
    pub project_name: String,
    /// Id of the project.
    pub project_id: String,
    /// Name of the user.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Public half of its access key.
    pub access_key: String,
    /// Secret half of its access key.
    pub secret_key: String,
}

impl Credentials {
    /// Reads a credentials file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(format!("cannot read the credentials `{}`", path.display())).caused_by(&error)
        })?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("`{}` is no credentials file", path.display())).caused_by(&error))
    }

    /// Reads the file that was named, or else `~/.config/molde/credentials.json`.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => default_path().filter(|path| path.exists()).ok_or_else(|| {
                Failure::new("no server was named").with_hint(
                    "pass `--credentials DIR/credentials.json`, or set MOLDE_CREDENTIALS; `molde serve --data DIR` writes the file",
                )
            })?,
        };
        Self::read(&path)
    }
}

fn default_path() -> Option<PathBuf> {
    Some(config_folder()?.join("credentials.json"))
}

/// The folder of what a person has set up for all commands.
pub(crate) fn config_folder() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some(config.join("molde"))
}
