//! A board made of memory: for a laptop, for the demo and for the tests.
//!
//! Owns a simulated SSD1306 that understands the bytes on its bus, four pins and two buttons, each of which can be unplugged.
//! The picture that it shows has gone through the same code as the real one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use embedded_hal::{
    digital::{self, OutputPin},
    i2c::{self, I2c, NoAcknowledgeSource, Operation},
};

pub use super::ssd1306_model::PanelModel;
use crate::{
    buttons::{Button, Edge},
    ports::{ButtonPort, Clock, PortError},
};

/// The address at which the simulated panel answers.
pub const ADDRESS: u8 = 0x3c;
/// Presses that may wait to be seen; more are dropped, as a person cannot press faster.
const PRESSES: usize = 64;
/// Pause between two presses, longer than contacts bounce.
const BETWEEN: Duration = Duration::from_millis(50);

/// A simulated board; clones are the same board.
#[derive(Debug, Clone, Default)]
pub struct SimBoard {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    panel: PanelModel,
    panel_plugged: bool,
    pins: [bool; 4],
    pins_plugged: bool,
    /// Levels to come, each with how long it stays.
    changes: VecDeque<([bool; 2], Duration)>,
    pressed: [bool; 2],
}

impl Default for State {
    fn default() -> Self {
        Self {
            panel: PanelModel::default(),
            panel_plugged: true,
            pins: [false; 4],
            pins_plugged: true,
            changes: VecDeque::new(),
            pressed: [false; 2],
        }
    }
}

impl SimBoard {
    /// A board with everything plugged in and nothing shown.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the panel's memory holds.
    #[must_use]
    pub fn panel(&self) -> PanelModel {
        self.state().panel.clone()
    }

    /// Plugs the panel in or out. A panel that is plugged in again has lost its memory.
    pub fn plug_panel(&self, plugged: bool) {
        let mut state = self.state();
        state.panel_plugged = plugged;
        state.panel = PanelModel::default();
    }

    /// Plugs lamps and buttons in or out.
    pub fn plug_pins(&self, plugged: bool) {
        self.state().pins_plugged = plugged;
    }

    /// Which lamps are lit, in the order ready, activity, upstream, error.
    #[must_use]
    pub fn pin_states(&self) -> [bool; 4] {
        self.state().pins
    }

    /// Presses a button for a while; presses are worked off one after the other.
    pub fn press(&self, button: Button, held: Duration) {
        self.hold(Button::ALL.map(|each| each == button), held);
    }

    /// Presses both buttons together for a while.
    pub fn press_both(&self, held: Duration) {
        self.hold([true; 2], held);
    }

    fn hold(&self, pressed: [bool; 2], held: Duration) {
        let mut state = self.state();
        if state.changes.len() < 2 * PRESSES {
            state.changes.push_back((pressed, held));
            state.changes.push_back(([false; 2], BETWEEN));
        }
    }

    /// The bus that the panel is on.
    #[must_use]
    pub fn bus(&self) -> impl I2c + Send + use<> {
        SimBus { board: self.clone() }
    }

    /// The pins that the lamps are on.
    #[must_use]
    pub fn pins(&self) -> [impl OutputPin + Send + use<>; 4] {
        [0, 1, 2, 3].map(|index| SimPin { board: self.clone(), index })
    }

    /// The buttons.
    #[must_use]
    pub fn buttons(&self) -> impl ButtonPort + use<> {
        SimButtons { board: self.clone(), next: None }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SimBus {
    board: SimBoard,
}

impl i2c::ErrorType for SimBus {
    type Error = i2c::ErrorKind;
}

impl I2c for SimBus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), i2c::ErrorKind> {
        let mut state = self.board.state();
        if !state.panel_plugged || address != ADDRESS {
            return Err(i2c::ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        }
        for operation in operations {
            if let Operation::Write(bytes) = operation {
                state.panel.take(bytes);
            }
        }
        Ok(())
    }
}

struct SimPin {
    board: SimBoard,
    index: usize,
}

impl digital::ErrorType for SimPin {
    type Error = digital::ErrorKind;
}

impl OutputPin for SimPin {
    fn set_low(&mut self) -> Result<(), digital::ErrorKind> {
        self.set_state(digital::PinState::Low)
    }

    fn set_high(&mut self) -> Result<(), digital::ErrorKind> {
        self.set_state(digital::PinState::High)
    }

    fn set_state(&mut self, wanted: digital::PinState) -> Result<(), digital::ErrorKind> {
        let mut state = self.board.state();
        if !state.pins_plugged {
            return Err(digital::ErrorKind::Other);
        }
        state.pins[self.index] = wanted == digital::PinState::High;
        Ok(())
    }
}

struct SimButtons {
    board: SimBoard,
    /// When the next change may be taken.
    next: Option<Duration>,
}

impl SimButtons {
    fn missing() -> PortError {
        PortError { part: "buttons", place: "the simulated board".to_owned(), reason: "unplugged".to_owned() }
    }
}

impl ButtonPort for SimButtons {
    fn pressed(&mut self) -> Result<[bool; 2], PortError> {
        let state = self.board.state();
        if state.pins_plugged { Ok(state.pressed) } else { Err(Self::missing()) }
    }

    fn wait(&mut self, clock: Clock, timeout: Duration) -> Result<Vec<Edge>, PortError> {
        thread::sleep(timeout);
        let mut state = self.board.state();
        if !state.pins_plugged {
            return Err(Self::missing());
        }
        let now = clock.now();
        if self.next.is_some_and(|next| now < next) {
            return Ok(Vec::new());
        }
        let Some((pressed, stays)) = state.changes.pop_front() else { return Ok(Vec::new()) };
        let before = std::mem::replace(&mut state.pressed, pressed);
        self.next = Some(now + stays);
        let changed = Button::ALL.into_iter().filter(|&button| before[button as usize] != pressed[button as usize]);
        Ok(changed.map(|button| Edge { button, pressed: pressed[button as usize], at: now }).collect())
    }
}
