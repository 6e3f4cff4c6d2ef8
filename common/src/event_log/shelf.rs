//! Logs in a fixed number of places: those that have ended make room for new ones, the oldest first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::EventLog;

/// Something with a log.
pub trait Kept {
    /// The log.
    fn log(&self) -> &EventLog;
}

/// What is kept, under keys.
#[derive(Debug)]
pub struct Shelf<K, T> {
    places: usize,
    kept: Mutex<VecDeque<(K, Arc<T>)>>,
}

/// What became of a wish to keep something.
#[derive(Debug)]
pub enum Entered<T> {
    /// Something is kept under the key already.
    Found(Arc<T>),
    /// It is kept from now on.
    New(Arc<T>),
    /// All places hold answers that are still being written or read.
    Full,
}

impl<K: PartialEq, T: Kept> Shelf<K, T> {
    /// An empty one.
    pub fn new(places: usize) -> Self {
        Self { places, kept: Mutex::default() }
    }

    /// What is kept under `key`, or what `make` makes, which is kept under it from now on.
    pub fn enter(&self, key: K, make: impl FnOnce() -> T) -> Entered<T> {
        let mut kept = self.lock();
        if let Some((_, found)) = kept.iter().find(|(known, _)| *known == key) {
            return Entered::Found(found.clone());
        }
        if kept.len() >= self.places {
            let over = |(_, item): &(K, Arc<T>)| item.log().is_ended() && item.log().is_unread();
            let Some(oldest) = kept.iter().position(over) else { return Entered::Full };
            // Whoever waits for its time to be over need not wait any longer.
            kept.remove(oldest).iter().for_each(|(_, item)| item.log().cancel());
        }
        let item = Arc::new(make());
        kept.push_back((key, item.clone()));
        Entered::New(item)
    }

    /// What is kept under `key`.
    pub fn find(&self, key: &K) -> Option<Arc<T>> {
        self.lock().iter().find(|(known, _)| known == key).map(|(_, item)| item.clone())
    }

    /// Keeps `item` no longer.
    pub fn remove(&self, item: &Arc<T>) {
        self.lock().retain(|(_, kept)| !Arc::ptr_eq(kept, item));
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(K, Arc<T>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
