//! A fixed number of places, and who gets the next that becomes free: the most urgent of those who wait, of equals the first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How long somebody at the other end can wait; the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Completions come while a person types, and are of no use a moment later.
    Typing,
    /// A person reads the answer.
    Reading,
    /// A list of prompts, which somebody looks at when it is done.
    Batch,
}

/// The places.
#[derive(Debug)]
pub(super) struct Places(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    waiting: BTreeMap<(Rank, u64), oneshot::Sender<Place>>,
    last: u64,
}

/// One place; dropping it gives it to the next.
#[derive(Debug)]
pub(super) struct Place(Option<Arc<Places>>);

impl Places {
    pub(super) fn new(free: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free, waiting: BTreeMap::new(), last: 0 })))
    }

    /// One that is free now.
    pub(super) fn free(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.lock();
        state.free = state.free.checked_sub(1)?;
        Some(Place(Some(self.clone())))
    }

    /// One as soon as it is this one's turn.
    pub(super) async fn wait(self: &Arc<Self>, rank: Rank) -> Option<Place> {
        let coming = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Some(Place(Some(self.clone())));
            }
            let (turn, coming) = oneshot::channel();
            state.last += 1;
            let number = state.last;
            state.waiting.insert((rank, number), turn);
            coming
        };
        // Who goes meanwhile is passed over when the turn comes.
        coming.await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(places) = self.0.take() else { return };
        loop {
            let next = {
                let mut state = places.lock();
                let next = state.waiting.pop_first();
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            let Some((_, turn)) = next else { return };
            match turn.send(Self(Some(places.clone()))) {
                Ok(()) => return,
                // That one has gone: the next, without giving this one back by dropping it.
                Err(mut unwanted) => drop(unwanted.0.take()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn look<T>(waiting: &mut Pin<Box<impl Future<Output = T>>>) -> Option<T> {
        match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn the_most_urgent_goes_first_and_of_equals_the_first() {
        let places = Places::new(1);
        let place = places.free().unwrap();
        assert!(places.free().is_none());
        let mut waiting = Vec::new();
        for (name, rank) in
            [("batch", Rank::Batch), ("first", Rank::Reading), ("second", Rank::Reading), ("typing", Rank::Typing)]
        {
            let places = places.clone();
            let mut wait = Box::pin(async move { (name, places.wait(rank).await) });
            assert!(look(&mut wait).is_none());
            waiting.push(wait);
        }
        drop(place);
        for expected in ["typing", "first", "second", "batch"] {
            let ready = |wait: &mut Pin<Box<_>>| {
                look(wait).is_some_and(|(name, place): (_, Option<Place>)| {
                    assert_eq!(name, expected);
                    // Dropped here: the next one's turn.
                    place.is_some()
                })
            };
            let at = waiting.iter_mut().position(ready);
            drop(waiting.remove(at.unwrap()));
        }
        assert!(places.free().is_some());
    }

    #[tokio::test]
    async fn who_has_gone_is_passed_over_and_no_place_is_lost() {
        let places = Places::new(1);
        let place = places.free().unwrap();
        {
            let mut gone = Box::pin(places.wait(Rank::Typing));
            assert!(look(&mut gone).is_none());
        }
        let mut stays = Box::pin(places.wait(Rank::Batch));
        assert!(look(&mut stays).is_none());
        drop(place);
        let place = stays.await.unwrap();
        // Given a place and gone before looking.
        let mut late = Box::pin(places.wait(Rank::Batch));
        assert!(look(&mut late).is_none());
        drop(place);
        drop(late);
        assert!(places.free().is_some());
    }
}
