//! The chunk store, for operators: how it stands, what it holds, collection of garbage, verification, rebuilding.

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use model::identity::Project;
use serde::Deserialize;
use serde_json::{Value, json};
use service::{CacheStats, Collected, ContentStats, OpenedStats, RemoteStats, Sizes, Sum};

use super::error::Failure;
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

/// Contents that are listed where the client does not say.
const LISTED: usize = 20;

/// What a verification is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verify {
    #[serde(default)]
    deep: bool,
}

/// What a collection is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Collect {
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn show(State(state): State<ApiState>, Caller(who): Caller) -> Result<Json<Value>, Failure> {
    let stands = state.service.store().state(&who).await?;
    let damaged: Vec<Value> = stands
        .damaged
        .iter()
        .map(|pack| json!({"pack": pack.pack.to_string(), "damage": pack.damage, "found_at": pack.checked_at.to_string()}))
        .collect();
    Ok(Json(json!({"store": {
        "alarm": stands.alarm,
        "collection_begun_at": stands.collection_begun_at.map(|at| at.to_string()),
        "packs": stands.checked.packs,
        "pack_bytes": stands.checked.bytes,
        "oldest_check_at": stands.checked.oldest.map(|at| at.to_string()),
        "damaged_packs": stands.checked.damaged,
        "damaged": damaged,
        "remote": stands.backend.remote.as_ref().map(remote),
        "cache": stands.backend.cache.as_ref().map(cache),
        "small_reads": stands.small_reads.as_ref().map(small_reads),
    }})))
}

pub(super) async fn verify(
    State(state): State<ApiState>,
    Caller(who): Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let Verify { deep } = wire::json(body).await?;
    let job = state.service.store().verify(&who, deep).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"job": wire::job(&job)}))))
}

pub(super) async fn rebuild(
    State(state): State<ApiState>,
    Caller(who): Caller,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let job = state.service.store().rebuild(&who).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"job": wire::job(&job)}))))
}

pub(super) async fn stats(
    State(state): State<ApiState>,
    Caller(who): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Failure> {
    let listed = match wire::query(query.as_deref()).iter().find(|(name, _)| name == "contents") {
        Some((_, listed)) => wire::parse(listed)?,
        None => LISTED,
    };
    let stats = state.service.store().stats(&who, listed).await?;
    let mut answer = sizes(&stats.sum);
    answer["packs"] = stats.packs.into();
    answer["pack_bytes"] = stats.pack_bytes.into();
    answer["projects"] = stats.projects.iter().map(|found| named(sizes(&found.sizes), &found.project)).collect();
    answer["contents"] = stats.contents.iter().map(content_stats).collect();
    Ok(Json(json!({"stats": answer})))
}

/// Renders what this node asked of the service in which the store lies.
fn remote(stats: &RemoteStats) -> Value {
    json!({
        "requests": stats.requests,
        "retries": stats.retries,
        "hedges": stats.hedges,
        "hedges_won": stats.hedges_won,
        "failures": stats.failures,
        "bytes_read": stats.bytes_read,
        "bytes_written": stats.bytes_written,
    })
}

/// Renders what this node's cache did.
fn cache(stats: &CacheStats) -> Value {
    json!({
        "blocks": stats.blocks,
        "bytes": stats.bytes,
        "hits": stats.hits,
        "misses": stats.misses,
        "shared": stats.shared,
        "hit_bytes": stats.hit_bytes,
        "miss_bytes": stats.miss_bytes,
        "ahead": stats.ahead,
        "evictions": stats.evictions,
        "damaged": stats.damaged,
        "unwritten": stats.unwritten,
    })
}

/// Renders how this node answered small reads.
fn small_reads(stats: &OpenedStats) -> Value {
    json!({"hits": stats.hits, "misses": stats.misses, "bytes": stats.bytes})
}

/// Renders what a content costs, and who holds it.
fn content_stats(found: &ContentStats) -> Value {
    let holders: Vec<Value> =
        found.holders.iter().map(|holder| json!({"kind": holder.kind, "id": holder.id, "name": holder.name})).collect();
    json!({
        "content": found.content.to_string(),
        "project": {"id": found.project.id.to_string(), "name": found.project.name},
        "holders": holders,
        "length": found.sizes.length,
        "data": found.sizes.data,
        "unique": found.sizes.held.plain,
        "stored": found.sizes.held.stored,
        "freed_if_deleted": found.freed.stored,
    })
}

fn named(mut value: Value, project: &Project) -> Value {
    value["project"] = json!({"id": project.id.to_string(), "name": project.name});
    value
}

fn sizes(sizes: &Sizes) -> Value {
    json!({
        "count": sizes.contents,
        "length": sizes.length,
        "data": sizes.data,
        "unique": sizes.held.plain,
        "stored": sizes.held.stored,
        "dedup_ratio": sizes.dedup_ratio(),
        "compression_ratio": sizes.compression_ratio(),
    })
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
