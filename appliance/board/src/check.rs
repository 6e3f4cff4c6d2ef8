//! The board's self-test, for `cerebrumd --check-board`.
//!
//! Lights one lamp after the other, shows the test pattern, collects presses, and reports what answered. Used instead of the
//! board's thread, never beside it.

use std::{fmt, thread, time::Duration};

use crate::{
    Frame, Lamps, Page, Snapshot,
    backend::{self, sim::SimBoard},
    buttons::Button,
    desk::Light,
    link::Link,
    ports::{ButtonPort, Clock, PortError},
    render,
    wiring::{Backend, Wiring},
};

/// Pause between two looks at the buttons.
const LOOK: Duration = Duration::from_millis(20);

/// What answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The backend that was used, and why.
    pub backend: (Backend, String),
    /// Whether the panel took the test pattern.
    pub screen: Result<(), PortError>,
    /// Whether the lamps could be lit.
    pub lamps: Result<(), PortError>,
    /// Which buttons were pressed at any time during the test.
    pub buttons: Result<[bool; 2], PortError>,
}

impl Report {
    /// Whether everything answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.screen.is_ok() && self.lamps.is_ok() && self.buttons.is_ok()
    }
}

/// Tries every part of the board, each lamp for `time`, so that a person can look at it; `tell` hears what is to be seen now.
#[must_use]
pub fn check(wiring: &Wiring, time: Duration, mut tell: impl FnMut(&str)) -> Report {
    let backend = backend::choose(wiring);
    let mut parts = backend::parts(backend.0, wiring, &SimBoard::new());
    let name = format!("{} {:#04x}", wiring.i2c_bus.display(), wiring.address);
    let pattern = render(&Snapshot { name, ..Snapshot::default() }, Page::Test);
    let screen = parts.screen.attempt(|screen| screen.show(&pattern, Light::Bright));
    tell(
        "panel: TOP is upright, a square in its upper left corner, small squares in its lower right one; press each button",
    );
    let (mut lamps, mut buttons) = (Ok(()), Ok([false; 2]));
    for lamp in Lamps::EACH {
        tell(&format!("lamp: {}", lamp.0));
        let lit = parts.lamps.attempt(|lamps| lamps.light(lamp.1));
        buttons = buttons.and_then(|before| presses(&mut parts.buttons, before, time));
        // The lamps are switched by a thread: only a second call can tell that the first one failed.
        let again = lit.and_then(|()| parts.lamps.attempt(|lamps| lamps.light(lamp.1)));
        lamps = lamps.and(again);
    }
    let dark = parts.screen.attempt(|screen| screen.show(&Frame::dark(), Light::Off));
    Report { backend, screen: screen.and(dark), lamps, buttons }
}

/// Which buttons have been pressed until `time` is over.
fn presses(port: &mut Link<dyn ButtonPort>, before: [bool; 2], time: Duration) -> Result<[bool; 2], PortError> {
    let (clock, mut pressed) = (Clock::start(), before);
    let outcome = loop {
        let looked = port.attempt(|port| Ok((port.wait(clock, LOOK)?, port.pressed()?)));
        let Ok((edges, levels)) = looked else { break looked.map(|_| pressed) };
        for button in Button::ALL {
            let edge = edges.iter().any(|edge| edge.button == button && edge.pressed);
            pressed[button as usize] |= edge || levels[button as usize];
        }
        if clock.now() >= time {
            return Ok(pressed);
        }
    };
    thread::sleep(time);
    outcome
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "backend  {} ({})", self.backend.0, self.backend.1)?;
        writeln!(f, "screen   {}", outcome(&self.screen, |()| "shows the test pattern".to_owned()))?;
        writeln!(f, "lamps    {}", outcome(&self.lamps, |()| "lit one after the other".to_owned()))?;
        write!(f, "buttons  {}", outcome(&self.buttons, pressed))?;
        if [self.screen.as_ref().err(), self.lamps.as_ref().err(), self.buttons.as_ref().err()]
            .into_iter()
            .flatten()
            .any(is_taken)
        {
            write!(
                f,
                "\nhint     another program has it: is cerebrumd running? `systemctl stop cerebrumd` lets it go"
            )?;
        }
        Ok(())
    }
}

/// Whether the kernel says EBUSY.
fn is_taken(error: &PortError) -> bool {
    error.reason.to_lowercase().contains("busy")
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
        let mut told = Vec::new();
        let report = check(&wiring, Duration::from_millis(50), |line| told.push(line.to_owned()));
        assert!(report.is_complete(), "{report}");
        assert_eq!(told[1..], ["lamp: ready", "lamp: activity", "lamp: upstream", "lamp: error"]);
        assert_eq!(
            report.to_string(),
            "backend  sim (the settings say so)\nscreen   ok, shows the test pattern\nlamps    ok, lit one after the other\nbuttons  ok, none pressed"
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
        let report = check(&wiring, Duration::ZERO, |_| {});
        assert!(report.screen.is_err() && report.lamps.is_err() && report.buttons.is_err(), "{report}");
        assert!(report.to_string().contains("missing: OLED at /nonexistent/i2c address 0x3c"), "{report}");
    }

    #[test]
    fn presses_count_whenever_they_come() {
        let sim = SimBoard::new();
        let mut parts = backend::parts(Backend::Sim, &Wiring::default(), &sim);
        let mut pressed = [false; 2];
        sim.press(Button::Second, Duration::from_millis(1));
        for _ in 0..3 {
            pressed = presses(&mut parts.buttons, pressed, Duration::from_millis(50)).expect("buttons");
        }
        assert_eq!(pressed, [false, true], "it was up again long before the end");
    }

    #[test]
    fn lines_that_are_taken_come_with_a_hint() {
        let taken =
            PortError { part: "lamps", place: "x".into(), reason: "Device or resource busy (os error 16)".into() };
        let report = Report {
            backend: (Backend::Cdev, String::new()),
            screen: Ok(()),
            lamps: Err(taken),
            buttons: Ok([false; 2]),
        };
        assert!(report.to_string().contains("is cerebrumd running?"), "{report}");
    }
}
