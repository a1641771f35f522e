//! Images: make one from a file in a bucket, write one into a bucket, look inside, prepare what is inside.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use model::images::Visibility;
use serde::Deserialize;
use serde_json::{Value, json};
use service::{Choice, Error, Export, FromObject, NewImage, Result, Secret};

use super::error::Failure;
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

#[derive(Debug, Deserialize)]
struct Create {
    name: Option<String>,
    from: Place,
    format: Option<String>,
    member: Option<String>,
    #[serde(default, deserialize_with = "wire::secret")]
    passphrase: Option<Secret>,
    #[serde(default)]
    prepare: Prepare,
    visibility: Option<String>,
    #[serde(default)]
    protected: bool,
    #[serde(default)]
    min_disk: u32,
    #[serde(default)]
    min_ram: u32,
    #[serde(default)]
    properties: BTreeMap<String, String>,
    #[serde(default)]
    tags: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Place {
    bucket: String,
    key: String,
}

/// Whether the guest is prepared, and what is repaired.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "`prepare` is true, false, or lists of findings: {\"only\": [], \"skip\": [], \"with\": []}"
)]
enum Prepare {
    Whether(bool),
    What(Wanted),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    only: Vec<String>,
    skip: Vec<String>,
    with: Vec<String>,
}

impl Default for Prepare {
    fn default() -> Self {
        Self::Whether(true)
    }
}

impl From<Wanted> for Choice {
    fn from(Wanted { only, skip, with }: Wanted) -> Self {
        Self { only, skip, with, ..Self::default() }
    }
}

impl Prepare {
    fn into_choice(self) -> Option<Choice> {
        match self {
            Self::Whether(is_wanted) => is_wanted.then(Choice::default),
            Self::What(wanted) => Some(wanted.into()),
        }
    }
}

#[derive(Debug, Deserialize)]
struct ExportRequest {
    bucket: String,
    key: String,
    format: String,
    #[serde(default)]
    options: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "wire::secret")]
    passphrase: Option<Secret>,
    #[serde(default)]
    overwrite: bool,
}

pub(super) async fn create(
    State(state): State<ApiState>,
    Caller(who): Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let from = wire::json::<Create>(body).await?.into_verb()?;
    let (image, job) = state.service.images().create_from_object(&who, from).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"image": wire::image(&image), "job": wire::job(&job)}))))
}

pub(super) async fn export(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let ExportRequest { bucket, key, format, options, passphrase, overwrite } = wire::json(body).await?;
    let export = Export { bucket, key, format, options, passphrase, overwrite };
    let job = state.service.images().export(&who, wire::parse(&id)?, export).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"job": wire::job(&job)}))))
}

pub(super) async fn inspect(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let report = state.service.images().inspect(&who, wire::parse(&id)?).await?;
    Ok(Json(report.to_json()))
}

pub(super) async fn check(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Failure> {
    let plan = state.service.images().check(&who, wire::parse(&id)?, choice(query.as_deref())?).await?;
    Ok(Json(plan.to_json()))
}

/// Reads lists of findings from a query: `only=a,b&skip=c`.
fn choice(query: Option<&str>) -> Result<Choice> {
    let mut choice = Choice::default();
    for (name, value) in wire::query(query) {
        let list = match name.as_str() {
            "only" => &mut choice.only,
            "skip" => &mut choice.skip,
            "with" => &mut choice.with,
            _ => return Err(Error::invalid(format!("`{name}` is none of only, skip, with"))),
        };
        list.extend(value.split(',').map(str::to_owned));
    }
    Ok(choice)
}

pub(super) async fn prepare(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let wanted: Wanted = wire::json_or_default(body).await?;
    let job = state.service.images().prepare(&who, wire::parse(&id)?, wanted.into()).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"job": wire::job(&job)}))))
}

pub(super) async fn report(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    Ok(Json(state.service.images().report(&who, wire::parse(&id)?).await?))
}

pub(super) async fn undo_prepare(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let image = state.service.images().undo_prepare(&who, wire::parse(&id)?).await?;
    Ok(Json(json!({"image": wire::image(&image)})))
}

impl Create {
    fn into_verb(self) -> Result<FromObject> {
        let image = NewImage {
            id: None,
            name: self.name,
            visibility: self.visibility.as_deref().map_or(Ok(Visibility::Private), wire::parse)?,
            protected: self.protected,
            hidden: false,
            disk_format: None,
            container_format: None,
            min_disk_gib: self.min_disk,
            min_ram_mib: self.min_ram,
            properties: self.properties,
            tags: self.tags,
        };
        let format = self.format.as_deref().map(wire::parse).transpose()?;
        let Place { bucket, key } = self.from;
        let (member, passphrase, prepare) = (self.member, self.passphrase, self.prepare.into_choice());
        Ok(FromObject { image, bucket, key, format, member, passphrase, prepare })
    }
}

#[cfg(test)]
mod tests {
    use model::DiskFormat;
    use service::ErrorKind;

    use super::*;

    fn parse(body: Value) -> Result<FromObject> {
        serde_json::from_value::<Create>(body).unwrap().into_verb()
    }

    #[test]
    fn a_body_with_defaults() {
        let from = parse(json!({"name": "web", "from": {"bucket": "b", "key": "k"}})).unwrap();
        assert_eq!((from.bucket.as_str(), from.key.as_str(), from.format), ("b", "k", None));
        assert_eq!(from.image.visibility, Visibility::Private);
        assert!(!from.image.protected && from.image.tags.is_empty());
        assert_eq!(from.prepare, Some(Choice::default()), "a system's disk is prepared unless it is told not to be");
    }

    #[test]
    fn a_body_with_everything() {
        let from = parse(json!({
            "name": "web", "from": {"bucket": "b", "key": "k"}, "format": "vmdk", "visibility": "shared",
            "protected": true, "min_disk": 3, "min_ram": 512, "properties": {"a": "b"}, "tags": ["t"],
            "member": "disk2.vmdk", "passphrase": "open sesame",
        }))
        .unwrap();
        assert_eq!(from.member.as_deref(), Some("disk2.vmdk"));
        assert_eq!(from.passphrase.as_ref().unwrap().expose(), b"open sesame");
        assert!(!format!("{from:?}").contains("sesame"));
        assert_eq!((from.format, from.image.visibility), (Some(DiskFormat::Vmdk), Visibility::Shared));
        assert_eq!((from.image.min_disk_gib, from.image.min_ram_mib), (3, 512));
        assert_eq!(from.image.properties["a"], "b");
    }

    #[test]
    fn what_is_prepared() {
        let choice =
            |prepare: Value| parse(json!({"from": {"bucket": "b", "key": "k"}, "prepare": prepare})).unwrap().prepare;
        assert_eq!(choice(json!(false)), None);
        assert_eq!(choice(json!(true)), Some(Choice::default()));
        let asked = choice(json!({"with": ["shell-history"], "skip": ["grub-device-name"]})).unwrap();
        assert_eq!((asked.with, asked.skip), (vec!["shell-history".into()], vec!["grub-device-name".into()]));
        let wrong = json!({"from": {"bucket": "b", "key": "k"}, "prepare": {"without": ["shell-history"]}});
        let told = serde_json::from_value::<Create>(wrong).unwrap_err().to_string();
        assert!(told.contains("`prepare` is true, false, or lists"), "{told}");
    }

    #[test]
    fn what_is_prepared_as_a_query() {
        let asked = choice(Some("only=a,b&skip=c&with=&only=d")).unwrap();
        assert_eq!((asked.only, asked.skip), (["a", "b", "d"].map(String::from).into(), vec!["c".into()]));
        assert!(asked.with.is_empty());
        assert_eq!(choice(None).unwrap(), Choice::default());
        assert_eq!(choice(Some("without=a")).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_passphrase_that_is_none_is_not_repeated() {
        let body = |passphrase: Value| json!({"from": {"bucket": "b", "key": "k"}, "passphrase": passphrase});
        assert!(parse(body(Value::Null)).unwrap().passphrase.is_none());
        for wrong in [json!(4711), json!(["4711"]), json!({"text": "4711"}), json!(47.11)] {
            let told = serde_json::from_value::<Create>(body(wrong)).unwrap_err().to_string();
            assert!(told.contains("a passphrase is a text") && !told.contains("47"), "{told}");
        }
    }

    #[test]
    fn unknown_words_are_refused() {
        let error = parse(json!({"name": "x", "from": {"bucket": "b", "key": "k"}, "format": "zip"})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("qcow2"), "{error}");
    }
}
