//! The ways to the hardware, and the choice between them.
//!
//! Owns which backend is used and how its parts are opened, again and again when need be. Only the modules below name a device
//! file or a driver crate.

mod cdev;
#[cfg(feature = "pi")]
mod pi;
pub mod sim;
mod ssd1306_model;

use std::{fs, path::Path};

use embedded_hal::digital::OutputPin;
use linux_embedded_hal::I2cdev;

use crate::{
    lights::Lights,
    link::Link,
    oled::Oled,
    ports::{ButtonPort, LampPort, PortError, Screen},
    wiring::{Backend, Wiring},
};
use sim::SimBoard;

/// The registers that a Raspberry Pi kernel gives to programs; a mainline kernel does not have it.
const GPIOMEM: &str = "/dev/gpiomem";

/// The name of the board, which only board computers have. Any machine has GPIO chips and I2C buses, but behind them may be its
/// own memory modules and power switches: but for a Raspberry Pi, nothing may be touched without being asked for.
const BOARD_MODEL: &str = "/proc/device-tree/model";

/// The parts of a board, each opened when first used.
pub(crate) struct Parts {
    pub(crate) screen: Link<dyn Screen>,
    pub(crate) lamps: Link<dyn LampPort>,
    pub(crate) buttons: Link<dyn ButtonPort>,
}

/// Which backend a wiring means on this machine, and why.
#[must_use]
pub fn choose(wiring: &Wiring) -> (Backend, String) {
    match wiring.backend {
        Backend::Auto => automatic(fs::read_to_string(BOARD_MODEL).ok().as_deref(), Path::new(GPIOMEM).exists()),
        chosen => (chosen, "the settings say so".to_owned()),
    }
}

/// By the board's name alone: its devices may come later than this program, and are waited for.
fn automatic(model: Option<&str>, gpiomem: bool) -> (Backend, String) {
    // The kernel ends it with a zero byte.
    let model = model.map_or("unknown", |model| model.trim_end_matches('\0'));
    if !model.contains("Raspberry Pi") {
        (Backend::Sim, format!("this machine's model is {model}, and no Raspberry Pi"))
    } else if cfg!(feature = "pi") && gpiomem {
        (Backend::Pi, format!("this is a {model}, and {GPIOMEM} is there"))
    } else {
        (Backend::Cdev, format!("this is a {model}, and {GPIOMEM} is not there"))
    }
}

/// The parts of the backend, which is one that `choose` returned. `sim` is the board that the simulated backend shows on.
pub(crate) fn parts(backend: Backend, wiring: &Wiring, sim: &SimBoard) -> Parts {
    match backend {
        Backend::Sim => simulated(sim),
        #[cfg(feature = "pi")]
        Backend::Pi => raspberry(wiring),
        _ => character_device(wiring),
    }
}

fn simulated(board: &SimBoard) -> Parts {
    let (screen, lamps, buttons) = (board.clone(), board.clone(), board.clone());
    Parts {
        screen: Link::new(move || {
            let panel = Oled::new(screen.bus(), sim::ADDRESS, false, "the simulated bus".to_owned());
            Ok(Box::new(panel) as Box<dyn Screen>)
        }),
        lamps: Link::new(move || lit(lamps.pins(), "the simulated pins".to_owned())),
        buttons: Link::new(move || Ok(Box::new(buttons.buttons()) as Box<dyn ButtonPort>)),
    }
}

#[cfg(feature = "pi")]
fn raspberry(wiring: &Wiring) -> Parts {
    let (lamps, buttons) = (wiring.clone(), wiring.clone());
    Parts {
        screen: panel(wiring),
        lamps: Link::new(move || lit(pi::lamps(&lamps)?, pi::place(&lamps.lamps))),
        buttons: Link::new(move || Ok(Box::new(pi::Buttons::open(&buttons)?) as Box<dyn ButtonPort>)),
    }
}

fn character_device(wiring: &Wiring) -> Parts {
    let (lamps, buttons) = (wiring.clone(), wiring.clone());
    Parts {
        screen: panel(wiring),
        lamps: Link::new(move || lit(cdev::lamps(&lamps)?, cdev::place(&lamps, &lamps.lamps))),
        buttons: Link::new(move || Ok(Box::new(cdev::Buttons::open(&buttons)?) as Box<dyn ButtonPort>)),
    }
}

fn lit<P: OutputPin + Send + 'static>(pins: [P; 4], place: String) -> Result<Box<dyn LampPort>, PortError> {
    Ok(Box::new(Lights::start(pins, place)?))
}

/// The panel is on a kernel I2C bus with either kind of pins.
fn panel(wiring: &Wiring) -> Link<dyn Screen> {
    let (bus, address, upside_down) = (wiring.i2c_bus.clone(), wiring.address, wiring.upside_down);
    let place = format!("{} address {address:#04x}", bus.display());
    Link::new(move || {
        let failed = |reason: String| PortError { part: "OLED", place: place.clone(), reason };
        let device = I2cdev::new(&bus).map_err(|error| failed(error.to_string()))?;
        Ok(Box::new(Oled::new(device, address, upside_down, place.clone())) as Box<dyn Screen>)
    })
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;
    use crate::{Frame, Lamps, desk::Light};

    fn nowhere() -> Wiring {
        Wiring {
            i2c_bus: PathBuf::from("/nonexistent/i2c"),
            gpio_chip: PathBuf::from("/nonexistent/gpio"),
            ..Wiring::default()
        }
    }

    #[test]
    fn auto_takes_a_raspberry_pi_and_leaves_all_else_alone() {
        let registers = if cfg!(feature = "pi") { Backend::Pi } else { Backend::Cdev };
        let cm4 = Some("Raspberry Pi Compute Module 4 Rev 1.1\0");
        assert_eq!(automatic(cm4, true).0, registers);
        // Whatever devices there are as yet.
        assert_eq!(automatic(cm4, false).0, Backend::Cdev);
        for other in [None, Some("Radxa ROCK 5B\0"), Some("Qualcomm laptop\0")] {
            assert_eq!([automatic(other, true).0, automatic(other, false).0], [Backend::Sim; 2]);
        }
    }

    #[test]
    fn settings_win_over_what_is_there() {
        let asked = Wiring { backend: Backend::Cdev, ..nowhere() };
        assert_eq!(choose(&asked), (Backend::Cdev, "the settings say so".to_owned()));
    }

    #[test]
    fn missing_devices_are_errors_and_not_panics() {
        for backend in [Backend::Cdev, Backend::Pi] {
            let mut parts = parts(backend, &nowhere(), &SimBoard::new());
            assert_eq!(parts.screen.with(Duration::ZERO, |screen| screen.show(&Frame::dark(), Light::Dim)), None);
            if backend == Backend::Cdev {
                assert_eq!(parts.lamps.with(Duration::ZERO, |lamps| lamps.light(Lamps::ALL)), None);
                assert_eq!(parts.buttons.with(Duration::ZERO, |buttons| buttons.pressed()), None);
            }
        }
    }
}
