//! The board's self-test, for `cerebrumd --check-board`.
//!
//! Lights every lamp, shows the test pattern, reads the buttons, and reports what answered. Used instead of the board's thread,
//! never beside it.

use std::{fmt, thread, time::Duration};

use crate::{
    Lamps, Page, Snapshot,
    backend::{self, sim::SimBoard},
    desk::Light,
    ports::PortError,
    render,
    wiring::{Backend, Wiring},
};

/// What answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The backend that was used, and why.
    pub backend: (Backend, String),
    /// Whether the panel took the test pattern.
    pub screen: Result<(), PortError>,
    /// Whether the lamps could be lit.
    pub lamps: Result<(), PortError>,
    /// Which buttons were pressed during the test.
    pub buttons: Result<[bool; 2], PortError>,
}

impl Report {
    /// Whether everything answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.screen.is_ok() && self.lamps.is_ok() && self.buttons.is_ok()
    }
}

/// Tries every part of the board for `time`, so that a person can look at it.
#[must_use]
pub fn check(wiring: &Wiring, time: Duration) -> Report {
    let backend = backend::choose(wiring);
    let mut parts = backend::parts(backend.0, wiring, &SimBoard::new());
    let pattern = render(&Snapshot::default(), Page::Test);
    let screen = parts.screen.attempt(|screen| screen.show(&pattern, Light::Bright));
    let first = parts.lamps.attempt(|lamps| lamps.light(Lamps::ALL));
    thread::sleep(time);
    // The lamps are switched by a thread: only a second call can tell that the first one failed.
    let lamps = first.and_then(|()| parts.lamps.attempt(|lamps| lamps.light(Lamps::ALL)));
    let buttons = parts.buttons.attempt(|buttons| buttons.pressed());
    Report { backend, screen, lamps, buttons }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "backend  {} ({})", self.backend.0, self.backend.1)?;
        writeln!(f, "screen   {}", outcome(&self.screen, |()| "shows the test pattern".to_owned()))?;
        writeln!(f, "lamps    {}", outcome(&self.lamps, |()| "all lit".to_owned()))?;
        write!(f, "buttons  {}", outcome(&self.buttons, pressed))
    }
}

fn outcome<T: Copy>(result: &Result<T, PortError>, text: impl Fn(T) -> String) -> String {
    match result {
        Ok(value) => format!("ok, {}", text(*value)),
        Err(error) => format!("missing: {error}"),
    }
}

fn pressed(buttons: [bool; 2]) -> String {
    match buttons {
        [false, false] => "none pressed".to_owned(),
        [true, false] => "first pressed".to_owned(),
        [false, true] => "second pressed".to_owned(),
        [true, true] => "both pressed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_simulated_board_is_complete() {
        let wiring = Wiring { backend: Backend::Sim, ..Wiring::default() };
        let report = check(&wiring, Duration::from_millis(50));
        assert!(report.is_complete(), "{report}");
        assert_eq!(
            report.to_string(),
            "backend  sim (the settings say so)\nscreen   ok, shows the test pattern\nlamps    ok, all lit\nbuttons  ok, none pressed"
        );
    }

    #[test]
    fn a_missing_board_is_told_part_by_part() {
        let wiring = Wiring {
            backend: Backend::Cdev,
            i2c_bus: PathBuf::from("/nonexistent/i2c"),
            gpio_chip: PathBuf::from("/nonexistent/gpio"),
            ..Wiring::default()
        };
        let report = check(&wiring, Duration::ZERO);
        assert!(report.screen.is_err() && report.lamps.is_err() && report.buttons.is_err(), "{report}");
        assert!(report.to_string().contains("missing: OLED at /nonexistent/i2c address 0x3c"), "{report}");
    }
}
