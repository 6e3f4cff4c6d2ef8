//! What the board needs of the hardware: a screen, four lamps, two buttons.
//!
//! Owns the traits, the error and the clock they share. The backends in `backend` implement the traits over embedded-hal pins
//! and buses; `board` uses them and knows no pin.

use std::time::{Duration, Instant};

use crate::{buttons::Edge, desk::Light, frame::Frame, lamps::Lamps};

/// A part that could not be opened or does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part} at {place}: {reason}")]
pub struct PortError {
    /// Which part, such as `OLED`.
    pub part: &'static str,
    /// Where it was looked for, such as `/dev/i2c-1 address 0x3c`.
    pub place: String,
    /// What the system said.
    pub reason: String,
}

/// A panel of 128 x 64 pixels.
pub trait Screen: Send {
    /// Shows the picture; sends nothing that is there already.
    ///
    /// # Errors
    /// The panel did not take it. What it shows is unknown then, and the next call sends everything.
    fn show(&mut self, frame: &Frame, light: Light) -> Result<(), PortError>;

    /// Doubts what the panel shows, so that the next `show` sets it up anew: a panel that lost its power for a moment
    /// answers as before but shows noise or nothing.
    fn doubt(&mut self);
}

/// Four lamps.
pub trait LampPort: Send {
    /// Sets their brightness.
    ///
    /// # Errors
    /// A pin could not be set.
    fn light(&mut self, lamps: Lamps) -> Result<(), PortError>;
}

/// Edges that one wait returns at most: more than two bouncing contacts make in a tick.
pub(crate) const EDGES: usize = 64;

/// Two buttons.
pub trait ButtonPort: Send {
    /// Which are pressed now.
    ///
    /// # Errors
    /// The pins could not be read.
    fn pressed(&mut self) -> Result<[bool; 2], PortError>;

    /// Waits for edges and returns those that came, with their times on `clock`; none after `timeout`.
    ///
    /// # Errors
    /// The pins could not be read.
    fn wait(&mut self, clock: Clock, timeout: Duration) -> Result<Vec<Edge>, PortError>;
}

/// Time since the board's start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts at zero.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start.
    #[must_use]
    pub fn now(self) -> Duration {
        self.start.elapsed()
    }
}

/// Brings the kernel's time stamps of edges to the board's clock. The two differ by a constant that is not known, but no edge
/// is read before it happened: the shortest delay seen so far is the best estimate.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    /// The kernel's time of an edge and the board's time of reading it, of the edge that was read the soonest.
    soonest: Option<(Duration, Duration)>,
}

impl Stamps {
    pub(crate) fn on_board(&mut self, stamp: Duration, now: Duration) -> Duration {
        let estimate = self.soonest.map(|(kernel, board)| (board + stamp).saturating_sub(kernel));
        match estimate.filter(|estimate| *estimate <= now) {
            Some(estimate) => estimate,
            None => {
                self.soonest = Some((stamp, now));
                now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_keep_the_distance_of_edges_that_are_read_late() {
        let ms = Duration::from_millis;
        let mut stamps = Stamps::default();
        assert_eq!(stamps.on_board(ms(5_000), ms(100)), ms(100));
        assert_eq!(stamps.on_board(ms(5_050), ms(240)), ms(150), "read 90 ms late");
        assert_eq!(stamps.on_board(ms(5_200), ms(290)), ms(290), "an edge is never in the future");
        assert_eq!(stamps.on_board(ms(5_300), ms(395)), ms(390));
    }
}
