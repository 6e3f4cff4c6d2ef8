//! The appliance's lamps, OLED and buttons.
//!
//! Sees a [`Snapshot`] of the appliance and sends [`Command`]s; it knows nothing else of the appliance and no request ever
//! waits for it. What is shown is pure: [`render`] draws a page, [`lamps`] says how bright each lamp is.

pub mod buttons;
pub mod desk;
pub mod diff;
pub mod frame;
mod lamps;
mod page;
mod picture;
pub mod samples;
mod screen;
mod snapshot;

pub use frame::Frame;
pub use lamps::{Lamps, lamps};
pub use page::Page;
pub use picture::beside;
pub use screen::render;
pub use snapshot::{
    Cause, Command, Counters, Fault, Pairing, Phase, Request, Savings, Snapshot, Stage, Update, UpdateState, Upstream,
    UpstreamState,
};
