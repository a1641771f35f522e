//! `molde catalog`: the public images of the distributions, fetched here, verified here, and published on a server.
//!
//! The server makes no connection of its own: whoever runs this has the network, and a timer renews what was added.

mod add;
mod bring;
mod list;
mod published;
mod renew;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use distributions::{Access, Definitions, Mirror};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::client::Client;
use crate::credentials::config_folder;
use crate::error::{Failure, Result};
use crate::output::Output;

/// What can be done with the distributions' public images.
#[derive(Debug, Subcommand)]
pub enum Catalog {
    /// List what is known, what is published on the server, and where a newer image is out
    List(list::List),
    /// Publish the newest image of a distribution
    Add(add::Add),
    /// Publish what is newer than the images that were added, and hide the older ones
    Sync(renew::Sync),
}

/// Where images come from.
#[derive(Debug, Args)]
pub(crate) struct From {
    /// More distributions, or other words about known ones; `catalog.toml` in the folder of the configuration if not told
    #[arg(long, value_name = "FILE")]
    definitions: Option<PathBuf>,
    /// A mirror that stands in for the hosts of all distributions; signatures hold all the same
    #[arg(long, value_name = "URL", env = "MOLDE_MIRROR")]
    mirror: Option<String>,
    /// Fetch over plain HTTP what is signed
    #[arg(long)]
    insecure_mirror: bool,
}

/// How images are fetched.
#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// Refuse signed lists that are older than so many days
    #[arg(long, value_name = "DAYS")]
    max_age: Option<u32>,
    /// The folder that an image lies in while it is verified; that of temporary files if not told
    #[arg(long, value_name = "DIR")]
    download_dir: Option<PathBuf>,
}

impl Catalog {
    /// Whether there is something to tell where no server is known.
    pub(crate) fn goes_without_server(&self) -> bool {
        matches!(self, Self::List(_))
    }

    pub(crate) async fn run(self, client: Option<&Client>, output: Output) -> Result<()> {
        let needed = || client.ok_or_else(|| Failure::new("no server was named"));
        match self {
            Self::List(list) => list.run(client, output).await,
            Self::Add(add) => add.run(needed()?, output).await,
            Self::Sync(sync) => sync.run(needed()?, output).await,
        }
    }
}

impl From {
    /// Reads the definitions, those that are built in and those of the site.
    fn definitions(&self) -> Result<Definitions> {
        let mut definitions = Definitions::built_in()?;
        let usual = config_folder().map(|folder| folder.join("catalog.toml")).filter(|path| path.exists());
        if let Some(path) = self.definitions.clone().or(usual) {
            let text = read(&path)?;
            let folder = path.parent().unwrap_or(Path::new("."));
            let key = |file: &str| {
                read(&folder.join(file)).map_err(|failure| distributions::Error::told(failure.to_string()))
            };
            definitions
                .extend(&text, key)
                .map_err(|error| Failure::new(format!("`{}` is not usable", path.display())).caused_by(&error))?;
        }
        Ok(definitions)
    }

    fn mirror(&self, definitions: &Definitions) -> Result<Mirror> {
        let mirror = self.mirror.as_deref().or(definitions.mirror.as_deref());
        Ok(Mirror::new(Access::new(mirror, self.insecure_mirror)?)?)
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read `{}`", path.display())).caused_by(&error))
}

/// Whether a distribution is not looked after any more.
fn is_over(end_of_life: Option<Date>) -> bool {
    end_of_life.is_some_and(|day| day < Timestamp::now().to_zoned(TimeZone::UTC).date())
}
