//! Room for the bodies of all requests at once. Each is bounded, and so is the number of connections, but their product is more than
//! a small machine has: what has been read is counted here while anybody holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;

use super::{Limits, Refusal, body};

/// Bodies of the largest size that are held at once; small ones are many more.
const LARGEST: usize = 8;

/// Bodies are read and worked on in moments.
const RETRY: Duration = Duration::from_secs(1);

/// Reads bodies while there is room for them.
#[derive(Debug)]
pub struct Bodies {
    limits: Limits,
    free: Arc<AtomicUsize>,
}

impl Bodies {
    /// Room for eight bodies as large as `limits` allows one to be.
    pub fn new(limits: Limits) -> Self {
        Self { limits, free: Arc::new(AtomicUsize::new(limits.body_bytes.saturating_mul(LARGEST))) }
    }

    /// What bounds each of them.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reads a whole body. Its room is to be held as long as what it says.
    ///
    /// # Errors
    /// As [`super::collect`], and [`Refusal::Busy`] when others hold the room: before it is read where its length is announced.
    pub async fn collect(&self, body: &mut Incoming) -> Result<(Bytes, Room), Refusal> {
        let mut room = Room { free: self.free.clone(), bytes: 0 };
        let bytes = body::collect_into(body, &self.limits, &mut room).await?;
        Ok((bytes, room))
    }
}

/// The room that a body takes; dropping it makes room for another.
#[derive(Debug)]
pub struct Room {
    free: Arc<AtomicUsize>,
    bytes: usize,
}

impl Room {
    /// Whether so much more would fit now.
    pub(super) fn fits(&self, bytes: u64) -> Result<(), Refusal> {
        if bytes <= self.free.load(Ordering::Relaxed) as u64 { Ok(()) } else { Err(full()) }
    }

    /// Takes so much more: what has come, not what was announced, or who sends slowly would lock out the others.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Refusal> {
        let less = |free: usize| free.checked_sub(bytes);
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).map_err(|_| full())?;
        self.bytes += bytes;
        Ok(())
    }
}

fn full() -> Refusal {
    Refusal::Busy { who: "too_many_bodies", retry_after: RETRY }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.free.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_makes_room() {
        let bodies = Bodies::new(Limits { body_bytes: 10, ..Limits::default() });
        let room = || Room { free: bodies.free.clone(), bytes: 0 };
        let (mut first, mut second) = (room(), room());
        first.take(50).unwrap();
        first.take(25).unwrap();
        assert!(second.fits(6).is_err() && second.fits(5).is_ok());
        assert!(matches!(second.take(6), Err(Refusal::Busy { .. })));
        second.take(5).unwrap();
        drop(first);
        second.take(75).unwrap();
        drop(second);
        assert_eq!(bodies.free.load(Ordering::Relaxed), 80);
    }
}
