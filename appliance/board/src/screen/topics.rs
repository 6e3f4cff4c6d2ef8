//! The pages that a person walks through: status, request, network, upstreams, savings.
//!
//! Each says one thing in large letters and the rest in small ones.

use std::net::IpAddr;

use embedded_graphics::prelude::Point;

use super::{
    paint::{Align, GIANT, HUGE, LARGE, LEFT, MEDIUM, Painter, RIGHT, SMALL, SPAN, width_of},
    words,
};
use crate::snapshot::{Phase, Request, Snapshot, Stage, Upstream, UpstreamState};

/// Rows of the upstreams page.
const UPSTREAM_ROWS: usize = 3;
/// Columns of the saved share; the time saved stands on its right.
const SHARE_SPAN: i32 = 72;

pub(super) fn status(painter: &mut Painter, snapshot: &Snapshot) {
    painter.header(&snapshot.name, &words::span(snapshot.uptime));
    painter.line(&[&HUGE, &LARGE], &headline(snapshot), 34, Align::Left);
    painter.line(&[&SMALL], &load(snapshot), 50, Align::Left);
    let totals = &snapshot.counters;
    let text = format!("{} done   {} failed", words::brief(totals.served), words::brief(totals.failed));
    painter.line(&[&SMALL], &text, 61, Align::Left);
}

fn headline(snapshot: &Snapshot) -> String {
    let usable = snapshot.upstreams.iter().any(|upstream| upstream.state == UpstreamState::Up);
    match snapshot.stage {
        Stage::Starting => "Starting".to_owned(),
        Stage::Draining => "Stopping".to_owned(),
        Stage::Halted | Stage::Stopped => "Stopped".to_owned(),
        Stage::Ready if snapshot.active > 0 => "Working".to_owned(),
        Stage::Ready if !usable => "No server".to_owned(),
        Stage::Ready => "Ready".to_owned(),
    }
}

fn load(snapshot: &Snapshot) -> String {
    match (snapshot.active, snapshot.queued) {
        (0, 0) => format!("{} tokens", words::count(snapshot.counters.tokens)),
        (active, 0) => format!("{active} in progress"),
        (active, queued) => format!("{active} in progress, {queued} waiting"),
    }
}

pub(super) fn request(painter: &mut Painter, snapshot: &Snapshot) {
    let Some(request) = &snapshot.request else { return no_request(painter, snapshot) };
    let fact = if snapshot.active > 1 { format!("1 of {}", snapshot.active) } else { String::new() };
    painter.header(phase(request.phase), &fact);
    if request.phase == Phase::Preparing {
        return painter.line(&[&HUGE], "Preparing", 40, Align::Left);
    }
    figures(painter, request);
    painter.bar(39, 9, request.progress);
    painter.line(&[&SMALL], &request.model, 60, Align::Left);
}

fn no_request(painter: &mut Painter, snapshot: &Snapshot) {
    painter.header("Request", "");
    painter.line(&[&HUGE], "None", 35, Align::Left);
    let text = format!(
        "{} done   {} refused",
        words::brief(snapshot.counters.served),
        words::brief(snapshot.counters.refused)
    );
    painter.line(&[&SMALL], &text, 60, Align::Left);
}

/// Before the first token the share of the phase is what moves; from then on tokens and their speed.
fn figures(painter: &mut Painter, request: &Request) {
    if request.tokens == 0 && request.phase != Phase::Generating {
        let share = (request.progress.clamp(0.0, 1.0) * 100.0) as u32;
        return painter.line(&[&HUGE], &format!("{share} %"), 35, Align::Left);
    }
    let rate = words::rate(request.tokens_per_second);
    painter.line(&[&MEDIUM], &rate, 35, Align::Right);
    let tokens = words::count(request.tokens.into());
    let free = SPAN - width_of(&MEDIUM, &rate) - 4;
    painter.line_within(&[&HUGE, &LARGE, &MEDIUM], &tokens, Point::new(LEFT, 35), free, Align::Left);
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Preparing => "Request",
        Phase::Loading => "Loading model",
        Phase::Reading => "Reading prompt",
        Phase::Generating => "Generating tokens",
    }
}

pub(super) fn network(painter: &mut Painter, snapshot: &Snapshot) {
    painter.header("Network", &format!("port {}", snapshot.port));
    let long = snapshot.addresses.iter().any(|address| is_long(*address));
    let mut baseline = if long { 25 } else { 27 };
    let fonts: &[_] = if long { &[&MEDIUM, &SMALL] } else { &[&LARGE, &MEDIUM, &SMALL] };
    painter.line(fonts, &snapshot.name, baseline, Align::Left);
    baseline += if long { 13 } else { 17 };
    for address in &snapshot.addresses {
        baseline = self::address(painter, *address, baseline, long);
    }
    if snapshot.addresses.is_empty() {
        painter.line(&[&LARGE], "No address", 44, Align::Left);
        painter.line(&[&SMALL], "Is the cable plugged in?", 60, Align::Left);
    }
}

/// Whether the address takes two lines of small letters, for which the others must stand closer.
fn is_long(address: IpAddr) -> bool {
    width_of(&SMALL, &address.to_string()) > SPAN
}

/// Draws the address if the page has room for all of it; returns the baseline of the next one.
fn address(painter: &mut Painter, address: IpAddr, baseline: i32, close: bool) -> i32 {
    let text = address.to_string();
    let (height, step) = if is_long(address) { (11, 23) } else { (0, if close { 12 } else { 17 }) };
    if baseline + height > 62 {
        return baseline;
    }
    match (is_long(address), close) {
        (true, _) => painter.paragraph(&SMALL, &text, baseline - 1, 11, 2),
        (false, true) => painter.line(&[&MEDIUM, &SMALL], &text, baseline, Align::Left),
        (false, false) => painter.line(&[&LARGE, &MEDIUM, &SMALL], &text, baseline, Align::Left),
    }
    baseline + step
}

pub(super) fn upstreams(painter: &mut Painter, snapshot: &Snapshot) {
    let all = &snapshot.upstreams;
    let up = all.iter().filter(|upstream| upstream.state == UpstreamState::Up).count();
    if all.is_empty() {
        painter.header("Servers", "");
        return painter.line(&[&LARGE, &MEDIUM], "None configured", 40, Align::Left);
    }
    painter.header("Servers", &format!("{up} of {} up", all.len()));
    // Where not all fit, those in trouble are the ones a person came to see.
    let mut shown: Vec<&Upstream> = all.iter().collect();
    if shown.len() > UPSTREAM_ROWS {
        shown.sort_by_key(|upstream| upstream.state == UpstreamState::Up);
    }
    for (upstream, baseline) in shown.into_iter().take(UPSTREAM_ROWS).zip((27..).step_by(17)) {
        self::upstream(painter, upstream, baseline);
    }
}

fn upstream(painter: &mut Painter, upstream: &Upstream, baseline: i32) {
    mark(painter, upstream.state, Point::new(LEFT, baseline - 10));
    let fact = match (upstream.state, upstream.round_trip) {
        (UpstreamState::Down, _) => "down".to_owned(),
        (UpstreamState::HalfOpen, _) => "probing".to_owned(),
        (UpstreamState::Up, Some(time)) => words::round_trip(time),
        (UpstreamState::Up, None) => "up".to_owned(),
    };
    painter.line(&[&MEDIUM], &fact, baseline, Align::Right);
    let free = SPAN - 15 - width_of(&MEDIUM, &fact) - 3;
    painter.line_within(&[&MEDIUM, &SMALL], &upstream.name, Point::new(LEFT + 15, baseline), free, Align::Left);
}

/// A full disc: up. A ring with a dot: half open. A cross: down.
fn mark(painter: &mut Painter, state: UpstreamState, corner: Point) {
    match state {
        UpstreamState::Up => painter.disc(corner, 11, true),
        UpstreamState::HalfOpen => {
            painter.disc(corner, 11, false);
            painter.disc(corner + Point::new(3, 3), 5, true);
        }
        UpstreamState::Down => {
            painter.stroke(corner + Point::new(1, 1), corner + Point::new(9, 9), 2);
            painter.stroke(corner + Point::new(9, 1), corner + Point::new(1, 9), 2);
        }
    }
}

pub(super) fn savings(painter: &mut Painter, snapshot: &Snapshot) {
    let savings = &snapshot.savings;
    let saved = savings.characters_before.saturating_sub(savings.characters_after);
    painter.header("Saved", &format!("{} prompts", words::brief(savings.prompts)));
    let share = format!("{} %", words::percent(saved, savings.characters_before));
    painter.line_within(&[&GIANT, &HUGE], &share, Point::new(LEFT, 41), SHARE_SPAN, Align::Left);
    let time = words::span(savings.time_saved);
    if !savings.time_saved.is_zero() {
        painter.line(&[&SMALL], "time saved", 26, Align::Right);
        let at = Point::new(RIGHT + 1, 41);
        painter.line_within(&[&MEDIUM, &SMALL], &time, at, SPAN - SHARE_SPAN, Align::Right);
    }
    let (before, after) = (words::brief(savings.characters_before), words::brief(savings.characters_after));
    let text = format!("{before} to {after} letters");
    painter.line(&[&SMALL], &text, 60, Align::Left);
}
