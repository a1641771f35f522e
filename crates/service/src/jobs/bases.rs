//! Base files: an image's disk as a local sparse raw file, made once and shared by all servers of the image.
//!
//! ```text
//!   bases/<content>.raw                    whole and durable; QEMU's overlays lie on it
//!   bases/<content>.<job>-<attempt>.part   being written; what a crash leaves is swept at the next start
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::contents;
use disk::CopyOptions;
use disk::source::{Extent, Source};
use model::{ContentId, DiskFormat};

use crate::content::{self, ContentSource};
use crate::error::{Error, ErrorKind, Result};
use crate::formats;
use crate::jobs::lease::Shared;
use crate::jobs::run::Run;
use crate::jobs::stop::Stop;
use crate::service::Service;

/// Threads that read an image while its base file is written.
const THREADS: usize = 2;
/// The job's percent when the base file is whole.
const PERCENT: u64 = 90;

/// Returns where the base file of a content lies.
pub(crate) fn path(service: &Service, content: ContentId) -> PathBuf {
    service.parts.settings.bases.join(format!("{content}.raw"))
}

/// Makes the folder, and removes what a crash left in it.
pub(crate) fn sweep(service: &Service) -> Result<()> {
    let folder = &service.parts.settings.bases;
    let failed = |failed| disk_failed("prepare the folder", folder, failed);
    fs::create_dir_all(folder).map_err(failed)?;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "part") {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// Makes the base file of a content unless it is there; returns whether it was made.
pub(crate) async fn make(run: &Run<'_>, content: ContentId, format: DiskFormat) -> Result<bool, Stop> {
    let service = run.service;
    let path = path(service, content);
    if path.exists() {
        return Ok(false);
    }
    let file: Arc<dyn Source> = Arc::new(ContentSource::new(content::open(service, content).await?));
    // An attempt that lost its lease may still be writing: each has a file of its own.
    let part = path.with_extension(format!("{}-{}.part", run.job.id, run.held.lease.attempt));
    let shared = run.held.shared();
    let written = service.permits.run(move || {
        let written = write(file, format, &part, &path, shared);
        if written.is_err() {
            // The failure that is told is the one of the writing.
            let _ = fs::remove_file(&part);
        }
        written
    });
    let written = written.await?;
    // Whoever released the content meanwhile found no file yet, so this one removes it.
    let mut tx = service.parts.catalog.read().await?;
    if contents::get(&mut tx, content).await?.is_none() {
        remove(service, content);
        return Err(Stop::Cancelled);
    }
    drop(tx);
    run.held.check()?;
    written?;
    Ok(true)
}

/// Removes the base file of a content that no server needs any more.
pub(crate) fn remove(service: &Service, content: ContentId) {
    let path = path(service, content);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "could not remove a base file");
        }
        _ => {}
    }
}

fn write(file: Arc<dyn Source>, format: DiskFormat, part: &Path, path: &Path, shared: Arc<Shared>) -> Result<()> {
    let disk = formats::open(file, format)?;
    let failed = |failed| disk_failed("write", part, failed);
    let target = File::create(part).map_err(failed)?;
    let told = Arc::clone(&shared);
    let progress = move |done: u64, total: u64| {
        // At most 90, so it fits.
        told.tell("base", (u128::from(done) * u128::from(PERCENT) / u128::from(total.max(1))) as u8);
    };
    let options = CopyOptions { threads: THREADS, sync: true, progress: Some(&progress), ..CopyOptions::default() };
    disk::copy_to_file(&Stoppable { disk, shared }, &target, &options)?;
    target.sync_all().map_err(failed)?;
    drop(target);
    fs::rename(part, path).map_err(failed)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| disk_failed("make durable", folder, error))
}

fn disk_failed(doing: &str, path: &Path, source: io::Error) -> Error {
    let kind = if source.kind() == io::ErrorKind::StorageFull { ErrorKind::StorageFull } else { ErrorKind::Internal };
    Error::new(kind, format!("cannot {doing} `{}`: {source}", path.display())).caused_by(source)
}

/// A disk that stops giving bytes when the job that reads it must stop.
struct Stoppable {
    disk: Arc<dyn Source>,
    shared: Arc<Shared>,
}

impl Source for Stoppable {
    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        if self.shared.check().is_err() {
            return Err(disk::Error::io("go on reading", io::Error::from(io::ErrorKind::Interrupted)));
        }
        self.disk.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
        self.disk.extent_at(offset)
    }
}
