//! One picture of the panel: 128 x 64 pixels, one bit each.
//!
//! Owns the pixels and their order in memory, which is the SSD1306's own: eight pages of 128 columns, one byte for eight
//! pixels, the lowest bit on top. It never knows what is drawn. Filled by `screen` through embedded-graphics, read by `diff`,
//! which sends it, and by `picture`, which shows it elsewhere.

use std::{convert::Infallible, fmt};

use embedded_graphics::{
    Pixel,
    draw_target::DrawTarget,
    geometry::{OriginDimensions, Size},
    pixelcolor::BinaryColor,
};

/// Pixels from left to right.
pub const WIDTH: usize = 128;
/// Pixels from top to bottom.
pub const HEIGHT: usize = 64;
/// Rows of eight pixels: the unit in which the panel is addressed.
pub const PAGES: usize = HEIGHT / 8;

/// One picture of the panel.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: [u8; WIDTH * PAGES],
}

impl Frame {
    /// A dark panel.
    #[must_use]
    pub const fn dark() -> Self {
        Self { bytes: [0; WIDTH * PAGES] }
    }

    /// The picture whose memory is `bytes`, in the panel's order.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; WIDTH * PAGES]) -> Self {
        Self { bytes }
    }

    /// The picture as the panel's memory holds it.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; WIDTH * PAGES] {
        &self.bytes
    }

    /// The panel's memory as hexadecimal digits, two for a byte.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The picture whose memory these hexadecimal digits are; none where there are more, fewer or other characters.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
        Some(Self::from_bytes(bytes?.try_into().ok()?))
    }

    /// Whether a pixel is lit; pixels outside are dark.
    #[must_use]
    pub fn lit(&self, x: usize, y: usize) -> bool {
        x < WIDTH && y < HEIGHT && self.bytes[y / 8 * WIDTH + x] >> (y % 8) & 1 == 1
    }

    /// Lights or darkens a pixel; pixels outside are left alone.
    pub fn set(&mut self, x: usize, y: usize, lit: bool) {
        if x < WIDTH && y < HEIGHT {
            let byte = &mut self.bytes[y / 8 * WIDTH + x];
            *byte = *byte & !(1 << (y % 8)) | u8::from(lit) << (y % 8);
        }
    }

    /// The picture moved right by `dx` and down by `dy` pixels; what leaves the panel is lost.
    #[must_use]
    pub fn shifted(&self, dx: i8, dy: i8) -> Self {
        let mut moved = Self::dark();
        let by = u32::from(dy.unsigned_abs());
        for x in 0..WIDTH {
            let Some(to) = x.checked_add_signed(dx.into()).filter(|to| *to < WIDTH) else { continue };
            let column = u64::from_le_bytes(std::array::from_fn(|page| self.bytes[page * WIDTH + x]));
            let column = if dy < 0 { column.checked_shr(by) } else { column.checked_shl(by) };
            for (page, byte) in column.unwrap_or_default().to_le_bytes().into_iter().enumerate() {
                moved.bytes[page * WIDTH + to] = byte;
            }
        }
        moved
    }

    /// The picture with light and dark exchanged.
    #[must_use]
    pub fn inverted(&self) -> Self {
        Self { bytes: self.bytes.map(|byte| !byte) }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lit: u32 = self.bytes.iter().map(|byte| byte.count_ones()).sum();
        write!(f, "Frame {{ lit: {lit} }}")
    }
}

impl OriginDimensions for Frame {
    fn size(&self) -> Size {
        Size::new(WIDTH as u32, HEIGHT as u32)
    }
}

impl DrawTarget for Frame {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(point, color) in pixels {
            if let (Ok(x), Ok(y)) = (usize::try_from(point.x), usize::try_from(point.y)) {
                self.set(x, y, color.is_on());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hexadecimal_digits_are_all_or_no_picture() {
        let mut frame = Frame::dark();
        frame.set(3, 10, true);
        assert_eq!(Frame::from_hex(&frame.to_hex()), Some(frame.clone()));
        let digits = frame.to_hex();
        for wrong in ["", "0", "zz", &digits[2..], &format!("{digits}00"), &digits.replace("04", "0x")] {
            assert_eq!(Frame::from_hex(wrong), None);
        }
    }

    #[test]
    fn a_pixel_lands_in_the_panel_s_byte() {
        let mut frame = Frame::dark();
        frame.set(3, 10, true);
        assert_eq!(frame.bytes()[WIDTH + 3], 0b100);
        frame.set(3, 10, false);
        assert_eq!(frame, Frame::dark());
    }

    #[test]
    fn pixels_outside_are_left_alone() {
        let mut frame = Frame::dark();
        frame.set(WIDTH, 0, true);
        frame.set(0, HEIGHT, true);
        assert_eq!(frame, Frame::dark());
        assert!(!frame.inverted().lit(WIDTH, 0));
    }

    proptest! {
        #[test]
        fn shifting_moves_every_pixel(x in 0..WIDTH, y in 0..HEIGHT, dx in -3i8..=3, dy in -3i8..=3) {
            let mut frame = Frame::dark();
            frame.set(x, y, true);
            let moved = frame.shifted(dx, dy);
            prop_assert_eq!(frame.shifted(0, 0), frame.clone());
            let stays = x.checked_add_signed(dx.into()).zip(y.checked_add_signed(dy.into()));
            prop_assert!(stays.is_none_or(|(x, y)| moved.lit(x, y) == (x < WIDTH && y < HEIGHT)));
            prop_assert!(moved.bytes().iter().map(|byte| byte.count_ones()).sum::<u32>() <= 1);
            prop_assert_eq!(frame.shifted(0, 64), Frame::dark());
        }
    }
}
