//! Disks that are open for those who read them over NBD: one for each content, however many they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use disk::{Format, Source};
use model::ContentId;

use crate::content::{self, ContentSource};
use crate::error::Result;
use crate::formats;
use crate::service::Service;

/// A content and the name of the format in which it is read.
type Key = (ContentId, &'static str);

/// The disks that somebody holds. Each keeps some dozen blocks, which all servers of an image profit from.
#[derive(Default)]
pub(crate) struct Disks(Mutex<HashMap<Key, Weak<dyn Source>>>);

impl Disks {
    fn held(&self, key: &Key) -> Option<Arc<dyn Source>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).and_then(Weak::upgrade)
    }

    fn hold(&self, key: Key, disk: &Arc<dyn Source>) {
        let mut disks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        disks.retain(|_, disk| disk.strong_count() > 0);
        disks.insert(key, Arc::downgrade(disk));
    }
}

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
