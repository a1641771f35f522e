//! Layouts: the file that would hold a disk, as a source of which any range can be read at once.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::Format;
use crate::formats::qcow2;
use crate::source::Source;

/// How a file is laid out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayoutOptions {
    /// Bytes of a cluster of qcow2, a power of two from 512 to 2 MiB; 64 KiB if not given.
    pub cluster_size: Option<u64>,
}

impl LayoutOptions {
    /// Sets one option by its name, as in `-o key=value`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "cluster_size" => {
                let size = parse_size(value).filter(|size| qcow2::CLUSTER_SIZES.contains(size));
                let wrong =
                    || Error::unsupported(format!("cluster_size={value}")).with_hint("for example: cluster_size=64K");
                self.cluster_size = Some(size.ok_or_else(wrong)?);
                Ok(())
            }
            _ => {
                Err(Error::unsupported(format!("no option is called {key:?}")).with_hint("known options: cluster_size"))
            }
        }
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['k', 'K', 'm', 'M']);
    let unit = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Returns the file that holds `disk` in `format`. Its length is exact, the same disk gives the same bytes, and where the
/// disk is zero the file has holes or nothing. Only the extents of the disk are looked at here, not its data.
pub fn layout(disk: Arc<dyn Source>, format: Format, options: &LayoutOptions) -> Result<Arc<dyn Source>> {
    match format {
        Format::Raw => Ok(disk),
        Format::Qcow2 => qcow2::layout(disk, options.cluster_size.unwrap_or(qcow2::DEFAULT_CLUSTER_SIZE)),
        other => {
            Err(Error::unsupported(format!("files in format {other} are not written")).with_hint("write raw or qcow2"))
        }
    }
}

/// Returns whether [`layout`] knows the format.
#[must_use]
pub fn writable(format: Format) -> bool {
    matches!(format, Format::Raw | Format::Qcow2)
}
