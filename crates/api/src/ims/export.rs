//! `POST /v1/cloudimages/{id}/file`: an image into a bucket, as a file of a given format.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use model::DiskFormat;
use model::images::ImageState;
use serde::Deserialize;
use serde_json::{Value, json};
use service::{ErrorKind, Export};

use super::error::{Asked, Failure};
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

#[derive(Debug, Deserialize)]
struct Request {
    bucket_url: Option<String>,
    file_format: Option<String>,
    is_quick_export: Option<bool>,
}

pub(super) async fn export(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let id = wire::image_id(&id)?;
    let export = wire::json::<Request>(body).await?.into_verb()?;
    let images = state.service.images();
    match images.export(&who, id, export).await {
        Ok(job) => Ok(Json(json!({"job_id": job.id.to_string()}))),
        // IMS tells an image that is not whole yet from a file that is there already.
        Err(error) if error.kind() == ErrorKind::Conflict => match images.get(&who, id).await {
            Ok(image) if image.state == ImageState::Active => Err(Failure::of(&error, Asked::Export)),
            _ => Err(Failure::of(&error, Asked::Other)),
        },
        Err(error) => Err(Failure::of(&error, Asked::Export)),
    }
}

impl Request {
    fn into_verb(self) -> Result<Export, Failure> {
        if self.is_quick_export == Some(true) {
            let message = "quick export writes a format whose layout is not public; name a file_format instead";
            return Err(Failure::new("IMG.0105", message));
        }
        let (bucket, key) = wire::bucket_and_key(self.bucket_url.as_deref().unwrap_or_default())?;
        let format = self.file_format.unwrap_or_default();
        let format: DiskFormat =
            format.parse().map_err(|error| Failure::new("IMG.0072", format!("file_format: {error}")))?;
        Ok(Export { bucket, key, format: format.to_string(), ..Export::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<Export, &'static str> {
        serde_json::from_value::<Request>(body).unwrap().into_verb().map_err(|failure| failure.code())
    }

    #[test]
    fn a_target_and_a_format() {
        let export = parse(json!({"bucket_url": "out:dir/web.qcow2", "file_format": "qcow2"})).unwrap();
        assert_eq!((export.bucket.as_str(), export.key.as_str()), ("out", "dir/web.qcow2"));
        assert_eq!((export.format.as_str(), export.overwrite), ("qcow2", false));
    }

    #[test]
    fn what_is_wrong_has_its_code() {
        for (body, code) in [
            (json!({"file_format": "qcow2"}), "IMG.0017"),
            (json!({"bucket_url": "out:x"}), "IMG.0072"),
            (json!({"bucket_url": "out:x", "file_format": "zip"}), "IMG.0072"),
            (json!({"bucket_url": "out:x", "is_quick_export": true}), "IMG.0105"),
        ] {
            assert_eq!(parse(body.clone()).unwrap_err(), code, "{body}");
        }
    }
}
