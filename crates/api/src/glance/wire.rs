//! An image as Glance writes it, and its attributes as clients send them.
//!
//! An attribute that is none of the base ones is a free property: flat beside them, always a text.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use model::images::{Image, Visibility};
use model::{ImageId, ProjectId};
use serde_json::{Map, Value, json};
use service::{Error, ErrorKind, ImageChange, NewImage};

/// Base attributes that a client may set.
pub(super) const WRITABLE: &[&str] = &[
    "name",
    "visibility",
    "protected",
    "os_hidden",
    "disk_format",
    "container_format",
    "min_disk",
    "min_ram",
    "tags",
    "owner",
];
/// Base attributes that only the server sets.
pub(super) const READ_ONLY: &[&str] = &[
    "id",
    "created_at",
    "updated_at",
    "status",
    "checksum",
    "os_hash_algo",
    "os_hash_value",
    "size",
    "virtual_size",
    "direct_url",
    "self",
    "file",
    "schema",
    "stores",
    "locations",
];
/// Names that are kept from free properties, because older protocols gave them a meaning.
const RESERVED: &[&str] = &["location", "deleted", "deleted_at"];
const RESERVED_PREFIX: &str = "os_glance_";

/// Returns an image as Glance shows it.
pub(super) fn image(image: &Image) -> Value {
    let id = image.id.to_string();
    let mut body: Map<String, Value> =
        image.properties.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let checksums = image.checksums.as_ref();
    let base = json!({
        "id": id,
        "name": image.name,
        "status": image.state.as_str(),
        "visibility": image.visibility.as_str(),
        "protected": image.protected,
        "os_hidden": image.hidden,
        "owner": image.project.to_string(),
        "disk_format": image.disk_format.map(model::DiskFormat::as_str),
        "container_format": image.container_format.map(model::ContainerFormat::as_str),
        "size": image.size,
        "virtual_size": image.size_virtual,
        "min_disk": image.min_disk_gib,
        "min_ram": image.min_ram_mib,
        "checksum": checksums.map(|sums| &sums.md5),
        "os_hash_algo": checksums.map(|_| "sha512"),
        "os_hash_value": checksums.map(|sums| &sums.sha512),
        "tags": image.tags,
        "created_at": time(image.created_at),
        "updated_at": time(image.updated_at),
        "self": format!("/v2/images/{id}"),
        "file": format!("/v2/images/{id}/file"),
        "schema": "/v2/schemas/image",
    });
    // Last, so that no property can stand where a base attribute belongs.
    if let Value::Object(base) = base {
        body.extend(base);
    }
    Value::Object(body)
}

fn time(at: model::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns the image that a `POST` asks for, owned by `owner`.
pub(super) fn new_image(body: Map<String, Value>, owner: ProjectId, visibility: Visibility) -> Result<NewImage, Error> {
    let mut id = None;
    let mut fields = ImageChange::default();
    for (name, value) in body {
        if name == "id" {
            let text: String = text(&name, value)?;
            id = Some(text.parse::<ImageId>().map_err(|error| Error::invalid("`id` is no UUID").caused_by(error))?);
        } else {
            assign(&mut fields, owner, &name, value)?;
        }
    }
    Ok(NewImage {
        id,
        name: fields.name.flatten(),
        visibility: fields.visibility.unwrap_or(visibility),
        protected: fields.protected.unwrap_or(false),
        hidden: fields.hidden.unwrap_or(false),
        disk_format: fields.disk_format.flatten(),
        container_format: fields.container_format.flatten(),
        min_disk_gib: fields.min_disk_gib.unwrap_or(0),
        min_ram_mib: fields.min_ram_mib.unwrap_or(0),
        properties: fields.set_properties,
        tags: fields.tags.unwrap_or_default(),
    })
}

/// Notes that the attribute `name` shall have `value`.
pub(super) fn assign(change: &mut ImageChange, owner: ProjectId, name: &str, value: Value) -> Result<(), Error> {
    check_writable(name)?;
    match name {
        "name" => change.name = Some(optional_text(name, value)?),
        "visibility" => change.visibility = Some(parsed(name, &text(name, value)?)?),
        "protected" => change.protected = Some(boolean(name, &value)?),
        "os_hidden" => change.hidden = Some(boolean(name, &value)?),
        "disk_format" => {
            change.disk_format = Some(optional_text(name, value)?.map(|text| parsed(name, &text)).transpose()?);
        }
        "container_format" => {
            change.container_format = Some(optional_text(name, value)?.map(|text| parsed(name, &text)).transpose()?);
        }
        "min_disk" => change.min_disk_gib = Some(number(name, &value)?),
        "min_ram" => change.min_ram_mib = Some(number(name, &value)?),
        "tags" => change.tags = Some(tags(value)?),
        "owner" => check_owner(owner, &text(name, value)?)?,
        _ => {
            let value = text(name, value)?;
            change.remove_properties.remove(name);
            change.set_properties.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

/// Fails for names that no client may set or remove.
pub(super) fn check_writable(name: &str) -> Result<(), Error> {
    let why = if READ_ONLY.contains(&name) {
        "read-only"
    } else if RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX) {
        "reserved"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Forbidden, format!("attribute `{name}` is {why}")))
}

fn check_owner(owner: ProjectId, wanted: &str) -> Result<(), Error> {
    if wanted.parse() == Ok::<ProjectId, _>(owner) {
        return Ok(());
    }
    let message = format!("an image belongs to the project it was made in, here {owner}; `owner` cannot be another");
    Err(Error::new(ErrorKind::Forbidden, message))
}

fn wrong(name: &str, wanted: &str) -> Error {
    let name: String = name.chars().take(64).collect();
    Error::invalid(format!("`{name}` must be {wanted}"))
}

fn text(name: &str, value: Value) -> Result<String, Error> {
    optional_text(name, value)?.ok_or_else(|| wrong(name, "a text"))
}

fn optional_text(name: &str, value: Value) -> Result<Option<String>, Error> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(wrong(name, "a text")),
    }
}

fn boolean(name: &str, value: &Value) -> Result<bool, Error> {
    value.as_bool().ok_or_else(|| wrong(name, "true or false"))
}

fn number(name: &str, value: &Value) -> Result<u32, Error> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| wrong(name, "a whole number from 0"))
}

fn tags(value: Value) -> Result<BTreeSet<String>, Error> {
    serde_json::from_value(value).map_err(|error| wrong("tags", "a list of texts").caused_by(error))
}

fn parsed<T: FromStr<Err: fmt::Display>>(name: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error| Error::invalid(format!("`{name}`: {error}")))
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use model::images::{Checksums, ImageState};
    use model::{ContainerFormat, DiskFormat};

    use super::*;

    pub(in super::super) fn sample() -> Image {
        Image {
            id: "0b2b0b2a-7f3c-4e1d-9d9e-6a0f7d1f2c3b".parse().unwrap(),
            project: "0c61004714024f9586705d090530f9fa".parse().unwrap(),
            name: Some("debian".into()),
            state: ImageState::Active,
            reason: None,
            visibility: Visibility::Shared,
            protected: false,
            hidden: false,
            disk_format: Some(DiskFormat::Qcow2),
            container_format: Some(ContainerFormat::Bare),
            content: None,
            size: Some(3),
            size_virtual: Some(1 << 30),
            checksums: Some(Checksums { md5: "m".into(), sha256: "s2".into(), sha512: "s5".into() }),
            min_disk_gib: 1,
            min_ram_mib: 512,
            properties: BTreeMap::from([("os_distro".into(), "debian".into()), ("id".into(), "forged".into())]),
            tags: BTreeSet::from(["k=v".into()]),
            job: None,
            created_at: "2026-11-22T19:53:33.25Z".parse().unwrap(),
            updated_at: "2026-11-22T19:53:34Z".parse().unwrap(),
        }
    }

    #[test]
    fn an_image_on_the_wire() {
        let expect = json!({
            "id": "0b2b0b2a-7f3c-4e1d-9d9e-6a0f7d1f2c3b", "name": "debian", "status": "active", "visibility": "shared",
            "protected": false, "os_hidden": false, "owner": "0c61004714024f9586705d090530f9fa",
            "disk_format": "qcow2", "container_format": "bare", "size": 3, "virtual_size": 1_073_741_824,
            "min_disk": 1, "min_ram": 512, "checksum": "m", "os_hash_algo": "sha512", "os_hash_value": "s5",
            "tags": ["k=v"], "created_at": "2026-11-22T19:53:33Z", "updated_at": "2026-11-22T19:53:34Z",
            "self": "/v2/images/0b2b0b2a-7f3c-4e1d-9d9e-6a0f7d1f2c3b",
            "file": "/v2/images/0b2b0b2a-7f3c-4e1d-9d9e-6a0f7d1f2c3b/file",
            "schema": "/v2/schemas/image", "os_distro": "debian",
        });
        assert_eq!(image(&sample()), expect);
    }

    fn create(body: Value) -> Result<NewImage, Error> {
        let Value::Object(body) = body else { panic!("not an object") };
        new_image(body, sample().project, Visibility::Shared)
    }

    #[test]
    fn creation() {
        let new = create(json!({
            "name": "x", "disk_format": "vmdk", "container_format": null, "min_disk": 2, "tags": ["b", "a", "b"],
            "__os_type": "Linux", "owner": "0c610047-1402-4f95-8670-5d090530f9fa",
        }));
        let new = new.unwrap();
        assert_eq!(
            (new.name.as_deref(), new.disk_format, new.container_format),
            (Some("x"), Some(DiskFormat::Vmdk), None)
        );
        assert_eq!((new.min_disk_gib, new.visibility), (2, Visibility::Shared));
        assert_eq!(new.tags, BTreeSet::from(["a".into(), "b".into()]));
        assert_eq!(new.properties, BTreeMap::from([("__os_type".into(), "Linux".into())]));
    }

    #[track_caller]
    fn refused(body: Value, kind: ErrorKind, message: &str) {
        let error = create(body).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
    }

    #[test]
    fn creations_that_cannot_be() {
        refused(json!({"status": "active"}), ErrorKind::Forbidden, "attribute `status` is read-only");
        refused(json!({"os_glance_x": "1"}), ErrorKind::Forbidden, "attribute `os_glance_x` is reserved");
        refused(json!({"cpus": 4}), ErrorKind::Invalid, "`cpus` must be a text");
        refused(json!({"cpus": null}), ErrorKind::Invalid, "`cpus` must be a text");
        refused(json!({"id": "7"}), ErrorKind::Invalid, "`id` is no UUID");
        refused(json!({"protected": "true"}), ErrorKind::Invalid, "`protected` must be true or false");
        refused(json!({"min_disk": -1}), ErrorKind::Invalid, "`min_disk` must be a whole number from 0");
        refused(json!({"tags": [1]}), ErrorKind::Invalid, "`tags` must be a list of texts");
        let known = "`visibility`: `secret` is not known; one of: public, community, shared, private";
        refused(json!({"visibility": "secret"}), ErrorKind::Invalid, known);
        assert_eq!(create(json!({"owner": "someone"})).unwrap_err().kind(), ErrorKind::Forbidden);
    }
}
