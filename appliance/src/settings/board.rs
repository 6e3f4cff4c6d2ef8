//! `[board]`: where lamps, panel and buttons are.

use std::path::PathBuf;
use std::time::Duration;

use cerebrum_board::{Backend, Wiring};
use cerebrum_common::settings::Section;

use crate::panel;

const BACKENDS: &[(&str, Option<Backend>)] = &[
    ("auto", Some(Backend::Auto)),
    ("pi", Some(Backend::Pi)),
    ("cdev", Some(Backend::Cdev)),
    ("sim", Some(Backend::Sim)),
    ("off", None),
];

/// The board's part of the settings; `name` is the appliance's own.
pub(super) fn read(section: &mut Section<'_>, name: String) -> panel::Settings {
    let backend = section.choice("backend", Some(Backend::Auto), BACKENDS);
    let wiring = wiring(section);
    for problem in wiring.problems() {
        let (key, sentence) = problem.split_once(": ").unwrap_or(("board", &problem));
        section.problem(key, sentence.to_owned());
    }
    panel::Settings {
        wiring: backend.map(|backend| Wiring { backend, ..wiring }),
        name,
        power_off: section.take("power_off"),
        factory_reset: section.take("factory_reset").unwrap_or_default(),
        apply_update: section.take("apply_update").unwrap_or_default(),
        update_file: section.take("update_file"),
    }
}

fn wiring(section: &mut Section<'_>) -> Wiring {
    let base = Wiring::default();
    let [ready, activity, upstream, error] = base.lamps;
    let [first, second] = base.buttons;
    Wiring {
        backend: base.backend,
        i2c_bus: section.or::<PathBuf>("i2c_bus", base.i2c_bus),
        address: address(section, base.address),
        upside_down: section.or("upside_down", base.upside_down),
        gpio_chip: section.or::<PathBuf>("gpio_chip", base.gpio_chip),
        lamps: section.section("lamps", |lamps| {
            [("ready", ready), ("activity", activity), ("upstream", upstream), ("error", error)]
                .map(|(key, pin)| small(lamps, key, pin))
        }),
        lamps_active_low: section.or("lamps_active_low", base.lamps_active_low),
        buttons: section.section("buttons", |buttons| {
            [("first", first), ("second", second)].map(|(key, pin)| small(buttons, key, pin))
        }),
        buttons_active_low: section.or("buttons_active_low", base.buttons_active_low),
        rest: cerebrum_board::Rest {
            dim_after: section.time("dim_after_ms", base.rest.dim_after),
            off_after: Some(section.or("off_after_ms", base.rest.off_after.unwrap_or_default()))
                .filter(|after| *after > Duration::ZERO),
        },
    }
}

/// In hexadecimal, as everybody writes it.
fn address(section: &mut Section<'_>, default: u8) -> u8 {
    let found = section.within("address", default.into(), 0, u32::MAX.into());
    u8::try_from(found).unwrap_or_else(|_| {
        section.problem("address", format!("found {found:#04x}, expected 0x08 to 0x77"));
        default
    })
}

/// A pin; what of it makes sense is for the wiring to say.
fn small(section: &mut Section<'_>, key: &'static str, default: u8) -> u8 {
    section.within(key, default.into(), 0, u8::MAX.into()) as u8
}
