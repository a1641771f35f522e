//! A file at an HTTP server that is read by ranges: every answer must belong to the file that was opened.

use std::ops::Range;
use std::time::Duration;

use disk::{Error, ErrorKind};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_MATCH, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED, RANGE,
};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode, Url};

/// Answers that send on to another address are followed at most so often.
const MAX_REDIRECTS: usize = 5;

/// How long and how often a server is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    /// The longest silence in an answer.
    pub(super) silence: Duration,
    /// The longest time for a whole answer.
    pub(super) answer: Duration,
    /// Times that a range is asked for before its failure is final.
    pub(super) tries: u32,
    /// The pause after the first of them; each is twice as long as the one before.
    pub(super) pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(10),
            silence: seconds(30),
            answer: seconds(120),
            tries: 4,
            pause: Duration::from_millis(250),
        }
    }
}

/// What tells whether two answers are of the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    length: u64,
    etag: Option<String>,
    modified: Option<String>,
}

impl Version {
    fn new(length: u64, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { length, etag: text(ETAG), modified: text(LAST_MODIFIED) }
    }

    /// Returns the header that makes a server refuse if the file is another one by now.
    fn condition(&self) -> Option<(HeaderName, &str)> {
        // A weak mark never matches here.
        let etag = self.etag.as_deref().filter(|etag| !etag.starts_with("W/")).map(|etag| (IF_MATCH, etag));
        etag.or_else(|| self.modified.as_deref().map(|modified| (IF_UNMODIFIED_SINCE, modified)))
    }
}

/// Why a try gave nothing.
enum Fault {
    /// Another try may give it.
    Passing(String),
    Final(Error),
}

/// The file, as it was when it was opened.
pub(super) struct RemoteFile {
    http: Client,
    url: Url,
    limits: Limits,
    version: Option<Version>,
}

impl RemoteFile {
    /// Opens the file at `url`; returns its first bytes too, `head` of them or all.
    pub(super) async fn open(url: Url, limits: Limits, head: u64) -> Result<(Self, Vec<u8>), Error> {
        let http = Client::builder()
            .connect_timeout(limits.connect)
            .read_timeout(limits.silence)
            .timeout(limits.answer)
            .redirect(Policy::custom(redirect))
            .build()
            .map_err(|error| Error::new(ErrorKind::Io, format!("cannot make an HTTP client: {error}")))?;
        let mut file = Self { http, url, limits, version: None };
        // A signed address is often good for GET only, so the length comes with the first bytes and not by HEAD.
        let (version, bytes) = file.get(0..head).await?;
        file.version = Some(version);
        Ok((file, bytes))
    }

    /// Returns the bytes of the file.
    pub(super) fn length(&self) -> u64 {
        self.version.as_ref().map_or(0, |version| version.length)
    }

    /// Returns the bytes of `range`, which lies inside the file.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Vec<u8>, Error> {
        self.get(range).await.map(|(_, bytes)| bytes)
    }

    async fn get(&self, range: Range<u64>) -> Result<(Version, Vec<u8>), Error> {
        let mut pause = self.limits.pause;
        let mut tries = 1;
        loop {
            match self.try_get(&range).await {
                Ok(got) => return Ok(got),
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Passing(why)) if tries >= self.limits.tries => {
                    let (start, last, name) = (range.start, range.end - 1, shown(&self.url));
                    let message = format!("cannot read bytes {start} to {last} of {name} in {tries} tries: {why}");
                    return Err(Error::new(ErrorKind::Io, message));
                }
                Err(Fault::Passing(_)) => {}
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            tries += 1;
        }
    }

    async fn try_get(&self, range: &Range<u64>) -> Result<(Version, Vec<u8>), Fault> {
        let wanted = format!("bytes={}-{}", range.start, range.end - 1);
        let mut request = self.http.get(self.url.clone()).header(RANGE, wanted).header(ACCEPT_ENCODING, "identity");
        if let Some((name, value)) = self.version.as_ref().and_then(Version::condition) {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        if let Some(empty) = self.empty(&answer) {
            return Ok((empty, Vec::new()));
        }
        self.check_status(answer.status())?;
        let version = self.check_headers(answer.headers(), range)?;
        let length = range.end.min(version.length) - range.start;
        Ok((version, self.body(answer, length).await?))
    }

    /// Takes an answer that says that the file, which is opened just now, holds nothing.
    fn empty(&self, answer: &Response) -> Option<Version> {
        let nothing = match answer.status() {
            StatusCode::RANGE_NOT_SATISFIABLE => answer.headers().get(CONTENT_RANGE)? == "bytes */0",
            StatusCode::OK => answer.content_length() == Some(0),
            _ => false,
        };
        (nothing && self.version.is_none()).then(|| Version::new(0, answer.headers()))
    }

    fn check_status(&self, status: StatusCode) -> Result<(), Fault> {
        let name = shown(&self.url);
        match status {
            StatusCode::PARTIAL_CONTENT => Ok(()),
            StatusCode::OK if self.version.is_none() => Err(Fault::Final(
                Error::unsupported(format!("{name} can only be read as a whole: its server knows no ranges"))
                    .with_hint("download it first, for example with: curl -LO URL"),
            )),
            StatusCode::OK | StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => Err(self.changed()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(passing(status)),
            _ if status.is_server_error() => Err(passing(status)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Fault::Final(
                Error::new(ErrorKind::Io, format!("the server of {name} answered {status}"))
                    .with_hint("the address must be readable by everybody or be signed, and a signature runs out"),
            )),
            _ => Err(Fault::Final(Error::new(ErrorKind::Io, format!("the server of {name} answered {status}")))),
        }
    }

    /// Checks that an answer holds `range` of the file that was opened, or, while that is being opened, as much as there is.
    fn check_headers(&self, headers: &HeaderMap, range: &Range<u64>) -> Result<Version, Fault> {
        let name = shown(&self.url);
        let other = |what: String| Fault::Final(Error::new(ErrorKind::Io, format!("the server of {name} {what}")));
        if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            return Err(other(format!("answered in the encoding {encoding:?}, which was not asked for")));
        }
        let stated = headers.get(CONTENT_RANGE).and_then(|stated| stated.to_str().ok()).unwrap_or_default();
        let Some((got, length)) = content_range(stated) else {
            return Err(other(format!("does not say which bytes it sent: {stated:?}")));
        };
        let version = Version::new(length, headers);
        if self.version.as_ref().is_some_and(|known| *known != version) {
            return Err(self.changed());
        }
        if got != (range.start..range.end.min(length)) {
            return Err(other(format!("was asked for bytes {} to {} and sent {stated:?}", range.start, range.end - 1)));
        }
        Ok(version)
    }

    async fn body(&self, mut answer: Response, length: u64) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::with_capacity(length as usize);
        while let Some(part) = answer.chunk().await.map_err(|error| self.unreachable(error))? {
            if bytes.len() + part.len() > length as usize {
                let message = format!("the server of {} sent more than {length} bytes", shown(&self.url));
                return Err(Fault::Final(Error::new(ErrorKind::Io, message)));
            }
            bytes.extend_from_slice(&part);
        }
        if (bytes.len() as u64) < length {
            return Err(Fault::Passing(format!("the answer ended after {} of {length} bytes", bytes.len())));
        }
        Ok(bytes)
    }

    fn changed(&self) -> Fault {
        let message = format!("{} was changed while it was read", shown(&self.url));
        Fault::Final(Error::new(ErrorKind::Io, message).with_hint("begin again, when nobody writes it"))
    }

    /// Says why there is no answer or no end of one, without the query of the address, which may be signed.
    fn unreachable(&self, error: reqwest::Error) -> Fault {
        let error = error.without_url();
        let mut why = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            why = error.to_string();
            cause = error.source();
        }
        if error.is_redirect() {
            return Fault::Final(Error::refused(format!("{} is not followed: {why}", shown(&self.url))));
        }
        Fault::Passing(if error.is_timeout() { "no answer in time".to_owned() } else { why })
    }
}

fn passing(status: StatusCode) -> Fault {
    Fault::Passing(format!("the server answered {status}"))
}

/// Follows a few answers that send on, but not from one scheme to another.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let scheme = attempt.previous().last().map_or("", |from| from.scheme()).to_owned();
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error(format!("the server sends on more than {MAX_REDIRECTS} times"));
    }
    if attempt.url().scheme() != scheme {
        let to = shown(attempt.url());
        return attempt.error(format!("the server sends on to {to}; give that address if it is the right one"));
    }
    attempt.follow()
}

/// Returns the address without what may be secret in it: a name and a password, the query.
pub(super) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// Reads `bytes 0-99/1000`: the range, and the length of the whole.
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, length) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    };
    let (first, last, length) = (number(first)?, number(last)?, number(length)?);
    (first <= last && last < length).then(|| (first..last + 1, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_servers_state() {
        assert_eq!(content_range("bytes 0-99/1000"), Some((0..100, 1000)));
        assert_eq!(content_range("bytes 999-999/1000"), Some((999..1000, 1000)));
        for text in [
            "",
            "bytes",
            "bytes 0-99",
            "bytes 0-99/*",
            "bytes */1000",
            "bytes 9-0/10",
            "bytes 0-10/10",
            "bytes -1-5/10",
            "bytes 0-+5/10",
            "items 0-5/10",
            "bytes 0-18446744073709551615/18446744073709551615",
        ] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let url = Url::parse("https://user:password@example.org:8443/a/b.vmdk?X-Amz-Signature=1#x").unwrap();
        assert_eq!(shown(&url), "https://example.org:8443/a/b.vmdk");
    }
}
