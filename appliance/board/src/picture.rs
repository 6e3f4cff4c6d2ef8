//! A frame shown elsewhere than on the panel: in a terminal, as a PNG file, as plain text.
//!
//! Owns the three encodings and never draws anything of its own but a border. Frames come from `screen`; the texts and bytes
//! go to the terminal, to the web page and to the golden files of the tests.

use std::fmt::Write;

use crate::frame::{Frame, HEIGHT, WIDTH};

/// The largest factor of `to_png`: 2048 pixels across, about 10 KiB.
const SCALE_MAX: u32 = 16;

/// Pixels between the picture and the edge of the PNG, before scaling: the panel's dark glass.
const BEZEL: usize = 3;
const GLASS: [u8; 3] = [0x08, 0x0a, 0x0e];
const LIGHT: [u8; 3] = [0xe8, 0xf4, 0xff];

/// Bits of a braille character (U+2800 plus these) by column and row of its 2 x 4 dots.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

impl Frame {
    /// The picture in braille characters inside a border: 18 lines of 66 columns, each pixel a dot, each line ended.
    #[must_use]
    pub fn to_terminal(&self) -> String {
        let rule = "─".repeat(WIDTH / 2);
        let mut text = format!("╭{rule}╮\n");
        for y in (0..HEIGHT).step_by(4) {
            text.push('│');
            text.extend((0..WIDTH).step_by(2).map(|x| self.braille(x, y)));
            text.push_str("│\n");
        }
        text + &format!("╰{rule}╯\n")
    }

    fn braille(&self, x: usize, y: usize) -> char {
        let dots = DOTS
            .iter()
            .zip(x..)
            .flat_map(|(column, x)| column.iter().zip(y..).filter(move |&(_, y)| self.lit(x, y)).map(|(&dot, _)| dot));
        char::from_u32(0x2800 + dots.sum::<u32>()).unwrap_or(' ')
    }

    /// The picture as 64 lines of 128 characters, `#` for lit and `.` for dark.
    #[must_use]
    pub fn to_ascii(&self) -> String {
        let mut text = String::with_capacity((WIDTH + 1) * HEIGHT);
        for y in 0..HEIGHT {
            text.extend((0..WIDTH).map(|x| if self.lit(x, y) { '#' } else { '.' }));
            text.push('\n');
        }
        text
    }

    /// The picture as a PNG file with each pixel drawn `scale` times as large (1 to 16; others become the nearest), in the
    /// panel's colours and with a narrow dark border.
    #[must_use]
    pub fn to_png(&self, scale: u32) -> Vec<u8> {
        let scale = scale.clamp(1, SCALE_MAX);
        let rows = rows(self, scale as usize);
        let (width, height) = ((WIDTH + 2 * BEZEL) as u32 * scale, (HEIGHT + 2 * BEZEL) as u32 * scale);
        encode(&rows, width, height).unwrap_or_default()
    }
}

/// The rows of the scaled picture, eight pixels to the byte, the highest bit on the left, each row padded to a byte.
fn rows(frame: &Frame, scale: usize) -> Vec<u8> {
    let lit = |x: usize, y: usize| x >= BEZEL && y >= BEZEL && frame.lit(x - BEZEL, y - BEZEL);
    let width = (WIDTH + 2 * BEZEL) * scale;
    let mut bytes = Vec::new();
    for y in 0..HEIGHT + 2 * BEZEL {
        let mut row = vec![0_u8; width.div_ceil(8)];
        for x in (0..width).filter(|x| lit(x / scale, y)) {
            row[x / 8] |= 0x80 >> (x % 8);
        }
        (0..scale).for_each(|_| bytes.extend_from_slice(&row));
    }
    bytes
}

/// Writing to memory fails only if the rows do not fit the size, which `to_png` computes from the same numbers.
fn encode(rows: &[u8], width: u32, height: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::One);
    encoder.set_palette([GLASS, LIGHT].concat());
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rows)?;
    writer.finish()?;
    Ok(file)
}

/// Lines of two blocks beside each other, the shorter one padded: how the terminal shows the panel beside the lamps.
#[must_use]
pub fn beside(left: &str, right: &str) -> String {
    let width = left.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let lines = left.lines().count().max(right.lines().count());
    let mut text = String::new();
    for index in 0..lines {
        let (left, right) = (left.lines().nth(index).unwrap_or(""), right.lines().nth(index).unwrap_or(""));
        let line = format!("{left:width$}  {right}");
        // Writing to a string cannot fail.
        writeln!(text, "{}", line.trim_end()).unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corners() -> Frame {
        let mut frame = Frame::dark();
        frame.set(0, 0, true);
        frame.set(WIDTH - 1, HEIGHT - 1, true);
        frame
    }

    #[test]
    fn the_terminal_picture_fits_eighty_columns() {
        let text = corners().to_terminal();
        assert_eq!(text.lines().count(), 18);
        assert!(text.lines().all(|line| line.chars().count() == 66));
        assert!(text.contains("│⠁") && text.contains("⢀│"), "{text}");
    }

    #[test]
    fn the_ascii_picture_has_one_character_per_pixel() {
        let text = corners().to_ascii();
        assert_eq!((text.lines().count(), text.matches('#').count()), (64, 2));
        assert!(text.starts_with('#') && text.ends_with("#\n"));
    }

    #[test]
    fn a_png_can_be_read_back() {
        for scale in [0, 1, 4, 99] {
            let file = corners().to_png(scale);
            let mut reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().expect("a PNG file");
            let scale = scale.clamp(1, SCALE_MAX) as usize;
            assert_eq!(reader.info().width as usize, (WIDTH + 2 * BEZEL) * scale);
            let mut rows = vec![0; reader.output_buffer_size().expect("a size")];
            reader.next_frame(&mut rows).expect("an image");
            let lit: u32 = rows.iter().map(|byte| byte.count_ones()).sum();
            assert_eq!(lit as usize, 2 * scale * scale);
        }
    }

    #[test]
    fn blocks_stand_beside_each_other() {
        assert_eq!(beside("ab\nc\n", "1\n2\n3\n"), "ab  1\nc   2\n    3\n");
    }
}
