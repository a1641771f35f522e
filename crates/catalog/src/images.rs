//! Rows of images, with their tags and properties.

mod list;

use std::collections::{BTreeMap, BTreeSet};

use model::ImageId;
use model::images::{Checksums, Image, ImageState};
use model::quotas::Resource;
use sqlx::Any;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;

pub use self::list::{Comparison, Direction, ImageFilter, ImageSort, list};
use crate::fields::{Fields as _, micros, size_option, text_option};
use crate::statement::{Statement, sql, sql_text};
use crate::{Result, Tx};

const COLUMNS: &str = "id, project, name, state, reason, visibility, protected, hidden, disk_format, container_format, \
    content, size, size_virtual, md5, sha256, sha512, min_disk_gib, min_ram_mib, job, created_at, updated_at";

/// Images whose tags and properties one statement reads or writes; keeps the number of parameters bounded.
const BATCH: usize = 500;

/// Adds an image with its tags and properties. It counts as one more of its project.
pub async fn insert(tx: &mut Tx, image: &Image) -> Result<()> {
    let query = sql_text(format!(
        "INSERT INTO images ({COLUMNS}) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)"
    ));
    tx.execute(bind(query, image)?).await?;
    tx.count(image.project, Resource::Images, 1);
    insert_details(tx, image).await
}

/// Returns the image with this id; in a transaction that writes, no other may change it meanwhile.
pub async fn get(tx: &mut Tx, id: ImageId) -> Result<Option<Image>> {
    let text = format!("SELECT {COLUMNS} FROM images WHERE id = $1{}", tx.lock());
    let Some(row) = tx.row(sql_text(text).bind(id.to_string())).await? else { return Ok(None) };
    let mut images = vec![image(&row)?];
    load_details(tx, &mut images).await?;
    Ok(images.pop())
}

/// Writes every field of an image if its state still is `from`; returns whether it was.
pub async fn update(tx: &mut Tx, image: &Image, from: ImageState) -> Result<bool> {
    let query =
        sql("UPDATE images SET project = $2, name = $3, state = $4, reason = $5, visibility = $6, protected = $7, \
         hidden = $8, disk_format = $9, container_format = $10, content = $11, size = $12, size_virtual = $13, \
         md5 = $14, sha256 = $15, sha512 = $16, min_disk_gib = $17, min_ram_mib = $18, job = $19, created_at = $20, \
         updated_at = $21 WHERE id = $1 AND state = $22");
    if !tx.changed(bind(query, image)?.bind(from.as_str())).await? {
        return Ok(false);
    }
    for text in ["DELETE FROM image_tags WHERE image = $1", "DELETE FROM image_properties WHERE image = $1"] {
        tx.execute(sql(text).bind(image.id.to_string())).await?;
    }
    insert_details(tx, image).await?;
    Ok(true)
}

/// Removes an image if its state still is `from`; returns whether it was. Its content stays, and is free.
pub async fn delete(tx: &mut Tx, id: ImageId, from: ImageState) -> Result<bool> {
    let query = sql("DELETE FROM images WHERE id = $1 AND state = $2 RETURNING project");
    let gone = tx.row(query.bind(id.to_string()).bind(from.as_str())).await?;
    if let Some(row) = &gone {
        tx.count(row.parsed("project")?, Resource::Images, -1);
    }
    Ok(gone.is_some())
}

fn bind<'q>(query: Query<'q, Any, AnyArguments>, image: &Image) -> Result<Query<'q, Any, AnyArguments>> {
    let checksums = image.checksums.as_ref();
    Ok(query
        .bind(image.id.to_string())
        .bind(image.project.to_string())
        .bind(image.name.as_deref())
        .bind(image.state.as_str())
        .bind(image.reason.as_deref())
        .bind(image.visibility.as_str())
        .bind(i64::from(image.protected))
        .bind(i64::from(image.hidden))
        .bind(image.disk_format.map(model::DiskFormat::as_str))
        .bind(image.container_format.map(model::ContainerFormat::as_str))
        .bind(text_option(image.content))
        .bind(size_option(image.size)?)
        .bind(size_option(image.size_virtual)?)
        .bind(checksums.map(|sums| &*sums.md5))
        .bind(checksums.map(|sums| &*sums.sha256))
        .bind(checksums.map(|sums| &*sums.sha512))
        .bind(i64::from(image.min_disk_gib))
        .bind(i64::from(image.min_ram_mib))
        .bind(text_option(image.job))
        .bind(micros(image.created_at))
        .bind(micros(image.updated_at)))
}

async fn insert_details(tx: &mut Tx, image: &Image) -> Result<()> {
    let id = image.id.to_string();
    let tags: Vec<_> = image.tags.iter().collect();
    for batch in tags.chunks(BATCH) {
        let mut statement = Statement::new("INSERT INTO image_tags (image, tag) VALUES ");
        for (number, tag) in batch.iter().enumerate() {
            statement.push(if number == 0 { "(" } else { ", (" }).list([&*id, tag.as_str()]).push(")");
        }
        tx.execute(statement.query()).await?;
    }
    let properties: Vec<_> = image.properties.iter().collect();
    for batch in properties.chunks(BATCH) {
        let mut statement = Statement::new("INSERT INTO image_properties (image, name, value) VALUES ");
        for (number, (name, value)) in batch.iter().enumerate() {
            statement.push(if number == 0 { "(" } else { ", (" });
            statement.list([&*id, name.as_str(), value.as_str()]).push(")");
        }
        tx.execute(statement.query()).await?;
    }
    Ok(())
}

/// Fills in the tags and properties of images that were read without them.
async fn load_details(tx: &mut Tx, images: &mut [Image]) -> Result<()> {
    for images in images.chunks_mut(BATCH) {
        let ids: Vec<String> = images.iter().map(|image| image.id.to_string()).collect();
        let mut by_id: BTreeMap<ImageId, &mut Image> = images.iter_mut().map(|image| (image.id, image)).collect();

        let mut tags = Statement::new("SELECT image, tag FROM image_tags WHERE ");
        tags.any_of("image", ids.clone());
        for row in tx.rows(tags.query()).await? {
            if let Some(image) = by_id.get_mut(&row.parsed("image")?) {
                image.tags.insert(row.field("tag")?);
            }
        }
        let mut properties = Statement::new("SELECT image, name, value FROM image_properties WHERE ");
        properties.any_of("image", ids);
        for row in tx.rows(properties.query()).await? {
            if let Some(image) = by_id.get_mut(&row.parsed("image")?) {
                image.properties.insert(row.field("name")?, row.field("value")?);
            }
        }
    }
    Ok(())
}

/// Reads an image without its tags and properties.
fn image(row: &AnyRow) -> Result<Image> {
    let sums = (row.field::<Option<String>>("md5")?, row.field("sha256")?, row.field("sha512")?);
    let checksums = match sums {
        (Some(md5), Some(sha256), Some(sha512)) => Some(Checksums { md5, sha256, sha512 }),
        _ => None,
    };
    Ok(Image {
        id: row.parsed("id")?,
        project: row.parsed("project")?,
        name: row.field("name")?,
        state: row.parsed("state")?,
        reason: row.field("reason")?,
        visibility: row.parsed("visibility")?,
        protected: row.flag("protected")?,
        hidden: row.flag("hidden")?,
        disk_format: row.parsed_option("disk_format")?,
        container_format: row.parsed_option("container_format")?,
        content: row.parsed_option("content")?,
        size: row.number_option("size")?,
        size_virtual: row.number_option("size_virtual")?,
        checksums,
        min_disk_gib: row.number("min_disk_gib")?,
        min_ram_mib: row.number("min_ram_mib")?,
        properties: BTreeMap::new(),
        tags: BTreeSet::new(),
        job: row.parsed_option("job")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
