//! `/v2/images/{id}/tags/{tag}`: one tag at a time.

use axum::extract::State;
use axum::http::StatusCode;
use service::{Error, ImageChange};

use super::error::Failure;
use super::path::ImageWordPath;
use crate::ApiState;
use crate::auth::Caller;

pub(super) async fn add(
    State(state): State<ApiState>,
    Caller(who): Caller,
    ImageWordPath(id, tag): ImageWordPath,
) -> Result<StatusCode, Failure> {
    let images = state.service.images();
    let mut tags = images.get(&who, id).await?.tags;
    tags.insert(tag);
    images.update(&who, id, ImageChange { tags: Some(tags), ..ImageChange::default() }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove(
    State(state): State<ApiState>,
    Caller(who): Caller,
    ImageWordPath(id, tag): ImageWordPath,
) -> Result<StatusCode, Failure> {
    let images = state.service.images();
    let mut tags = images.get(&who, id).await?.tags;
    if !tags.remove(&tag) {
        let tag: String = tag.chars().take(64).collect();
        return Err(Error::not_found("tag", format_args!("`{tag}` on image {id}")).into());
    }
    images.update(&who, id, ImageChange { tags: Some(tags), ..ImageChange::default() }).await?;
    Ok(StatusCode::NO_CONTENT)
}
