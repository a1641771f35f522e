//! Exports: serve an image or an object over NBD for some time, list, close.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use model::exports::{Export, Exported};
use serde::Deserialize;
use serde_json::{Value, json};
use service::{Error, NewExport, Result};

use super::error::Failure;
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    image: Option<String>,
    bucket: Option<String>,
    key: Option<String>,
    format: Option<String>,
    seconds: Option<u32>,
}

impl Open {
    fn into_verb(self) -> Result<NewExport> {
        let of = match (self.image, self.bucket, self.key) {
            (Some(image), None, None) => Exported::Image(wire::parse(&image)?),
            (None, Some(bucket), Some(key)) => Exported::Object { bucket, key },
            _ => return Err(Error::invalid("an export is of an `image`, or of a `key` in a `bucket`")),
        };
        Ok(NewExport { of, format: self.format, seconds: self.seconds })
    }
}

pub(super) async fn open(
    State(state): State<ApiState>,
    Caller(who): Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let new = wire::json::<Open>(body).await?.into_verb()?;
    let opened = state.service.exports().open(&who, new).await?;
    let mut told = render(&opened.export);
    told["name"] = json!(opened.name);
    told["size"] = json!(opened.size);
    told["address"] = json!(state.endpoints.nbd);
    told["uri"] = json!(uri(&state.endpoints.nbd, &opened.name));
    Ok((StatusCode::CREATED, Json(json!({"export": told}))))
}

pub(super) async fn list(State(state): State<ApiState>, Caller(who): Caller) -> Result<Json<Value>, Failure> {
    let exports = state.service.exports().list(&who).await?;
    Ok(Json(json!({"exports": exports.iter().map(render).collect::<Vec<_>>()})))
}

pub(super) async fn close(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    state.service.exports().close(&who, wire::parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Renders an export, without its name: that is told once, to who opened it.
fn render(export: &Export) -> Value {
    let (image, bucket, key) = match &export.of {
        Exported::Image(image) => (Some(image.to_string()), None, None),
        Exported::Object { bucket, key } => (None, Some(bucket), Some(key)),
    };
    json!({
        "id": export.id.to_string(),
        "image": image,
        "bucket": bucket,
        "key": key,
        "format": export.format,
        "created_at": export.created_at.to_string(),
        "expires_at": export.expires_at.to_string(),
    })
}

/// Returns the URI of an export at an address, in which the names of exports stand before any `?`.
fn uri(address: &str, name: &str) -> String {
    match address.split_once('?') {
        Some((place, query)) => format!("{place}{name}?{query}"),
        None => format!("{address}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use model::ImageId;

    use super::*;

    #[test]
    fn uris() {
        assert_eq!(uri("nbds://192.0.2.1:10809/", "ab"), "nbds://192.0.2.1:10809/ab");
        assert_eq!(uri("nbd+unix:///?socket=/a/b.sock", "ab"), "nbd+unix:///ab?socket=/a/b.sock");
    }

    #[test]
    fn bodies() {
        let parse = |body: Value| serde_json::from_value::<Open>(body).unwrap().into_verb();
        let image = ImageId::new();
        let new = parse(json!({"image": image.to_string(), "seconds": 60})).unwrap();
        assert_eq!((new.of, new.format, new.seconds), (Exported::Image(image), None, Some(60)));
        let new = parse(json!({"bucket": "b", "key": "k", "format": "vmdk"})).unwrap();
        assert_eq!(new.of, Exported::Object { bucket: "b".into(), key: "k".into() });
        for wrong in [
            json!({}),
            json!({"bucket": "b"}),
            json!({"image": "web"}),
            json!({"image": image.to_string(), "key": "k"}),
        ] {
            assert!(parse(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
