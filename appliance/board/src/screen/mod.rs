//! The pages as pictures.
//!
//! Owns the layout of every page: `render` is pure, total over every snapshot, and draws nothing within one pixel of the
//! edge, so that the shift against burn-in loses nothing. It never decides which page is shown. Snapshots come from the
//! appliance, frames go to `diff` and `picture`.

mod moments;
mod paint;
mod topics;
mod words;

use crate::{frame::Frame, page::Page, snapshot::Snapshot};
use paint::Painter;

/// Draws one page.
#[must_use]
pub fn render(snapshot: &Snapshot, page: Page) -> Frame {
    let mut painter = Painter::new();
    match page {
        Page::Splash => moments::splash(&mut painter, snapshot),
        Page::Status => topics::status(&mut painter, snapshot),
        Page::Request => topics::request(&mut painter, snapshot),
        Page::Network => topics::network(&mut painter, snapshot),
        Page::Upstreams => topics::upstreams(&mut painter, snapshot),
        Page::Savings => topics::savings(&mut painter, snapshot),
        Page::Pairing => moments::pairing(&mut painter, snapshot),
        Page::Update => moments::update(&mut painter, snapshot),
        Page::Error => moments::error(&mut painter, snapshot),
        Page::ConfirmPowerOff => moments::confirm_power_off(&mut painter, snapshot),
        Page::Reset { seconds_left } => moments::reset(&mut painter, seconds_left),
        Page::Shutdown => moments::shutdown(&mut painter, snapshot),
        Page::Test => moments::test_pattern(&mut painter, snapshot),
    }
    painter.finish()
}
