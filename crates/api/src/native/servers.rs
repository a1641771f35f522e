//! Servers: make, list, start, stop, their console, and the flavors there are.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::servers::FLAVORS;
use serde::Deserialize;
use serde_json::{Value, json};
use service::{Error, NewServer, Result};

use super::error::Failure;
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

/// Bytes of the console that are shown where the client does not say, and the most it may ask for.
const CONSOLE: usize = 64 * 1024;
const CONSOLE_MAX: usize = 1024 * 1024;

#[derive(Debug, Deserialize)]
struct Create {
    name: String,
    image: String,
    flavor: String,
    user_data: Option<String>,
    ssh_key: Option<String>,
    #[serde(default)]
    guest_ports: Vec<u16>,
}

#[derive(Debug, Default, Deserialize)]
struct Stop {
    #[serde(default)]
    hard: bool,
}

impl Create {
    fn into_verb(self) -> Result<NewServer> {
        let decode = |text: String| {
            STANDARD.decode(text).map_err(|error| Error::invalid(format!("user_data is not base64: {error}")))
        };
        Ok(NewServer {
            name: self.name,
            image: wire::parse(&self.image)?,
            flavor: self.flavor,
            user_data: self.user_data.map(decode).transpose()?,
            ssh_key: self.ssh_key,
            guest_ports: self.guest_ports,
        })
    }
}

pub(super) async fn create(
    State(state): State<ApiState>,
    Caller(who): Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let new = wire::json::<Create>(body).await?.into_verb()?;
    let (server, job) = state.service.servers().create(&who, new).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"server": wire::server(&server), "job": wire::job(&job)}))))
}

pub(super) async fn list(State(state): State<ApiState>, Caller(who): Caller) -> Result<Json<Value>, Failure> {
    let servers = state.service.servers().list(&who).await?;
    Ok(Json(json!({"servers": servers.iter().map(wire::server).collect::<Vec<_>>()})))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let server = state.service.servers().get(&who, wire::parse(&id)?).await?;
    Ok(Json(json!({"server": wire::server(&server)})))
}

pub(super) async fn delete(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    state.service.servers().delete(&who, wire::parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn start(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let server = state.service.servers().start(&who, wire::parse(&id)?).await?;
    Ok(Json(json!({"server": wire::server(&server)})))
}

pub(super) async fn stop(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let Stop { hard } = wire::json_or_default(body).await?;
    let server = state.service.servers().stop(&who, wire::parse(&id)?, hard).await?;
    Ok(Json(json!({"server": wire::server(&server)})))
}

pub(super) async fn console(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let bytes: usize = match wire::query(query.as_deref()).iter().find(|(name, _)| name == "bytes") {
        Some((_, bytes)) => wire::parse(bytes)?,
        None => CONSOLE,
    };
    let text = state.service.servers().console(&who, wire::parse(&id)?, bytes.min(CONSOLE_MAX)).await?;
    // A guest writes what it likes: a browser must not take it for a page.
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, text).into_response())
}

pub(super) async fn flavors() -> Json<Value> {
    let show = |flavor: &model::servers::Flavor| {
        json!({
            "name": flavor.name,
            "vcpus": flavor.vcpus,
            "ram_mib": flavor.ram_mib,
            "disk_gib": flavor.disk_gib,
        })
    };
    Json(json!({"flavors": FLAVORS.iter().map(show).collect::<Vec<_>>()}))
}

#[cfg(test)]
mod tests {
    use model::ImageId;

    use super::*;

    fn parse(changes: &Value) -> Result<NewServer> {
        let mut body = json!({"name": "web", "image": ImageId::new().to_string(), "flavor": "m1.tiny"});
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        serde_json::from_value::<Create>(body).unwrap().into_verb()
    }

    #[test]
    fn bodies() {
        let new = parse(&json!({"user_data": "aGVsbG8=", "guest_ports": [22]})).unwrap();
        assert_eq!((new.user_data.as_deref(), new.guest_ports.as_slice()), (Some(&b"hello"[..]), &[22][..]));
        assert_eq!(parse(&json!({"user_data": null})).unwrap().user_data, None);
        assert!(parse(&json!({"user_data": "%"})).unwrap_err().to_string().contains("base64"));
        assert!(parse(&json!({"image": "debian"})).unwrap_err().to_string().contains("debian"));
    }
}
