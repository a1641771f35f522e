//! Making a server from an image and starting it.
//!
//! base: the image's disk as a local file that only ever is read, shared by all servers of the image.
//! start: overlay, config drive, process.

use async_trait::async_trait;
use catalog::{Tx, servers};
use model::ContentId;
use model::servers::{Server, ServerState};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::jobs::bases;
use crate::jobs::run::{Run, Step, Work, output};
use crate::jobs::stop::Stop;
use crate::server_spec::spec;

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
        let server = load(run).await?;
        match step {
            "base" => output(&base(run, &server).await?),
            _ => output(&start(run, &server).await?),
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

async fn load(run: &Run<'_>) -> Result<Server, Stop> {
    let mut tx = run.service.parts.catalog.read().await?;
    servers::get(&mut tx, run.job.server.ok_or(Stop::Lost)?).await?.ok_or(Stop::Cancelled)
}

async fn base(run: &Run<'_>, server: &Server) -> Result<Base, Stop> {
    let made = bases::make(run, server.disk.content, server.disk.format).await?;
    let text = if made {
        "the image's disk was written to a local base file"
    } else {
        "the image's local base file is there already"
    };
    run.log("base", text).await?;
    Ok(Base { content: server.disk.content.to_string() })
}

async fn start(run: &Run<'_>, server: &Server) -> Result<(), Stop> {
    let driver = &run.service.parts.driver;
    driver.start(&spec(run.service, server)?).await.map_err(Error::from)?;
    // Deleted meanwhile: whoever deleted it found no process yet, so this one ends it.
    let mut tx = run.service.parts.catalog.read().await?;
    if servers::get(&mut tx, server.id).await?.is_none() {
        driver.delete(server.id).await.map_err(Error::from)?;
        return Err(Stop::Cancelled);
    }
    drop(tx);
    run.log("start", "the server's process runs").await?;
    Ok(())
}
