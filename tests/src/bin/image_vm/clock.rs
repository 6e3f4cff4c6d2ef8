//! A time server for the emulated machine, which has no clock of its own and begins with the image's date.

use std::net::UdpSocket;
use std::time::SystemTime;

use anyhow::Context;

/// Seconds from NTP's epoch, 1900, to 1970.
const NTP_EPOCH: u64 = 2_208_988_800;

/// Answers SNTP (RFC 4330) on loopback until the program ends.
pub(crate) fn serve() -> anyhow::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:123").context("the test's time server needs port 123, which is root's")?;
    std::thread::spawn(move || {
        let mut packet = [0; 48];
        while let Ok((48, from)) = socket.recv_from(&mut packet) {
            let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) else { return };
            let fraction = u64::from(now.subsec_nanos()) * (1 << 32) / 1_000_000_000;
            let stamp = (((now.as_secs() + NTP_EPOCH) << 32) | fraction).to_be_bytes();
            // Version 4, mode server, stratum 1; the client's transmit time comes back as the originate time.
            let mut answer = [0; 48];
            answer[0] = 0x24;
            answer[1] = 1;
            answer[2] = 6;
            answer[3] = 0xec;
            answer[12..16].copy_from_slice(b"TEST");
            answer[16..24].copy_from_slice(&stamp);
            answer[24..32].copy_from_slice(&packet[40..48]);
            answer[32..40].copy_from_slice(&stamp);
            answer[40..48].copy_from_slice(&stamp);
            if socket.send_to(&answer, from).is_err() {
                return;
            }
        }
    });
    Ok(())
}
