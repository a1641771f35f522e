//! `PATCH /v2/cloudimages/{id}`: a JSON patch (RFC 6902, one level deep) on an image that is active.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use model::images::ImageState;
use serde::Deserialize;
use serde_json::Value;
use service::ImageChange;

use super::create::{check_description, check_name};
use super::error::{Asked, Failure};
use super::image::render;
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

/// Fields of the record that follow from something else, and attributes that tell where an image came from.
const READ_ONLY: [&str; 22] = [
    "id",
    "status",
    "owner",
    "visibility",
    "size",
    "virtual_size",
    "checksum",
    "created_at",
    "updated_at",
    "tags",
    "file",
    "self",
    "schema",
    "disk_format",
    "container_format",
    "__imagetype",
    "__isregistered",
    "__image_size",
    "__image_source_type",
    "__data_origin",
    "__root_origin",
    "__system__cmkid",
];

#[derive(Debug, Deserialize)]
struct Operation {
    op: String,
    path: String,
    #[serde(default)]
    value: Value,
}

pub(super) async fn update(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let id = wire::image_id(&id)?;
    let change = change(wire::json(body).await?)?;
    let images = state.service.images();
    let image = images.get(&who, id).await.map_err(|error| Failure::of(&error, Asked::Other))?;
    // A rule of this dialect alone: Glance also changes images that have no bytes yet.
    if image.state != ImageState::Active {
        let message = format!("image {id} is {}; only an active image can be changed", image.state);
        return Err(Failure::new("IMG.0046", message));
    }
    let changed = images.update(&who, id, change).await.map_err(|error| Failure::of(&error, Asked::Other))?;
    Ok(Json(render(&changed, who.project.id)))
}

fn change(operations: Vec<Operation>) -> Result<ImageChange, Failure> {
    let mut change = ImageChange::default();
    for operation in operations {
        let name = operation.path.strip_prefix('/').unwrap_or_default().replace("~1", "/").replace("~0", "~");
        match operation.op.as_str() {
            "add" | "replace" => set(&mut change, name, &text(&operation.value)?)?,
            "remove" => remove(&mut change, name)?,
            _ => return Err(Failure::new("IMG.0001", "an operation is add, replace or remove")),
        }
    }
    Ok(change)
}

fn set(change: &mut ImageChange, name: String, value: &str) -> Result<(), Failure> {
    let size = || -> Result<u32, Failure> {
        value.parse().map_err(|_| Failure::new("IMG.0055", "a size is a whole number that is not negative"))
    };
    match name.as_str() {
        "name" => change.name = Some(Some(check_name(value)?.to_owned())),
        "min_ram" => change.min_ram_mib = Some(size()?),
        "min_disk" => change.min_disk_gib = Some(size()?),
        "protected" => {
            let parsed = value.parse().map_err(|_| Failure::new("IMG.0001", "protected is true or false"))?;
            change.protected = Some(parsed);
        }
        _ => {
            check_attribute(&name)?;
            if name == "__description" {
                check_description(value)?;
            }
            change.remove_properties.remove(&name);
            change.set_properties.insert(name, value.to_owned());
        }
    }
    Ok(())
}

fn remove(change: &mut ImageChange, name: String) -> Result<(), Failure> {
    if matches!(name.as_str(), "name" | "min_ram" | "min_disk" | "protected") {
        return Err(Failure::new("IMG.0035", format!("`{name}` can be replaced, not removed")));
    }
    check_attribute(&name)?;
    change.set_properties.remove(&name);
    change.remove_properties.insert(name);
    Ok(())
}

fn check_attribute(name: &str) -> Result<(), Failure> {
    if READ_ONLY.contains(&name) {
        return Err(Failure::new("IMG.0035", format!("`{name}` cannot be changed")));
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
    if name.is_empty() || name.len() > model::names::NAME_MAX || !name.bytes().all(allowed) {
        let message = "a path is `/` and the name of an attribute: small letters, digits, `_`, `-` and `.`";
        return Err(Failure::new("IMG.0001", message));
    }
    Ok(())
}

/// Clients send numbers and flags as texts or as such.
fn text(value: &Value) -> Result<String, Failure> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(Failure::new("IMG.0001", "a value is a text, a number, true or false")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(operations: Value) -> Result<ImageChange, &'static str> {
        change(serde_json::from_value(operations).unwrap()).map_err(|failure| failure.code())
    }

    #[test]
    fn operations_become_one_change() {
        let change = parse(json!([
            {"op": "replace", "path": "/name", "value": "db"},
            {"op": "replace", "path": "/min_ram", "value": "1024"},
            {"op": "add", "path": "/__description", "value": "a database"},
            {"op": "add", "path": "/hw_vif_multiqueue_enabled", "value": true},
            {"op": "remove", "path": "/__support_xen"},
        ]))
        .unwrap();
        assert_eq!(change.name, Some(Some("db".into())));
        assert_eq!(change.min_ram_mib, Some(1024));
        assert_eq!(change.set_properties["__description"], "a database");
        assert_eq!(change.set_properties["hw_vif_multiqueue_enabled"], "true");
        assert!(change.remove_properties.contains("__support_xen"));
    }

    #[test]
    fn what_cannot_be_changed_is_refused() {
        for (operation, code) in [
            (json!({"op": "replace", "path": "/status", "value": "active"}), "IMG.0035"),
            (json!({"op": "replace", "path": "/__imagetype", "value": "gold"}), "IMG.0035"),
            (json!({"op": "remove", "path": "/name"}), "IMG.0035"),
            (json!({"op": "replace", "path": "/name", "value": ""}), "IMG.0013"),
            (json!({"op": "replace", "path": "/min_ram", "value": "-1"}), "IMG.0055"),
            (json!({"op": "move", "path": "/name", "value": "x"}), "IMG.0001"),
            (json!({"op": "add", "path": "/a~1b", "value": "x"}), "IMG.0001"),
            (json!({"op": "add", "path": "", "value": "x"}), "IMG.0001"),
            (json!({"op": "add", "path": "/x", "value": {"deep": 1}}), "IMG.0001"),
        ] {
            assert_eq!(parse(json!([operation])).unwrap_err(), code, "{operation}");
        }
    }
}
