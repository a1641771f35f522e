//! The record of a new job.

use model::identity::Principal;
use model::jobs::{Job, JobKind, JobState};
use model::{ImageId, JobId, ServerId};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::service::Service;

/// Makes the record of a job that waits for a worker.
pub(crate) fn new_job(
    service: &Service,
    who: &Principal,
    kind: JobKind,
    image: Option<ImageId>,
    server: Option<ServerId>,
    params: &impl Serialize,
) -> Result<Job> {
    let params =
        serde_json::to_string(params).map_err(|bad| Error::internal("cannot write a job's parameters", bad))?;
    Ok(Job {
        id: JobId::new(),
        project: who.project.id,
        user: who.user.id,
        kind,
        state: JobState::Queued,
        step: None,
        percent: 0,
        attempt: 0,
        cancel_requested: false,
        error: None,
        params,
        image,
        server,
        created_at: service.now(),
        started_at: None,
        ended_at: None,
    })
}
