//! A bounded memory of the tables of a file.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;

/// Tables stay in memory up to this many bytes for each open file.
const MAX_BYTES: usize = 16 << 20;

/// The tables that were loaded last, by number. The lock is held for the look-up only, never while a table is read.
pub(crate) struct Tables<T> {
    capacity: usize,
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    tables: HashMap<u64, Arc<[T]>>,
    order: VecDeque<u64>,
}

impl<T> Tables<T> {
    /// Keeps tables of `entries` entries each.
    pub(crate) fn new(entries: usize) -> Self {
        // What a table costs besides its entries, counters, keys and free room of the map included.
        const OVERHEAD: usize = 128;
        let capacity = (MAX_BYTES / (entries * size_of::<T>() + OVERHEAD)).max(2);
        Self { capacity, kept: Mutex::new(Kept { tables: HashMap::new(), order: VecDeque::new() }) }
    }

    /// Returns table `number`, read by `load` if it is not in memory.
    pub(crate) fn get(&self, number: u64, load: impl FnOnce() -> Result<Vec<T>>) -> Result<Arc<[T]>> {
        if let Some(table) = self.lock().tables.get(&number) {
            return Ok(Arc::clone(table));
        }
        let table: Arc<[T]> = load()?.into();
        let mut kept = self.lock();
        if kept.tables.insert(number, Arc::clone(&table)).is_none() {
            kept.order.push_back(number);
            if kept.order.len() > self.capacity
                && let Some(oldest) = kept.order.pop_front()
            {
                kept.tables.remove(&oldest);
            }
        }
        Ok(table)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
