//! What a bundle is made of: ids of an image's chunks, and the bytes of those that are not zero.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt, stream};
use indicatif::ProgressBar;
use reqwest::header::RANGE;
use reqwest::{Method, Response, StatusCode};

use super::file::BundleWriter;
use crate::blocking::blocking;
use crate::client::{Client, send, unreachable};
use crate::error::{Failure, Result};
use crate::job::escape;
use crate::transfer::shrunk;

/// Ids that are asked for at once.
const PAGE: u64 = 8192;
/// Neighbouring chunks that are asked for in one request.
const RANGE_CHUNKS: usize = 128;
/// Chunks that are compressed or hashed at once.
const AT_ONCE: usize = 4;
/// zstd level: a bundle is written once and carried by hand.
const LEVEL: i32 = 3;

/// Which chunk of a base has an id, by the first half of that. 24 bytes for each: 50 MB for a base with 1 TiB of data.
pub(super) type Numbers = HashMap<[u8; 16], u32>;

/// Ids of some chunks of an image.
pub(super) struct Page {
    pub(super) chunk_size: u32,
    size: u64,
    /// Nothing where a chunk is zero.
    ids: Vec<Option<[u8; 16]>>,
}

/// How many chunks a bundle holds, and how many it leaves to the base.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    pub(super) data: u64,
    pub(super) base: u64,
}

/// A chunk that is not zero.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    offset: u64,
    length: u32,
    /// Which chunk of the base it is.
    base: Option<u32>,
}

/// What is written of a chunk.
enum Made {
    Base { offset: u64, length: u32, hash: [u8; 32] },
    Data { plain: Bytes, frame: Option<Vec<u8>> },
}

/// Asks for the ids of `count` chunks from the chunk `first` on.
pub(super) async fn page(client: &Client, image: &str, first: u64, count: u64) -> Result<Page> {
    let path = format!("/molde/v1/images/{}/chunks?first={first}&count={count}", escape(image));
    let answer = client.get(&path).await?;
    let odd = || Failure::new("the server's list of chunks makes no sense");
    let id = |value: &serde_json::Value| match value.as_str() {
        None => Ok(None),
        Some(text) => {
            let mut id = [0; 32];
            hex::decode_to_slice(text, &mut id).map_err(|_| odd())?;
            Ok(id.first_chunk().copied())
        }
    };
    let ids = answer["ids"].as_array().ok_or_else(odd)?.iter().map(id).collect::<Result<_>>()?;
    let chunk_size = answer["chunk_size"].as_u64().and_then(|size| u32::try_from(size).ok()).filter(|size| *size > 0);
    match (chunk_size, answer["size"].as_u64()) {
        (Some(chunk_size), Some(size)) => Ok(Page { chunk_size, size, ids }),
        _ => Err(odd()),
    }
}

/// Returns which chunk of an image has which id.
pub(super) async fn numbers(client: &Client, image: &str) -> Result<Numbers> {
    let (mut numbers, mut at) = (Numbers::new(), 0_u64);
    loop {
        let page = page(client, image, at, PAGE).await?;
        if page.ids.is_empty() {
            return Ok(numbers);
        }
        let count = page.ids.len() as u64;
        for (number, id) in (at..).zip(page.ids) {
            if let (Some(id), Ok(number)) = (id, u32::try_from(number)) {
                numbers.entry(id).or_insert(number);
            }
        }
        at += count;
    }
}

/// Writes all chunks of an image.
pub(super) async fn copy<W: std::io::Write>(
    client: &Client,
    image: &str,
    known: &Numbers,
    writer: &mut BundleWriter<W>,
    bar: &ProgressBar,
) -> Result<Counted> {
    let (mut counted, mut first) = (Counted::default(), 0_u64);
    loop {
        let Page { chunk_size, size, ids } = page(client, image, first, PAGE).await?;
        if ids.is_empty() {
            return Ok(counted);
        }
        let wanted: Vec<(u64, u32, Option<Wanted>)> = (first..)
            .zip(&ids)
            .map(|(number, id)| {
                let offset = number * u64::from(chunk_size);
                let length = size.saturating_sub(offset).min(chunk_size.into()) as u32;
                let base = |id: &[u8; 16]| Wanted { offset, length, base: known.get(id).copied() };
                (offset, length, id.as_ref().map(base))
            })
            .collect();
        for run in wanted.chunk_by(|a, b| a.2.is_some() == b.2.is_some()) {
            if run[0].2.is_none() {
                writer.zeros(run.iter().map(|(_, length, _)| u64::from(*length)).sum());
            }
            let chunks: Vec<Wanted> = run.iter().filter_map(|(.., wanted)| *wanted).collect();
            for chunks in chunks.chunks(RANGE_CHUNKS) {
                copy_range(client, image, chunks, chunk_size, writer, &mut counted).await?;
            }
            bar.inc(run.iter().map(|(_, length, _)| u64::from(*length)).sum());
        }
        first += ids.len() as u64;
    }
}

/// Writes chunks that lie side by side.
async fn copy_range<W: std::io::Write>(
    client: &Client,
    image: &str,
    chunks: &[Wanted],
    chunk_size: u32,
    writer: &mut BundleWriter<W>,
    counted: &mut Counted,
) -> Result<()> {
    let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return Ok(()) };
    let range = format!("bytes={}-{}", first.offset, last.offset + u64::from(last.length) - 1);
    let request = client.request(Method::GET, &format!("/v2/images/{}/file", escape(image))).await?;
    let answer = send(request.header(RANGE, range)).await?;
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Err(Failure::new("the server does not send ranges of an image"));
    }
    let made = cut(answer, chunks)
        .map_ok(|(wanted, bytes)| blocking(move || make(wanted, chunk_size, bytes)))
        .try_buffered(AT_ONCE);
    let mut made = std::pin::pin!(made);
    while let Some(made) = made.try_next().await? {
        match made {
            Made::Base { offset, length, hash } => {
                counted.base += 1;
                writer.base(offset, length, hash)?;
            }
            Made::Data { plain, frame } => {
                counted.data += 1;
                writer.data(&plain, frame.as_deref())?;
            }
        }
    }
    Ok(())
}

/// Cuts an answer's body into the chunks that were asked for.
fn cut(answer: Response, chunks: &[Wanted]) -> impl Stream<Item = Result<(Wanted, Bytes)>> {
    let state = (answer, BytesMut::new(), chunks.iter().copied());
    stream::try_unfold(state, async |(mut answer, mut buffer, mut chunks)| {
        let Some(wanted) = chunks.next() else { return Ok(None) };
        while buffer.len() < wanted.length as usize {
            let bytes = answer.chunk().await.map_err(|error| unreachable(&error))?;
            let bytes =
                bytes.ok_or_else(|| Failure::new("the image's bytes ended too early").with_hint("try again"))?;
            buffer.extend_from_slice(&bytes);
        }
        let bytes = buffer.split_to(wanted.length as usize).freeze();
        Ok(Some(((wanted, bytes), (answer, buffer, chunks))))
    })
}

fn make(wanted: Wanted, chunk_size: u32, plain: Bytes) -> Made {
    let Wanted { length, base, .. } = wanted;
    match base {
        Some(number) => {
            let offset = u64::from(number) * u64::from(chunk_size);
            Made::Base { offset, length, hash: *blake3::hash(&plain).as_bytes() }
        }
        None => Made::Data { frame: shrunk(&plain, LEVEL), plain },
    }
}
