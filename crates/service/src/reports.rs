//! Reports that are kept with images, and the way back to what an image was before it was prepared.

use catalog::{contents, images, reports};
use model::ImageId;
use model::identity::Principal;
use model::images::{Image, ImageState};
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::image_state::save;
use crate::images::Images;
use crate::{content, policy, preparation};

impl Images<'_> {
    /// Returns what was found inside the image when it was made, and what was done about it, as JSON.
    pub async fn report(&self, who: &Principal, id: ImageId) -> Result<Value> {
        let mut tx = self.0.parts.catalog.read().await?;
        policy::read_image(who, id, images::get(&mut tx, id).await?)?;
        let kept = reports::get(&mut tx, id).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no report is kept with image {id}"))
                .with_hint("a report is made when an image is made from a file in a bucket; check the image to see it as it is now")
        })?;
        parse(&kept.report)
    }

    /// Gives an image back the bytes that it had before it was prepared. None is copied.
    pub async fn undo_prepare(&self, who: &Principal, id: ImageId) -> Result<Image> {
        let mut tx = self.0.parts.catalog.write().await?;
        let mut image = policy::change_image(who, id, images::get(&mut tx, id).await?)?;
        if image.protected {
            return Err(Error::new(ErrorKind::Forbidden, format!("image {id} is protected"))
                .with_hint("clear its protection first"));
        }
        let kept = reports::get(&mut tx, id).await?.filter(|kept| kept.original.is_some());
        let whole = matches!(image.state, ImageState::Active | ImageState::Deactivated);
        let (Some(mut kept), Some(prepared), true) = (kept, image.content, whole) else {
            return Err(Error::conflict(format!("image {id} holds no changes of prepare that could be undone")));
        };
        let missing = || Error::new(ErrorKind::Corrupt, format!("the original of image {id} has no record"));
        let original = kept.original.take().ok_or_else(missing)?;
        let before = contents::get(&mut tx, original).await?.ok_or_else(missing)?;
        let mut report = parse(&kept.report)?;
        report["state"] = json!("undone");
        kept.report = report.to_string();
        image.content = Some(original);
        image.size = Some(before.length);
        let blocking = usize::try_from(report["blocking"].as_u64().unwrap_or_default()).unwrap_or_default();
        preparation::describe(&mut image, "undone", blocking);
        image.updated_at = self.0.now();
        save(&mut tx, &image, image.state).await?;
        reports::put(&mut tx, id, &kept).await?;
        let released = content::release(&mut tx, prepared).await?;
        tx.commit().await?;
        content::forget(self.0, released).await;
        Ok(image)
    }
}

fn parse(report: &str) -> Result<Value> {
    serde_json::from_str(report).map_err(|bad| Error::internal("cannot read a report", bad))
}
