//! `/v1/events`: what the board shows and how the appliance is, as server-sent events whenever they change. To everybody it
//! tells no more than `/health` and `/display.png`, so it needs no key either; the number of watchers is limited instead. Who
//! shows a key with the request, as for `/v1/stats`, gets its figures as well, for as long as that key counts.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cerebrum_board::{Backend, Board, Shown};
use cerebrum_common::keyring::Keyring;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::serve::{Answer, Refusal};
use cerebrum_common::wire::sse;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::figures::Now;
use super::watchers::Place;
use super::{Gateway, authenticate, figures, info};
use crate::status::{self, Status};

/// Pause between two looks: as often as the board changes its lamps. The fastest of them blink five times a second, and half
/// as many looks would see them stand still now and then.
const LOOK: Duration = Duration::from_millis(40);

/// Looks without any change until a comment, so that a watcher that went away is noticed.
const QUIET_LOOKS: u32 = 125;

/// Looks from one at health and figures to the next: three times a second is live, and no more than an eye follows.
const FIGURES_LOOKS: u32 = 8;

/// What a watcher may see besides.
#[derive(Serialize)]
struct Access<'a> {
    /// Whether figures come; without them a key is missing, or is not known.
    figures: bool,
    /// The name of the key; `open` where none is needed.
    client: Option<&'a str>,
    /// Whether `/v1/board/press` has buttons to press.
    pressable: bool,
    /// The wall clock here, in UTC.
    now: String,
    #[serde(flatten)]
    program: Option<Program>,
}

/// Only for those who may see figures.
#[derive(Serialize)]
struct Program {
    version: &'static str,
    uptime_seconds: u64,
}

/// The board as it can be seen.
#[derive(Serialize)]
struct Display<'a> {
    /// 128 x 64 pixels as the panel has them: eight pages of 128 bytes, one bit a pixel, as hexadecimal.
    frame: String,
    /// Characters for a terminal.
    text: &'a str,
    /// How bright the ready, activity, upstream and error lamps are, 0 to 255.
    lamps: [u8; 4],
    /// `bright`, `dim` or `off`.
    light: String,
}

/// Lamps alone, as in [`Display`].
#[derive(Serialize)]
struct Glow {
    lamps: [u8; 4],
}

/// Starts watching, with the key among `headers` if there is one.
///
/// # Errors
/// When too many are.
pub(super) fn watch(gateway: &Gateway, headers: &HeaderMap, from: IpAddr) -> Result<Response<Answer>, Refusal> {
    let has_key = authenticate::authenticate(&gateway.keys, headers).is_ok();
    let place = gateway.watchers.enter(from, has_key)?;
    let mut clock = interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watcher = Watcher {
        board: gateway.board.clone(),
        panel: gateway.panel.clone(),
        keys: gateway.keys.clone(),
        shown_key: key_headers(headers),
        tasks: gateway.tasks.clone(),
        clock,
        shown: None,
        health: String::new(),
        access: None,
        figures: String::new(),
        ended: None,
        looks: 0,
        quiet: 0,
        _place: place,
    };
    let mut response = Response::new(watcher.boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(sse::MEDIA_TYPE));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// The headers that may hold a key; the others need not be kept.
fn key_headers(headers: &HeaderMap) -> HeaderMap {
    let kept = |name: &HeaderName| name == "x-api-key" || name == header::AUTHORIZATION;
    headers.iter().filter(|(name, _)| kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

struct Watcher {
    board: status::Board,
    panel: Option<Arc<Board>>,
    keys: Arc<Keyring>,
    /// The headers that may hold a key.
    shown_key: HeaderMap,
    tasks: Tasks,
    clock: Interval,
    shown: Option<Shown>,
    health: String,
    /// Whom figures were last told to.
    access: Option<Option<Arc<str>>>,
    figures: String,
    /// Requests that had ended when those that had were last told.
    ended: Option<u64>,
    looks: u32,
    quiet: u32,
    _place: Place,
}

impl http_body::Body for Watcher {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let watcher = &mut *self;
        loop {
            // A watcher is no work in progress that a stop would wait for.
            if watcher.tasks.is_stopping() {
                return Poll::Ready(None);
            }
            ready!(watcher.clock.poll_tick(cx));
            let out = watcher.look();
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.freeze()))));
            }
        }
    }
}

impl Watcher {
    /// Events for what has changed since the last look.
    fn look(&mut self) -> BytesMut {
        let mut out = BytesMut::new();
        let shown = self.panel.as_ref().map(|panel| panel.shown());
        if shown != self.shown {
            if let Some(shown) = &shown {
                let (name, data) = news(self.shown.as_ref(), shown);
                sse::write_named(name, &data, &mut out);
            }
            self.shown = shown;
        }
        if self.looks.is_multiple_of(FIGURES_LOOKS) {
            let health = info::health_text(&self.board);
            if health != self.health {
                sse::write_named("health", &health, &mut out);
                self.health = health;
            }
            self.look_at_figures(&mut out);
        }
        self.looks = self.looks.wrapping_add(1);
        self.quiet = if out.is_empty() { self.quiet + 1 } else { 0 };
        if self.quiet == QUIET_LOOKS {
            self.quiet = 0;
            sse::write_comment("still here", &mut out);
        }
        out
    }
}

impl Watcher {
    /// Figures, for those who may see them. Keys are asked for each time: one that is revoked ends the figures, too.
    fn look_at_figures(&mut self, out: &mut BytesMut) {
        let client = authenticate::authenticate(&self.keys, &self.shown_key).ok().map(|client| client.name);
        let known = client.is_some();
        if self.access.as_ref() != Some(&client) {
            sse::write_named("access", &self.access(client.as_deref()), out);
            (self.access, self.ended) = (Some(client), None);
            self.figures.clear();
        }
        if !known {
            return;
        }
        let (figures, recent) = self.board.look(|status| {
            let now = Now::here();
            let news = Some(status.requests.ended()) != self.ended;
            self.ended = Some(status.requests.ended());
            (text(&figures::live(status, now)), news.then(|| text(&figures::recent(status, now))))
        });
        if figures != self.figures {
            sse::write_named("figures", &figures, out);
            self.figures = figures;
        }
        if let Some(recent) = recent {
            sse::write_named("recent", &recent, out);
        }
    }

    fn access(&self, client: Option<&str>) -> String {
        let uptime = |status: &Status| status.started.elapsed().as_secs();
        let program = || Program { version: env!("CARGO_PKG_VERSION"), uptime_seconds: self.board.look(uptime) };
        text(&Access {
            figures: client.is_some(),
            client,
            pressable: self.panel.as_ref().is_some_and(|panel| panel.backend() == Backend::Sim),
            now: cerebrum_common::wire::native::timestamp(),
            program: client.map(|_| program()),
        })
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The whole display, or only the lamps where nothing else has changed: they do so all the time.
fn news(before: Option<&Shown>, shown: &Shown) -> (&'static str, String) {
    let same = before.is_some_and(|before| before.frame == shown.frame && before.light == shown.light);
    if same { ("lamps", text(&Glow { lamps: shown.lamps.levels() })) } else { ("display", display(shown)) }
}

fn display(shown: &Shown) -> String {
    let display = Display {
        frame: shown.frame.to_hex(),
        text: &shown.to_terminal(),
        lamps: shown.lamps.levels(),
        light: format!("{:?}", shown.light).to_lowercase(),
    };
    text(&display)
}

#[cfg(test)]
mod tests {
    use cerebrum_board::desk::Light;
    use cerebrum_board::{Lamps, Page, Snapshot, render};

    use super::*;

    #[test]
    fn lamps_alone_cost_no_picture() {
        let shown = Shown {
            frame: render(&Snapshot::default(), Page::Splash),
            lamps: Lamps::default(),
            light: Light::Bright,
            missing: Vec::new(),
        };
        assert_eq!(news(None, &shown).0, "display");
        let lit = Shown { lamps: Lamps::ALL, ..shown.clone() };
        assert_eq!(news(Some(&shown), &lit), ("lamps", "{\"lamps\":[255,255,255,255]}".to_owned()));
        let dim = Shown { light: Light::Dim, ..lit.clone() };
        assert_eq!(news(Some(&lit), &dim).0, "display");
    }
}
