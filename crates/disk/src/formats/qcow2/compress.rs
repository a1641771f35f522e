//! Compression of one cluster, by the two methods of the format.

use flate2::{Compress, FlushCompress, Status};
use zstd::zstd_safe::{CCtx, CParameter, get_error_name};

use super::header::Compression;
use crate::error::{Error, Result};

/// Bits of the window of deflate: 4 KiB, as QEMU writes it. The format names no window, but many readers follow QEMU's
/// and keep no more than this while they unpack.
const WINDOW_BITS: u8 = 12;

/// The state of a compressor, which is made once for many clusters.
pub(super) enum Compressor {
    Zlib(Compress),
    Zstd(CCtx<'static>),
}

impl Compressor {
    /// Makes a compressor that works as hard as `level` says: 1 to 9 for zlib, 1 to 19 for zstd.
    pub(super) fn new(compression: Compression, level: u32) -> Result<Self> {
        match compression {
            Compression::Zlib => {
                let level = flate2::Compression::new(level);
                Ok(Self::Zlib(Compress::new_with_window_bits(level, false, WINDOW_BITS)))
            }
            Compression::Zstd => {
                let mut context = CCtx::create();
                context
                    .set_parameter(CParameter::CompressionLevel(level as i32))
                    .map_err(|code| Error::unsupported(format!("zstd level {level}: {}", get_error_name(code))))?;
                Ok(Self::Zstd(context))
            }
        }
    }

    /// Compresses `cluster` into the beginning of `out`, which is [twice as long](room); returns how many bytes it took, or
    /// `None` if that is hardly less than the cluster, which then is better kept plain: it costs nothing to read.
    pub(super) fn compress(&mut self, cluster: &[u8], out: &mut [u8]) -> Option<usize> {
        let most = cluster.len() - cluster.len() / 16;
        let length = match self {
            Self::Zlib(stream) => {
                stream.reset();
                match stream.compress(cluster, out, FlushCompress::Finish) {
                    Ok(Status::StreamEnd) => usize::try_from(stream.total_out()).ok(),
                    _ => None,
                }
            }
            Self::Zstd(context) => context.compress2(&mut out[..most], cluster).ok(),
        };
        length.filter(|length| *length <= most)
    }
}

/// Returns how much room compression needs for a cluster: more than any stream, because level 1 of zlib-rs panics where its
/// output does not fit (seen in 0.6.8).
pub(super) fn room(cluster_size: u64) -> usize {
    2 * cluster_size as usize + 512
}
