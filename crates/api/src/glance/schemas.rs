//! `/v2/schemas`: JSON schemas with which clients check what they send and what they get.

use axum::Json;
use model::images::{ImageState, Visibility};
use model::{ContainerFormat, DiskFormat};
use serde_json::{Value, json};
use service::Error;

use super::error::Failure;
use super::path::WordPath;
use super::wire;

pub(super) async fn show(WordPath(name): WordPath) -> Result<Json<Value>, Failure> {
    Ok(Json(match name.as_str() {
        "image" => image(),
        "images" => listing("images", &image()),
        "member" => member(),
        "members" => listing("members", &member()),
        _ => {
            return Err(Error::not_found("schema", "of that name")
                .with_hint("there are image, images, member and members")
                .into());
        }
    }))
}

const UUID: &str = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$";

fn image() -> Value {
    let mut properties = base_properties();
    for (name, property) in properties.as_object_mut().into_iter().flatten() {
        if wire::READ_ONLY.contains(&name.as_str()) && name != "id" {
            property["readOnly"] = json!(true);
        }
    }
    for (name, description) in [
        ("architecture", "Processor architecture of the operating system"),
        ("os_distro", "Distribution, in lower case"),
        ("os_version", "Version of the operating system as its distributor names it"),
        ("description", "A text for people"),
    ] {
        properties[name] = json!({"type": "string", "description": description, "is_base": false});
    }
    json!({
        "name": "image",
        "properties": properties,
        "additionalProperties": {"type": "string"},
        "links": [
            {"rel": "self", "href": "{self}"},
            {"rel": "enclosure", "href": "{file}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
}

fn base_properties() -> Value {
    let digits = |most: u32| json!({"type": ["null", "string"], "maxLength": most});
    json!({
        "id": {"type": "string", "pattern": UUID, "description": "Identifier of the image"},
        "name": {"type": ["null", "string"], "maxLength": 255, "description": "What people call it"},
        "status": {"type": "string", "enum": words(ImageState::ALL, ImageState::as_str)},
        "visibility": {"type": "string", "enum": words(Visibility::ALL, Visibility::as_str)},
        "protected": {"type": "boolean", "description": "Refuses deletion while set"},
        "os_hidden": {"type": "boolean", "description": "Left out of default lists"},
        "owner": {"type": ["null", "string"], "maxLength": 255, "description": "Project that owns the image"},
        "disk_format": {"type": ["null", "string"], "enum": optional(words(DiskFormat::ALL, DiskFormat::as_str))},
        "container_format":
            {"type": ["null", "string"], "enum": optional(words(ContainerFormat::ALL, ContainerFormat::as_str))},
        "size": {"type": ["null", "integer"], "description": "Bytes of the image file"},
        "virtual_size": {"type": ["null", "integer"], "description": "Bytes of the disk that a server sees"},
        "min_disk": {"type": "integer", "minimum": 0, "description": "Smallest root disk, in GiB"},
        "min_ram": {"type": "integer", "minimum": 0, "description": "Smallest memory, in MiB"},
        "checksum": digits(32),
        "os_hash_algo": digits(64),
        "os_hash_value": digits(128),
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 255}},
        "created_at": {"type": "string", "description": "When the record was made"},
        "updated_at": {"type": "string", "description": "When the record changed last"},
        "self": {"type": "string"},
        "file": {"type": "string"},
        "schema": {"type": "string"},
    })
}

fn member() -> Value {
    json!({
        "name": "member",
        "properties": {
            "image_id": {"type": "string", "pattern": UUID},
            "member_id": {"type": "string", "description": "Project that the image is shared with"},
            "status": {"type": "string", "enum": ["pending", "accepted", "rejected"]},
            "created_at": {"type": "string"},
            "updated_at": {"type": "string"},
            "schema": {"readOnly": true, "type": "string"},
        },
    })
}

fn listing(plural: &str, item: &Value) -> Value {
    json!({
        "name": plural,
        "properties": {
            plural: {"type": "array", "items": item},
            "first": {"type": "string"},
            "next": {"type": "string"},
            "schema": {"type": "string"},
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
}

fn words<T: Copy>(all: &[T], text: fn(T) -> &'static str) -> Vec<Value> {
    all.iter().map(|word| json!(text(*word))).collect()
}

fn optional(mut words: Vec<Value>) -> Vec<Value> {
    words.insert(0, Value::Null);
    words
}

#[cfg(test)]
mod tests {
    use super::super::wire::tests::sample;
    use super::*;

    #[test]
    fn schema_and_image_have_the_same_base_attributes() {
        let (schema, image) = (image(), wire::image(&sample()));
        let properties = schema["properties"].as_object().unwrap();
        let base: Vec<_> =
            properties.iter().filter(|(_, property)| property["is_base"] != false).map(|(name, _)| name).collect();
        let shown: Vec<_> = image.as_object().unwrap().keys().filter(|name| *name != "os_distro").collect();
        assert_eq!(base, shown);
    }
}
