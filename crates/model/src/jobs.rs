//! Jobs: long work as a record made of steps.
//!
//! ```text
//!   Queued -> Running -> Done | Failed | Cancelled
//!     ^          |
//!     +----------+  lease ran out, or a step asked for a retry: attempt + 1
//! ```
//! `attempt` is the fencing token: whoever holds an older one can no longer write to the job.

use crate::formats::names;
use crate::{ImageId, JobId, ProjectId, ServerId, Timestamp, UserId};

names! {
    /// What a job does.
    JobKind {
        /// Keeps the bytes that a client sends; carried by the request itself, never begun a second time.
        UploadImage = "upload_image",
        /// Makes an image from a bucket object.
        CreateImage = "create_image",
        /// Repairs the guest in an image that is there.
        PrepareImage = "prepare_image",
        /// Writes an image into a bucket as a file of a given format.
        ExportImage = "export_image",
        /// Makes a server from an image and starts it.
        CreateServer = "create_server",
        /// Follows every content down to its chunks, or reads every byte.
        VerifyStore = "verify_store",
        /// Records what lies in the store and has no record.
        RebuildStore = "rebuild_store",
    }
}

names! {
    /// Where a job is in its life.
    JobState {
        /// Waits for a worker.
        Queued = "queued",
        /// A worker holds its lease.
        Running = "running",
        /// Ended well.
        Done = "done",
        /// Ended badly; `error` says why.
        Failed = "failed",
        /// Ended because somebody asked for it.
        Cancelled = "cancelled",
    }
}

impl JobState {
    /// Returns whether the job will not change any more.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// Long work, its progress and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The project it belongs to.
    pub project: ProjectId,
    /// Who asked for it.
    pub user: UserId,
    /// What it does.
    pub kind: JobKind,
    /// Where it is in its life.
    pub state: JobState,
    /// The step that runs, or ran last.
    pub step: Option<String>,
    /// 0 to 100 over all steps.
    pub percent: u8,
    /// How often it was begun; the fencing token.
    pub attempt: i64,
    /// Somebody asked to cancel it.
    pub cancel_requested: bool,
    /// Why it failed, as a sentence.
    pub error: Option<String>,
    /// Parameters, as JSON text that only the kind itself reads.
    pub params: String,
    /// The image it makes, changes or reads.
    pub image: Option<ImageId>,
    /// The server it makes.
    pub server: Option<ServerId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its first step began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// A line that a job wrote about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobLine {
    /// When it was written.
    pub at: Timestamp,
    /// The step that wrote it.
    pub step: String,
    /// A sentence for people.
    pub text: String,
}
