//! Jobs: list, show, cancel, and what they wrote about themselves.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use serde_json::{Value, json};
use service::{JobQuery, Result};

use super::error::Failure;
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

/// Jobs of one page where the client does not say.
const PAGE: u32 = 100;

pub(super) async fn list(
    State(state): State<ApiState>,
    Caller(who): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Failure> {
    let jobs = state.service.jobs().list(&who, parse(query.as_deref())?).await?;
    Ok(Json(json!({"jobs": jobs.iter().map(wire::job).collect::<Vec<_>>()})))
}

fn parse(query: Option<&str>) -> Result<JobQuery> {
    let mut parsed = JobQuery { limit: PAGE, ..JobQuery::default() };
    for (name, value) in wire::query(query) {
        match name.as_str() {
            "state" => parsed.states = value.split(',').map(wire::parse).collect::<Result<_>>()?,
            "marker" => parsed.marker = Some(wire::parse(&value)?),
            "limit" => parsed.limit = wire::parse(&value)?,
            "all_projects" => parsed.all_projects = wire::parse(&value)?,
            _ => {}
        }
    }
    Ok(parsed)
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let job = state.service.jobs().get(&who, wire::parse(&id)?).await?;
    Ok(Json(json!({"job": wire::job(&job)})))
}

pub(super) async fn cancel(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let job = state.service.jobs().cancel(&who, wire::parse(&id)?).await?;
    Ok(Json(json!({"job": wire::job(&job)})))
}

pub(super) async fn log(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Failure> {
    let after: u64 = match wire::query(query.as_deref()).iter().find(|(name, _)| name == "after") {
        Some((_, after)) => wire::parse(after)?,
        None => 0,
    };
    let lines = state.service.jobs().lines(&who, wire::parse(&id)?, after).await?;
    let next = after.saturating_add(lines.len() as u64);
    let lines: Vec<Value> =
        lines.iter().map(|line| json!({"at": line.at.to_string(), "step": line.step, "text": line.text})).collect();
    Ok(Json(json!({"lines": lines, "next": next})))
}

#[cfg(test)]
mod tests {
    use model::JobId;
    use model::jobs::JobState;

    use super::*;

    #[test]
    fn queries() {
        let id = JobId::new();
        let parsed = parse(Some(&format!("state=running,queued&marker={id}&limit=7&all_projects=true"))).unwrap();
        assert_eq!(parsed.states, [JobState::Running, JobState::Queued]);
        assert_eq!((parsed.marker, parsed.limit, parsed.all_projects), (Some(id), 7, true));
        assert_eq!(parse(None).unwrap().limit, PAGE);
        assert!(parse(Some("state=asleep")).is_err());
        assert!(parse(Some("limit=many")).is_err());
    }
}
