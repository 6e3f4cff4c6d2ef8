//! The appliance's side of answers that outlive the link (see [`held`]): the token by which an answer is asked for again, and
//! the way back to it.
//!
//! It is waited for as long as the server holds it, but no longer than it can be there: a server that was started anew says
//! itself that it knows nothing of the answer, and one that is gone refuses connections.
//!
//! A [`Hold`] that is dropped before its answer's end leaves its token with the link, which cancels the generation as soon as
//! there is a connection: a reset, which does it at once, may have gone into a connection that was dead already.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::wire::{FailureCode, frame, held};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tokio::time::Instant;

use super::Upstream;
use super::link::{Body, Link, LinkError};

/// Tokens that are remembered for cancelling.
const LEFT: usize = 256;

/// No server holds anything for longer, whatever its settings say, than an appliance remembers to cancel it.
const LEFT_FOR: Duration = Duration::from_secs(15 * 60);

/// Pauses between attempts to come back when the link is there and the server does not answer.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// For the head of the answer's rest.
const ANSWER: Duration = Duration::from_secs(10);

/// Largest refusal that is read, in bytes.
const REFUSAL_BYTES: usize = 4 << 10;

/// Answers that nobody wants any more, for the link's next connection.
#[derive(Debug, Default)]
pub(super) struct Left(Mutex<VecDeque<(Instant, u128)>>);

impl Left {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, u128)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, token: u128) {
        let mut left = self.lock();
        if left.len() == LEFT {
            left.pop_front();
        }
        left.push_back((Instant::now(), token));
    }

    /// All of them that may still be held somewhere.
    pub(super) fn take(&self) -> Vec<u128> {
        let left = std::mem::take(&mut *self.lock());
        left.into_iter().filter(|(at, _)| at.elapsed() < LEFT_FOR).map(|(_, token)| token).collect()
    }
}

/// Leave to come back for one answer.
#[derive(Debug)]
pub struct Hold {
    token: u128,
    link: Arc<Link>,
    standing: Standing,
}

/// Whether the answer is held, as far as is known.
#[derive(Clone, Copy, Debug)]
enum Standing {
    /// It was asked for; nobody has answered.
    Asked,
    /// For that long.
    Held(Duration),
    /// It is not, or nobody needs it any more.
    Over,
}

impl Hold {
    /// For a request that is about to be sent over `link`.
    pub fn new(link: Arc<Link>) -> Self {
        Self { token: link.next_token(), link, standing: Standing::Asked }
    }

    /// The value of [`held::HEADER`] that asks for it.
    pub fn header(&self) -> HeaderValue {
        held::token_value(self.token)
    }

    /// Takes note of what the server answered to that.
    pub fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        let ms = headers.get(held::HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        self.standing = ms.map_or(Standing::Over, |ms| Standing::Held(Duration::from_millis(ms)));
        // A refusal says nothing of how answers are given.
        if status.is_success() {
            self.link.holds(ms.is_some());
        }
    }

    /// Whether the server held the last answer: then it joins repeated requests, too.
    pub fn is_usual(&self) -> bool {
        self.link.is_holding()
    }

    /// The answer is over: nothing is held that anybody needs.
    pub fn over(&mut self) {
        self.standing = Standing::Over;
    }

    /// The way back to the answer, behind the first `seen` events; none when it is not held.
    pub fn way_back(
        &self,
        upstream: &Arc<Upstream>,
        seen: u64,
    ) -> Option<impl Future<Output = Result<Body, String>> + use<>> {
        let Standing::Held(time) = self.standing else { return None };
        let (token, link, upstream) = (self.token, self.link.clone(), upstream.clone());
        Some(async move {
            tokio::select! {
                back = come_back(&upstream, &link, token, seen, time) => back,
                // What it held was in its memory.
                gone = link.gone() => Err(format!("{gone}: the server has ended, and the answer with it")),
            }
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let held = match self.standing {
            Standing::Held(_) => true,
            // The connection broke, or the client left, before the answer's head: the server may have begun it.
            Standing::Asked => self.is_usual(),
            Standing::Over => false,
        };
        if held {
            self.link.left().push(self.token);
        }
    }
}

/// Tries until the answer goes on, or for as long as it is held.
async fn come_back(upstream: &Upstream, link: &Link, token: u128, seen: u64, time: Duration) -> Result<Body, String> {
    let until = Instant::now() + time;
    let mut pause = PAUSE;
    let mut reason = String::new();
    while Instant::now() < until {
        let attempt = tokio::time::timeout(ANSWER, attempt(upstream, link, token, seen)).await;
        match attempt.unwrap_or_else(|_| Err(Missed::Again("no answer in time".to_owned()))) {
            Ok(body) => return Ok(body),
            Err(Missed::Again(why)) => reason = why,
            Err(Missed::Gone(why)) => return Err(why),
        }
        tokio::time::sleep(pause.mul_f64(0.8 + 0.4 * super::chance()).min(until - Instant::now().min(until))).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    Err(format!("it was not back within {} s: {reason}", time.as_secs()))
}

enum Missed {
    /// Another attempt may do better.
    Again(String),
    /// The answer is lost.
    Gone(String),
}

#[derive(Deserialize)]
struct Refused {
    error: String,
    message: String,
}

async fn attempt(upstream: &Upstream, link: &Link, token: u128, seen: u64) -> Result<Body, Missed> {
    let request = upstream
        .request(Method::GET, &held::path(token))
        .header(held::LAST_EVENT, seen)
        .body(Bytes::new())
        .map_err(|error| Missed::Gone(error.to_string()))?;
    let response = link.send(request).await.map_err(|error: LinkError| Missed::Again(error.to_string()))?;
    let (head, body) = response.into_parts();
    let framed = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == frame::MEDIA_TYPE);
    if head.status.is_success() && framed {
        return Ok(body);
    }
    let refused = Limited::new(body, REFUSAL_BYTES).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let refused = serde_json::from_slice::<Refused>(&refused).ok();
    let stopping = refused.as_ref().is_some_and(|refused| refused.error == FailureCode::Stopping.as_str());
    let why = refused.map_or_else(|| format!("it answered {}", head.status), |refused| refused.message);
    // A proxy on the way that has no connection says 502 or 504; a server of ours says 404 when it knows nothing of the answer.
    let again = head.status.is_server_error() && head.status != StatusCode::INTERNAL_SERVER_ERROR;
    Err(if again && !stopping { Missed::Again(why) } else { Missed::Gone(why) })
}

/// Tells the server what nobody wants any more, over a connection that has just been opened.
pub(super) async fn cancel_left(upstream: &Upstream, link: &Link) {
    for token in link.left().take() {
        let request = upstream.request(Method::POST, &held::cancel_path(token)).body(Bytes::new());
        let Ok(request) = request else { continue };
        match link.send(request).await {
            Ok(answer) => {
                tracing::debug!(upstream = %upstream.name, status = %answer.status(), "cancelled what was left")
            }
            // The connection is gone again: for the next one.
            Err(_) => link.left().push(token),
        }
    }
}
