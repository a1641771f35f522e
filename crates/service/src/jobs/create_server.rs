//! Making a server from an image and starting it.
//!
//! base: the image's disk as a local file that only ever is read, shared by all servers of the image.
//! start: overlay, config drive, process.

use async_trait::async_trait;
use catalog::{Tx, images, servers};
use model::ContentId;
use model::images::Image;
use model::servers::{Server, ServerState};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::images::active;
use crate::jobs::Stop;
use crate::jobs::run::{Run, Step, Work, output};
use crate::servers::{bases, spec};

/// What `base` made.
#[derive(Debug, Serialize, Deserialize)]
struct Base {
    content: String,
}

/// The work of [`model::jobs::JobKind::CreateServer`].
pub(crate) struct CreateServerWork;

#[async_trait]
impl Work for CreateServerWork {
    fn steps(&self) -> &'static [Step] {
        &[Step { name: "base", from: 0 }, Step { name: "start", from: 90 }]
    }

    async fn run(&self, step: &str, run: &Run<'_>) -> Result<serde_json::Value, Stop> {
        let (server, image) = load(run).await?;
        match step {
            "base" => output(&base(run, &image).await?),
            _ => output(&start(run, &server, &image).await?),
        }
    }

    async fn finish(&self, tx: &mut Tx, run: &Run<'_>) -> Result<Vec<ContentId>, Stop> {
        let id = run.job.server.ok_or(Stop::Lost)?;
        let mut server = servers::get(tx, id).await?.ok_or(Stop::Cancelled)?;
        server.state = ServerState::Active;
        server.reason = None;
        server.updated_at = run.service.now();
        if servers::update(tx, &server, ServerState::Build).await? { Ok(Vec::new()) } else { Err(Stop::Cancelled) }
    }
}

async fn load(run: &Run<'_>) -> Result<(Server, Image), Stop> {
    let mut tx = run.service.parts.catalog.read().await?;
    let id = run.job.server.ok_or(Stop::Lost)?;
    let server = servers::get(&mut tx, id).await?.ok_or(Stop::Cancelled)?;
    let deleted =
        || Error::new(ErrorKind::NotFound, format!("image {} was deleted before the server was made", server.image));
    let image = images::get(&mut tx, server.image).await?.ok_or_else(deleted)?;
    active(&image)?;
    Ok((server, image))
}

async fn base(run: &Run<'_>, image: &Image) -> Result<Base, Stop> {
    let content =
        image.content.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("image {} has no content", image.id)))?;
    let made = bases::make(run, image, content).await?;
    run.log(
        "base",
        if made {
            "the image's disk was written to a local base file"
        } else {
            "the local base file of the image is there already"
        },
    )
    .await?;
    Ok(Base { content: content.to_string() })
}

async fn start(run: &Run<'_>, server: &Server, image: &Image) -> Result<(), Stop> {
    let spec = spec(run.service, server, image)?;
    let driver = &run.service.parts.driver;
    driver.start(&spec).await.map_err(Error::from)?;
    // Deleted meanwhile: whoever deleted it found no process yet, so this one ends it.
    let mut tx = run.service.parts.catalog.read().await?;
    if servers::get(&mut tx, server.id).await?.is_none() {
        driver.delete(server.id).await.map_err(Error::from)?;
        return Err(Stop::Cancelled);
    }
    run.log("start", "the server's process runs").await?;
    Ok(())
}
