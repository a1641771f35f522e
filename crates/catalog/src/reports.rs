//! Rows of reports: what was found inside an image when it was made, and what was done about it.

use model::{ContentId, ImageId};

use crate::fields::{Fields as _, text_option};
use crate::statement::sql;
use crate::{Result, Tx};

/// The report of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The content that the image had before it was prepared, for as long as it can have it again.
    pub original: Option<ContentId>,
    /// The report, as JSON.
    pub report: String,
}

/// Adds the report of an image, or replaces it.
pub async fn put(tx: &mut Tx, image: ImageId, kept: &Kept) -> Result<()> {
    let query = sql("INSERT INTO reports (image, original, report) VALUES ($1, $2, $3) \
         ON CONFLICT (image) DO UPDATE SET original = excluded.original, report = excluded.report");
    tx.execute(query.bind(image.to_string()).bind(text_option(kept.original)).bind(&*kept.report)).await?;
    Ok(())
}

/// Returns the report of an image. It goes with its image.
pub async fn get(tx: &mut Tx, image: ImageId) -> Result<Option<Kept>> {
    let row = tx.row(sql("SELECT original, report FROM reports WHERE image = $1").bind(image.to_string())).await?;
    row.map(|row| Ok(Kept { original: row.parsed_option("original")?, report: row.field("report")? })).transpose()
}
