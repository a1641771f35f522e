//! `GET /v2/cloudimages`: images by filter, a page at a time.

use axum::Json;
use axum::extract::{RawQuery, State};
use model::images::Image;
use model::{ProjectId, Timestamp};
use serde_json::{Value, json};
use service::{Comparison, Direction, ImageFilter, ImageSort};
use url::form_urlencoded;

use super::error::{Asked, Failure};
use super::image::{image_type, render};
use crate::ApiState;
use crate::auth::Caller;

/// Most images of one page, and the default.
const PAGE_MAX: u32 = 500;

/// A parsed query: what the catalog filters, and what is filtered after it.
#[derive(Debug, Default)]
struct Query {
    filter: ImageFilter,
    limit: u32,
    image_type: Option<String>,
    min_disk: Option<u32>,
    min_ram: Option<u32>,
    /// Not for ARM, which has no property of its own.
    x86: bool,
    /// Asks for something that no image is.
    nothing: bool,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Caller(who): Caller,
    RawQuery(text): RawQuery,
) -> Result<Json<Value>, Failure> {
    let viewer = who.project.id;
    let query = Query::parse(text.as_deref().unwrap_or_default(), viewer)?;
    if query.nothing {
        return Ok(Json(page(&[], &query, viewer)));
    }
    // One more than the page holds tells whether another page follows.
    let filter = ImageFilter { limit: query.limit + 1, ..query.filter.clone() };
    let found = state.service.images().list(&who, filter).await;
    let images = found.map_err(|error| Failure::of(&error, Asked::Other))?;
    Ok(Json(page(&images, &query, viewer)))
}

fn page(images: &[Image], query: &Query, viewer: ProjectId) -> Value {
    let limit = query.limit as usize;
    let shown = &images[..limit.min(images.len())];
    let rendered: Vec<Value> =
        shown.iter().filter(|image| query.fits(image, viewer)).map(|image| render(image, viewer)).collect();
    let next = shown.last().filter(|_| images.len() > limit).map(|image| image.id.to_string());
    json!({"images": rendered, "page_info": next.map_or_else(|| json!({}), |next| json!({"next_marker": next}))})
}

impl Query {
    fn parse(text: &str, viewer: ProjectId) -> Result<Self, Failure> {
        let mut query = Self { limit: PAGE_MAX, ..Self::default() };
        let mut key = ImageSort::CreatedAt;
        let mut direction = Direction::Descending;
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "sort_key" => key = sort_key(&value)?,
                "sort_dir" => direction = sort_direction(&value)?,
                name => query.set(name, &value, viewer)?,
            }
        }
        query.filter.sort = vec![(key, direction)];
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str, viewer: ProjectId) -> Result<(), Failure> {
        let filter = &mut self.filter;
        match name {
            "limit" => self.limit = number(name, value)?.min(PAGE_MAX),
            "marker" => filter.marker = Some(parse(name, value)?),
            "id" => filter.ids.push(parse(name, value)?),
            "name" => filter.names.push(value.to_owned()),
            "status" => filter.states.push(parse(name, value)?),
            "visibility" => filter.visibility = Some(parse(name, value)?),
            "owner" => filter.owner = Some(parse(name, value)?),
            "disk_format" => filter.disk_formats.push(parse(name, value)?),
            "container_format" => filter.container_formats.push(parse(name, value)?),
            "protected" => filter.protected = Some(flag(name, value)?),
            "tag" => filter.tags.push(value.to_owned()),
            "created_at" => filter.created.push(moment(name, value)?),
            "updated_at" => filter.updated.push(moment(name, value)?),
            "min_disk" => self.min_disk = Some(number(name, value)?),
            "min_ram" => self.min_ram = Some(number(name, value)?),
            "architecture" if value == "arm" => filter.properties.push(("__support_arm".into(), "true".into())),
            "architecture" => self.x86 = true,
            "__imagetype" => {
                // One's own images are a matter of the catalog; the rest is decided image by image.
                match value {
                    "private" => filter.owner = Some(viewer),
                    "gold" => filter.visibility = Some(model::images::Visibility::Public),
                    _ => {}
                }
                self.image_type = Some(value.to_owned());
            }
            "__isregistered" => self.nothing |= !flag(name, value)?,
            "enterprise_project_id" => self.nothing |= !matches!(value, "0" | "all_granted_eps"),
            name if name.starts_with("__") || name == "virtual_env_type" => {
                filter.properties.push((name.to_owned(), value.to_owned()));
            }
            // `flavor_id`, `member_status` and whatever comes later narrow nothing here.
            _ => {}
        }
        Ok(())
    }

    /// Returns whether an image passes what the catalog cannot filter.
    fn fits(&self, image: &Image, viewer: ProjectId) -> bool {
        let type_fits = self.image_type.as_deref().is_none_or(|wanted| wanted == image_type(image, viewer));
        let arm = image.properties.get("__support_arm").is_some_and(|value| value == "true");
        type_fits
            && self.min_disk.is_none_or(|wanted| wanted == image.min_disk_gib)
            && self.min_ram.is_none_or(|wanted| wanted == image.min_ram_mib)
            && !(self.x86 && arm)
    }
}

fn parse<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Failure>
where
    T::Err: std::fmt::Display,
{
    value.parse().map_err(|error| Failure::new("IMG.0001", format!("the filter {name}: {error}")))
}

fn number(name: &str, value: &str) -> Result<u32, Failure> {
    parse(name, value)
}

fn flag(name: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "true" | "True" | "1" => Ok(true),
        "false" | "False" | "0" => Ok(false),
        _ => Err(Failure::new("IMG.0001", format!("the filter {name} is true or false"))),
    }
}

fn moment(name: &str, value: &str) -> Result<(Comparison, Timestamp), Failure> {
    let (operator, text) = value.split_once(':').unwrap_or_default();
    let comparison = match operator {
        "gt" => Comparison::Greater,
        "gte" => Comparison::GreaterOrEqual,
        "lt" => Comparison::Less,
        "lte" => Comparison::LessOrEqual,
        "eq" => Comparison::Equal,
        "neq" => Comparison::NotEqual,
        _ => {
            let message = format!("the filter {name} is gt:, gte:, lt:, lte:, eq: or neq: and a moment in UTC");
            return Err(Failure::new("IMG.0001", message));
        }
    };
    Ok((comparison, parse(name, text)?))
}

fn sort_key(value: &str) -> Result<ImageSort, Failure> {
    match value {
        "name" => Ok(ImageSort::Name),
        "status" => Ok(ImageSort::Status),
        "container_format" => Ok(ImageSort::ContainerFormat),
        "disk_format" => Ok(ImageSort::DiskFormat),
        "size" => Ok(ImageSort::Size),
        "id" => Ok(ImageSort::Id),
        "created_at" => Ok(ImageSort::CreatedAt),
        "updated_at" => Ok(ImageSort::UpdatedAt),
        _ => Err(Failure::new(
            "IMG.0001",
            "sort_key is name, status, container_format, disk_format, size, id, created_at or updated_at",
        )),
    }
}

fn sort_direction(value: &str) -> Result<Direction, Failure> {
    match value {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        _ => Err(Failure::new("IMG.0001", "sort_dir is asc or desc")),
    }
}

#[cfg(test)]
mod tests {
    use model::images::{ImageState, Visibility};

    use super::super::image::tests::image;
    use super::*;

    #[test]
    fn filters_reach_the_catalog() {
        let viewer = ProjectId::new();
        let query = Query::parse(
            "__imagetype=private&__os_type=Linux&status=active&name=web&limit=9999&sort_key=name&sort_dir=asc\
             &created_at=gte:2026-01-01T00:00:00Z&virtual_env_type=FusionCompute&tag=role%3Dweb&flavor_id=x",
            viewer,
        )
        .unwrap();
        assert_eq!(query.limit, PAGE_MAX);
        assert_eq!(query.filter.owner, Some(viewer));
        assert_eq!(query.filter.states, [ImageState::Active]);
        assert_eq!(query.filter.names, ["web"]);
        assert_eq!(query.filter.tags, ["role=web"]);
        assert_eq!(query.filter.sort, [(ImageSort::Name, Direction::Ascending)]);
        assert_eq!(query.filter.created[0].0, Comparison::GreaterOrEqual);
        let properties = [("__os_type", "Linux"), ("virtual_env_type", "FusionCompute")];
        assert_eq!(query.filter.properties, properties.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let gold = Query::parse("__imagetype=gold", viewer).unwrap();
        assert_eq!(gold.filter.visibility, Some(Visibility::Public));
    }

    #[test]
    fn bad_filters_are_refused() {
        for bad in
            ["limit=-1", "status=fine", "id=x", "sort_key=colour", "sort_dir=up", "created_at=2026", "protected=maybe"]
        {
            assert_eq!(Query::parse(bad, ProjectId::new()).unwrap_err().code(), "IMG.0001", "{bad}");
        }
    }

    #[test]
    fn pages_tell_whether_more_follows() {
        let viewer = ProjectId::new();
        let images = [image(viewer), image(viewer)];
        let query = Query::parse("limit=1", viewer).unwrap();
        let shown = page(&images, &query, viewer);
        assert_eq!(shown["images"].as_array().unwrap().len(), 1);
        assert_eq!(shown["page_info"]["next_marker"], images[0].id.to_string());
        assert_eq!(page(&images[..1], &query, viewer)["page_info"], json!({}));
        let other = Query::parse("__imagetype=shared&min_disk=20", viewer).unwrap();
        assert_eq!(page(&images, &other, viewer)["images"], json!([]));
        assert!(Query::parse("__isregistered=false", viewer).unwrap().nothing);
    }
}
