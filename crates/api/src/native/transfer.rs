//! Negotiated transfer: how chunks are named, which are missing, pieces of parts and images, ids of an image's chunks.

mod pieces;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use serde_json::{Value, json};
use service::{Error, IDS_MAX, Result, UploadAt};

use super::error::Failure;
use super::wire;
use crate::auth::Caller;
use crate::{ApiState, body};

const ID_LENGTH: usize = 32;

pub(super) async fn terms(State(state): State<ApiState>, Caller(who): Caller) -> Result<Json<Value>, Failure> {
    let terms = state.service.transfer().terms(&who).await?;
    Ok(Json(json!({"transfer": {
        "chunk_size": terms.chunk_size,
        "id_key": hex::encode(terms.id_key.expose()),
        "offer_max": IDS_MAX,
    }})))
}

/// Takes ids one after the other, and answers with their numbers that are missing.
pub(super) async fn offer(
    State(state): State<ApiState>,
    Caller(who): Caller,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let bytes = body::read(body, IDS_MAX * ID_LENGTH).await?;
    let (ids, rest) = bytes.as_chunks::<ID_LENGTH>();
    if !rest.is_empty() {
        return Err(
            Error::invalid(format!("an offer is ids of {ID_LENGTH} bytes each, not {} bytes", bytes.len())).into()
        );
    }
    let there = state.service.transfer().offer(&who, ids).await?;
    let missing: Vec<usize> =
        there.iter().enumerate().filter(|(_, there)| !**there).map(|(number, _)| number).collect();
    Ok(Json(json!({ "missing": missing })))
}

pub(super) async fn put_part(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(number): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let query = wire::query(query.as_deref());
    let (bucket, key) = (required(&query, "bucket")?, required(&query, "key")?);
    let at = UploadAt { bucket, key, upload: wire::parse(required(&query, "upload")?)? };
    let pieces = pieces::read(body::stream(body));
    let part = state.service.transfer().put_part(&who, at, wire::parse(&number)?, pieces).await?;
    Ok(Json(json!({"part": {"number": part.number, "size": part.size, "etag": part.etag}})))
}

pub(super) async fn put_image(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let pieces = pieces::read(body::stream(body));
    let image = state.service.transfer().put_image(&who, wire::parse(&id)?, pieces).await?;
    Ok(Json(json!({"image": wire::image(&image)})))
}

pub(super) async fn image_chunks(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Failure> {
    let query = wire::query(query.as_deref());
    let first = optional(&query, "first").map_or(Ok(0), wire::parse)?;
    let count = optional(&query, "count").map_or(Ok(IDS_MAX), wire::parse)?;
    let found = state.service.transfer().image_chunks(&who, wire::parse(&id)?, first, count).await?;
    let ids: Vec<Option<String>> =
        found.ids.iter().map(|id| (*id != [0; ID_LENGTH]).then(|| hex::encode(id))).collect();
    Ok(Json(json!({"chunk_size": found.chunk_size, "size": found.size, "first": first, "ids": ids})))
}

fn optional<'q>(query: &'q [(String, String)], name: &str) -> Option<&'q str> {
    query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn required<'q>(query: &'q [(String, String)], name: &str) -> Result<&'q str> {
    optional(query, name).ok_or_else(|| Error::invalid(format!("the query does not tell `{name}`")))
}
