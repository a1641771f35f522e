//! Promises of jobs: who works on which, fencing, and what is kept.

use std::collections::BTreeMap;

use catalog::jobs::{self, JobFilter};
use catalog::{Catalog, ErrorKind};
use model::jobs::{Job, JobKind, JobState};
use model::{ImageId, JobId, ServerId};

use crate::fixture::{at, committed_project, project, wait};
use crate::records::job;

async fn inserted(catalog: &Catalog, count: usize) -> Vec<Job> {
    let project = committed_project(catalog).await.id;
    let mut all = Vec::new();
    for _ in 0..count {
        // Each in its own transaction, so that each is due at its own time.
        let mut tx = catalog.write().await.unwrap();
        let job = job(project);
        jobs::insert(&mut tx, &job).await.unwrap();
        tx.commit().await.unwrap();
        wait(2).await;
        all.push(job);
    }
    all
}

async fn claim(catalog: &Catalog, owner: &str, lease_seconds: u32) -> Option<Job> {
    let mut tx = catalog.write().await.unwrap();
    let job = jobs::claim(&mut tx, owner, lease_seconds).await.unwrap();
    tx.commit().await.unwrap();
    job
}

async fn get(catalog: &Catalog, id: JobId) -> Job {
    let mut tx = catalog.read().await.unwrap();
    jobs::get(&mut tx, id).await.unwrap().unwrap()
}

pub(crate) async fn come_back_whole(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let bare = Job { image: None, server: None, ..job(project) };
    let ended = Job {
        state: JobState::Failed,
        step: Some("convert".into()),
        percent: 100,
        attempt: i64::MAX,
        cancel_requested: true,
        error: Some("the file is cut off".into()),
        started_at: Some(at(101)),
        ended_at: Some(at(102)),
        ..job(project)
    };
    for job in [&bare, &ended] {
        jobs::insert(&mut tx, job).await.unwrap();
        assert_eq!(jobs::get(&mut tx, job.id).await.unwrap().as_ref(), Some(job));
    }
    assert_eq!(jobs::get(&mut tx, JobId::new()).await.unwrap(), None);
    assert_eq!(jobs::insert(&mut tx, &bare).await.unwrap_err().kind(), ErrorKind::Conflict);
}

pub(crate) async fn pages_go_from_newest_to_oldest(catalog: Catalog) {
    let mine = committed_project(&catalog).await;
    let mut tx = catalog.write().await.unwrap();
    let theirs = project(&mut tx, mine.domain, "theirs").await.id;
    let mut all: Vec<Job> = (0..20)
        .map(|n| Job {
            project: if n % 4 == 0 { theirs } else { mine.id },
            kind: JobKind::ALL[n % 3],
            state: JobState::ALL[n % 5],
            created_at: at(i64::try_from(n / 3).unwrap()),
            ..job(mine.id)
        })
        .collect();
    for job in &all {
        jobs::insert(&mut tx, job).await.unwrap();
    }
    all.sort_by_key(|job| std::cmp::Reverse((job.created_at, job.id.to_string())));
    let mut filter = JobFilter { limit: 3, ..JobFilter::default() };
    let mut visited = Vec::new();
    loop {
        let page = jobs::list(&mut tx, &filter).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.marker = Some(last.id);
        visited.extend(page);
    }
    assert_eq!(visited, all);

    let none = || JobFilter { limit: 100, ..JobFilter::default() };
    let check = async |tx: &mut catalog::Tx, filter: JobFilter, matches: &(dyn Fn(&Job) -> bool + Sync)| {
        let wanted: Vec<_> = all.iter().filter(|job| matches(job)).cloned().collect();
        assert_eq!(jobs::list(tx, &filter).await.unwrap(), wanted, "{filter:?}");
    };
    check(&mut tx, JobFilter { project: Some(theirs), ..none() }, &|job| job.project == theirs).await;
    let states = vec![JobState::Done, JobState::Queued];
    check(&mut tx, JobFilter { states: states.clone(), ..none() }, &|job| states.contains(&job.state)).await;
    let kinds = vec![JobKind::ExportImage];
    check(&mut tx, JobFilter { kinds: kinds.clone(), ..none() }, &|job| kinds.contains(&job.kind)).await;
    let one = all[7].clone();
    check(&mut tx, JobFilter { image: one.image, ..none() }, &|job| job.id == one.id).await;
    check(&mut tx, JobFilter { server: one.server, ..none() }, &|job| job.id == one.id).await;
    check(&mut tx, JobFilter { image: Some(ImageId::new()), ..none() }, &|_| false).await;
    check(&mut tx, JobFilter { server: Some(ServerId::new()), ..none() }, &|_| false).await;
    let lost = JobFilter { marker: Some(JobId::new()), ..none() };
    assert_eq!(jobs::list(&mut tx, &lost).await.unwrap_err().kind(), ErrorKind::Missing);
}

pub(crate) async fn a_claim_takes_the_oldest_that_is_due(catalog: Catalog) {
    let all = inserted(&catalog, 3).await;
    for job in &all {
        let claimed = claim(&catalog, "node", 60).await.unwrap();
        assert!(claimed.started_at.is_some());
        let wanted = Job { state: JobState::Running, attempt: 1, started_at: claimed.started_at, ..job.clone() };
        assert_eq!(claimed, wanted);
        assert_eq!(get(&catalog, job.id).await, claimed);
    }
    assert_eq!(claim(&catalog, "node", 60).await, None);
    // A claim that was never committed is none.
    let fresh = {
        let mut tx = catalog.write().await.unwrap();
        let fresh = job(all[0].project);
        jobs::insert(&mut tx, &fresh).await.unwrap();
        tx.commit().await.unwrap();
        fresh
    };
    let mut tx = catalog.write().await.unwrap();
    assert_eq!(jobs::claim(&mut tx, "node", 60).await.unwrap().unwrap().id, fresh.id);
    drop(tx);
    // The dropped transaction ends when its connection next runs; until then PostgreSQL skips the locked row.
    let claimed = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            if let Some(job) = claim(&catalog, "node", 60).await {
                break job;
            }
            tokio::task::yield_now().await;
        }
    });
    let claimed = claimed.await.unwrap();
    assert_eq!((claimed.id, claimed.attempt), (fresh.id, 1));
}

pub(crate) async fn two_claimers_never_get_the_same_job(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    for _ in 0..100 {
        jobs::insert(&mut tx, &job(project)).await.unwrap();
    }
    tx.commit().await.unwrap();
    let tasks = (0..16).map(|worker| {
        let catalog = catalog.clone();
        tokio::spawn(async move {
            let mut own = Vec::new();
            while let Some(job) = claim(&catalog, &format!("worker {worker}"), 600).await {
                own.push(job);
                let mut tx = catalog.write().await.unwrap();
                let job = own.last().unwrap();
                assert!(jobs::progress(&mut tx, job.id, job.attempt, "work", 50).await.unwrap());
                tx.commit().await.unwrap();
            }
            own
        })
    });
    let mut claims = BTreeMap::new();
    for task in tasks.collect::<Vec<_>>() {
        for job in task.await.unwrap() {
            assert_eq!(job.attempt, 1);
            *claims.entry(job.id).or_insert(0) += 1;
        }
    }
    assert_eq!(claims.len(), 100);
    assert!(claims.values().all(|count| *count == 1));
}

/// Asserts that every write for an attempt returns `wanted`, and that a refused one leaves no trace.
async fn assert_fenced(catalog: &Catalog, id: JobId, stale: i64) {
    let before = get(catalog, id).await;
    let mut tx = catalog.write().await.unwrap();
    assert!(!jobs::renew(&mut tx, id, stale, 60).await.unwrap());
    assert!(!jobs::progress(&mut tx, id, stale, "stale", 99).await.unwrap());
    assert!(!jobs::record_step(&mut tx, id, stale, "stale", "{}").await.unwrap());
    assert!(!jobs::requeue(&mut tx, id, stale, 0).await.unwrap());
    assert!(!jobs::finish(&mut tx, id, stale, JobState::Done, None).await.unwrap());
    assert!(jobs::steps(&mut tx, id).await.unwrap().iter().all(|(step, _)| step != "stale"));
    tx.commit().await.unwrap();
    assert_eq!(get(catalog, id).await, before);
}

pub(crate) async fn an_expired_lease_is_taken_over_and_fenced(catalog: Catalog) {
    let id = inserted(&catalog, 1).await[0].id;
    assert_fenced(&catalog, id, 0).await;
    let first = claim(&catalog, "first", 1).await.unwrap();
    assert_fenced(&catalog, id, 0).await;
    assert_fenced(&catalog, id, 2).await;
    assert_eq!(claim(&catalog, "second", 60).await, None, "the lease still runs");
    wait(1100).await;
    let second = claim(&catalog, "second", 60).await.unwrap();
    assert_eq!((second.id, second.attempt, second.started_at), (id, 2, first.started_at));
    assert_fenced(&catalog, id, 1).await;
    let mut tx = catalog.write().await.unwrap();
    assert!(jobs::renew(&mut tx, id, 2, 60).await.unwrap());
    assert!(jobs::record_step(&mut tx, id, 2, "fetch", "{}").await.unwrap());
    assert!(jobs::finish(&mut tx, id, 2, JobState::Done, None).await.unwrap());
    tx.commit().await.unwrap();
    // An ended job takes no writes, not even those of its last attempt.
    assert_fenced(&catalog, id, 2).await;
    assert_eq!(claim(&catalog, "third", 60).await, None);
}

pub(crate) async fn a_renewed_lease_is_not_taken(catalog: Catalog) {
    let id = inserted(&catalog, 1).await[0].id;
    assert_eq!(claim(&catalog, "first", 1).await.unwrap().id, id);
    let mut tx = catalog.write().await.unwrap();
    assert!(jobs::renew(&mut tx, id, 1, 60).await.unwrap());
    tx.commit().await.unwrap();
    wait(1100).await;
    assert_eq!(claim(&catalog, "second", 60).await, None);
}

pub(crate) async fn steps_are_kept_in_order(catalog: Catalog) {
    let id = inserted(&catalog, 1).await[0].id;
    claim(&catalog, "node", 60).await.unwrap();
    let mut tx = catalog.write().await.unwrap();
    for (step, output) in [("z", "1"), ("a", "2"), ("m", "3"), ("a", "{\"again\":\"'\"}")] {
        assert!(jobs::record_step(&mut tx, id, 1, step, output).await.unwrap());
    }
    let steps = jobs::steps(&mut tx, id).await.unwrap();
    let wanted = [("z", "1"), ("a", "{\"again\":\"'\"}"), ("m", "3")];
    assert_eq!(steps, wanted.map(|(step, output)| (step.to_owned(), output.to_owned())));
    assert_eq!(jobs::get(&mut tx, id).await.unwrap().unwrap().step.as_deref(), Some("a"));
    assert_eq!(jobs::steps(&mut tx, JobId::new()).await.unwrap(), []);
    tx.commit().await.unwrap();
}

pub(crate) async fn params_are_replaced(catalog: Catalog) {
    let all = inserted(&catalog, 2).await;
    let (one, other) = (all[0].id, all[1].id);
    let before = get(&catalog, other).await;
    let mut tx = catalog.write().await.unwrap();
    assert!(jobs::set_params(&mut tx, one, "{\"key\":\"'\"}").await.unwrap());
    assert!(!jobs::set_params(&mut tx, JobId::new(), "{}").await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(get(&catalog, one).await.params, "{\"key\":\"'\"}");
    assert_eq!(get(&catalog, other).await, before);
}

pub(crate) async fn requeue_waits(catalog: Catalog) {
    let id = inserted(&catalog, 1).await[0].id;
    let first = claim(&catalog, "node", 60).await.unwrap();
    let mut tx = catalog.write().await.unwrap();
    assert!(jobs::requeue(&mut tx, id, 1, 1).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(get(&catalog, id).await.state, JobState::Queued);
    assert_eq!(claim(&catalog, "node", 60).await, None, "not due yet");
    wait(1100).await;
    let again = claim(&catalog, "node", 60).await.unwrap();
    assert_eq!((again.attempt, again.started_at), (2, first.started_at));
}

pub(crate) async fn cancel(catalog: Catalog) {
    let all = inserted(&catalog, 2).await;
    let (running, queued) = (all[0].id, all[1].id);
    assert_eq!(claim(&catalog, "node", 60).await.unwrap().id, running);
    let mut tx = catalog.write().await.unwrap();
    for id in [running, queued] {
        assert!(jobs::request_cancel(&mut tx, id).await.unwrap());
    }
    assert!(!jobs::request_cancel(&mut tx, queued).await.unwrap(), "it has ended");
    assert!(!jobs::request_cancel(&mut tx, JobId::new()).await.unwrap());
    tx.commit().await.unwrap();
    let (running, queued) = (get(&catalog, running).await, get(&catalog, queued).await);
    assert_eq!((running.state, running.cancel_requested, running.ended_at), (JobState::Running, true, None));
    assert_eq!((queued.state, queued.cancel_requested), (JobState::Cancelled, true));
    assert!(queued.ended_at.is_some());
    // A job that is given back with the flag set comes at once, to be wound up.
    let mut tx = catalog.write().await.unwrap();
    assert!(jobs::requeue(&mut tx, running.id, 1, 3600).await.unwrap());
    tx.commit().await.unwrap();
    let again = claim(&catalog, "node", 60).await.unwrap();
    assert_eq!((again.id, again.cancel_requested), (running.id, true));
    let mut tx = catalog.write().await.unwrap();
    assert!(jobs::finish(&mut tx, again.id, 2, JobState::Cancelled, None).await.unwrap());
    tx.commit().await.unwrap();
}

pub(crate) async fn finish_ends_a_job(catalog: Catalog) {
    let all = inserted(&catalog, 2).await;
    for _ in &all {
        claim(&catalog, "node", 60).await.unwrap();
    }
    let mut tx = catalog.write().await.unwrap();
    assert!(jobs::progress(&mut tx, all[1].id, 1, "write", 40).await.unwrap());
    for state in [JobState::Queued, JobState::Running] {
        let error = jobs::finish(&mut tx, all[0].id, 1, state, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert!(jobs::finish(&mut tx, all[0].id, 1, JobState::Done, None).await.unwrap());
    assert!(jobs::finish(&mut tx, all[1].id, 1, JobState::Failed, Some("no space")).await.unwrap());
    tx.commit().await.unwrap();
    let (done, failed) = (get(&catalog, all[0].id).await, get(&catalog, all[1].id).await);
    assert_eq!((done.state, done.percent, done.error.as_deref()), (JobState::Done, 100, None));
    assert_eq!((failed.state, failed.percent, failed.error.as_deref()), (JobState::Failed, 40, Some("no space")));
    assert_eq!(failed.step.as_deref(), Some("write"));
    assert!(done.started_at.unwrap() <= done.ended_at.unwrap());
}

/// Many tasks write to one log at once.
pub(crate) async fn lines_are_numbered_without_gaps(catalog: Catalog) {
    let id = inserted(&catalog, 1).await[0].id;
    let tasks = (0..8).map(|task| {
        let catalog = catalog.clone();
        tokio::spawn(async move {
            for number in 0..5 {
                let mut tx = catalog.write().await.unwrap();
                jobs::log(&mut tx, id, "step", &format!("{task} {number}")).await.unwrap();
                tx.commit().await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let mut tx = catalog.write().await.unwrap();
    let all = jobs::lines(&mut tx, id, None, 1000).await.unwrap();
    assert_eq!(all.len(), 40);
    for task in 0..8 {
        let own: Vec<_> =
            all.iter().filter(|line| line.text.starts_with(&task.to_string())).map(|line| &*line.text).collect();
        assert_eq!(own, [0, 1, 2, 3, 4].map(|number| format!("{task} {number}")), "a task's lines keep their order");
    }
    assert_eq!(jobs::lines(&mut tx, id, None, 7).await.unwrap(), all[..7]);
    assert_eq!(jobs::lines(&mut tx, id, Some(6), 1000).await.unwrap(), all[7..]);
    assert_eq!(jobs::lines(&mut tx, id, Some(39), 1000).await.unwrap(), []);
    assert_eq!(jobs::lines(&mut tx, id, Some(u64::MAX), 1000).await.unwrap(), []);
    assert_eq!(jobs::log(&mut tx, JobId::new(), "step", "text").await.unwrap_err().kind(), ErrorKind::Missing);
}
