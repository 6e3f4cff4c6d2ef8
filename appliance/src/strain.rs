//! What the machine suffers from, as the kernel of a Raspberry Pi tells it.
//!
//! Owns the reading of two files; other machines do not have them, and are never under strain here.

use std::fs;
use std::path::Path;

use crate::problem::Strain;

/// Thousandths of a degree at which a CM4 begins to slow down.
const HOT: i64 = 80_000;

/// Reads them below `sys`, which is `/sys`.
pub fn measure(sys: &Path) -> Strain {
    let text = |path: &str| fs::read_to_string(sys.join(path)).unwrap_or_default().trim().to_owned();
    let zone = "class/thermal/thermal_zone0";
    let pi = text(&format!("{zone}/type")) == "cpu-thermal";
    let hot = pi && text(&format!("{zone}/temp")).parse::<i64>().is_ok_and(|degrees| degrees >= HOT);
    let monitors = fs::read_dir(sys.join("class/hwmon")).into_iter().flatten().flatten();
    let volt = monitors
        .map(|monitor| monitor.path())
        .find(|monitor| fs::read_to_string(monitor.join("name")).is_ok_and(|name| name.trim() == "rpi_volt"));
    let alarm = |monitor: &Path| fs::read_to_string(monitor.join("in0_lcrit_alarm"));
    Strain { hot, low_voltage: volt.is_some_and(|volt| alarm(&volt).is_ok_and(|alarm| alarm.trim() == "1")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(kind: &str, degrees: &str, monitor: &str, alarm: &str) -> Strain {
        let sys = tempfile::tempdir().unwrap();
        let (zone, volt) = (sys.path().join("class/thermal/thermal_zone0"), sys.path().join("class/hwmon/hwmon1"));
        fs::create_dir_all(&zone).unwrap();
        fs::create_dir_all(&volt).unwrap();
        fs::write(zone.join("type"), kind).unwrap();
        fs::write(zone.join("temp"), degrees).unwrap();
        fs::write(volt.join("name"), monitor).unwrap();
        fs::write(volt.join("in0_lcrit_alarm"), alarm).unwrap();
        measure(sys.path())
    }

    #[test]
    fn a_pi_tells_heat_and_low_voltage() {
        let strain = |hot, low_voltage| Strain { hot, low_voltage };
        assert_eq!(machine("cpu-thermal\n", "48312\n", "rpi_volt\n", "0\n"), strain(false, false));
        assert_eq!(machine("cpu-thermal\n", "80100\n", "rpi_volt\n", "1\n"), strain(true, true));
    }

    #[test]
    fn other_machines_are_not_judged() {
        assert_eq!(machine("x86_pkg_temp\n", "99000\n", "coretemp\n", "1\n"), Strain::default());
        assert_eq!(measure(Path::new("/nonexistent")), Strain::default());
    }
}
