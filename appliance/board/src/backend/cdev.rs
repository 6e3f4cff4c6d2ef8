//! Pins through the kernel's GPIO character device: any Linux board, and `gpio-sim` in tests.
//!
//! Owns the requests for lines. Edges carry the kernel's own time stamps, so a press is measured right even when this thread
//! was busy sending a picture.

use std::{sync::Arc, time::Duration};

use embedded_hal::digital::{Error, ErrorKind, ErrorType, OutputPin, PinState};
use gpiocdev::{
    Request,
    line::{Bias, EdgeDetection, EdgeKind, Value},
};

use crate::{
    buttons::{Button, Edge},
    ports::{ButtonPort, Clock, EDGES, PortError, Stamps},
    wiring::Wiring,
};

/// The name under which `gpioinfo` shows our lines.
const CONSUMER: &str = "cerebrum";

/// The pins in words, for errors.
pub(super) fn place(wiring: &Wiring, pins: &[u8]) -> String {
    format!("{} lines {pins:?}", wiring.gpio_chip.display())
}

fn offsets(pins: &[u8]) -> Vec<u32> {
    pins.iter().map(|&pin| pin.into()).collect()
}

/// The lamps' pins, dark.
pub(super) fn lamps(wiring: &Wiring) -> Result<[Lamp; 4], PortError> {
    let mut builder = Request::builder();
    builder.on_chip(&wiring.gpio_chip).with_consumer(CONSUMER).with_lines(&offsets(&wiring.lamps));
    builder.as_output(Value::Inactive);
    if wiring.lamps_active_low {
        builder.as_active_low();
    }
    let request = builder.request().map_err(|error| failed("lamps", wiring, &wiring.lamps, &error))?;
    let request = Arc::new(request);
    Ok(wiring.lamps.map(|pin| Lamp { request: Arc::clone(&request), offset: pin.into() }))
}

fn failed(part: &'static str, wiring: &Wiring, pins: &[u8], error: &gpiocdev::Error) -> PortError {
    PortError { part, place: place(wiring, pins), reason: error.to_string() }
}

/// One lamp's pin; high means lit, whatever the wiring.
pub(super) struct Lamp {
    request: Arc<Request>,
    offset: u32,
}

/// What the kernel said.
#[derive(Debug)]
pub(super) struct LineError(#[expect(dead_code, reason = "printed by way of Debug")] gpiocdev::Error);

impl Error for LineError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl ErrorType for Lamp {
    type Error = LineError;
}

impl OutputPin for Lamp {
    fn set_low(&mut self) -> Result<(), LineError> {
        self.set_state(PinState::Low)
    }

    fn set_high(&mut self) -> Result<(), LineError> {
        self.set_state(PinState::High)
    }

    fn set_state(&mut self, state: PinState) -> Result<(), LineError> {
        self.request.set_value(self.offset, (state == PinState::High).into()).map_err(LineError)
    }
}

/// The buttons' pins.
pub(super) struct Buttons {
    request: Request,
    wiring: Wiring,
    stamps: Stamps,
}

impl Buttons {
    pub(super) fn open(wiring: &Wiring) -> Result<Self, PortError> {
        let mut builder = Request::builder();
        builder.on_chip(&wiring.gpio_chip).with_consumer(CONSUMER).with_lines(&offsets(&wiring.buttons));
        builder.as_input().with_edge_detection(EdgeDetection::BothEdges);
        if wiring.buttons_active_low {
            builder.as_active_low().with_bias(Bias::PullUp);
        } else {
            builder.with_bias(Bias::PullDown);
        }
        let request = builder.request().map_err(|error| failed("buttons", wiring, &wiring.buttons, &error))?;
        Ok(Self { request, wiring: wiring.clone(), stamps: Stamps::default() })
    }

    fn tell(&self, error: &gpiocdev::Error) -> PortError {
        failed("buttons", &self.wiring, &self.wiring.buttons, error)
    }

    fn next_edge(&mut self, clock: Clock) -> Result<Option<Edge>, gpiocdev::Error> {
        let event = self.request.read_edge_event()?;
        let at = self.stamps.on_board(Duration::from_nanos(event.timestamp_ns), clock.now());
        let which = self.wiring.buttons.iter().position(|&pin| u32::from(pin) == event.offset);
        let pressed = event.kind == EdgeKind::Rising;
        Ok(which.map(|index| Edge { button: Button::ALL[index], pressed, at }))
    }

    fn edges(&mut self, clock: Clock, timeout: Duration) -> Result<Vec<Edge>, gpiocdev::Error> {
        let mut edges = Vec::new();
        let mut more = self.request.wait_edge_event(timeout)?;
        // A line that never rests must not keep the board's thread: the rest comes with the next wait.
        while more && edges.len() < EDGES {
            edges.extend(self.next_edge(clock)?);
            more = self.request.has_edge_event()?;
        }
        Ok(edges)
    }
}

impl ButtonPort for Buttons {
    fn pressed(&mut self) -> Result<[bool; 2], PortError> {
        let [first, second] = self.wiring.buttons.map(|pin| self.request.value(pin.into()));
        let active = |value: gpiocdev::Result<Value>| value.map(|value| value == Value::Active);
        Ok([active(first).map_err(|error| self.tell(&error))?, active(second).map_err(|error| self.tell(&error))?])
    }

    fn wait(&mut self, clock: Clock, timeout: Duration) -> Result<Vec<Edge>, PortError> {
        self.edges(clock, timeout).map_err(|error| self.tell(&error))
    }
}
