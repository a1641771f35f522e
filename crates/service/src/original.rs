//! What an image was before it was prepared: kept in its report, and given back when that is undone.
//!
//! ```text
//!   report of the newest preparation: { ..., "earlier": [ report of the first: { ..., "original": {...} }, second, ... ] }
//! ```

use model::images::{Checksums, Image};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Where a report has what the image was.
pub(crate) const ORIGINAL: &str = "original";
/// Where it has the reports of preparations before it.
pub(crate) const EARLIER: &str = "earlier";

/// What goes with the bytes of an image.
#[derive(Debug, Serialize, Deserialize)]
struct Original {
    disk_format: Option<String>,
    container_format: Option<String>,
    size_virtual: Option<u64>,
    /// MD5, SHA-256 and SHA-512.
    checksums: Option<(String, String, String)>,
}

/// Keeps in the report of a preparation what the image was before it.
pub(crate) fn remember(image: &Image, report: &mut Value) {
    report[ORIGINAL] = json!(Original {
        disk_format: image.disk_format.map(|format| format.to_string()),
        container_format: image.container_format.map(|format| format.to_string()),
        size_virtual: image.size_virtual,
        checksums: image.checksums.clone().map(|Checksums { md5, sha256, sha512 }| (md5, sha256, sha512)),
    });
}

/// Keeps in the report of a preparation the one of the preparation before it, `before`, and those of all others.
pub(crate) fn remember_report(before: &str, report: &mut Value) -> Result<()> {
    let mut before = parse(before)?;
    let mut all = match before.as_object_mut().and_then(|before| before.remove(EARLIER)) {
        Some(Value::Array(all)) => all,
        _ => Vec::new(),
    };
    all.push(before);
    report[EARLIER] = all.into();
    Ok(())
}

/// Makes of the report of the newest preparation the one of the first, and gives the image back what it was before that.
pub(crate) fn give_back(report: &mut Value, image: &mut Image) -> Result<()> {
    if let Some(first) = report.get_mut(EARLIER).and_then(|all| all.get_mut(0)).map(Value::take) {
        *report = first;
    }
    let Some(original) = report.as_object_mut().and_then(|report| report.remove(ORIGINAL)) else {
        // An image that was prepared when it was made is a bare disk before and after.
        return Ok(());
    };
    let original: Original = serde_json::from_value(original).map_err(damaged)?;
    image.disk_format = original.disk_format.map(|word| word.parse()).transpose().map_err(damaged)?;
    image.container_format = original.container_format.map(|word| word.parse()).transpose().map_err(damaged)?;
    image.size_virtual = original.size_virtual;
    image.checksums = original.checksums.map(|(md5, sha256, sha512)| Checksums { md5, sha256, sha512 });
    Ok(())
}

/// Reads a report.
pub(crate) fn parse(report: &str) -> Result<Value> {
    serde_json::from_str(report).map_err(damaged)
}

fn damaged(bad: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("cannot read a report", bad)
}
