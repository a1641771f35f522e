//! Which disks are open: one for each content that somebody reads over NBD.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use disk::Source;
use model::ContentId;

/// A content and the name of the format in which it is read.
pub(crate) type Key = (ContentId, &'static str);

/// The disks that somebody holds. Each keeps some dozen blocks, which all servers of an image profit from.
#[derive(Default)]
pub(crate) struct OpenDisks(Mutex<HashMap<Key, Weak<dyn Source>>>);

impl OpenDisks {
    /// Returns the disk, if it is open.
    pub(crate) fn held(&self, key: &Key) -> Option<Arc<dyn Source>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).and_then(Weak::upgrade)
    }

    /// Remembers a disk as long as somebody holds it.
    pub(crate) fn hold(&self, key: Key, disk: &Arc<dyn Source>) {
        let mut disks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        disks.retain(|_, disk| disk.strong_count() > 0);
        disks.insert(key, Arc::downgrade(disk));
    }
}
