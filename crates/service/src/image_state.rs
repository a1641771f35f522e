//! Moving an image along its states: the one table of allowed moves, and writes that hold the state they began with.

use catalog::jobs::{self, JobFilter};
use catalog::{Tx, contents, images};
use model::contents::Content;
use model::images::{Image, ImageState};
use model::jobs::{JobKind, JobState};

use crate::content;
use crate::error::{Error, Result};

/// Moves an image along the table of allowed moves, or says why not.
pub(crate) fn move_to(image: &mut Image, next: ImageState) -> Result<()> {
    if !image.state.may_become(next) {
        let (id, state) = (image.id, image.state);
        return Err(Error::conflict(format!("image {id} is {state} ({}) and cannot become {next}", state.word())));
    }
    image.state = next;
    Ok(())
}

/// Fails unless the image is whole and usable.
pub(crate) fn active(image: &Image) -> Result<()> {
    if image.state == ImageState::Active {
        return Ok(());
    }
    let (id, state) = (image.id, image.state);
    Err(Error::conflict(format!("image {id} is {state} ({}), not active", state.word()))
        .with_hint("wait until it is Normal"))
}

/// Fails while a job of one of `kinds` of the image's own project works on its bytes. Whoever then begins such a job does it in the
/// same transaction, which holds the image.
pub(crate) async fn at_rest(tx: &mut Tx, image: &Image, kinds: &[JobKind]) -> Result<()> {
    let states = vec![JobState::Queued, JobState::Running];
    let filter = JobFilter {
        image: Some(image.id),
        project: Some(image.project),
        states,
        kinds: kinds.to_vec(),
        limit: 1,
        ..JobFilter::default()
    };
    match jobs::list(tx, &filter).await?.first() {
        None => Ok(()),
        Some(job) => {
            let message = format!("a job ({}) works on image {}", job.kind, image.id);
            Err(Error::conflict(message).with_hint("wait until it has ended, or cancel it"))
        }
    }
}

/// Writes an image back if its state is still `from`.
pub(crate) async fn save(tx: &mut Tx, image: &Image, from: ImageState) -> Result<()> {
    if images::update(tx, image, from).await? {
        return Ok(());
    }
    Err(Error::conflict(format!("image {} is no longer {from}", image.id)))
}

/// Makes an image Active with a content that is durable; shared by uploads and jobs.
pub(crate) async fn activate(tx: &mut Tx, image: &mut Image, content: &Content) -> Result<()> {
    let from = image.state;
    move_to(image, ImageState::Active)?;
    if contents::get(tx, content.id).await?.is_none() {
        content::commit(tx, content).await?;
    }
    image.content = Some(content.id);
    image.size = Some(content.length);
    save(tx, image, from).await
}
