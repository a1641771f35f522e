//! What IMS requests share: JSON bodies, file names of the form `bucket:object`, ids and moments.

use axum::body::Body;
use model::{ImageId, Timestamp};
use serde::de::DeserializeOwned;

use super::error::{Asked, Failure};
use crate::body;

/// Reads a JSON body; fields that are not known are ignored, as IMS does.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, Failure> {
    let bytes = body::read(body, body::JSON_MAX).await.map_err(|error| Failure::of(&error, Asked::Other))?;
    if bytes.is_empty() {
        return Err(Failure::new("IMG.0007", "the request body is empty"));
    }
    serde_json::from_slice(&bytes).map_err(|error| Failure::new("IMG.0001", format!("the request body: {error}")))
}

/// Parses an image's id out of a path.
pub(super) fn image_id(text: &str) -> Result<ImageId, Failure> {
    text.parse().map_err(|error: model::IdError| Failure::new("IMG.0066", error.to_string()))
}

/// Splits `bucket:object`.
pub(super) fn bucket_and_key(url: &str) -> Result<(String, String), Failure> {
    match url.split_once(':') {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() && !key.starts_with("//") => {
            Ok((bucket.to_owned(), key.to_owned()))
        }
        _ => Err(Failure::new("IMG.0017", "a file is named as `bucket:object`, without a scheme or a host")),
    }
}

/// Renders a moment with whole seconds, as image records have it.
pub(super) fn seconds(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Renders a moment with milliseconds, as jobs have it.
pub(super) fn milliseconds(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_a_bucket_and_a_key() {
        assert_eq!(bucket_and_key("images:dir/a:b.vmdk"), Ok(("images".into(), "dir/a:b.vmdk".into())));
        for bad in ["", "images", "images:", ":key", "https://host/key", "s3://images/key"] {
            assert_eq!(bucket_and_key(bad).unwrap_err().code(), "IMG.0017", "{bad}");
        }
    }

    #[test]
    fn moments() {
        let moment = "2024-11-06T06:19:43.1956Z".parse().unwrap();
        assert_eq!(seconds(moment), "2024-11-06T06:19:43Z");
        assert_eq!(milliseconds(moment), "2024-11-06T06:19:43.195Z");
    }

    #[tokio::test]
    async fn bodies() {
        let read = async |text: &'static str| {
            json::<serde_json::Value>(Body::from(text)).await.map_err(|failure| failure.code())
        };
        assert_eq!(read("{\"a\":1}").await, Ok(serde_json::json!({"a": 1})));
        assert_eq!(read("").await, Err("IMG.0007"));
        assert_eq!(read("{").await, Err("IMG.0001"));
    }
}
