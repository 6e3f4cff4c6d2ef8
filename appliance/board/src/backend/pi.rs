//! Pins through the Raspberry Pi's own registers (rppal), where `/dev/gpiomem` exists.
//!
//! Owns the pins it has taken. Outputs are a write to memory, which keeps the lamps' dimming cheap; inputs come as interrupts
//! with the kernel's time stamps.

use std::time::Duration;

use rppal::gpio::{Gpio, InputPin, Level, OutputPin, Trigger};

use crate::{
    buttons::{Button, Edge},
    ports::{ButtonPort, Clock, EDGES, PortError, Stamps},
    wiring::Wiring,
};

/// The pins in words, for errors.
pub(super) fn place(pins: &[u8]) -> String {
    format!("GPIO {pins:?}")
}

fn failed(part: &'static str, pins: &[u8], error: &rppal::gpio::Error) -> PortError {
    PortError { part, place: place(pins), reason: error.to_string() }
}

/// The lamps' pins, dark.
pub(super) fn lamps(wiring: &Wiring) -> Result<[Lamp; 4], PortError> {
    let tell = |error| failed("lamps", &wiring.lamps, &error);
    let gpio = Gpio::new().map_err(tell)?;
    let [ready, activity, upstream, error] = wiring.lamps.map(|pin| gpio.get(pin));
    let inverted = wiring.lamps_active_low;
    let lamp = |pin: rppal::gpio::Result<rppal::gpio::Pin>| pin.map(|pin| Lamp::dark(pin, inverted)).map_err(tell);
    Ok([lamp(ready)?, lamp(activity)?, lamp(upstream)?, lamp(error)?])
}

/// One lamp's pin; high means lit, whatever the wiring.
pub(super) struct Lamp {
    pin: OutputPin,
    inverted: bool,
}

impl Lamp {
    fn dark(pin: rppal::gpio::Pin, inverted: bool) -> Self {
        let pin = if inverted { pin.into_output_high() } else { pin.into_output_low() };
        Self { pin, inverted }
    }
}

impl embedded_hal::digital::ErrorType for Lamp {
    type Error = std::convert::Infallible;
}

impl embedded_hal::digital::OutputPin for Lamp {
    fn set_low(&mut self) -> Result<(), Self::Error> {
        self.pin.write(if self.inverted { Level::High } else { Level::Low });
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Self::Error> {
        self.pin.write(if self.inverted { Level::Low } else { Level::High });
        Ok(())
    }
}

/// The buttons' pins.
pub(super) struct Buttons {
    gpio: Gpio,
    inputs: [InputPin; 2],
    wiring: Wiring,
    stamps: Stamps,
}

impl Buttons {
    pub(super) fn open(wiring: &Wiring) -> Result<Self, PortError> {
        let tell = |error| failed("buttons", &wiring.buttons, &error);
        let gpio = Gpio::new().map_err(tell)?;
        let open = |pin| input(&gpio, pin, wiring.buttons_active_low).map_err(tell);
        let inputs = [open(wiring.buttons[0])?, open(wiring.buttons[1])?];
        Ok(Self { gpio, inputs, wiring: wiring.clone(), stamps: Stamps::default() })
    }

    fn next_edge(&mut self, clock: Clock, timeout: Duration) -> rppal::gpio::Result<Option<Edge>> {
        let [first, second] = &self.inputs;
        let Some((pin, event)) = self.gpio.poll_interrupts(&[first, second], false, Some(timeout))? else {
            return Ok(None);
        };
        let button = if pin.pin() == first.pin() { Button::First } else { Button::Second };
        let rising = event.trigger == Trigger::RisingEdge;
        let at = self.stamps.on_board(event.timestamp, clock.now());
        Ok(Some(Edge { button, pressed: rising != self.wiring.buttons_active_low, at }))
    }

    fn edges(&mut self, clock: Clock, timeout: Duration) -> rppal::gpio::Result<Vec<Edge>> {
        let mut edges = Vec::new();
        let mut next = self.next_edge(clock, timeout)?;
        // A line that never rests must not keep the board's thread: the rest comes with the next wait.
        while let Some(edge) = next {
            edges.push(edge);
            if edges.len() == EDGES {
                break;
            }
            next = self.next_edge(clock, Duration::ZERO)?;
        }
        Ok(edges)
    }
}

fn input(gpio: &Gpio, pin: u8, active_low: bool) -> rppal::gpio::Result<InputPin> {
    let pin = gpio.get(pin)?;
    let mut input = if active_low { pin.into_input_pullup() } else { pin.into_input_pulldown() };
    input.set_interrupt(Trigger::Both, None)?;
    Ok(input)
}

impl ButtonPort for Buttons {
    fn pressed(&mut self) -> Result<[bool; 2], PortError> {
        let [first, second] = &self.inputs;
        Ok([first, second].map(|input| input.is_high() != self.wiring.buttons_active_low))
    }

    fn wait(&mut self, clock: Clock, timeout: Duration) -> Result<Vec<Edge>, PortError> {
        self.edges(clock, timeout).map_err(|error| failed("buttons", &self.wiring.buttons, &error))
    }
}
