//! `/v1/events`: what the board shows and how the appliance is, as server-sent events whenever they change. It tells no
//! more than `/health` and `/display.png`, so it needs no key either; the number of watchers is limited instead.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cerebrum_board::{Board, Shown};
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::serve::{Answer, Refusal};
use cerebrum_common::wire::sse;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Gateway, info};
use crate::status;

/// Watchers at a time.
pub(super) const WATCHERS: usize = 32;

/// Pause between two looks: ten a second, so that blinking lamps look like blinking lamps.
const LOOK: Duration = Duration::from_millis(100);

/// Looks without any change until a comment, so that a watcher that went away is noticed.
const QUIET_LOOKS: u32 = 50;

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

/// Starts watching.
///
/// # Errors
/// When too many are.
pub(super) fn watch(gateway: &Gateway) -> Result<Response<Answer>, Refusal> {
    let busy = |_| Refusal::Busy { who: "watchers", retry_after: Duration::from_secs(10) };
    let place = gateway.watchers.clone().try_acquire_owned().map_err(busy)?;
    let mut clock = interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watcher = Watcher {
        board: gateway.board.clone(),
        panel: gateway.panel.clone(),
        tasks: gateway.tasks.clone(),
        clock,
        shown: None,
        health: String::new(),
        quiet: 0,
        _place: place,
    };
    let mut response = Response::new(watcher.boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(sse::MEDIA_TYPE));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

struct Watcher {
    board: status::Board,
    panel: Option<Arc<Board>>,
    tasks: Tasks,
    clock: Interval,
    shown: Option<Shown>,
    health: String,
    quiet: u32,
    _place: OwnedSemaphorePermit,
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
                sse::write_named("display", &display(shown), &mut out);
            }
            self.shown = shown;
        }
        let health = info::health_text(&self.board);
        if health != self.health {
            sse::write_named("health", &health, &mut out);
            self.health = health;
        }
        self.quiet = if out.is_empty() { self.quiet + 1 } else { 0 };
        if self.quiet == QUIET_LOOKS {
            self.quiet = 0;
            sse::write_comment("still here", &mut out);
        }
        out
    }
}

fn display(shown: &Shown) -> String {
    let frame = shown.frame.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let display = Display {
        frame,
        text: &shown.to_terminal(),
        lamps: shown.lamps.levels(),
        light: format!("{:?}", shown.light).to_lowercase(),
    };
    serde_json::to_string(&display).unwrap_or_default()
}
