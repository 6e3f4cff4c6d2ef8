//! What the emulator saw on the I2C bus, and the picture that it amounts to.
//!
//! Owns the reading of the emulator's trace and a panel that takes its bytes. The panel is the model from the datasheet, which
//! shares no code with the driver that sends. Knows nothing of what should be seen.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use cerebrum_board::Frame;
use cerebrum_board::backend::sim::PanelModel;

/// The panel's address.
const PANEL: u8 = 0x3c;

/// One line of the trace that matters here.
#[derive(Debug, PartialEq, Eq)]
enum Happened {
    /// A transfer to an address began.
    Start(u8),
    /// A byte went to an address.
    Byte(u8, u8),
    /// The transfer ended.
    Finish,
}

/// The panel as the bytes on the bus have left it.
#[derive(Debug)]
pub struct Traced {
    trace: BufReader<File>,
    /// A line that the emulator has not finished writing.
    unfinished: String,
    bus: Bus,
}

impl Traced {
    /// Follows the trace from its beginning.
    ///
    /// # Errors
    /// There is no such file.
    pub fn follow(trace: &Path) -> std::io::Result<Self> {
        let trace = BufReader::new(File::open(trace)?);
        Ok(Self { trace, unfinished: String::new(), bus: Bus::default() })
    }

    /// Takes what has been written since the last time.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn catch_up(&mut self) -> std::io::Result<&Bus> {
        while self.trace.read_line(&mut self.unfinished)? > 0 && self.unfinished.ends_with('\n') {
            self.bus.take(&self.unfinished);
            self.unfinished.clear();
        }
        Ok(&self.bus)
    }

    /// As the last look left it.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }
}

/// The bus and the panel on it.
#[derive(Debug, Default)]
pub struct Bus {
    panel: PanelModel,
    write: Option<Vec<u8>>,
    changed_at: Duration,
    /// Transfers to addresses where nobody is.
    asked_in_vain: u64,
}

impl Bus {
    fn take(&mut self, line: &str) {
        let Some((at, happened)) = parse(line) else { return };
        match happened {
            Happened::Start(PANEL) => self.write = Some(Vec::new()),
            Happened::Start(_) => self.asked_in_vain += 1,
            Happened::Byte(PANEL, byte) => self.write.get_or_insert_default().push(byte),
            Happened::Byte(..) => {}
            Happened::Finish => self.finish(at),
        }
    }

    fn finish(&mut self, at: Duration) {
        let before = self.panel.frame();
        if let Some(write) = self.write.take() {
            self.panel.take(&write);
        }
        if self.panel.frame() != before {
            self.changed_at = at;
        }
    }

    /// The picture in the panel's memory.
    pub fn frame(&self) -> Frame {
        self.panel.frame()
    }

    /// Whether the panel is switched on.
    pub fn is_on(&self) -> bool {
        self.panel.is_on()
    }

    /// When the picture changed last, by this machine's wall clock.
    pub fn changed_at(&self) -> Duration {
        self.changed_at
    }
}

/// `123@1700000000.000123:i2c_send send(addr:0x3c) data:0x40` and the like; other lines are not about the bus.
fn parse(line: &str) -> Option<(Duration, Happened)> {
    let (stamp, event) = line.split_once('@')?.1.split_once(':')?;
    let (seconds, micros) = stamp.split_once('.')?;
    let at = Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse().ok()?);
    let (name, detail) = event.trim_end().split_once(' ')?;
    let address = || hexadecimal(detail.split_once("addr:")?.1);
    let happened = match (name, detail.split('(').next()?) {
        ("i2c_send", _) => Happened::Byte(address()?, hexadecimal(detail.split_once("data:")?.1)?),
        ("i2c_event", "start") => Happened::Start(address()?),
        ("i2c_event", "finish") => Happened::Finish,
        _ => return None,
    };
    Some((at, happened))
}

fn hexadecimal(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("0x")?;
    let end = digits.find(|digit: char| !digit.is_ascii_hexdigit()).unwrap_or(digits.len());
    u8::from_str_radix(&digits[..end], 16).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A trace as the emulator writes it, of writes to addresses.
    fn trace(writes: &[(u8, &[u8])]) -> String {
        let mut text = "QEMU starts\n".to_owned();
        for (address, bytes) in writes {
            text += &format!("7@1700000001.000100:i2c_event start(addr:{address:#04x})\n");
            for byte in *bytes {
                text += &format!("7@1700000001.000200:i2c_send send(addr:{address:#04x}) data:{byte:#04x}\n");
            }
            text += &format!("7@1700000001.000300:i2c_event finish(addr:{address:#04x})\n");
        }
        text
    }

    fn bus(text: &str) -> Bus {
        let mut bus = Bus::default();
        text.lines().for_each(|line| bus.take(line));
        bus
    }

    #[test]
    fn bytes_become_the_picture() {
        // Horizontal mode, columns 3 to 4 of page 1; on; two bytes.
        let on = [0x00, 0x20, 0x00, 0x21, 3, 4, 0x22, 1, 1, 0xaf];
        let bus = bus(&trace(&[(0x3c, &on), (0x3c, &[0x40, 0x01, 0x80])]));
        let mut expected = Frame::dark();
        expected.set(3, 8, true);
        expected.set(4, 15, true);
        assert_eq!((bus.frame(), bus.is_on()), (expected, true));
        assert_eq!(bus.changed_at(), Duration::from_micros(1_700_000_001_000_300));
    }

    #[test]
    fn other_addresses_are_no_picture() {
        let bus = bus(&trace(&[(0x3d, &[0x40, 0xff])]));
        assert_eq!((bus.frame(), bus.asked_in_vain), (Frame::dark(), 1));
    }

    #[test]
    fn lines_that_are_no_traffic_are_passed_over() {
        for line in ["", "Unexpected byte 0x40", "7@x.y:i2c_event start(addr:0x3c)", "7@1.2:i2c_send send(addr:zz)"] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_line_that_is_still_being_written_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let text = trace(&[(0x3c, &[0x00, 0xaf])]);
        let (first, rest) = text.split_at(text.len() - 20);
        let mut file = File::create(&path).unwrap();
        file.write_all(first.as_bytes()).unwrap();
        let mut traced = Traced::follow(&path).unwrap();
        assert!(!traced.catch_up().unwrap().is_on());
        file.write_all(rest.as_bytes()).unwrap();
        assert!(traced.catch_up().unwrap().is_on());
    }
}
