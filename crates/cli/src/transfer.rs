//! Negotiated transfer: bytes go to a server as chunks, and those that it has are only named.
//!
//! group of chunks -> hashed -> offered -> pieces: zeros, names, and the chunks that are missing -> body of a request
//!
//! A group is read twice, once to hash it and once for what is missing, so no more is in memory than is on its way. What
//! is cut off is not lost: chunks that a server has stored are only named the next time.

mod pieces;
mod plan;

use std::collections::HashSet;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{self, Either};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Body, Method, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;
use url::Url;

use crate::blocking::blocking;
use crate::client::{Client, accept, read_json, unreachable};
use crate::error::{Failure, Result};
use crate::job::escape;

pub(crate) use self::pieces::{Chunk, Id, Origin, Run, shrunk};
pub(crate) use self::plan::FileOrigin;

/// Files up to so many bytes are sent as they are: there is little to save.
pub(crate) const WHOLE_MAX: u64 = 4 << 20;
/// Chunks that are hashed and offered together, unless a caller makes larger groups.
pub(crate) const GROUP: u64 = 64;
/// Groups that are hashed ahead of what is sent.
const AHEAD: usize = 2;
/// Chunks that are read, or compressed, ahead of the connection.
const LOADING: usize = 4;
/// How often pieces are sent again of which the server lost a chunk between the offer and the naming.
const TRIES: u32 = 4;

/// Runs that are hashed and offered together.
pub(crate) type Group = Vec<Run>;

/// How many bytes went over the wire as chunks, and how many were only named. Zeros are neither.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) sent: u64,
    pub(crate) known: u64,
}

impl Sent {
    /// Adds up what was sent.
    pub(crate) fn sum(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), |sum, next| Self { sent: sum.sent + next.sent, known: sum.known + next.known })
    }
}

/// A server that takes chunks, and how they are named there.
pub(crate) struct Transfer<'c> {
    client: &'c Client,
    chunk_size: u32,
    key: [u8; 32],
    offer_max: usize,
    /// Whether chunks are compressed on the way. On the same machine that only moves work from the server to here.
    compress: bool,
}

impl<'c> Transfer<'c> {
    /// Asks how chunks are named; nothing where the server is too old to take any.
    pub(crate) async fn open(client: &'c Client) -> Result<Option<Self>> {
        let request = client.request(Method::GET, "/molde/v1/transfer").await?;
        let answer = request.send().await.map_err(|error| unreachable(&error))?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let terms = read_json(accept(answer).await?).await?["transfer"].take();
        let number = |name: &str| terms[name].as_u64().and_then(|number| u32::try_from(number).ok());
        let mut key = [0; 32];
        let told = terms["id_key"].as_str().is_some_and(|text| hex::decode_to_slice(text, &mut key).is_ok());
        match (number("chunk_size"), number("offer_max")) {
            (Some(chunk_size @ 1..), Some(offer_max @ 1..)) if told => Ok(Some(Self {
                client,
                chunk_size,
                key,
                offer_max: offer_max as usize,
                compress: !is_here(&client.credentials.endpoint),
            })),
            _ => Err(Failure::new("the server does not tell how chunks are named")
                .with_hint("use a `molde` of the server's release")),
        }
    }

    /// Returns the bytes of every chunk but the last of a content.
    pub(crate) fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Sends a part of an upload and returns its ETag.
    pub(crate) async fn put_part(
        &self,
        (bucket, key, upload): (&str, &str, &str),
        number: u64,
        origin: &Arc<dyn Origin>,
        group: Group,
    ) -> Result<(String, Sent)> {
        let (bucket, key, upload) = (escape(bucket), escape(key), escape(upload));
        let path = format!("/molde/v1/transfer/parts/{number}?bucket={bucket}&key={key}&upload={upload}");
        let length: u64 = group.iter().map(Run::length).sum();
        let (answer, sent) = self.put(&path, origin, || std::iter::once(Ok(group.clone())), |_| {}).await?;
        let part = &answer["part"];
        match part["etag"].as_str() {
            Some(etag) if part["size"] == length => Ok((etag.to_owned(), sent)),
            _ => Err(Failure::new(format!("the server did not keep part {number} as it was sent"))),
        }
    }

    /// Sends the bytes of an image; `done` hears how many of them so far.
    pub(crate) async fn put_image<G: Iterator<Item = Result<Group>>>(
        &self,
        image: &str,
        origin: &Arc<dyn Origin>,
        groups: impl Fn() -> G,
        done: impl Fn(u64),
    ) -> Result<Sent> {
        let path = format!("/molde/v1/transfer/images/{}", escape(image));
        Ok(self.put(&path, origin, groups, done).await?.1)
    }

    /// Sends groups as the body of one request; again from the first where a chunk was lost after its offer.
    async fn put<G: Iterator<Item = Result<Group>>>(
        &self,
        path: &str,
        origin: &Arc<dyn Origin>,
        groups: impl Fn() -> G,
        done: impl Fn(u64),
    ) -> Result<(Value, Sent)> {
        let mut left = TRIES;
        loop {
            let (send, receive) = mpsc::channel::<io::Result<Bytes>>(LOADING);
            let body = stream::unfold(receive, async |mut receive| Some((receive.recv().await?, receive)));
            let request = self.client.request(Method::PUT, path).await?.body(Body::wrap_stream(body));
            let made = pin!(self.produce(origin, groups(), send, &done));
            let (sent, answer) = match future::select(made, pin!(request.send())).await {
                Either::Left((made, answer)) => (made?, answer.await),
                // A server that answers before the end has refused.
                Either::Right((answer, _)) => (Sent::default(), answer),
            };
            let answer = answer.map_err(|error| unreachable(&error))?;
            left -= 1;
            if answer.status() != StatusCode::CONFLICT || left == 0 {
                return Ok((read_json(accept(answer).await?).await?, sent));
            }
        }
    }

    /// Makes the body. A failure is put into it as well: a body that merely ended would be taken for a whole one.
    async fn produce(
        &self,
        origin: &Arc<dyn Origin>,
        groups: impl Iterator<Item = Result<Group>>,
        body: mpsc::Sender<io::Result<Bytes>>,
        done: &impl Fn(u64),
    ) -> Result<Sent> {
        let made = self.make(origin, groups, &body, done).await;
        if made.is_err() {
            // Whoever closed the other end knows already.
            let _ = body.send(Err(io::Error::other("the rest could not be made"))).await;
        }
        made
    }

    async fn make(
        &self,
        origin: &Arc<dyn Origin>,
        groups: impl Iterator<Item = Result<Group>>,
        body: &mpsc::Sender<io::Result<Bytes>>,
        done: &impl Fn(u64),
    ) -> Result<Sent> {
        let (mut sum, mut at) = (Sent::default(), 0);
        let prepared = stream::iter(groups).map(|group| async { self.prepare(origin, group?).await });
        let mut prepared = pin!(prepared.buffered(AHEAD));
        while let Some((runs, sent)) = prepared.try_next().await? {
            at += runs.iter().map(Run::length).sum::<u64>();
            let loads = pieces::joined(runs).map(|piece| pieces::load(Arc::clone(origin), piece, self.compress));
            let mut loaded = stream::iter(loads).buffered(LOADING);
            while let Some(bytes) = loaded.try_next().await? {
                if body.send(Ok(bytes)).await.is_err() {
                    // The connection is gone; the request tells why.
                    return Ok(sum);
                }
            }
            sum = Sent::sum([sum, sent].into_iter());
            done(at);
        }
        Ok(sum)
    }

    /// Hashes the chunks of a group and asks which are missing: the others become names.
    async fn prepare(&self, origin: &Arc<dyn Origin>, group: Group) -> Result<(Vec<Run>, Sent)> {
        let (origin, key) = (Arc::clone(origin), self.key);
        let mut runs = blocking(move || pieces::hash(&*origin, &key, group)).await??;
        let mut sent = Sent::default();
        let mut named: Vec<(&mut Run, Id)> = runs.iter_mut().filter_map(|(run, id)| id.map(|id| (run, id))).collect();
        for named in named.chunks_mut(self.offer_max) {
            let missing = self.offer(named.iter().map(|(_, id)| *id)).await?;
            for (number, (run, id)) in named.iter_mut().enumerate() {
                let length = run.length();
                if missing.contains(&(number as u64)) {
                    sent.sent += length;
                } else {
                    sent.known += length;
                    **run = Run::Known { id: *id, length };
                }
            }
        }
        Ok((runs.into_iter().map(|(run, _)| run).collect(), sent))
    }

    /// Returns the numbers of the chunks that the project does not have.
    async fn offer(&self, ids: impl Iterator<Item = Id>) -> Result<HashSet<u64>> {
        let ids: Vec<u8> = ids.flatten().collect();
        let request = self.client.request(Method::POST, "/molde/v1/transfer/offer").await?.body(ids);
        let answer = read_json(accept(request.send().await.map_err(|error| unreachable(&error))?).await?).await?;
        let missing = answer["missing"].as_array().map(|numbers| numbers.iter().filter_map(Value::as_u64).collect());
        missing.ok_or_else(|| Failure::new("the server does not tell which chunks are missing"))
    }
}

/// Returns whether an address is on this machine.
fn is_here(endpoint: &str) -> bool {
    let Ok(url) = Url::parse(endpoint) else { return false };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_this_machine_needs_no_compression() {
        for (endpoint, here) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.3.2.1", true),
            ("http://[::1]:80", true),
            ("http://localhost:9", true),
            ("https://images.example", false),
            ("http://10.0.0.1:80", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_here(endpoint), here, "{endpoint}");
        }
    }
}
