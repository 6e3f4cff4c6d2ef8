//! An SSD1306 as its datasheet describes it, as far as bytes on the bus can tell.
//!
//! Owns the panel's memory and the registers that decide where a byte lands. Written from the datasheet (Solomon Systech, rev.
//! 1.1, section 10), not from the driver crate, so that the two check each other.

use crate::frame::{Frame, PAGES, WIDTH};

/// The panel after some bytes.
#[derive(Debug, Clone)]
pub struct PanelModel {
    memory: Frame,
    on: bool,
    contrast: u8,
    mode: u8,
    columns: (u8, u8),
    pages: (u8, u8),
    column: u8,
    page: u8,
    taken: usize,
    lit: [usize; 2],
}

impl Default for PanelModel {
    /// After power-up: dark, off, page addressing.
    fn default() -> Self {
        Self {
            memory: Frame::dark(),
            on: false,
            contrast: 0x7f,
            mode: 2,
            columns: (0, 127),
            pages: (0, 7),
            column: 0,
            page: 0,
            taken: 0,
            lit: [0; 2],
        }
    }
}

impl PanelModel {
    /// The picture in the memory.
    #[must_use]
    pub fn frame(&self) -> Frame {
        self.memory.clone()
    }

    /// Whether the panel is switched on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.on
    }

    /// The contrast, 0 to 255.
    #[must_use]
    pub const fn contrast(&self) -> u8 {
        self.contrast
    }

    /// Bytes taken from the bus so far, addresses not counted.
    #[must_use]
    pub const fn bytes_taken(&self) -> usize {
        self.taken
    }

    /// Bytes of pictures that were stored while it was lit dimly, and brightly.
    #[must_use]
    pub const fn lit_while_written(&self) -> [usize; 2] {
        self.lit
    }

    /// Takes one write: a control byte, then commands (0x00) or data (0x40).
    pub fn take(&mut self, bytes: &[u8]) {
        self.taken += bytes.len();
        match bytes {
            [0x00, commands @ ..] => self.commands(commands),
            [0x40, data @ ..] => {
                if self.on {
                    self.lit[usize::from(self.contrast > 0x80)] += data.len();
                }
                data.iter().for_each(|&byte| self.store(byte));
            }
            _ => {}
        }
    }

    fn commands(&mut self, mut bytes: &[u8]) {
        while let Some((&command, rest)) = bytes.split_first() {
            let (arguments, next) = rest.split_at(arguments_of(command).min(rest.len()));
            self.command(command, arguments);
            bytes = next;
        }
    }

    fn command(&mut self, command: u8, arguments: &[u8]) {
        match (command, arguments) {
            (0x20, &[mode]) => self.mode = mode & 3,
            (0x21, &[first, last]) => {
                self.columns = (first & 127, last & 127);
                self.column = first & 127;
            }
            (0x22, &[first, last]) => {
                self.pages = (first & 7, last & 7);
                self.page = first & 7;
            }
            (0x81, &[contrast]) => self.contrast = contrast,
            (0xae | 0xaf, []) => self.on = command == 0xaf,
            (0xb0..=0xb7, []) if self.mode == 2 => self.page = command & 7,
            (0x00..=0x0f, []) if self.mode == 2 => self.column = self.column & 0x70 | command,
            (0x10..=0x17, []) if self.mode == 2 => self.column = self.column & 0x0f | (command & 7) << 4,
            _ => {}
        }
    }

    /// Stores a byte and moves on: through the window in horizontal mode, along the page in page mode.
    fn store(&mut self, byte: u8) {
        let mut memory = *self.memory.bytes();
        memory[usize::from(self.page) % PAGES * WIDTH + usize::from(self.column) % WIDTH] = byte;
        self.memory = Frame::from_bytes(memory);
        if self.column != self.columns.1 {
            self.column = (self.column + 1) % WIDTH as u8;
            return;
        }
        self.column = self.columns.0;
        if self.mode == 0 {
            self.page = if self.page == self.pages.1 { self.pages.0 } else { (self.page + 1) % PAGES as u8 };
        }
    }
}

/// Bytes that follow a command.
fn arguments_of(command: u8) -> usize {
    match command {
        0x26 | 0x27 => 6,
        0x29 | 0x2a => 5,
        0x21 | 0x22 | 0xa3 => 2,
        0x20 | 0x81 | 0x8d | 0xa8 | 0xd3 | 0xd5 | 0xd9 | 0xda | 0xdb => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_fills_the_window_row_by_row() {
        let mut panel = PanelModel::default();
        panel.take(&[0x00, 0x20, 0x00, 0x21, 126, 127, 0x22, 1, 2, 0xaf, 0x81, 9]);
        panel.take(&[0x40, 1, 2, 3, 4, 5]);
        let at = |page: usize, column: usize| panel.frame().bytes()[page * WIDTH + column];
        assert_eq!([at(1, 126), at(1, 127), at(2, 126), at(2, 127)], [5, 2, 3, 4], "the fifth byte starts over");
        assert_eq!((panel.is_on(), panel.contrast(), panel.bytes_taken()), (true, 9, 18));
    }
}
