//! Jobs as IMS shows them, by the project's path or by the image service's own.

use axum::Json;
use axum::extract::{Path, State};
use model::identity::Principal;
use model::jobs::{Job, JobKind, JobState};
use model::{JobId, ProjectId};
use serde_json::{Value, json};

use super::error::{Asked, Failure};
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

pub(super) async fn show(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path((project, id)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    if project.parse::<ProjectId>().ok() != Some(who.project.id) {
        let message = "the project in the path is not the one that the request is authorized for";
        return Err(Failure::new("IMG.0030", message));
    }
    find(&state, &who, &id).await
}

pub(super) async fn progress(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    find(&state, &who, &id).await
}

async fn find(state: &ApiState, who: &Principal, id: &str) -> Result<Json<Value>, Failure> {
    let id: JobId = id.parse().map_err(|error: model::IdError| Failure::new("IMG.0023", error.to_string()))?;
    let job = state.service.jobs().get(who, id).await.map_err(|error| Failure::of(&error, Asked::Other))?;
    // The name is told beside the id; the image may be gone by now.
    let name = match job.image {
        Some(image) => state.service.images().get(who, image).await.ok().and_then(|image| image.name),
        None => None,
    };
    Ok(Json(render(&job, name.as_deref())))
}

fn render(job: &Job, image_name: Option<&str>) -> Value {
    let failed = matches!(job.state, JobState::Failed | JobState::Cancelled);
    // A job keeps a sentence and no code; this one stands for all that the sentence may say.
    let error_code = failed.then_some("IMG.0061");
    let reason = failed.then(|| job.error.clone().unwrap_or_else(|| format!("the job was {}", job.state)));
    let mut entities = json!({
        "process_percent": f64::from(job.percent) / 100.0,
        "current_task": job.step.as_deref().filter(|_| !job.state.is_ended()).unwrap_or_default(),
    });
    for (name, value) in [
        ("image_id", job.image.map(|id| id.to_string())),
        ("image_name", image_name.map(str::to_owned)),
        ("server_id", job.server.map(|id| id.to_string())),
        ("error_code", error_code.map(str::to_owned)),
        ("error", reason.clone()),
    ] {
        if let Some(value) = value {
            entities[name] = json!(value);
        }
    }
    json!({
        "job_id": job.id.to_string(),
        "job_type": job_type(job.kind),
        "status": status(job.state),
        "begin_time": wire::milliseconds(job.created_at),
        "end_time": job.ended_at.map(wire::milliseconds),
        "error_code": error_code,
        "fail_reason": reason,
        "entities": entities,
    })
}

fn status(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "INIT",
        JobState::Running => "RUNNING",
        JobState::Done => "SUCCESS",
        JobState::Failed | JobState::Cancelled => "FAIL",
    }
}

fn job_type(kind: JobKind) -> &'static str {
    match kind {
        JobKind::CreateImage => "imsImportImageJob",
        JobKind::ExportImage => "imsNativeExportImageJob",
        JobKind::UploadImage => "imsNativeImportImageJob",
        JobKind::CreateServer => "createServer",
        // Nothing that Huawei has; only who asked for them sees them.
        JobKind::PrepareImage => "prepareImage",
        JobKind::VerifyStore => "verifyStore",
        JobKind::RebuildStore => "rebuildStore",
    }
}

#[cfg(test)]
mod tests {
    use model::{ImageId, UserId};

    use super::*;

    fn job(state: JobState) -> Job {
        Job {
            id: JobId::new(),
            project: ProjectId::new(),
            user: UserId::new(),
            kind: JobKind::CreateImage,
            state,
            step: Some("copy".into()),
            percent: 40,
            attempt: 1,
            cancel_requested: false,
            error: None,
            params: String::new(),
            image: Some(ImageId::new()),
            server: None,
            created_at: "2024-11-06T06:19:43.195Z".parse().unwrap(),
            started_at: None,
            ended_at: None,
        }
    }

    #[test]
    fn a_running_job() {
        let job = job(JobState::Running);
        let shown = render(&job, Some("web"));
        assert_eq!(shown["status"], "RUNNING");
        assert_eq!(shown["job_type"], "imsImportImageJob");
        assert_eq!(shown["begin_time"], "2024-11-06T06:19:43.195Z");
        assert_eq!(shown["end_time"], Value::Null);
        assert_eq!(shown["fail_reason"], Value::Null);
        let entities = json!({"process_percent": 0.4, "current_task": "copy", "image_id": job.image.unwrap().to_string(), "image_name": "web"});
        assert_eq!(shown["entities"], entities);
    }

    #[test]
    fn a_failed_job_says_why() {
        let job = Job { error: Some("the VMDK ends early".into()), ..job(JobState::Failed) };
        let shown = render(&job, None);
        assert_eq!((&shown["status"], &shown["error_code"]), (&json!("FAIL"), &json!("IMG.0061")));
        assert_eq!(shown["fail_reason"], "the VMDK ends early");
        assert_eq!(shown["entities"]["current_task"], "");
        assert_eq!(render(&self::job(JobState::Cancelled), None)["fail_reason"], "the job was cancelled");
        assert_eq!(render(&self::job(JobState::Queued), None)["status"], "INIT");
    }
}
