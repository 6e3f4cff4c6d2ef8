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

pub(super) fn status(painter: &mut Painter, snapshot: &Snapshot) {
    painter.header(&snapshot.name, &words::span(snapshot.uptime));
    painter.line(&[&HUGE, &LARGE], &headline(snapshot), 35, Align::Left);
    painter.line(&[&SMALL], &load(snapshot), 48, Align::Left);
    let totals = &snapshot.counters;
    let text = format!("{} done   {} failed", words::count(totals.served), words::count(totals.failed));
    painter.line(&[&SMALL], &text, 61, Align::Left);
}

fn headline(snapshot: &Snapshot) -> String {
    let usable = snapshot.upstreams.iter().any(|upstream| upstream.state == UpstreamState::Up);
    match snapshot.stage {
        Stage::Starting => "Starting".to_owned(),
        Stage::Draining => "Stopping".to_owned(),
        Stage::Stopped => "Stopped".to_owned(),
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
    figures(painter, request);
    painter.bar(39, 9, request.progress);
    painter.line(&[&SMALL], &request.model, 60, Align::Left);
}

fn no_request(painter: &mut Painter, snapshot: &Snapshot) {
    painter.header("Request", "");
    painter.line(&[&HUGE], "None", 35, Align::Left);
    let text = format!(
        "{} done   {} refused",
        words::count(snapshot.counters.served),
        words::count(snapshot.counters.refused)
    );
    painter.line(&[&SMALL], &text, 60, Align::Left);
}

/// Before the first token the share of the phase is what moves; from then on tokens and their speed.
fn figures(painter: &mut Painter, request: &Request) {
    if request.tokens == 0 && request.phase != Phase::Generating {
        let share = (request.progress.clamp(0.0, 1.0) * 100.0) as u32;
        painter.line(&[&HUGE], &format!("{share} %"), 35, Align::Left);
        return;
    }
    let rate = words::rate(request.tokens_per_second);
    painter.line(&[&MEDIUM], &rate, 35, Align::Right);
    let tokens = words::count(request.tokens.into());
    let free = SPAN - width_of(&MEDIUM, &rate) - 4;
    painter.line_within(&[&HUGE, &LARGE, &MEDIUM], &tokens, Point::new(LEFT, 35), free, Align::Left);
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "Waiting for a place",
        Phase::Preparing => "Preparing prompt",
        Phase::Loading => "Loading model",
        Phase::Reading => "Reading prompt",
        Phase::Generating => "Generating tokens",
        Phase::Reasoning => "Reasoning",
    }
}

pub(super) fn network(painter: &mut Painter, snapshot: &Snapshot) {
    painter.header("Network", &format!("port {}", snapshot.port));
    painter.line(&[&LARGE, &MEDIUM, &SMALL], &snapshot.name, 27, Align::Left);
    let mut baseline = 44;
    for address in &snapshot.addresses {
        baseline = self::address(painter, *address, baseline);
    }
    if snapshot.addresses.is_empty() {
        painter.line(&[&LARGE], "No address", 44, Align::Left);
        painter.line(&[&SMALL], "Is the cable plugged in?", 60, Align::Left);
    }
}

/// Draws the address unless the page is full; returns the baseline of the next one.
fn address(painter: &mut Painter, address: IpAddr, baseline: i32) -> i32 {
    let text = address.to_string();
    if baseline > 62 {
        return baseline;
    }
    if width_of(&SMALL, &text) <= SPAN {
        painter.line(&[&LARGE, &MEDIUM, &SMALL], &text, baseline, Align::Left);
        return baseline + 16;
    }
    let lines = if baseline + 12 > 62 { 1 } else { 2 };
    painter.paragraph(&SMALL, &text, baseline - 2, 12, lines);
    baseline + 12 * lines as i32 + 4
}

pub(super) fn upstreams(painter: &mut Painter, snapshot: &Snapshot) {
    let all = &snapshot.upstreams;
    let up = all.iter().filter(|upstream| upstream.state == UpstreamState::Up).count();
    painter.header("Servers", &format!("{up} of {} up", all.len()));
    if all.is_empty() {
        painter.line(&[&LARGE], "None configured", 40, Align::Left);
    }
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
    painter.line_within(&[&MEDIUM], &upstream.name, Point::new(LEFT + 15, baseline), free, Align::Left);
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
    painter.header("Saved", &format!("{} prompts", words::count(savings.prompts)));
    let share = format!("{} %", words::percent(saved, savings.characters_before));
    painter.line(&[&GIANT], &share, 41, Align::Left);
    let time = words::span(savings.time_saved);
    if !savings.time_saved.is_zero() {
        painter.line(&[&SMALL], "time saved", 26, Align::Right);
        let free = SPAN - width_of(&GIANT, &share) - 4;
        painter.line_within(&[&MEDIUM, &SMALL], &time, Point::new(RIGHT + 1, 41), free, Align::Right);
    }
    let text =
        format!("{} to {} chars", words::count(savings.characters_before), words::count(savings.characters_after));
    painter.line(&[&SMALL], &text, 60, Align::Left);
}
