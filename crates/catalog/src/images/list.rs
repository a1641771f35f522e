//! Which images to list, in which order, and from where on.
//!
//! A page goes on after a marker: rows are ordered by the sort keys and then by id, and the next page
//! has those whose keys are beyond the marker's. So each image is seen once however many others come
//! and go meanwhile. An absent name, format or size sorts as the empty text or as -1: before all others.

use std::collections::BTreeSet;

use model::images::{Image, ImageState, Visibility};
use model::{ContainerFormat, DiskFormat, ImageId, ProjectId, Timestamp};
use sqlx::any::AnyRow;

use super::{COLUMNS, image, load_details};
use crate::fields::{Fields as _, micros};
use crate::statement::{Statement, Value, sql_text};
use crate::{Error, ErrorKind, Result, Tx};

/// Most values in one list of a filter.
const VALUES_MAX: usize = 1000;
/// Most sort keys, and most comparisons with one time: each makes the statement's condition deeper.
const DEPTH_MAX: usize = 8;

/// What a listing of images is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageSort {
    /// The name, bytewise.
    Name,
    /// The state's text.
    Status,
    /// The container format's text.
    ContainerFormat,
    /// The disk format's text.
    DiskFormat,
    /// The length of the content.
    Size,
    /// The id's text.
    Id,
    /// When the record was made.
    CreatedAt,
    /// When the record changed last.
    UpdatedAt,
}

impl ImageSort {
    /// Every sort key.
    pub const ALL: &'static [Self] = &[
        Self::Name,
        Self::Status,
        Self::ContainerFormat,
        Self::DiskFormat,
        Self::Size,
        Self::Id,
        Self::CreatedAt,
        Self::UpdatedAt,
    ];

    /// Returns an expression that is never null, so that both databases order it the same.
    fn expression(self) -> &'static str {
        match self {
            Self::Name => "COALESCE(name, '')",
            Self::Status => "state",
            Self::ContainerFormat => "COALESCE(container_format, '')",
            Self::DiskFormat => "COALESCE(disk_format, '')",
            Self::Size => "COALESCE(size, -1)",
            Self::Id => "id",
            Self::CreatedAt => "created_at",
            Self::UpdatedAt => "updated_at",
        }
    }

    /// Returns the value of the key in the marker's row.
    fn value(self, marker: &AnyRow) -> Result<Value> {
        let text = |column| Ok::<_, Error>(Value::Text(marker.field::<Option<String>>(column)?.unwrap_or_default()));
        Ok(match self {
            Self::Name => text("name")?,
            Self::Status => text("state")?,
            Self::ContainerFormat => text("container_format")?,
            Self::DiskFormat => text("disk_format")?,
            Self::Size => Value::Number(marker.field::<Option<i64>>("size")?.unwrap_or(-1)),
            Self::Id => text("id")?,
            Self::CreatedAt => Value::Number(marker.field("created_at")?),
            Self::UpdatedAt => Value::Number(marker.field("updated_at")?),
        })
    }
}

/// Which end of a sort key comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The least first.
    Ascending,
    /// The greatest first.
    Descending,
}

/// How a time is compared with a given one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Earlier.
    Less,
    /// Earlier or the same.
    LessOrEqual,
    /// The same.
    Equal,
    /// Another.
    NotEqual,
    /// Later or the same.
    GreaterOrEqual,
    /// Later.
    Greater,
}

impl Comparison {
    fn operator(self) -> &'static str {
        match self {
            Self::Less => " < ",
            Self::LessOrEqual => " <= ",
            Self::Equal => " = ",
            Self::NotEqual => " <> ",
            Self::GreaterOrEqual => " >= ",
            Self::Greater => " > ",
        }
    }
}

/// Which images to list. An empty list and a `None` ask for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFilter {
    /// Whose eyes to look with: its own images, public ones, and community ones when `visibility` asks
    /// for them. None sees everything, as an administrator does.
    pub viewer: Option<ProjectId>,
    /// One of these ids.
    pub ids: Vec<ImageId>,
    /// One of these names.
    pub names: Vec<String>,
    /// One of these states.
    pub states: Vec<ImageState>,
    /// This visibility.
    pub visibility: Option<Visibility>,
    /// Owned by this project.
    pub owner: Option<ProjectId>,
    /// One of these disk formats.
    pub disk_formats: Vec<DiskFormat>,
    /// One of these container formats.
    pub container_formats: Vec<ContainerFormat>,
    /// Protected, or not.
    pub protected: Option<bool>,
    /// Only hidden images, or only those that are not.
    pub hidden: bool,
    /// Has all these tags.
    pub tags: Vec<String>,
    /// Has all these properties with exactly these values.
    pub properties: Vec<(String, String)>,
    /// At least this many bytes; an image without a size does not match.
    pub size_min: Option<u64>,
    /// At most this many bytes; an image without a size does not match.
    pub size_max: Option<u64>,
    /// Made at a time that compares so with all these.
    pub created: Vec<(Comparison, Timestamp)>,
    /// Changed at a time that compares so with all these.
    pub updated: Vec<(Comparison, Timestamp)>,
    /// The order; the id breaks ties, in the direction of the last key. Empty: newest first.
    pub sort: Vec<(ImageSort, Direction)>,
    /// The image after which the page begins. One that does not exist is [`ErrorKind::Missing`];
    /// whether the viewer may know of it is for the caller to check.
    pub marker: Option<ImageId>,
    /// Most images to return.
    pub limit: u32,
}

impl Default for ImageFilter {
    /// Asks for the 25 newest images that are not hidden (Glance's default page).
    fn default() -> Self {
        Self {
            viewer: None,
            ids: Vec::new(),
            names: Vec::new(),
            states: Vec::new(),
            visibility: None,
            owner: None,
            disk_formats: Vec::new(),
            container_formats: Vec::new(),
            protected: None,
            hidden: false,
            tags: Vec::new(),
            properties: Vec::new(),
            size_min: None,
            size_max: None,
            created: Vec::new(),
            updated: Vec::new(),
            sort: Vec::new(),
            marker: None,
            limit: 25,
        }
    }
}

/// Returns a page of images with their tags and properties, in three or four statements.
pub async fn list(tx: &mut Tx, filter: &ImageFilter) -> Result<Vec<Image>> {
    check(filter)?;
    let order = order(&filter.sort);
    let mut statement = Statement::new(format!("SELECT {COLUMNS} FROM images WHERE hidden = "));
    statement.bind(i64::from(filter.hidden));
    push_visible(&mut statement, filter);
    push_fields(&mut statement, filter);
    push_details(&mut statement, filter);
    if let Some(marker) = filter.marker {
        let query = sql_text(format!("SELECT {COLUMNS} FROM images WHERE id = $1")).bind(marker.to_string());
        let Some(row) = tx.row(query).await? else {
            return Err(Error::new(ErrorKind::Missing, format!("there is no image {marker} to go on after")));
        };
        push_after(&mut statement, &order, &row)?;
    }
    for (number, (key, direction)) in order.iter().enumerate() {
        statement.push(if number == 0 { " ORDER BY " } else { ", " }).push(key.expression());
        statement.push(if *direction == Direction::Ascending { " ASC" } else { " DESC" });
    }
    statement.push(" LIMIT ").bind(i64::from(filter.limit));

    let rows = tx.rows(statement.query()).await?;
    let mut images = rows.iter().map(image).collect::<Result<Vec<_>>>()?;
    load_details(tx, &mut images).await?;
    Ok(images)
}

/// Refuses what would make a statement of unbounded length.
fn check(filter: &ImageFilter) -> Result<()> {
    let longest = [
        filter.ids.len(),
        filter.names.len(),
        filter.states.len(),
        filter.disk_formats.len(),
        filter.container_formats.len(),
        filter.tags.len(),
        filter.properties.len(),
    ];
    if longest.into_iter().any(|length| length > VALUES_MAX) {
        return Err(Error::new(ErrorKind::Invalid, format!("a filter takes at most {VALUES_MAX} values")));
    }
    if filter.sort.len().max(filter.created.len()).max(filter.updated.len()) > DEPTH_MAX {
        let text = format!("a listing takes at most {DEPTH_MAX} sort keys, and as many bounds of a time");
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    Ok(())
}

/// Returns the sort keys with the id as the last, which makes the order total.
fn order(sort: &[(ImageSort, Direction)]) -> Vec<(ImageSort, Direction)> {
    let mut order = if sort.is_empty() { vec![(ImageSort::CreatedAt, Direction::Descending)] } else { sort.to_vec() };
    if let Some(&(_, direction)) = order.last() {
        order.push((ImageSort::Id, direction));
    }
    order
}

fn push_visible(statement: &mut Statement, filter: &ImageFilter) {
    let Some(viewer) = filter.viewer else { return };
    statement
        .push(" AND (project = ")
        .bind(viewer.to_string())
        .push(" OR visibility = ")
        .bind(Visibility::Public.as_str());
    if filter.visibility == Some(Visibility::Community) {
        statement.push(" OR visibility = ").bind(Visibility::Community.as_str());
    }
    statement.push(")");
}

fn push_fields(statement: &mut Statement, filter: &ImageFilter) {
    statement.any_of(" AND id", filter.ids.iter().map(ToString::to_string));
    statement.any_of(" AND name", filter.names.iter().map(String::as_str));
    statement.any_of(" AND state", filter.states.iter().map(|state| state.as_str()));
    statement.any_of(" AND visibility", filter.visibility.map(Visibility::as_str));
    statement.any_of(" AND project", filter.owner.map(|owner| owner.to_string()));
    statement.any_of(" AND disk_format", filter.disk_formats.iter().map(|format| format.as_str()));
    statement.any_of(" AND container_format", filter.container_formats.iter().map(|format| format.as_str()));
    statement.any_of(" AND protected", filter.protected.map(i64::from));
    // No size in the catalog is beyond 2^63, so a bound beyond it may be taken for the last that is not.
    let bound = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
    if let Some(size) = filter.size_min {
        statement.push(" AND size >= ").bind(bound(size));
    }
    if let Some(size) = filter.size_max {
        statement.push(" AND size <= ").bind(bound(size));
    }
    for (comparison, time) in &filter.created {
        statement.push(" AND created_at").push(comparison.operator()).bind(micros(*time));
    }
    for (comparison, time) in &filter.updated {
        statement.push(" AND updated_at").push(comparison.operator()).bind(micros(*time));
    }
}

/// Adds: of the image's tags, as many are wanted ones as there are wanted ones; and so for properties.
fn push_details(statement: &mut Statement, filter: &ImageFilter) {
    let tags: BTreeSet<_> = filter.tags.iter().collect();
    if !tags.is_empty() {
        statement
            .push(" AND id IN (SELECT image FROM image_tags WHERE tag IN (")
            .list(tags.iter().map(|tag| tag.as_str()));
        statement.push(") GROUP BY image HAVING COUNT(*) = ").bind(count(tags.len())).push(")");
    }
    let properties: BTreeSet<_> = filter.properties.iter().collect();
    if !properties.is_empty() {
        statement.push(" AND id IN (SELECT image FROM image_properties WHERE (name, value) IN (VALUES ");
        for (number, (name, value)) in properties.iter().enumerate() {
            statement.push(if number == 0 { "(" } else { ", (" }).list([name.as_str(), value.as_str()]).push(")");
        }
        statement.push(") GROUP BY image HAVING COUNT(*) = ").bind(count(properties.len())).push(")");
    }
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Adds: the first key is beyond the marker's, or it is the same and the second is beyond, and so on.
fn push_after(statement: &mut Statement, order: &[(ImageSort, Direction)], marker: &AnyRow) -> Result<()> {
    statement.push(" AND (");
    for (number, (key, direction)) in order.iter().enumerate() {
        statement.push(if number == 0 { "(" } else { " OR (" });
        for (same, _) in &order[..number] {
            statement.push(same.expression()).push(" = ").bind(same.value(marker)?).push(" AND ");
        }
        let beyond = if *direction == Direction::Ascending { " > " } else { " < " };
        statement.push(key.expression()).push(beyond).bind(key.value(marker)?).push(")");
    }
    statement.push(")");
    Ok(())
}
