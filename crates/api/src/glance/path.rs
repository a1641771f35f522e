//! The image and the tag that a path names; what cannot be read does not exist.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use model::ImageId;
use service::Error;

use super::error::Failure;

/// Extractor of `{id}`.
pub(super) struct ImagePath(pub(super) ImageId);

/// Extractor of `{id}` and one word behind it.
pub(super) struct ImageWordPath(pub(super) ImageId, pub(super) String);

/// Extractor of the only word that a path leaves open.
pub(super) struct WordPath(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for WordPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(word) = Path::from_request_parts(parts, state).await.map_err(unreadable)?;
        Ok(Self(word))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ImagePath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let WordPath(id) = WordPath::from_request_parts(parts, state).await?;
        Ok(Self(image_id(&id)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ImageWordPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path((id, word)) = Path::<(String, String)>::from_request_parts(parts, state).await.map_err(unreadable)?;
        Ok(Self(image_id(&id)?, word))
    }
}

/// Clients try a name as an id before they search by name.
fn image_id(text: &str) -> Result<ImageId, Error> {
    text.parse().map_err(|_| {
        Error::not_found("image", format_args!("with the id `{}`", text.chars().take(64).collect::<String>()))
    })
}

fn unreadable(rejection: PathRejection) -> Failure {
    Error::not_found("path", "can be other than UTF-8").caused_by(rejection).into()
}
