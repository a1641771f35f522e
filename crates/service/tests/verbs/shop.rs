//! A member with a bucket, who lets jobs be carried out one after the other and looks at what they wrote.

use model::JobId;
use model::identity::Principal;
use model::images::{Image, ImageState};
use model::jobs::{Job, JobState};
use service::{Export, FromObject, Runner};

use crate::fixture::{Fixture, from_object};

/// The bucket.
pub(crate) const BUCKET: &str = "disks";

pub(crate) struct Shop {
    pub(crate) f: Fixture,
    pub(crate) who: Principal,
}

impl Shop {
    /// A member with a bucket; no runner yet.
    pub(crate) async fn new() -> Self {
        let f = Fixture::new().await;
        let who = f.member().await;
        f.service.buckets().create(&who, BUCKET).await.unwrap();
        Self { f, who }
    }

    /// Carries out every job that waits, and returns the one asked for.
    pub(crate) async fn carry_out(&self, job: JobId) -> Job {
        let runner: Runner = self.f.run().await;
        let job = self.f.ended(&self.who, job).await;
        runner.stop(&self.f.service).await.unwrap();
        job
    }

    /// Returns what a job wrote about itself.
    pub(crate) async fn lines(&self, job: JobId) -> String {
        let lines = self.f.service.jobs().lines(&self.who, job, 0).await.unwrap();
        lines.into_iter().map(|line| format!("{}: {}\n", line.step, line.text)).collect()
    }

    /// Puts an object and makes an image of it; returns the image and its job when that has ended.
    pub(crate) async fn import(&self, key: &str, bytes: &[u8], from: impl FnOnce(&mut FromObject)) -> (Image, Job) {
        self.f.put(&self.who, BUCKET, key, bytes).await;
        let mut asked = from_object(BUCKET, key, None);
        from(&mut asked);
        let (image, job) = self.f.service.images().create_from_object(&self.who, asked).await.unwrap();
        let job = self.carry_out(job.id).await;
        (self.f.service.images().get(&self.who, image.id).await.unwrap(), job)
    }

    /// Checks that an import failed with a sentence that says `said`, and removes it and its object: nothing is left.
    #[track_caller]
    pub(crate) fn assert_failed(image: &Image, job: &Job, said: &str) {
        let why = job.error.clone().unwrap_or_default();
        assert_eq!((job.state, job.attempt), (JobState::Failed, 1), "{why}");
        assert!(why.contains(said), "{why}");
        assert_eq!((image.state, image.reason.as_ref(), image.content), (ImageState::Error, Some(&why), None));
    }

    /// Removes an image and the object it came from, and checks that no other content is there.
    pub(crate) async fn remove(&self, image: &Image, key: &str) {
        self.f.service.images().delete(&self.who, image.id).await.unwrap();
        self.f.service.objects().delete(&self.who, BUCKET, key).await.unwrap();
        assert_eq!(self.f.contents().await, 0, "{key}");
    }

    /// Returns the parameters of a job as they are kept.
    pub(crate) async fn params(&self, job: JobId) -> String {
        let mut tx = self.f.catalog.read().await.unwrap();
        catalog::jobs::get(&mut tx, job).await.unwrap().unwrap().params
    }
}

/// Returns what an export asks for; options are `name=value`.
pub(crate) fn export(key: &str, format: &str, options: &[&str]) -> Export {
    let pair = |option: &&str| {
        let (name, value) = option.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    let options = options.iter().map(pair).collect();
    Export { bucket: BUCKET.into(), key: key.into(), format: format.into(), options, ..Export::default() }
}
