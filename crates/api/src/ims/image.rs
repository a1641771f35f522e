//! An image as IMS shows it: the record's fields and the properties, flat in one object.

use model::ProjectId;
use model::images::{Image, Visibility};
use serde_json::{Map, Value, json};

use super::wire;

/// Returns what kind of image it is for somebody of the project `viewer`: public images are `gold`.
pub(super) fn image_type(image: &Image, viewer: ProjectId) -> &'static str {
    match image.visibility {
        Visibility::Public => "gold",
        _ if image.project == viewer => "private",
        _ => "shared",
    }
}

/// Renders an image.
pub(super) fn render(image: &Image, viewer: ProjectId) -> Value {
    // Properties come first, so that none can pass for a field of the record.
    let mut out: Map<String, Value> =
        image.properties.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    out.entry("enterprise_project_id").or_insert_with(|| json!("0"));
    let id = image.id.to_string();
    let fields = json!({
        "id": id,
        "name": image.name,
        "status": image.state.as_str(),
        "visibility": image.visibility.as_str(),
        "owner": image.project.to_string(),
        "protected": image.protected,
        "disk_format": image.disk_format.map(model::DiskFormat::as_str),
        "container_format": image.container_format.map(model::ContainerFormat::as_str),
        "min_disk": image.min_disk_gib,
        "min_ram": image.min_ram_mib,
        "size": image.size,
        "virtual_size": image.size_virtual,
        "checksum": image.checksums.as_ref().map(|checksums| &checksums.md5),
        "tags": image.tags,
        "created_at": wire::seconds(image.created_at),
        "updated_at": wire::seconds(image.updated_at),
        "self": format!("/v2/images/{id}"),
        "file": format!("/v2/images/{id}/file"),
        "schema": "/v2/schemas/image",
        "__imagetype": image_type(image, viewer),
        "__isregistered": "true",
        "__image_size": image.size.unwrap_or_default().to_string(),
    });
    if let Value::Object(fields) = fields {
        out.extend(fields);
    }
    Value::Object(out)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use model::images::ImageState;
    use model::{DiskFormat, ImageId};

    use super::*;

    pub(in super::super) fn image(project: ProjectId) -> Image {
        Image {
            id: ImageId::new(),
            project,
            name: Some("web".into()),
            state: ImageState::Active,
            reason: None,
            visibility: Visibility::Private,
            protected: false,
            hidden: false,
            disk_format: Some(DiskFormat::Raw),
            container_format: None,
            content: None,
            size: Some(4096),
            size_virtual: Some(4096),
            checksums: None,
            min_disk_gib: 20,
            min_ram_mib: 0,
            properties: BTreeMap::from([
                ("__os_type".into(), "Linux".into()),
                ("__imagetype".into(), "gold".into()),
                ("id".into(), "forged".into()),
            ]),
            tags: BTreeSet::from(["role=web".into()]),
            job: None,
            created_at: "2026-11-22T10:00:00.5Z".parse().unwrap(),
            updated_at: "2026-11-22T11:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn the_record_outranks_properties() {
        let project = ProjectId::new();
        let image = image(project);
        let shown = render(&image, project);
        assert_eq!(shown["id"], image.id.to_string());
        assert_eq!(shown["__imagetype"], "private");
        assert_eq!(shown["__os_type"], "Linux");
        assert_eq!(shown["__image_size"], "4096");
        assert_eq!(shown["created_at"], "2026-11-22T10:00:00Z");
        assert_eq!(shown["tags"], json!(["role=web"]));
        assert_eq!(shown["min_disk"], 20);
        assert_eq!(shown["checksum"], Value::Null);
    }

    #[test]
    fn types_depend_on_who_looks() {
        let own = ProjectId::new();
        let mut image = image(own);
        assert_eq!(image_type(&image, ProjectId::new()), "shared");
        image.visibility = Visibility::Public;
        assert_eq!(image_type(&image, own), "gold");
    }
}
