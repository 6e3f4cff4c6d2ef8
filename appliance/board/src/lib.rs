//! The appliance's lamps, OLED and buttons.
//!
//! Sees a [`Snapshot`] of the appliance and sends [`Command`]s; it knows nothing else of the appliance and no request ever
//! waits for it. What is shown is pure: [`render`] draws a page, [`lamps()`] says how bright each lamp is, [`buttons::buttons`]
//! turns edges into presses. [`Board`] runs all of it on a thread of its own.

pub mod backend;
mod board;
pub mod buttons;
mod check;
pub mod desk;
pub mod diff;
pub mod frame;
mod lamps;
mod lights;
mod link;
mod oled;
mod page;
mod picture;
pub mod ports;
pub mod samples;
mod screen;
mod snapshot;
mod wiring;

pub use board::{Board, Shown};
pub use buttons::Button;
pub use check::{Report, check};
pub use desk::Rest;
pub use frame::Frame;
pub use lamps::{Lamps, lamps};
pub use lights::Lights;
pub use oled::Oled;
pub use page::Page;
pub use picture::beside;
pub use screen::render;
pub use snapshot::{
    Blinks, Cause, Command, Counters, Fault, Offers, Pairing, Phase, Request, Savings, Snapshot, Stage, Update,
    UpdateState, Upstream, UpstreamState,
};
pub use wiring::{Backend, Wiring};
