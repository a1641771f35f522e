//! Making a server from an image and starting it: overlay, config drive, process. No byte of the image is copied.

use async_trait::async_trait;
use catalog::{Tx, servers};
use model::ContentId;
use model::servers::{Server, ServerState};

use crate::error::Error;
use crate::jobs::run::{Run, Step, Work, output};
use crate::jobs::stop::Stop;
use crate::server_spec::spec;

/// The work of [`model::jobs::JobKind::CreateServer`].
pub(crate) struct CreateServerWork;

#[async_trait]
impl Work for CreateServerWork {
    fn steps(&self) -> &'static [Step] {
        &[Step { name: "start", from: 0 }]
    }

    async fn run(&self, _step: &str, run: &Run<'_>) -> Result<serde_json::Value, Stop> {
        output(&start(run, &load(run).await?).await?)
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

async fn start(run: &Run<'_>, server: &Server) -> Result<(), Stop> {
    let driver = &run.service.parts.driver;
    let spec = spec(run.service, server)?;
    // What is wrong with the disk is told here in its own words; the driver would only hear that it is not served.
    let _disk = run.service.server_disk(&spec.base.export).await?;
    driver.start(&spec).await.map_err(Error::from)?;
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
