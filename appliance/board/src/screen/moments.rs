//! The pages that come by themselves: splash, pairing, update, error, power-off, reset, shutdown, test pattern.

use embedded_graphics::prelude::Point;

use super::{
    paint::{Align, GIANT, HUGE, LARGE, LEFT, MEDIUM, Painter, SMALL, SPAN},
    words,
};
use crate::{
    frame::{Frame, HEIGHT, WIDTH},
    snapshot::{Snapshot, Stage, UpdateState},
};

pub(super) fn splash(painter: &mut Painter, snapshot: &Snapshot) {
    painter.line(&[&HUGE], "Cerebrum", 30, Align::Center);
    painter.line(&[&SMALL], &snapshot.version, 45, Align::Center);
    painter.line(&[&SMALL], "starting", 60, Align::Center);
}

pub(super) fn pairing(painter: &mut Painter, snapshot: &Snapshot) {
    let Some(pairing) = &snapshot.pairing else {
        painter.header("Pairing", "");
        painter.line(&[&LARGE], "No client asks", 38, Align::Left);
        return;
    };
    let client = if pairing.client.trim().is_empty() { "(no name)" } else { &pairing.client };
    painter.line(&[&MEDIUM, &SMALL], client, 12, Align::Left);
    painter.line(&[&GIANT, &HUGE, &LARGE], &pairing.code, 41, Align::Center);
    let left = pairing.remaining.as_secs_f32() / pairing.allowed.as_secs_f32().max(1.0);
    painter.fill(Point::new(LEFT, 46), share_of(SPAN, left), 2);
    painter.line(&[&SMALL], "press: allow", 60, Align::Left);
    painter.line(&[&SMALL], "hold: refuse", 60, Align::Right);
}

fn share_of(whole: i32, share: f32) -> i32 {
    (whole as f32 * share.clamp(0.0, 1.0)).round() as i32
}

pub(super) fn update(painter: &mut Painter, snapshot: &Snapshot) {
    let Some(update) = &snapshot.update else {
        painter.header("Update", "");
        painter.line(&[&LARGE], "Up to date", 38, Align::Left);
        return;
    };
    painter.header("Update", &format!("now {}", snapshot.version));
    painter.line(&[&HUGE, &LARGE, &MEDIUM], &update.version, 35, Align::Left);
    match update.state {
        UpdateState::Available => painter.line(&[&SMALL], "hold: install", 60, Align::Left),
        UpdateState::Fetching(share) => moving(painter, "downloading", share),
        UpdateState::Checking => painter.line(&[&SMALL], "checking the signature", 60, Align::Left),
        UpdateState::Installing(share) => moving(painter, "installing, keep power on", share),
        UpdateState::RestartNeeded => painter.line(&[&SMALL], "installed.  hold: restart", 60, Align::Left),
        UpdateState::Failed => painter.line(&[&SMALL], "failed.  hold: try again", 60, Align::Left),
    }
}

fn moving(painter: &mut Painter, text: &str, share: f32) {
    painter.bar(39, 9, share);
    painter.line(&[&SMALL], text, 60, Align::Left);
}

pub(super) fn error(painter: &mut Painter, snapshot: &Snapshot) {
    let Some(fault) = &snapshot.error else {
        painter.header("Problems", "");
        painter.line(&[&LARGE], "None", 38, Align::Left);
        return;
    };
    painter.header("! Problem", "hold: dismiss");
    painter.message(&fault.message);
}

pub(super) fn confirm_power_off(painter: &mut Painter) {
    painter.line(&[&HUGE, &LARGE], "Power off?", 34, Align::Center);
    painter.line(&[&SMALL], "press: no", 60, Align::Left);
    painter.line(&[&SMALL], "hold: yes", 60, Align::Right);
}

pub(super) fn reset(painter: &mut Painter, seconds_left: u8) {
    painter.header("Factory reset", "");
    painter.line(&[&GIANT], &format!("in {seconds_left}"), 43, Align::Center);
    painter.line(&[&SMALL], "release to cancel", 60, Align::Center);
}

pub(super) fn shutdown(painter: &mut Painter, snapshot: &Snapshot) {
    if snapshot.stage == Stage::Draining {
        painter.line(&[&HUGE], "Stopping", 34, Align::Center);
        let text = match snapshot.active {
            0 => "almost done".to_owned(),
            1 => "finishing 1 request".to_owned(),
            active => format!("finishing {} requests", words::count(active.into())),
        };
        painter.line(&[&SMALL], &text, 60, Align::Center);
    } else {
        painter.line(&[&HUGE], "Stopped", 34, Align::Center);
        painter.line(&[&SMALL], &snapshot.name, 60, Align::Center);
    }
}

/// A border, and squares of four pixels inside: shows dead rows, dead columns and a wrong offset at a glance.
pub(super) fn test_pattern() -> Frame {
    let mut frame = Frame::dark();
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let border = x == 0 || y == 0 || x == WIDTH - 1 || y == HEIGHT - 1;
            let square = (x / 4 + y / 4) % 2 == 0 && (8..WIDTH - 8).contains(&x) && (8..HEIGHT - 8).contains(&y);
            frame.set(x, y, border || square);
        }
    }
    frame
}
