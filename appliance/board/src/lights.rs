//! Four lamps on pins that know only on and off.
//!
//! Owns the dimming: a thread of its own switches the pins a hundred times a second, and only while a lamp is neither dark nor
//! full. Levels come from `board` through a word of memory; pins may be any embedded-hal output pins.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use embedded_hal::digital::OutputPin;

use crate::{
    lamps::Lamps,
    ports::{LampPort, PortError},
};

/// A hundred rounds a second: no flicker to the eye, and at most five switches a round.
const ROUND: Duration = Duration::from_millis(10);
/// How soon a change of a lamp that is not dimmed is taken up.
const STEADY: Duration = Duration::from_millis(20);

/// A moment within a round: the pins' states and how long they stay.
type Moment = ([bool; 4], Duration);

/// Four lamps that a thread dims; dropping it makes them dark.
pub struct Lights {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    place: String,
}

#[derive(Default)]
struct Shared {
    levels: AtomicU32,
    stop: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Lights {
    /// Starts the thread with pins in the order ready, activity, upstream, error. `place` names the pins in errors.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start<P: OutputPin + Send + 'static>(pins: [P; 4], place: String) -> Result<Self, PortError> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new().name("board-lamps".to_owned()).spawn(move || dim(pins, &own));
        let thread = thread.map_err(|error| failed(&place, error.to_string()))?;
        Ok(Self { shared, thread: Some(thread), place })
    }
}

impl LampPort for Lights {
    fn light(&mut self, lamps: Lamps) -> Result<(), PortError> {
        self.shared.levels.store(u32::from_le_bytes(lamps.levels()), Ordering::Relaxed);
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), |reason| Err(failed(&self.place, reason)))
    }
}

impl Drop for Lights {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A thread that panicked has nothing left to switch off.
        self.thread.take().map(JoinHandle::join).unwrap_or(Ok(())).unwrap_or_default();
    }
}

fn failed(place: &str, reason: String) -> PortError {
    PortError { part: "lamps", place: place.to_owned(), reason }
}

fn dim<P: OutputPin>(mut pins: [P; 4], shared: &Shared) {
    let mut states = [None; 4];
    while !shared.stop.load(Ordering::Relaxed) {
        for (wanted, stay) in moments(shared.levels.load(Ordering::Relaxed).to_le_bytes()) {
            if let Err(error) = switch(&mut pins, &mut states, wanted) {
                *shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error:?}"));
                return;
            }
            thread::sleep(stay);
        }
    }
    // The process is leaving or the pins are being opened anew: nobody is left to tell of a failure.
    switch(&mut pins, &mut states, [false; 4]).unwrap_or_default();
}

/// Switches the pins that differ.
fn switch<P: OutputPin>(pins: &mut [P; 4], states: &mut [Option<bool>; 4], wanted: [bool; 4]) -> Result<(), P::Error> {
    for ((pin, state), wanted) in pins.iter_mut().zip(states).zip(wanted) {
        if *state != Some(wanted) {
            pin.set_state(wanted.into())?;
            *state = Some(wanted);
        }
    }
    Ok(())
}

/// One round: all lit lamps go on together, and each goes off when its share of the round is over.
fn moments(levels: [u8; 4]) -> Vec<Moment> {
    let mut ends: Vec<u8> = levels.into_iter().filter(|level| (1..u8::MAX).contains(level)).collect();
    if ends.is_empty() {
        return vec![(levels.map(|level| level > 0), STEADY)];
    }
    ends.sort_unstable();
    ends.dedup();
    ends.push(u8::MAX);
    let starts = [0].into_iter().chain(ends.clone());
    let share = |from: u8, to: u8| ROUND * u32::from(to - from) / u32::from(u8::MAX);
    starts.zip(ends).map(|(from, to)| (levels.map(|level| level > from), share(from, to))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::sim::SimBoard;

    #[test]
    fn full_and_dark_lamps_are_not_switched_at_all() {
        assert_eq!(moments([0, 255, 0, 255]), [([false, true, false, true], STEADY)]);
    }

    #[test]
    fn pins_follow_and_go_dark_at_the_end() {
        let board = SimBoard::new();
        let mut lights = Lights::start(board.pins(), "four pins".to_owned()).expect("a thread");
        lights.light(Lamps::ALL).expect("pins");
        let lit = (0..200).any(|_| {
            thread::sleep(Duration::from_millis(5));
            board.pin_states() == [true; 4]
        });
        drop(lights);
        assert_eq!((lit, board.pin_states()), (true, [false; 4]));
    }

    #[test]
    fn a_failing_pin_is_told() {
        let board = SimBoard::new();
        board.plug_pins(false);
        let mut lights = Lights::start(board.pins(), "four pins".to_owned()).expect("a thread");
        let told = (0..200).find_map(|_| {
            thread::sleep(Duration::from_millis(5));
            lights.light(Lamps::ALL).err()
        });
        assert_eq!(told.map(|error| (error.part, error.place)), Some(("lamps", "four pins".to_owned())));
    }

    proptest! {
        #[test]
        fn each_lamp_is_lit_for_its_share(levels in any::<[u8; 4]>()) {
            let moments = moments(levels);
            let round: Duration = moments.iter().map(|moment| moment.1).sum();
            for (index, level) in levels.into_iter().enumerate() {
                let lit: Duration = moments.iter().filter(|moment| moment.0[index]).map(|moment| moment.1).sum();
                let wanted = round.as_secs_f64() * f64::from(level) / 255.0;
                prop_assert!((lit.as_secs_f64() - wanted).abs() < 1e-6);
            }
        }
    }
}
