//! Heads: the few hundred bytes that open one content, kept as `heads/<content>` and in the caller's records.
//!
//! The key service opens the content's data key, the data key opens the root's key, and so on down. To
//! share, copy or re-key a content is to write another head.

use keys::{Kms, Secret, cipher};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::blob::{BlobId, BlobKey};
use crate::node::Entry;
use crate::record::{CHECKSUM_LENGTH, RecordWriter, open_record};
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"MOLDE-HD";
const WHAT: &str = "the head of a content";
/// Longest wrapped data key that a key service may return; also keeps heads a small read.
const WRAPPED_LENGTH_MAX: usize = 4096;

/// A content that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its id.
    pub content: Uuid,
    /// The dedup domain in which it was written.
    pub domain: Uuid,
    /// Its length in bytes.
    pub length: u64,
    /// The sealed head; `Store::reader` takes it.
    pub bytes: Vec<u8>,
}

/// A head before it is sealed, or after its frame was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadFields {
    pub(crate) content: Uuid,
    pub(crate) domain: Uuid,
    pub(crate) length: u64,
    pub(crate) chunk_size: u32,
    /// Zero when the content is empty or all zero.
    pub(crate) root: BlobId,
}

/// The parts of a head whose frame was checked.
struct Parts<'a> {
    fields: HeadFields,
    /// What the seal of the root's key binds: all plain fields.
    bound: &'a [u8],
    sealed: &'a [u8],
    wrapped: &'a [u8],
}

/// Returns the name of a content's head.
pub(crate) fn name(content: Uuid) -> String {
    format!("heads/{content}")
}

fn context(content: Uuid) -> Vec<u8> {
    format!("content:{content}").into_bytes()
}

impl HeadFields {
    /// Seals the root's key under a new data key that `kms` wraps.
    pub(crate) async fn seal(&self, root: &Entry, kms: &dyn Kms) -> Result<Head> {
        let doing = "make the data key of a content";
        let data_key = Secret::random(cipher::KEY_LENGTH).map_err(|e| Error::keys(doing, e))?;
        let wrapped = kms.wrap(&context(self.content), data_key.expose()).await.map_err(|e| Error::keys(doing, e))?;
        if wrapped.len() > WRAPPED_LENGTH_MAX {
            return Err(Error::invalid(format!("the key service wrapped a data key in {} bytes", wrapped.len())));
        }
        let record = RecordWriter::new(MAGIC)
            .bytes(self.content.as_bytes())
            .bytes(self.domain.as_bytes())
            .u64(self.length)
            .u32(self.chunk_size)
            .bytes(&self.root);
        let sealed =
            cipher::seal(&*key_of(&data_key)?, record.so_far(), &*root.key).map_err(|e| Error::keys(doing, e))?;
        let bytes = record.bytes(&sealed).bytes(&wrapped).finish();
        Ok(Head { content: self.content, domain: self.domain, length: self.length, bytes })
    }

    /// Checks the frame of a head and returns its plain fields; needs no key.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        Ok(split(bytes)?.fields)
    }

    /// Opens a head down to the root's key.
    pub(crate) async fn open(bytes: &[u8], kms: &dyn Kms) -> Result<(Self, Entry)> {
        let Parts { fields, bound, sealed, wrapped } = split(bytes)?;
        let data_key = kms
            .unwrap(&context(fields.content), wrapped)
            .await
            .map_err(|e| Error::keys(&format!("unwrap the data key of content {}", fields.content), e))?;
        let key = cipher::open(&*key_of(&data_key)?, bound, sealed).map(Zeroizing::new).map_err(|e| {
            Error::corrupt(format!("the seal of the head of {} is broken", fields.content)).with_source(e)
        })?;
        let key: BlobKey = Zeroizing::new(key.as_slice().try_into().map_err(|_| wrong_length())?);
        Ok((fields, Entry { id: fields.root, key }))
    }
}

fn split(bytes: &[u8]) -> Result<Parts<'_>> {
    if bytes.len() > WRAPPED_LENGTH_MAX + 512 {
        return Err(Error::corrupt(format!("{WHAT} cannot have {} bytes", bytes.len())));
    }
    let mut record = open_record(WHAT, MAGIC, bytes)?;
    let fields = HeadFields {
        content: record.uuid()?,
        domain: record.uuid()?,
        length: record.u64()?,
        chunk_size: record.u32()?,
        root: record.array()?,
    };
    let sealed = record.take(cipher::KEY_LENGTH + cipher::OVERHEAD)?;
    let wrapped = record.rest();
    let bound = bytes.len() - CHECKSUM_LENGTH - wrapped.len() - sealed.len();
    Ok(Parts { fields, bound: &bytes[..bound], sealed, wrapped })
}

fn key_of(secret: &Secret) -> Result<BlobKey> {
    Ok(Zeroizing::new(secret.expose().try_into().map_err(|_| wrong_length())?))
}

fn wrong_length() -> Error {
    Error::corrupt(format!("{WHAT} opens to a key of the wrong length"))
}
