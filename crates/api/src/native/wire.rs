//! What the handlers share: JSON bodies, ids in paths, queries, and the records as this API shows them.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Body;
use model::images::Image;
use model::jobs::Job;
use model::servers::Server;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use service::{Error, Result, Secret};
use url::form_urlencoded;

use crate::body;

/// Reads a JSON body.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T> {
    let bytes = body::read(body, body::JSON_MAX).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::invalid(format!("the request body: {error}")))
}

/// Reads a JSON body that may be absent.
pub(super) async fn json_or_default<T: DeserializeOwned + Default>(body: Body) -> Result<T> {
    let bytes = body::read(body, body::JSON_MAX).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| Error::invalid(format!("the request body: {error}")))
}

/// Reads a passphrase; what is wrong with it is told without it.
pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Secret::new(text.into_bytes()))),
        _ => Err(D::Error::custom("a passphrase is a text")),
    }
}

/// Parses an id or another word.
pub(super) fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T> {
    text.parse().map_err(|error: T::Err| Error::invalid(error.to_string()))
}

/// Splits a query into names and values; those without a value ask for nothing.
pub(super) fn query(text: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(text.unwrap_or_default().as_bytes())
        .into_owned()
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// Renders an image.
pub(super) fn image(image: &Image) -> Value {
    json!({
        "id": image.id.to_string(),
        "name": image.name,
        "state": image.state.as_str(),
        "word": image.state.word(),
        "reason": image.reason,
        "visibility": image.visibility.as_str(),
        "protected": image.protected,
        "disk_format": image.disk_format.map(model::DiskFormat::as_str),
        "container_format": image.container_format.map(model::ContainerFormat::as_str),
        "size": image.size,
        "size_virtual": image.size_virtual,
        "min_disk": image.min_disk_gib,
        "min_ram": image.min_ram_mib,
        "properties": image.properties,
        "tags": image.tags,
        "job": image.job.map(|id| id.to_string()),
        "owner": image.project.to_string(),
        "created_at": image.created_at.to_string(),
        "updated_at": image.updated_at.to_string(),
    })
}

/// Renders a job.
pub(super) fn job(job: &Job) -> Value {
    json!({
        "id": job.id.to_string(),
        "kind": job.kind.as_str(),
        "state": job.state.as_str(),
        "step": job.step,
        "percent": job.percent,
        "attempt": job.attempt,
        "error": job.error,
        "image": job.image.map(|id| id.to_string()),
        "server": job.server.map(|id| id.to_string()),
        "created_at": job.created_at.to_string(),
        "started_at": job.started_at.map(|moment| moment.to_string()),
        "ended_at": job.ended_at.map(|moment| moment.to_string()),
    })
}

/// Renders a server.
pub(super) fn server(server: &Server) -> Value {
    let forwards: Vec<Value> =
        server.forwards.iter().map(|(host, guest)| json!({"host": host, "guest": guest})).collect();
    json!({
        "id": server.id.to_string(),
        "name": server.name,
        "state": server.state.as_str(),
        "reason": server.reason,
        "image": server.image.to_string(),
        "flavor": server.flavor,
        "forwards": forwards,
        "job": server.job.map(|id| id.to_string()),
        "created_at": server.created_at.to_string(),
        "updated_at": server.updated_at.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use model::servers::{RootDisk, ServerState};
    use model::{ContentId, DiskFormat, ImageId, JobId, ProjectId, ServerId, UserId};

    use super::*;

    #[test]
    fn a_server_is_shown_as_written() {
        let record = Server {
            id: ServerId::new(),
            project: ProjectId::new(),
            user: UserId::new(),
            name: "web".into(),
            state: ServerState::Active,
            reason: None,
            image: ImageId::new(),
            disk: RootDisk { content: ContentId::new(), format: DiskFormat::Raw, size: 1 << 30, uefi: false },
            flavor: "m1.tiny".into(),
            user_data: Some(b"secret".to_vec()),
            ssh_key: None,
            forwards: vec![(40001, 22)],
            job: Some(JobId::new()),
            created_at: "2026-11-22T10:00:00Z".parse().unwrap(),
            updated_at: "2026-11-22T10:00:01Z".parse().unwrap(),
        };
        let expect = json!({
            "id": record.id.to_string(), "name": "web", "state": "ACTIVE", "reason": null,
            "image": record.image.to_string(), "flavor": "m1.tiny", "forwards": [{"host": 40001, "guest": 22}],
            "job": record.job.unwrap().to_string(), "created_at": "2026-11-22T10:00:00Z",
            "updated_at": "2026-11-22T10:00:01Z",
        });
        assert_eq!(server(&record), expect);
    }

    #[test]
    fn queries_and_words() {
        assert_eq!(
            query(Some("state=running&marker=&limit=5")),
            [("state".into(), "running".into()), ("limit".into(), "5".into())]
        );
        assert_eq!(query(None), []);
        assert!(parse::<ImageId>("x").unwrap_err().to_string().contains("not an image id"));
    }

    #[tokio::test]
    async fn bodies() {
        #[derive(Debug, Default, PartialEq, serde::Deserialize)]
        struct Wanted {
            name: String,
        }
        let error = json::<Wanted>(Body::from("{}")).await.unwrap_err();
        assert!(error.to_string().contains("missing field `name`"), "{error}");
        assert_eq!(json_or_default::<Wanted>(Body::empty()).await.unwrap(), Wanted::default());
        let long = Body::from(" ".repeat(body::JSON_MAX + 1));
        assert_eq!(json::<Wanted>(long).await.unwrap_err().kind(), service::ErrorKind::TooLarge);
    }
}
