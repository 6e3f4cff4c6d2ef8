//! Where the board's parts are connected.
//!
//! Owns the defaults and the check that they make sense together. Never reads a file: the appliance's settings fill it.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use crate::desk::Rest;

/// The way to the pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Chosen by what the machine has.
    #[default]
    Auto,
    /// The Raspberry Pi's own registers, through `/dev/gpiomem`.
    Pi,
    /// The kernel's GPIO character device: any Linux board.
    Cdev,
    /// A board made of memory.
    Sim,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Pi => "pi",
            Self::Cdev => "cdev",
            Self::Sim => "sim",
        })
    }
}

/// Where the parts are, and how they behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wiring {
    /// The way to the pins.
    pub backend: Backend,
    /// The I2C bus of the panel.
    pub i2c_bus: PathBuf,
    /// The panel's address: 0x3c, or 0x3d on boards with the other resistor.
    pub address: u8,
    /// Whether the panel is mounted upside down.
    pub upside_down: bool,
    /// The GPIO chip of lamps and buttons, for the character device.
    pub gpio_chip: PathBuf,
    /// Pins (GPIO numbers, not header positions) of the ready, activity, upstream and error lamps.
    pub lamps: [u8; 4],
    /// Whether a lamp is lit when its pin is low.
    pub lamps_active_low: bool,
    /// Pins of the two buttons.
    pub buttons: [u8; 2],
    /// Whether a button pulls its pin low; its pull-up resistor is switched on then, else the pull-down.
    pub buttons_active_low: bool,
    /// When the panel rests.
    pub rest: Rest,
}

impl Default for Wiring {
    /// As the README's table for the CM4 IO board says: the panel on header pins 3 and 5, lamps on GPIO 17, 27, 22 and 23,
    /// buttons from GPIO 5 and 6 to ground.
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            i2c_bus: PathBuf::from("/dev/i2c-1"),
            address: 0x3c,
            upside_down: false,
            gpio_chip: PathBuf::from("/dev/gpiochip0"),
            lamps: [17, 27, 22, 23],
            lamps_active_low: false,
            buttons: [5, 6],
            buttons_active_low: true,
            rest: Rest::default(),
        }
    }
}

/// The pins of a CM4 that have a number: GPIO 0 to 57.
const PIN_COUNT: u8 = 58;
/// Addresses below and above are reserved by the I2C bus.
const ADDRESSES: std::ops::RangeInclusive<u8> = 0x08..=0x77;

impl Wiring {
    /// Everything that cannot be, each as `key: found .., expected ..`; empty when the wiring makes sense.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !ADDRESSES.contains(&self.address) {
            problems.push(format!("address: found {:#04x}, expected 0x08 to 0x77", self.address));
        }
        let mut seen = BTreeSet::new();
        for (key, pin) in self.named_pins() {
            if pin >= PIN_COUNT {
                problems.push(format!("{key}: found GPIO {pin}, expected 0 to {}", PIN_COUNT - 1));
            } else if self.panel_has(pin) {
                let bus = self.i2c_bus.display();
                problems.push(format!("{key}: found GPIO {pin}, expected another: the panel's bus {bus} is on it"));
            } else if !seen.insert(pin) {
                problems.push(format!("{key}: found GPIO {pin}, expected a pin that nothing else uses"));
            }
        }
        problems
    }

    /// Whether the pin is one of the panel's bus, where it is known which those are.
    fn panel_has(&self, pin: u8) -> bool {
        self.i2c_bus == Path::new("/dev/i2c-1") && [2, 3].contains(&pin)
    }

    fn named_pins(&self) -> impl Iterator<Item = (&'static str, u8)> {
        let keys =
            ["lamps.ready", "lamps.activity", "lamps.upstream", "lamps.error", "buttons.first", "buttons.second"];
        keys.into_iter().zip(self.lamps.into_iter().chain(self.buttons))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_wiring_makes_sense() {
        assert_eq!(Wiring::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn the_panels_bus_keeps_its_pins() {
        let wiring = Wiring { buttons: [2, 3], ..Wiring::default() };
        let told = |key| {
            format!(
                "{key}: found GPIO {}, expected another: the panel's bus /dev/i2c-1 is on it",
                if key == "buttons.first" { 2 } else { 3 }
            )
        };
        assert_eq!(wiring.problems(), [told("buttons.first"), told("buttons.second")]);
        assert_eq!(Wiring { i2c_bus: "/dev/i2c-4".into(), ..wiring }.problems(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let wiring = Wiring { address: 0x7f, lamps: [17, 17, 99, 23], buttons: [5, 23], ..Wiring::default() };
        assert_eq!(
            wiring.problems(),
            [
                "address: found 0x7f, expected 0x08 to 0x77",
                "lamps.activity: found GPIO 17, expected a pin that nothing else uses",
                "lamps.upstream: found GPIO 99, expected 0 to 57",
                "buttons.second: found GPIO 23, expected a pin that nothing else uses",
            ]
        );
    }
}
