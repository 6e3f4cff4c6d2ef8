//! The pages that come by themselves: splash, pairing, update, error, power-off, reset, shutdown, test pattern.

use embedded_graphics::prelude::Point;

use super::{
    paint::{Align, GIANT, HUGE, LARGE, LEFT, MEDIUM, Painter, SMALL, SPAN},
    words,
};
use crate::{
    frame::{HEIGHT, WIDTH},
    snapshot::{Snapshot, Stage, Update, UpdateState},
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
    let offered = snapshot.offers.apply_update;
    match update.state {
        UpdateState::Available if !offered => painter.line(&[&SMALL], "available", 60, Align::Left),
        UpdateState::RestartNeeded if !offered => painter.line(&[&SMALL], "installed", 60, Align::Left),
        UpdateState::Failed if !offered => painter.line(&[&SMALL], "failed", 60, Align::Left),
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
    let halted = snapshot.stage == Stage::Halted;
    let hint = if !halted {
        "hold: dismiss"
    } else if snapshot.offers.power_off {
        "hold: power off"
    } else {
        ""
    };
    let turn = snapshot.uptime.as_secs() / PART_SECONDS;
    painter.message("! Problem", hint, &fault.message, turn as usize);
}

/// How long each part of a message stays that needs several.
const PART_SECONDS: u64 = 6;

pub(super) fn confirm_power_off(painter: &mut Painter, snapshot: &Snapshot) {
    let installs = |update: &Update| matches!(update.state, UpdateState::Installing(_));
    if snapshot.update.as_ref().is_some_and(installs) {
        painter.line(&[&SMALL], "Update is being written!", 10, Align::Center);
    }
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

/// A border with a mark in one corner, what is up, and a chequered corner: shows dead rows and columns, a wrong offset, and
/// at a glance which way the panel is mounted. The name is that of the place the panel answers at.
pub(super) fn test_pattern(painter: &mut Painter, snapshot: &Snapshot) {
    let (width, height) = (WIDTH as i32, HEIGHT as i32);
    for (corner, span, rows) in
        [((0, 0), width, 1), ((0, height - 1), width, 1), ((0, 0), 1, height), ((width - 1, 0), 1, height)]
    {
        painter.fill(Point::new(corner.0, corner.1), span, rows);
    }
    painter.fill(Point::new(4, 4), 12, 12);
    painter.line(&[&HUGE], "TOP", 30, Align::Center);
    painter.line_within(&[&SMALL], &snapshot.name, Point::new(5, 57), 80, Align::Left);
    for square in 0..18 {
        let (x, y) = (square % 6, square / 6);
        if (x + y) % 2 == 0 {
            painter.fill(Point::new(100 + x * 4, 48 + y * 4), 4, 4);
        }
    }
}
