//! `molde object`: put, get, list, serve and remove files in buckets.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use futures::StreamExt;
use reqwest::{Method, Response};
use serde_json::json;

use crate::client::{Client, unreachable};
use crate::error::{Failure, Result};
use crate::nbd_export::{Life, serve};
use crate::output::{Output, plain};
use crate::s3::S3;
use crate::transfer::Sent;
use crate::{findings, progress, report};

/// Zeros are left as holes in blocks of this many bytes.
const HOLE: usize = 64 << 10;

/// What can be done with objects.
#[derive(Debug, Subcommand)]
pub enum Object {
    /// Put a file into a bucket; what your project has already is not sent. Run it again to resume an interrupted one
    Put {
        /// Where to: BUCKET/KEY, or BUCKET/ to keep the file's name
        to: String,
        /// The file
        file: PathBuf,
    },
    /// Get a file from a bucket
    Get {
        /// Where from: BUCKET/KEY
        from: String,
        /// The file to write
        file: PathBuf,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Serve the disk in a file over NBD, read-only, to whoever gets the URI that is printed
    Serve {
        /// BUCKET/KEY
        object: String,
        /// The file's format; found out where it is not told
        #[arg(long)]
        format: Option<String>,
        #[command(flatten)]
        life: Life,
    },
    /// Show what is inside the disk in a file, before an image is made of it
    Inspect {
        /// BUCKET/KEY
        object: String,
    },
    /// Tell what keeps the disk in a file from starting elsewhere, from being a cloud's server, or from being shared
    Check {
        /// BUCKET/KEY
        object: String,
    },
    /// List a bucket
    List {
        /// BUCKET, or BUCKET/PREFIX
        at: String,
    },
    /// Remove objects
    Rm {
        /// BUCKET/KEY
        #[arg(required = true)]
        objects: Vec<String>,
    },
}

impl Object {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<()> {
        let s3 = S3::new(client)?;
        match self {
            Self::Put { to, file } => put(&s3, output, &to, &file).await,
            Self::Get { from, file, force } => {
                let (bucket, key) = split(&from)?;
                let answer = s3.get(bucket, key).await?;
                let length = download(answer, &file, force, key).await?;
                output.done(&format!("`{}` has {length} bytes", file.display()), &json!({"file": file, "size": length}))
            }
            Self::Serve { object, format, life } => {
                let (bucket, key) = split(&object)?;
                serve(client, output, json!({"bucket": bucket, "key": key, "format": format}), &life).await
            }
            Self::Inspect { object } => {
                let (bucket, key) = split(&object)?;
                let of = json!({"bucket": bucket, "key": key});
                report::print(output, &client.send(Method::POST, "/molde/v1/objects/inspect", &of).await?)
            }
            Self::Check { object } => {
                let (bucket, key) = split(&object)?;
                let of = json!({"bucket": bucket, "key": key});
                findings::print_checked(output, &client.send(Method::POST, "/molde/v1/objects/check", &of).await?)
            }
            Self::List { at } => {
                let (bucket, prefix) = at.split_once('/').unwrap_or((&at, ""));
                let objects = s3.list(bucket, prefix).await?;
                output.list(&objects.into(), &[("KEY", "/key"), ("BYTES", "/size"), ("MODIFIED", "/modified_at")])
            }
            Self::Rm { objects } => {
                for object in objects {
                    let (bucket, key) = split(&object)?;
                    s3.remove(bucket, key).await?;
                    output.done(&format!("`{object}` is gone"), &json!({"bucket": bucket, "key": key}))?;
                }
                Ok(())
            }
        }
    }
}

async fn put(s3: &S3<'_>, output: Output, to: &str, file: &Path) -> Result<()> {
    let cannot = |error: std::io::Error| Failure::new(format!("cannot read `{}`", file.display())).caused_by(&error);
    let metadata = fs::metadata(file).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(Failure::new(format!("`{}` is no regular file", file.display())));
    }
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let to = if to.ends_with('/') { format!("{to}{name}") } else { to.to_owned() };
    let (bucket, key) = split(&to)?;
    let bar = progress::bytes(name, metadata.len());
    let Sent { sent, known } = s3.put(bucket, key, file, metadata.len(), &bar).await?;
    bar.finish_and_clear();
    let size = metadata.len();
    let text = format!("`{to}` has {size} bytes: {sent} were sent, {known} were there already, the rest are zeros");
    output.done(&text, &json!({"bucket": bucket, "key": key, "size": size, "sent": sent, "known": known}))
}

/// Splits `BUCKET/KEY`. A key with a segment `.` or `..` is refused: every URL parser would tidy it away, and name
/// another object.
pub(crate) fn split(text: &str) -> Result<(&str, &str)> {
    let (bucket, key) =
        text.split_once('/').filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty()).ok_or_else(|| {
            Failure::new(format!("`{}` does not name an object", plain(text)))
                .with_hint("write BUCKET/KEY, such as `images/debian.vmdk`")
        })?;
    if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Failure::new(format!(
            "the key `{}` has a segment `.` or `..`, which URLs cannot carry",
            plain(key)
        ))
        .with_hint("choose another key"));
    }
    Ok((bucket, key))
}

/// Writes an answer's body to a file: beside its place first, so that a broken download never looks whole.
pub(crate) async fn download(answer: Response, path: &Path, force: bool, label: &str) -> Result<u64> {
    if !force && path.exists() {
        return Err(
            Failure::new(format!("`{}` is there already", path.display())).with_hint("pass `--force` to replace it")
        );
    }
    let name = path.file_name().ok_or_else(|| Failure::new(format!("`{}` is no file name", path.display())))?;
    let part = path.with_file_name(format!(".{}.part", name.to_string_lossy()));
    let written = receive(answer, &part, label).await;
    match written {
        Ok(length) => {
            fs::rename(&part, path)?;
            Ok(length)
        }
        Err(failure) => {
            // The failure that is told is the one of the download.
            let _ = fs::remove_file(&part);
            Err(failure)
        }
    }
}

async fn receive(answer: Response, part: &Path, label: &str) -> Result<u64> {
    let expected = answer.content_length();
    let bar = progress::bytes(label, expected.unwrap_or(0));
    let cannot = |error: std::io::Error| Failure::new(format!("cannot write `{}`", part.display())).caused_by(&error);
    let mut file = File::create(part).map_err(cannot)?;
    let mut body = answer.bytes_stream();
    let mut length = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| unreachable(&error))?;
        write_sparse(&mut file, &piece).map_err(cannot)?;
        length += piece.len() as u64;
        bar.set_position(length);
    }
    file.set_len(length).map_err(cannot)?;
    file.sync_all().map_err(cannot)?;
    bar.finish_and_clear();
    match expected.filter(|expected| *expected != length) {
        Some(expected) => {
            Err(Failure::new(format!("only {length} of {expected} bytes arrived")).with_hint("try again"))
        }
        None => Ok(length),
    }
}

/// Writes bytes at the file's position; runs of zeros are stepped over.
fn write_sparse(file: &mut File, bytes: &[u8]) -> std::io::Result<()> {
    for block in bytes.chunks(HOLE) {
        if block.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(block.len() as i64))?;
        } else {
            file.write_all(block)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_names() {
        assert_eq!(split("b/k/l").unwrap(), ("b", "k/l"));
        assert_eq!(split("b//k/..x").unwrap(), ("b", "/k/..x"));
        for wrong in ["", "b", "b/", "/k", "b/..", "b/../k", "b/k/./l", "b/k/.."] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn holes_read_back_as_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut file = File::create(&path).unwrap();
        let mut bytes = vec![0; 3 * HOLE + 5];
        bytes[HOLE + 1] = 7;
        write_sparse(&mut file, &bytes).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
    }
}
