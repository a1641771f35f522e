//! The chunk store, for operators: collection of garbage and its alarm.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use service::{Collected, Sum};

use super::error::Failure;
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

/// What a collection is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Collect {
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn show(State(state): State<ApiState>, Caller(who): Caller) -> Result<Json<Value>, Failure> {
    let collection = state.service.store().collection(&who).await?;
    let begun_at = collection.begun_at.map(|at| at.to_string());
    Ok(Json(json!({"store": {"alarm": collection.alarm, "collection_begun_at": begun_at}})))
}

pub(super) async fn collect(
    State(state): State<ApiState>,
    Caller(who): Caller,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let Collect { dry_run } = wire::json(body).await?;
    let collected = state.service.store().collect(&who, dry_run).await?;
    Ok(Json(json!({"collection": report(&collected, dry_run)})))
}

pub(super) async fn clear_alarm(State(state): State<ApiState>, Caller(who): Caller) -> Result<Json<Value>, Failure> {
    state.service.store().clear_alarm(&who).await?;
    show(State(state), Caller(who)).await
}

fn report(collected: &Collected, dry_run: bool) -> Value {
    let packs: Vec<Value> = collected
        .packs
        .iter()
        .map(|(fate, sum)| json!({"fate": fate.as_str(), "meaning": fate.to_string(), "packs": sum.count, "bytes": sum.bytes}))
        .collect();
    let listed: Vec<Value> = collected
        .listed
        .iter()
        .map(|pack| {
            json!({
                "pack": pack.pack.to_string(),
                "bytes": pack.size,
                "live_bytes": pack.live,
                "fate": pack.fate.as_str(),
            })
        })
        .collect();
    json!({
        "dry_run": dry_run,
        "contents": collected.contents,
        "live": sum(collected.live, "blobs"),
        "packs": packs,
        "listed": listed,
        "sessions_ended": collected.sessions_ended,
        "stray_packs": collected.stray_packs,
        "stray_heads": collected.stray_heads,
        "heads_removed": collected.heads_removed,
        "removed": sum(collected.removed, "packs"),
        "compacted": sum(collected.compacted, "packs"),
    })
}

fn sum(sum: Sum, noun: &str) -> Value {
    json!({noun: sum.count, "bytes": sum.bytes})
}
