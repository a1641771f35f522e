//! Bringing the newest image of a line to the server: find, compare, fetch, verify, send, and only then hide what it replaces.

use std::path::{Path, PathBuf};

use disk::{ConvertOptions, Format};
use distributions::{Mirror, Release, Wanted};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::fs::File;

use super::published::{self, Published, attributes};
use super::{Fetch, is_over};
use crate::blocking::blocking;
use crate::client::Client;
use crate::error::{Failure, Result};
use crate::output::plain;
use crate::{image, progress};

/// What a new image is called, and who sees it.
pub(super) struct As<'a> {
    pub(super) name: &'a str,
    pub(super) visibility: &'a str,
}

/// What came of it.
pub(super) struct Brought {
    /// The newest image.
    pub(super) image: Value,
    /// Whether it was published just now.
    pub(super) new: bool,
    /// Images that were hidden.
    pub(super) hidden: Vec<String>,
}

/// Publishes the newest image of what is wanted, unless `known`, newest first, holds it; hides the older ones.
pub(super) async fn bring(
    client: &Client,
    mirror: &Mirror,
    wanted: Wanted<'_>,
    fetch: &Fetch,
    known: &[Published],
    new: As<'_>,
) -> Result<Brought> {
    let release = Release::find(mirror, wanted, Timestamp::now()).await?;
    if let Some(days) = fetch.max_age {
        release.check_age(days, Timestamp::now())?;
    }
    warn(wanted, &release);
    // All of them, so that a newer one is not forgotten because it was hidden.
    let mut newer = true;
    for image in known {
        newer &= release.is_newer_than(&image.known())?;
    }
    if let Some(newest) = known.first().filter(|_| !newer) {
        let hidden = published::hide(client, &newest.id(), known).await?;
        return Ok(Brought { image: newest.0.clone(), new: false, hidden });
    }
    let image = publish(client, mirror, wanted, fetch, &release, &new).await?;
    let hidden = published::hide(client, &image::id(&image), known).await?;
    Ok(Brought { image, new: true, hidden })
}

fn warn(wanted: Wanted<'_>, release: &Release) {
    let told = format!("{} {}", wanted.distribution.title, wanted.version.version);
    match release.end_of_life.filter(|day| is_over(Some(*day))) {
        Some(day) => eprintln!("warning: {told} is not looked after any more since {day}"),
        None if !release.supported => eprintln!("warning: {told} is not looked after any more"),
        None => {}
    }
}

/// Fetches an image, and makes one of it on the server once it is what its list promises.
async fn publish(
    client: &Client,
    mirror: &Mirror,
    wanted: Wanted<'_>,
    fetch: &Fetch,
    release: &Release,
    new: &As<'_>,
) -> Result<Value> {
    let place = fetch.download_dir.clone().unwrap_or_else(std::env::temp_dir);
    // A folder that only this user may enter, so that nobody changes what was verified.
    let folder = tempfile::Builder::new().prefix("molde-catalog-").tempdir_in(&place);
    let folder =
        folder.map_err(|error| Failure::new(format!("cannot write to `{}`", place.display())).caused_by(&error))?;
    let path = folder.path().join("download");
    let mut file = File::create_new(&path).await?;
    let bar = progress::bytes(&plain(&release.file), release.size.unwrap_or(0));
    let told = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let fetched = mirror.download(release, &mut file, told).await;
    bar.finish_and_clear();
    fetched?;
    drop(file);
    let unpacked = folder.path().join("disk.raw");
    let (file, format) = blocking(move || unpack(path, unpacked)).await??;
    let mut body = attributes(wanted, release, new.name, new.visibility);
    body.insert("disk_format".to_owned(), json!(format.to_string()));
    let image = image::publish(client, body, &file).await?;
    if image["status"] == "active" {
        return Ok(image);
    }
    let (id, status) = (image::id(&image), plain(image["status"].as_str().unwrap_or_default()));
    Err(Failure::new(format!("image {id} has all bytes and is {status}, not active")))
}

/// Tells the format of a file; of one that is compressed as a whole, the disk in it is written to `unpacked`.
fn unpack(path: PathBuf, unpacked: PathBuf) -> Result<(PathBuf, Format)> {
    let format = image::detect(&path)?;
    if !disk::is_wrapper(format) {
        return Ok((path, format));
    }
    disk::convert(Path::new(&path), Some(format), &unpacked, Format::Raw, &ConvertOptions::default())?;
    Ok((unpacked, Format::Raw))
}
