//! What comes from a mirror: lists, bounded, and images, which are hashed while they come and go on where they broke off.

use std::io::SeekFrom;
use std::time::Duration;

use futures::TryStreamExt;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::address::{Access, shown};
use crate::checksums::Hasher;
use crate::error::{Error, Result};
use crate::release::Release;

/// Longest list; those of Ubuntu, the longest known, have about 5 MiB.
const LIST_MAX: u64 = 16 << 20;
/// Largest image whose size no list tells.
pub const IMAGE_MAX: u64 = 64 << 30;
const REDIRECTS_MAX: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const SILENCE_MAX: Duration = Duration::from_secs(60);
const LIST_TIME_MAX: Duration = Duration::from_secs(300);
/// A mirror that sends a byte now and then is none.
const IMAGE_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// How often a download goes on after it broke off.
const RESUMES_MAX: u32 = 5;
const RESUME_PAUSE: Duration = Duration::from_millis(500);

/// A way to the publishers, or to a mirror that stands in for them.
pub struct Mirror {
    access: Access,
    /// For what is signed, and for what is not: redirects differ.
    signed: Client,
    unsigned: Client,
}

/// How far a download is.
struct Progress {
    done: u64,
    hasher: Hasher,
}

impl Mirror {
    /// Makes a way to where `access` says.
    ///
    /// # Errors
    ///
    /// Fails where this machine has no TLS.
    pub fn new(access: Access) -> Result<Self> {
        let (signed, unsigned) = (client(&access, true)?, client(&access, false)?);
        Ok(Self { access, signed, unsigned })
    }

    async fn ask(&self, official: &str, signed: bool, from: u64, limit: Duration) -> Result<Response> {
        let url = self.access.address(official, signed)?;
        let place = shown(&url);
        let client = if signed { &self.signed } else { &self.unsigned };
        let mut request = client.get(url).timeout(limit);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let answer = request.send().await;
        let answer =
            answer.map_err(|error| Error::new(format!("cannot fetch `{place}`")).caused_by(error.without_url()))?;
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(answer),
            status => Err(Error::new(format!("the mirror answered {status} for `{place}`"))),
        }
    }

    /// Fetches a text.
    pub(crate) async fn list(&self, official: &str, signed: bool) -> Result<Vec<u8>> {
        let too_long = || Error::new(format!("`{official}` has more than {} MiB, as no list has", LIST_MAX >> 20));
        let mut answer = self.ask(official, signed, 0, LIST_TIME_MAX).await?;
        if answer.content_length().is_some_and(|length| length > LIST_MAX) {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| broken(official, error))? {
            if bytes.len() as u64 + piece.len() as u64 > LIST_MAX {
                return Err(too_long());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Fetches an image into `file`, which is empty, and checks it; `told` hears how many bytes are there, and of how many.
    /// Returns how many there are.
    ///
    /// # Errors
    ///
    /// Fails where the bytes are not those that the list promised; they must not be used then.
    pub async fn download(&self, release: &Release, file: &mut File, mut told: impl FnMut(u64, u64)) -> Result<u64> {
        let mut progress = Progress { done: 0, hasher: release.checksum.algorithm().hasher() };
        let mut resumes = 0;
        while let Err(error) = self.go_on(release, file, &mut progress, &mut told).await? {
            resumes += 1;
            if resumes > RESUMES_MAX {
                return Err(error);
            }
            tokio::time::sleep(RESUME_PAUSE * resumes).await;
        }
        file.flush().await.map_err(|error| Error::new("cannot write the download").caused_by(error))?;
        let Progress { done, hasher } = progress;
        let sum = hasher.finish();
        if sum == release.checksum {
            return Ok(done);
        }
        Err(Error::new(format!(
            "`{}` is not what the list promises: it has {sum}, not {}",
            release.file, release.checksum
        ))
        .with_hint("the mirror is damaged, or was caught while it changed; try again later or another mirror"))
    }

    /// Fetches what is missing. The outer error ends the download; the inner one is for another try.
    async fn go_on(
        &self,
        release: &Release,
        file: &mut File,
        progress: &mut Progress,
        told: &mut impl FnMut(u64, u64),
    ) -> Result<Result<()>> {
        let signed = release.is_signed();
        let answer = match self.ask(&release.source, signed, progress.done, IMAGE_TIME_MAX).await {
            // A mirror that gave some of it may only be busy.
            Err(error) if progress.done > 0 => return Ok(Err(error)),
            answer => answer?,
        };
        if !goes_on(&answer, progress.done) {
            // The mirror knows no ranges, so it begins again.
            *progress = Progress { done: 0, hasher: release.checksum.algorithm().hasher() };
            let again = file.set_len(0).await.and(file.seek(SeekFrom::Start(0)).await);
            again.map_err(|error| Error::new("cannot write the download").caused_by(error))?;
        }
        let largest = release.size.unwrap_or(IMAGE_MAX);
        let total = release.size.or_else(|| Some(progress.done.saturating_add(answer.content_length()?))).unwrap_or(0);
        let too_large = || Error::new(format!("`{}` has more than the {largest} bytes that it may have", release.file));
        if total > largest {
            return Err(too_large());
        }
        let mut pieces = answer.bytes_stream();
        loop {
            match pieces.try_next().await {
                Ok(Some(piece)) => {
                    progress.done += piece.len() as u64;
                    if progress.done > largest {
                        return Err(too_large());
                    }
                    progress.hasher.update(&piece);
                    let written = file.write_all(&piece).await;
                    written.map_err(|error| Error::new("cannot write the download").caused_by(error))?;
                    told(progress.done, total);
                }
                Ok(None) if release.size.is_some_and(|size| progress.done < size) => {
                    let (done, file) = (progress.done, &release.file);
                    return Ok(Err(Error::new(format!("`{file}` was cut off: {done} of {largest} bytes came"))));
                }
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(broken(&release.source, error))),
            }
        }
    }
}

/// Whether an answer goes on after `done` bytes, as was asked.
fn goes_on(answer: &Response, done: u64) -> bool {
    if done == 0 || answer.status() != StatusCode::PARTIAL_CONTENT {
        return done == 0 && answer.status() == StatusCode::OK;
    }
    let range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()) == Some(done)
}

fn broken(official: &str, error: reqwest::Error) -> Error {
    Error::new(format!("`{official}` broke off")).caused_by(error.without_url())
}

fn client(access: &Access, signed: bool) -> Result<Client> {
    let access = access.clone();
    let follow = move |attempt: Attempt<'_>| {
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error("the mirror leads from one address to the next without end");
        }
        if access.allows(attempt.url(), signed) {
            return attempt.follow();
        }
        let to = shown(attempt.url());
        attempt.error(format!("the mirror leads to `{to}`, which is not fetched: it has no TLS"))
    };
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(SILENCE_MAX)
        .redirect(Policy::custom(follow))
        .build()
        .map_err(|error| Error::new("cannot make an HTTP client").caused_by(error))
}
