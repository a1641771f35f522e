//! Opening disks for those who read them over NBD: one for each content, however many they are.

use std::sync::Arc;

use disk::{Format, Source};
use model::ContentId;

use crate::content::{self, ContentSource};
use crate::error::Result;
use crate::formats;
use crate::service::Service;

/// Opens the disk that a content holds in `format`, or returns the one that is open already.
pub(crate) async fn open(service: &Service, content: ContentId, format: Format) -> Result<Arc<dyn Source>> {
    let key = (content, format.as_str());
    if let Some(disk) = service.disks.held(&key) {
        return Ok(disk);
    }
    let file: Arc<dyn Source> = Arc::new(ContentSource::new(content::open(service, content).await?));
    let disk =
        service.permits.run(move || formats::open_found(file, None, format, &formats::Asked::default())).await??;
    service.disks.hold(key, &disk);
    Ok(disk)
}
