//! The SSD1306 panel behind any embedded-hal I2C bus.
//!
//! Owns what the panel is known to show, and sends the difference. Frames come from `board`; bytes go to the bus. After any
//! error the panel counts as unknown: the next picture starts with its setting-up sequence and is sent in full.

use display_interface::DisplayError;
use embedded_hal::i2c::I2c;
use ssd1306::{
    I2CDisplayInterface, Ssd1306,
    command::AddrMode,
    mode::BasicMode,
    prelude::{Brightness, DisplayRotation, I2CInterface},
    size::DisplaySize128x64,
};

use crate::{
    desk::Light,
    diff::{Run, runs},
    frame::Frame,
    ports::{PortError, Screen},
};

/// A panel and what it shows.
pub struct Oled<I2C> {
    display: Ssd1306<I2CInterface<I2C>, DisplaySize128x64, BasicMode>,
    place: String,
    shown: Option<(Frame, Light)>,
    /// It may have lost its power for a moment, and with it what it was told.
    doubtful: bool,
}

impl<I2C: I2c> Oled<I2C> {
    /// A panel at an address of a bus; nothing is sent before the first picture. `upside_down` turns the picture by 180
    /// degrees in the panel itself. `place` names bus and address in errors.
    #[must_use]
    pub fn new(bus: I2C, address: u8, upside_down: bool, place: String) -> Self {
        let rotation = if upside_down { DisplayRotation::Rotate180 } else { DisplayRotation::Rotate0 };
        let interface = I2CDisplayInterface::new_custom_address(bus, address);
        Self { display: Ssd1306::new(interface, DisplaySize128x64, rotation), place, shown: None, doubtful: false }
    }

    fn update(&mut self, frame: &Frame, light: Light) -> Result<(), DisplayError> {
        let shown = self.shown.take();
        let doubtful = std::mem::take(&mut self.doubtful);
        // Setting it up switches it on, at a brightness of its own.
        match shown {
            Some((_, before)) if doubtful => {
                self.display.init_with_addr_mode(AddrMode::Horizontal)?;
                self.set_light(before)?;
            }
            None => {
                self.display.init_with_addr_mode(AddrMode::Horizontal)?;
                // What is in its memory, noise after power-up, is not to be seen.
                self.display.set_display_on(false)?;
            }
            Some(_) => {}
        }
        let known = shown.as_ref().filter(|_| !doubtful);
        for run in runs(known.map(|(frame, _)| frame), frame) {
            self.send(run)?;
        }
        if shown.is_none_or(|(_, before)| before != light) {
            self.set_light(light)?;
        }
        self.shown = Some((frame.clone(), light));
        Ok(())
    }

    fn send(&mut self, run: Run<'_>) -> Result<(), DisplayError> {
        let (top, end) = (run.page * 8, run.column + run.bytes.len() as u8);
        self.display.set_draw_area((run.column, top), (end, top + 8))?;
        self.display.draw(run.bytes)
    }

    fn set_light(&mut self, light: Light) -> Result<(), DisplayError> {
        self.display.set_brightness(match light {
            Light::Bright => Brightness::BRIGHT,
            Light::Dim | Light::Off => Brightness::DIMMEST,
        })?;
        self.display.set_display_on(light != Light::Off)
    }
}

impl<I2C: I2c + Send> Screen for Oled<I2C> {
    fn show(&mut self, frame: &Frame, light: Light) -> Result<(), PortError> {
        self.update(frame, light).map_err(|error| PortError {
            part: "OLED",
            place: self.place.clone(),
            reason: format!("does not answer ({error:?})"),
        })
    }

    fn doubt(&mut self) {
        self.doubtful = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Page, backend::sim::SimBoard, render, samples};

    fn panel(board: &SimBoard) -> Oled<impl I2c + use<>> {
        Oled::new(board.bus(), 0x3c, false, "a simulated bus".to_owned())
    }

    #[test]
    fn the_panel_s_memory_holds_the_exact_picture() {
        let board = SimBoard::new();
        let mut oled = panel(&board);
        for page in Page::ROTATION {
            let frame = render(&samples::everything(), page);
            oled.show(&frame, Light::Bright).expect("the panel answers");
            assert_eq!(board.panel().frame(), frame, "{page:?}");
        }
    }

    #[test]
    fn a_picture_that_is_there_already_costs_nothing() {
        let board = SimBoard::new();
        let mut oled = panel(&board);
        let frame = render(&samples::idle(), Page::Status);
        oled.show(&frame, Light::Bright).expect("the panel answers");
        let sent = board.panel().bytes_taken();
        oled.show(&frame, Light::Bright).expect("the panel answers");
        assert_eq!(board.panel().bytes_taken(), sent);
        assert!(sent < 1_300, "a full picture took {sent} bytes");
    }

    #[test]
    fn light_is_set_only_when_it_changes() {
        let board = SimBoard::new();
        let mut oled = panel(&board);
        for light in [Light::Bright, Light::Dim, Light::Off, Light::Bright] {
            oled.show(&Frame::dark(), light).expect("the panel answers");
            assert_eq!(
                (board.panel().is_on(), board.panel().contrast() > 0x80),
                (light != Light::Off, light == Light::Bright)
            );
        }
    }

    #[test]
    fn a_panel_is_set_up_anew_without_being_seen_to_be() {
        let board = SimBoard::new();
        let mut oled = panel(&board);
        let frame = render(&samples::idle(), Page::Status);
        oled.show(&frame, Light::Bright).expect("the panel answers");
        // It was dark until the picture was there.
        assert_eq!(board.panel().lit_while_written(), [0; 2]);
        for (light, brightness) in [(Light::Dim, 0), (Light::Bright, 1)] {
            oled.show(&frame, light).expect("the panel answers");
            let before = board.panel().lit_while_written();
            oled.doubt();
            oled.show(&frame, light).expect("the panel answers");
            let mut expected = before;
            expected[brightness] += 1024;
            assert_eq!(board.panel().lit_while_written(), expected, "{light:?}");
        }
        board.plug_panel(false);
        board.plug_panel(true);
        oled.doubt();
        oled.show(&frame, Light::Bright).expect("the panel answers");
        assert_eq!((board.panel().frame(), board.panel().is_on()), (frame, true));
    }

    #[test]
    fn a_panel_that_was_unplugged_gets_everything_again() {
        let board = SimBoard::new();
        let mut oled = panel(&board);
        let frame = render(&samples::busy(), Page::Request);
        oled.show(&frame, Light::Bright).expect("the panel answers");
        board.plug_panel(false);
        assert_eq!(oled.show(&frame, Light::Bright), Ok(()), "nothing to send, nothing to notice");
        assert!(oled.show(&frame.inverted(), Light::Bright).is_err());
        board.plug_panel(true);
        oled.show(&frame, Light::Bright).expect("the panel is back");
        assert_eq!((board.panel().frame(), board.panel().is_on()), (frame, true));
    }

    #[test]
    fn a_wrong_address_is_an_error() {
        let mut oled = Oled::new(SimBoard::new().bus(), 0x3d, false, "bus 1 address 0x3d".to_owned());
        let error = oled.show(&Frame::dark(), Light::Bright).expect_err("nobody is there");
        assert!(error.to_string().starts_with("OLED at bus 1 address 0x3d: does not answer"), "{error}");
    }
}
