//! Unpacking a file that is compressed as a whole into a content of its own, where no part of it can be read alone.

use std::io::Write;
use std::sync::Arc;

use disk::{Format, UnpackLimits};
use model::ContentId;

use crate::content::ContentSource;
use crate::error::Error;
use crate::jobs::made::{Made, Telling, begin};
use crate::jobs::run::Run;
use crate::jobs::stop::Stop;
use crate::pipe::{Pipe, Sink, pour};

/// What is unpacked at once.
const PIECE: usize = 512 << 10;

/// Unpacks `file`, which is compressed in `format`, into the content `to`, while the job goes between two percents.
pub(crate) async fn unpack(
    run: &Run<'_>,
    file: ContentSource,
    format: Format,
    to: ContentId,
    percent: (u8, u8),
) -> Result<Made, Stop> {
    let mut sink = Sink::new(begin(run, to).await?, 0);
    let make = move |pipe: &mut Pipe| {
        let (done, file) = (pipe.done(), Arc::new(file));
        let total = disk::Source::len(&*file);
        let mut unpacker = disk::unpack(file, format, UnpackLimits::default())?;
        let mut piece = vec![0; PIECE];
        loop {
            let length = unpacker.fill(&mut piece)?;
            if length == 0 {
                return Ok(());
            }
            done.tell(unpacker.position(), total);
            pipe.write_all(&piece[..length]).map_err(|error| disk::Error::io("pass the unpacked bytes on", error))?;
        }
    };
    let mut telling = Telling::new(run, "unpack", percent);
    pour(&mut sink, make, |done, total| telling.tell(done, total)).await?;
    telling.end()?;
    let head = sink.writer.finish().await.map_err(Error::from)?;
    Ok(Made::new(to, &head))
}
