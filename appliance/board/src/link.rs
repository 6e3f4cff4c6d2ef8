//! A part that may be missing, and may come back.
//!
//! Owns the retries: one warning when a part fails, growing pauses, one line when it is back. The service never hears of it. It
//! knows nothing of what the part does.

use std::time::Duration;

use crate::ports::PortError;

/// The first pause before another try.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A part that fails again sooner than this has a loose contact: the pauses go on where they were, without another word.
const HEALTHY: Duration = Duration::from_secs(30);
/// The longest one: a part that is plugged in again is noticed within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

type Open<T> = Box<dyn FnMut() -> Result<Box<T>, PortError> + Send>;

/// A part and the way to open it again.
pub(crate) struct Link<T: ?Sized> {
    open: Open<T>,
    part: Option<Box<T>>,
    trouble: Option<Trouble>,
}

#[derive(Debug, Clone, Copy)]
struct Trouble {
    pause: Duration,
    retry_at: Duration,
    /// Since when it has answered again.
    well_since: Option<Duration>,
    part: &'static str,
}

impl<T: ?Sized> Link<T> {
    pub(crate) fn new(open: impl FnMut() -> Result<Box<T>, PortError> + Send + 'static) -> Self {
        Self { open: Box::new(open), part: None, trouble: None }
    }

    /// Uses the part, opening it first where needed. `None` while it is away, and at once until the pause is over.
    pub(crate) fn with<R>(&mut self, at: Duration, act: impl FnOnce(&mut T) -> Result<R, PortError>) -> Option<R> {
        if self.part.is_none()
            && self.trouble.is_some_and(|trouble| trouble.well_since.is_none() && at < trouble.retry_at)
        {
            return None;
        }
        match self.opened().and_then(act) {
            Ok(result) => {
                self.recovered(at);
                Some(result)
            }
            Err(error) => {
                self.failed(&error, at);
                None
            }
        }
    }

    /// Whether the last try failed.
    pub(crate) fn is_missing(&self) -> bool {
        self.trouble.is_some_and(|trouble| trouble.well_since.is_none())
    }

    /// Uses the part once, without retries and without a word in the log.
    pub(crate) fn attempt<R>(&mut self, act: impl FnOnce(&mut T) -> Result<R, PortError>) -> Result<R, PortError> {
        self.opened().and_then(act)
    }

    fn opened(&mut self) -> Result<&mut T, PortError> {
        match &mut self.part {
            Some(part) => Ok(part),
            empty => Ok(empty.insert((self.open)()?)),
        }
    }

    fn recovered(&mut self, at: Duration) {
        let Some(trouble) = &mut self.trouble else { return };
        let since = *trouble.well_since.get_or_insert(at);
        if at.saturating_sub(since) >= HEALTHY {
            tracing::info!(part = trouble.part, "this part of the board answers again");
            self.trouble = None;
        }
    }

    fn failed(&mut self, error: &PortError, at: Duration) {
        self.part = None;
        let pause = match self.trouble {
            None => {
                let part = error.part;
                tracing::warn!(part, %error, "a part of the board is missing; it is tried again from time to time");
                FIRST_PAUSE
            }
            Some(trouble) => (trouble.pause * 2).min(LONGEST_PAUSE),
        };
        self.trouble = Some(Trouble { pause, retry_at: at + pause, well_since: None, part: error.part });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use super::*;

    fn absent() -> PortError {
        PortError { part: "OLED", place: "nowhere".to_owned(), reason: "absent".to_owned() }
    }

    #[test]
    fn a_missing_part_is_tried_less_and_less_often() {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let mut link: Link<u8> = Link::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Err(absent())
        });
        for at in 0..600 {
            assert_eq!(link.with(Duration::from_secs(at), |_| Ok(())), None);
        }
        // At 0, 1, 3, 7, 15, 31 s and then every 30 s.
        assert_eq!(tries.load(Ordering::Relaxed), 6 + (600 - 31) / 30);
    }

    #[test]
    fn a_part_that_fails_is_opened_again_and_recovers() {
        let present = Arc::new(AtomicBool::new(true));
        let there = Arc::clone(&present);
        let mut link: Link<u8> =
            Link::new(move || if there.load(Ordering::Relaxed) { Ok(Box::new(7)) } else { Err(absent()) });
        let at = Duration::from_secs;
        assert_eq!(link.with(at(0), |part| Ok(*part)), Some(7));
        present.store(false, Ordering::Relaxed);
        assert_eq!(link.with(at(1), |_| Err::<(), _>(absent())), None);
        assert_eq!(link.with(at(2), |part| Ok(*part)), None, "it cannot be opened");
        present.store(true, Ordering::Relaxed);
        assert_eq!(link.with(at(3), |part| Ok(*part)), None, "the pause is not over");
        assert_eq!(link.with(at(4), |part| Ok(*part)), Some(7));
    }

    #[test]
    fn a_loose_contact_is_told_once_and_tried_less_and_less_often() {
        let mut link: Link<u8> = Link::new(|| Ok(Box::new(7)));
        let at = Duration::from_secs;
        for now in 0..600 {
            // It answers, and a second later it does not.
            link.with(at(now), |_| if now % 2 == 0 { Ok(()) } else { Err(absent()) });
        }
        assert!(link.trouble.is_some_and(|trouble| trouble.pause == LONGEST_PAUSE), "its pauses have grown");
        for now in 700..700 + HEALTHY.as_secs() {
            assert_eq!(link.with(at(now), |_| Ok(())), Some(()));
            assert!(link.trouble.is_some() && !link.is_missing());
        }
        link.with(at(700) + HEALTHY, |_| Ok(()));
        assert!(link.trouble.is_none(), "it has been well for long enough");
    }
}
