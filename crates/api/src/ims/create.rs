//! `POST /v2/cloudimages/action`: an image from a file in a bucket.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use model::images::Visibility;
use serde::Deserialize;
use serde_json::{Value, json};
use service::{Choice, FromObject, NewImage};

use super::error::{Asked, Failure};
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

/// Longest name, in characters.
const NAME_MAX: usize = 128;
/// Longest description, in characters.
const DESCRIPTION_MAX: usize = 1024;
/// Most tags.
const TAGS_MAX: usize = 10;
/// Longest key and value of a tag, in characters.
const TAG_KEY_MAX: usize = 36;
const TAG_VALUE_MAX: usize = 43;
/// Largest `min_disk`, in GB.
const MIN_DISK_MAX: u32 = 1024;

/// The body; four shapes share it and are told apart by the fields that are there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Create {
    name: Option<String>,
    description: Option<String>,
    image_url: Option<String>,
    os_version: Option<String>,
    os_type: Option<String>,
    min_disk: Option<u32>,
    min_ram: Option<u32>,
    max_ram: Option<u32>,
    r#type: Option<String>,
    is_config: Option<bool>,
    architecture: Option<String>,
    hw_firmware_type: Option<String>,
    tags: Option<Vec<String>>,
    image_tags: Option<Vec<ImageTag>>,
    cmk_id: Option<String>,
    instance_id: Option<String>,
    volume_id: Option<String>,
    data_images: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
struct ImageTag {
    key: String,
    #[serde(default)]
    value: String,
}

pub(super) async fn create(
    State(state): State<ApiState>,
    Caller(who): Caller,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let from = wire::json::<Create>(body).await?.into_verb()?;
    let begun = state.service.images().create_from_object(&who, from).await;
    let (_, job) = begun.map_err(|error| Failure::of(&error, Asked::Other))?;
    Ok(Json(json!({"job_id": job.id.to_string()})))
}

impl Create {
    fn into_verb(self) -> Result<FromObject, Failure> {
        self.check_shape()?;
        let url = self.image_url.as_deref().unwrap_or_default();
        let (bucket, key) = wire::bucket_and_key(url)?;
        let name = check_name(self.name.as_deref().unwrap_or_default())?.to_owned();
        let properties = self.properties(&bucket, &key)?;
        let Some(min_disk_gib @ 1..=MIN_DISK_MAX) = self.min_disk else {
            return Err(Failure::new("IMG.0055", format!("min_disk is needed, 1 to {MIN_DISK_MAX} GB")));
        };
        let tags = match (self.tags.unwrap_or_default(), self.image_tags.unwrap_or_default()) {
            (plain, pairs) if pairs.is_empty() => plain.iter().map(|tag| plain_tag(tag)).collect(),
            (plain, pairs) if plain.is_empty() => pairs.iter().map(ImageTag::text).collect(),
            _ => Err(Failure::new("IMG.0115", "tags come as `tags` or as `image_tags`, not as both")),
        };
        let tags: BTreeSet<String> = tags?;
        if tags.len() > TAGS_MAX {
            return Err(Failure::new("IMG.0116", format!("an image has at most {TAGS_MAX} tags")));
        }
        let is_installer = self.r#type.as_deref() == Some("IsoImage");
        let image = NewImage {
            id: None,
            name: Some(name),
            visibility: Visibility::Private,
            protected: false,
            hidden: false,
            disk_format: None,
            container_format: None,
            min_disk_gib,
            min_ram_mib: self.min_ram.unwrap_or_default(),
            properties,
            tags,
        };
        // The end of the file's name proves nothing: its format is probed.
        // Unlike Huawei's, on unless it is switched off: an image that does not start is of no use to anybody.
        let prepare = (self.is_config != Some(false) && !is_installer).then(Choice::default);
        Ok(FromObject { image, bucket, key, format: None, member: None, passphrase: None, prepare })
    }

    /// Refuses the shapes that are not offered yet.
    fn check_shape(&self) -> Result<(), Failure> {
        let asked = [
            (self.instance_id.is_some(), "an image from a server"),
            (self.volume_id.is_some(), "an image from a volume"),
            (self.data_images.as_ref().is_some_and(|images| !images.is_empty()), "an image with data disks"),
            (self.cmk_id.as_ref().is_some_and(|key| !key.is_empty()), "an image under a key of its own"),
        ];
        if let Some((_, what)) = asked.iter().find(|(asked, _)| *asked) {
            let message = format!("{what} is not available yet; image_url makes one from a file in a bucket");
            return Err(Failure::new("IMG.0105", message));
        }
        if self.name.as_deref().unwrap_or_default().is_empty() {
            return Err(Failure::new("IMG.0013", "the image needs a name"));
        }
        Ok(())
    }

    fn properties(&self, bucket: &str, key: &str) -> Result<BTreeMap<String, String>, Failure> {
        let environment = match self.r#type.as_deref() {
            None | Some("" | "ECS" | "FusionCompute") => "FusionCompute",
            Some("BMS" | "Ironic") => "Ironic",
            Some("IsoImage") => "IsoImage",
            Some(_) => return Err(Failure::new("IMG.0024", "type is ECS, BMS, FusionCompute, Ironic or IsoImage")),
        };
        let mut properties = BTreeMap::new();
        let mut set = |name: &str, value: &str| properties.insert(name.to_owned(), value.to_owned());
        set("virtual_env_type", environment);
        set("__image_source_type", "uds");
        set("__root_origin", "file");
        set("__data_origin", &format!("file,{bucket}:{key}"));
        set("__support_kvm", "true");
        let version = self.os_version.as_deref().unwrap_or_default();
        // What is not told is filled in by what is found inside.
        if let Some((os_type, platform)) = os(version, self.os_type.as_deref())? {
            set("__os_type", os_type);
            set("__platform", platform);
        }
        if !version.is_empty() {
            set("__os_bit", if version.to_ascii_lowercase().contains("32bit") { "32" } else { "64" });
            set("__os_version", version);
        }
        if let Some(description) = &self.description {
            set("__description", check_description(description)?);
        }
        match self.hw_firmware_type.as_deref() {
            None | Some("") => {}
            Some(firmware @ ("bios" | "uefi")) => {
                set("hw_firmware_type", firmware);
            }
            Some(_) => return Err(Failure::new("IMG.0141", "hw_firmware_type is bios or uefi")),
        }
        match self.architecture.as_deref() {
            None | Some("" | "x86") => {}
            Some("arm") => {
                set("__support_arm", "true");
            }
            Some(_) => return Err(Failure::new("IMG.0212", "architecture is x86 or arm")),
        }
        if let Some(max_ram) = self.max_ram.filter(|size| *size > 0) {
            set("max_ram", &max_ram.to_string());
        }
        Ok(properties)
    }
}

/// Returns `__os_type` and `__platform` for an `os_version` such as `Debian GNU/Linux 12.0.0 64bit`; none where neither
/// that nor a type is told.
fn os(version: &str, os_type: Option<&str>) -> Result<Option<(&'static str, &'static str)>, Failure> {
    const PLATFORMS: [(&str, &str); 12] = [
        ("ubuntu", "Ubuntu"),
        ("debian", "Debian"),
        ("centos", "CentOS"),
        ("fedora", "Fedora"),
        ("opensuse", "OpenSUSE"),
        ("suse", "SUSE"),
        ("red hat", "RedHat"),
        ("redhat", "RedHat"),
        ("oracle", "Oracle Linux"),
        ("coreos", "CoreOS"),
        ("euler", "EulerOS"),
        ("linux", "Other"),
    ];
    let lower = version.to_ascii_lowercase();
    if lower.contains("windows") {
        return Ok(Some(("Windows", "Windows")));
    }
    if let Some((_, platform)) = PLATFORMS.iter().find(|(part, _)| lower.contains(part)) {
        return Ok(Some(("Linux", platform)));
    }
    match os_type {
        None | Some("") if version.is_empty() => Ok(None),
        None | Some("" | "Other") => Ok(Some(("Other", "Other"))),
        Some("Linux") => Ok(Some(("Linux", "Other"))),
        Some("Windows") => Ok(Some(("Windows", "Windows"))),
        Some(_) => Err(Failure::new("IMG.0122", "os_type is Linux, Windows or Other")),
    }
}

/// Checks an image's name by the rules of IMS, which are narrower than Glance's.
pub(super) fn check_name(name: &str) -> Result<&str, Failure> {
    if name.is_empty() {
        return Err(Failure::new("IMG.0013", "the image needs a name"));
    }
    if name.chars().count() > NAME_MAX {
        return Err(Failure::new("IMG.0002", format!("a name has at most {NAME_MAX} characters")));
    }
    let allowed = |c: char| c.is_alphanumeric() || "-._ ".contains(c);
    if !name.chars().all(allowed) || name.starts_with(' ') || name.ends_with(' ') {
        let message = "a name has letters, digits, `-`, `.`, `_` and spaces, and no space at its ends";
        return Err(Failure::new("IMG.0003", message));
    }
    Ok(name)
}

/// Checks a description.
pub(super) fn check_description(description: &str) -> Result<&str, Failure> {
    if description.chars().count() > DESCRIPTION_MAX {
        return Err(Failure::new("IMG.0004", format!("a description has at most {DESCRIPTION_MAX} characters")));
    }
    if description.contains(['\r', '<', '>']) {
        return Err(Failure::new("IMG.0054", "a description has no carriage return and no angle bracket"));
    }
    Ok(description)
}

impl ImageTag {
    fn text(&self) -> Result<String, Failure> {
        tag(self.key.trim(), self.value.trim())
    }
}

/// Reads `key.value`, or a key alone.
fn plain_tag(text: &str) -> Result<String, Failure> {
    let (key, value) = text.split_once(['.', '=']).unwrap_or((text, ""));
    tag(key, value)
}

/// Renders a tag as it is kept: `key=value`, or the key alone.
fn tag(key: &str, value: &str) -> Result<String, Failure> {
    let fits = |text: &str, max: usize| {
        text.chars().count() <= max && text.chars().all(|c| c.is_alphanumeric() || "-_".contains(c))
    };
    if key.is_empty() || !fits(key, TAG_KEY_MAX) || !fits(value, TAG_VALUE_MAX) {
        let message = format!(
            "a tag's key has 1 to {TAG_KEY_MAX} and its value at most {TAG_VALUE_MAX} letters, digits, `-` and `_`"
        );
        return Err(Failure::new("IMG.0115", message));
    }
    Ok(if value.is_empty() { key.to_owned() } else { format!("{key}={value}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a body over one that is right; returns the verb's input or the code of the refusal.
    fn parse(changes: &Value) -> Result<FromObject, &'static str> {
        let mut body = json!({"name": "web", "image_url": "images:web.vmdk", "min_disk": 20});
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        serde_json::from_value::<Create>(body).unwrap().into_verb().map_err(|failure| failure.code())
    }

    #[test]
    fn a_file_becomes_a_private_image() {
        let from = parse(&json!({
            "os_version": "Debian GNU/Linux 12.0.0 64bit", "description": "a web server", "is_config": true,
            "image_tags": [{"key": "role", "value": "web"}], "hw_firmware_type": "uefi", "max_ram": 4096,
            "enterprise_project_id": "0", "is_quick_import": false, "something_new": [1],
        }))
        .unwrap();
        assert_eq!((from.bucket.as_str(), from.key.as_str(), from.format), ("images", "web.vmdk", None));
        assert_eq!(from.image.visibility, Visibility::Private);
        assert_eq!((from.image.min_disk_gib, from.image.name.as_deref()), (20, Some("web")));
        assert_eq!(from.image.tags, BTreeSet::from(["role=web".to_owned()]));
        for (name, value) in [
            ("__os_type", "Linux"),
            ("__platform", "Debian"),
            ("__os_bit", "64"),
            ("__os_version", "Debian GNU/Linux 12.0.0 64bit"),
            ("__description", "a web server"),
            ("__data_origin", "file,images:web.vmdk"),
            ("virtual_env_type", "FusionCompute"),
            ("hw_firmware_type", "uefi"),
            ("max_ram", "4096"),
        ] {
            assert_eq!(from.image.properties.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn a_guest_is_prepared_unless_that_is_switched_off() {
        let prepare = |changes: Value| parse(&changes).unwrap().prepare;
        assert_eq!(prepare(json!({})), Some(Choice::default()));
        assert_eq!(prepare(json!({"is_config": true})), Some(Choice::default()));
        assert_eq!(prepare(json!({"is_config": false})), None);
        assert_eq!(prepare(json!({"type": "IsoImage"})), None);
    }

    #[test]
    fn what_is_wrong_has_its_code() {
        for (changes, code) in [
            (json!({"name": null}), "IMG.0013"),
            (json!({"name": "x".repeat(129)}), "IMG.0002"),
            (json!({"name": " x"}), "IMG.0003"),
            (json!({"name": "a/b"}), "IMG.0003"),
            (json!({"image_url": null}), "IMG.0017"),
            (json!({"image_url": "https://host/x"}), "IMG.0017"),
            (json!({"min_disk": null}), "IMG.0055"),
            (json!({"min_disk": 0}), "IMG.0055"),
            (json!({"min_disk": 1025}), "IMG.0055"),
            (json!({"description": "a<b"}), "IMG.0054"),
            (json!({"description": "x".repeat(1025)}), "IMG.0004"),
            (json!({"type": "Container"}), "IMG.0024"),
            (json!({"os_type": "BeOS"}), "IMG.0122"),
            (json!({"hw_firmware_type": "ofw"}), "IMG.0141"),
            (json!({"architecture": "vax"}), "IMG.0212"),
            (json!({"tags": ["a.b"], "image_tags": [{"key": "a"}]}), "IMG.0115"),
            (json!({"tags": ["a b.c"]}), "IMG.0115"),
            (json!({"tags": (0..11).map(|n| format!("k{n}.v")).collect::<Vec<_>>()}), "IMG.0116"),
            (json!({"instance_id": "x"}), "IMG.0105"),
            (json!({"volume_id": "x"}), "IMG.0105"),
            (json!({"data_images": [{"name": "d"}]}), "IMG.0105"),
            (json!({"cmk_id": "k"}), "IMG.0105"),
        ] {
            assert_eq!(parse(&changes).unwrap_err(), code, "{changes}");
        }
    }

    #[test]
    fn tags_are_kept_as_key_and_value() {
        let tags = |changes: Value| parse(&changes).unwrap().image.tags.into_iter().collect::<Vec<_>>();
        assert_eq!(tags(json!({"tags": ["role.web", "plain", "a=b"]})), ["a=b", "plain", "role=web"]);
        assert_eq!(tags(json!({"image_tags": [{"key": " k ", "value": ""}]})), ["k"]);
    }

    #[test]
    fn operating_systems() {
        assert_eq!(os("Windows Server 2019 Standard 64bit", None), Ok(Some(("Windows", "Windows"))));
        assert_eq!(os("openSUSE 15.0 64bit", None), Ok(Some(("Linux", "OpenSUSE"))));
        assert_eq!(os("Red Hat Linux Enterprise 7.4 64bit", None), Ok(Some(("Linux", "RedHat"))));
        assert_eq!(os("", Some("Linux")), Ok(Some(("Linux", "Other"))));
        assert_eq!(os("", None), Ok(None));
        assert_eq!(os("", Some("Other")), Ok(Some(("Other", "Other"))));
        assert_eq!(os("Plan 9", None), Ok(Some(("Other", "Other"))));
    }
}
