//! A small cache in which a missing value is loaded once, however many ask for it at the same time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::Result;

/// Holds the most recently used values. Meant for some dozen entries: a lookup walks them all.
pub(crate) struct Cache<K, V> {
    /// Most recently used first.
    entries: Mutex<VecDeque<(K, Arc<OnceCell<V>>)>>,
    capacity: usize,
}

impl<K: PartialEq + Copy, V: Clone> Cache<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: Mutex::new(VecDeque::with_capacity(capacity + 1)), capacity }
    }

    /// Returns the value of `key`, awaiting `load` when it is not held. A failed load is not remembered.
    pub(crate) async fn get(&self, key: K, load: impl Future<Output = Result<V>>) -> Result<V> {
        self.cell(key).get_or_try_init(|| load).await.cloned()
    }

    /// Returns the value of `key` if it is held.
    pub(crate) fn held(&self, key: K) -> Option<V> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.iter().position(|(held, _)| *held == key)?;
        let value = entries[found].1.get().cloned();
        if found > 0 {
            let entry = entries.remove(found)?;
            entries.push_front(entry);
        }
        value
    }

    /// Stops holding the value of `key` and returns it, if it was there.
    pub(crate) fn take(&self, key: K) -> Option<V> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.iter().position(|(held, _)| *held == key)?;
        entries.remove(found).and_then(|(_, cell)| cell.get().cloned())
    }

    fn cell(&self, key: K) -> Arc<OnceCell<V>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.iter().position(|(held, _)| *held == key);
        let entry = found.and_then(|at| entries.remove(at)).unwrap_or_else(|| (key, Arc::default()));
        let cell = Arc::clone(&entry.1);
        entries.push_front(entry);
        entries.truncate(self.capacity);
        cell
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Error;

    #[tokio::test]
    async fn loads_once_and_forgets_the_least_used() {
        let (cache, loads) = (Cache::new(2), AtomicUsize::new(0));
        let get = async |key: u64| {
            cache
                .get(key, async {
                    loads.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    Ok(key * 10)
                })
                .await
                .unwrap()
        };
        assert_eq!(futures::future::join_all([get(1), get(1), get(1)]).await, [10, 10, 10]);
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        for key in [2, 1, 3, 1] {
            get(key).await;
        }
        assert_eq!(loads.load(Ordering::Relaxed), 3);
        assert_eq!((cache.held(2), cache.held(3)), (None, Some(30)));
        // So 1 is the one that was used least lately.
        get(2).await;
        assert_eq!(loads.load(Ordering::Relaxed), 4);
        assert_eq!((cache.held(1), cache.held(3), cache.held(2)), (None, Some(30), Some(20)));
    }

    #[tokio::test]
    async fn a_failed_load_is_tried_again() {
        let cache: Cache<u8, u8> = Cache::new(1);
        assert!(cache.get(1, async { Err(Error::corrupt("first")) }).await.is_err());
        assert_eq!(cache.get(1, async { Ok(5) }).await.unwrap(), 5);
    }
}
