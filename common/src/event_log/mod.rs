//! An answer that outlives its connection: one writer, readers that come and go, and no more bytes than allowed.
//!
//! Owns the events of one answer, numbered from 0 in the order of their writing, and the rule of who waits for whom: a reader
//! waits for events, the writer for room. Events that every reader has are forgotten once they fill half of the room; while
//! nobody reads, all are kept, and a full log makes its writer wait. Whoever reads `n` events can go on from number `n`, over
//! another connection.
//!
//! Beside the events there is what only counts now (progress, heartbeats): it reaches who reads at that moment, and nobody later.
//!
//! Never knows what an event means. [`Shelf`] keeps several logs within a number of places.

mod retention;
mod shelf;

pub use retention::Retention;
pub use shelf::{Entered, Kept, Shelf};

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The events of one answer.
#[derive(Debug)]
pub struct EventLog {
    /// Bytes of events that may be kept; the last event may exceed it.
    room: usize,
    state: Mutex<State>,
    /// Wakes the writer, and who waits for the last reader's end.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    events: VecDeque<Bytes>,
    /// Number of the first event that is kept.
    first: u64,
    bytes: usize,
    /// What only counts now, and how many of that there have been.
    passing: (u64, Bytes),
    readers: BTreeMap<u64, Place>,
    /// Readers so far.
    readers_seen: u64,
    /// Since when nobody has been reading.
    unread_since: Option<Instant>,
    ended: bool,
    cancelled: bool,
}

#[derive(Debug)]
struct Place {
    /// Number of the next event for this reader.
    next: u64,
    waker: Option<Waker>,
}

/// Events from that number on are not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "events from number {asked} on: found those from {first} to {end}, expected the number of events already received"
)]
pub struct Missed {
    /// The number asked for.
    pub asked: u64,
    /// The first that is kept.
    pub first: u64,
    /// The number that the next event will have.
    pub end: u64,
}

impl EventLog {
    /// An empty log with room for so many bytes, and its writer.
    pub fn new(room: usize) -> (Arc<Self>, Writer) {
        let state = State {
            events: VecDeque::new(),
            first: 0,
            bytes: 0,
            passing: (0, Bytes::new()),
            readers: BTreeMap::new(),
            readers_seen: 0,
            unread_since: Some(Instant::now()),
            ended: false,
            cancelled: false,
        };
        let log = Arc::new(Self { room, state: Mutex::new(state), changed: Notify::new() });
        (log.clone(), Writer(log))
    }

    /// Reads on behind the first `from` events.
    ///
    /// # Errors
    /// [`Missed`] when they are forgotten, or have not been written yet.
    pub fn read(self: &Arc<Self>, from: u64) -> Result<Reader, Missed> {
        let mut state = self.lock();
        let end = state.end();
        if from < state.first || from > end {
            return Err(Missed { asked: from, first: state.first, end });
        }
        let key = state.readers_seen;
        state.readers_seen += 1;
        state.readers.insert(key, Place { next: from, waker: None });
        state.unread_since = None;
        let passed = state.passing.0;
        drop(state);
        self.changed.notify_waiters();
        Ok(Reader { log: self.clone(), key, passed })
    }

    /// Nobody wants the answer any more.
    pub fn cancel(&self) {
        self.lock().cancelled = true;
        self.changed.notify_waiters();
    }

    /// Resolves when the answer is cancelled, or when nobody has read it for `hold`.
    pub async fn abandoned(&self, hold: Duration) {
        loop {
            // Before the look, or a change between the two would be missed.
            let changed = self.changed.notified();
            let due = {
                let state = self.lock();
                if state.cancelled {
                    return;
                }
                state.unread_since.map(|since| since + hold)
            };
            match due {
                Some(due) if Instant::now() >= due => return,
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Whether nothing will be added.
    pub fn is_ended(&self) -> bool {
        self.lock().ended
    }

    /// Whether nobody reads it now.
    pub fn is_unread(&self) -> bool {
        self.lock().readers.is_empty()
    }

    /// Bytes of events that are kept now.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Forgets what every reader has, once it fills half of the room: the other half is for the time when nobody reads.
    fn trim(&mut self, room: usize) {
        let Some(slowest) = self.readers.values().map(|place| place.next).min() else { return };
        while self.bytes > room / 2 && self.first < slowest {
            let Some(event) = self.events.pop_front() else { return };
            self.bytes -= event.len();
            self.first += 1;
        }
    }

    fn wake_readers(&mut self) {
        self.readers.values_mut().filter_map(|place| place.waker.take()).for_each(Waker::wake);
    }
}

/// The one who writes a log; dropped, the log has ended.
#[derive(Debug)]
pub struct Writer(Arc<EventLog>);

impl Writer {
    /// Waits until there is room for an event.
    pub async fn room(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.0.lock().bytes < self.0.room {
                return;
            }
            changed.await;
        }
    }

    /// Adds an event, whether or not there is room.
    pub fn push(&self, event: Bytes) {
        let mut state = self.0.lock();
        state.bytes += event.len();
        state.events.push_back(event);
        state.trim(self.0.room);
        state.wake_readers();
    }

    /// Says what only counts now.
    pub fn pass(&self, words: Bytes) {
        let mut state = self.0.lock();
        state.passing = (state.passing.0 + 1, words);
        state.wake_readers();
    }

    /// The number that the next event will have.
    pub fn next(&self) -> u64 {
        self.0.lock().end()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.wake_readers();
    }
}

/// One who reads a log.
#[derive(Debug)]
pub struct Reader {
    log: Arc<EventLog>,
    key: u64,
    /// How much of what only counts now it has heard of.
    passed: u64,
}

impl Reader {
    /// What is there to be read, of events that are ready together about `most` bytes; `None` behind the last event.
    pub fn poll_next(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Option<Bytes>> {
        let mut state = self.log.lock();
        let state = &mut *state;
        let Some(place) = state.readers.get_mut(&self.key) else { return Poll::Ready(None) };
        // A reader's next event is never forgotten, so the difference is not negative.
        let at = (place.next - state.first) as usize;
        let mut ready = state.events.range(at..);
        if let Some(one) = ready.next() {
            let (mut out, mut taken) = (one.clone(), 1);
            let mut several: Option<BytesMut> = None;
            for event in ready {
                let gathered = several.as_ref().map_or(out.len(), BytesMut::len);
                if gathered + event.len() > most {
                    break;
                }
                several.get_or_insert_with(|| BytesMut::from(&out[..])).extend_from_slice(event);
                taken += 1;
            }
            if let Some(several) = several {
                out = several.freeze();
            }
            place.next += taken;
            // Said before these events, whatever it was.
            self.passed = state.passing.0;
            state.trim(self.log.room);
            self.log.changed.notify_waiters();
            return Poll::Ready(Some(out));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        if self.passed != state.passing.0 {
            self.passed = state.passing.0;
            return Poll::Ready(Some(state.passing.1.clone()));
        }
        place.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The log it reads.
    pub fn log(&self) -> &Arc<EventLog> {
        &self.log
    }

    /// Whether nobody has begun to read after it did.
    pub fn is_newest(&self) -> bool {
        self.log.lock().readers_seen == self.key + 1
    }

    /// Whether it has everything there will ever be.
    pub fn is_through(&self) -> bool {
        let state = self.log.lock();
        state.ended && state.readers.get(&self.key).is_none_or(|place| place.next == state.end())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.log.lock();
        state.readers.remove(&self.key);
        state.trim(self.log.room);
        if state.readers.is_empty() {
            state.unread_since = Some(Instant::now());
        }
        drop(state);
        self.log.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
