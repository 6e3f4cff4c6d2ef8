//! The calls that only report: `/health` from the newest status, never waiting for anybody; `/v1/models`, `/v1/stats` and
//! `/v1/vps/health` ask the first upstream and wait no longer than a moment.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::serve::{Answer, Refusal, full, json};
use cerebrum_common::wire::{Failure, FailureCode};
use futures_util::future::join_all;
use http::{HeaderValue, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::map::{Entry, Map};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Gateway;
use super::figures::{self, Now};
use crate::display;
use crate::status::{Board, Probe, Status};
use crate::upstream::Upstream;
use crate::upstream::probe::ask;
use crate::upstream::way::Way;

/// How long a question to an upstream may take before the answer goes out without it.
const ASK: Duration = Duration::from_secs(3);

/// `/health`.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    cm4_status: &'static str,
    vps_status: String,
    vps_available: bool,
    vps_connected: bool,
    active_count: u32,
    queue_count: u32,
    uptime_seconds: u64,
    uptime_text: String,
    cpu_percent: f32,
}

/// The same for those who watch, less what changes all the time.
pub(super) fn health_text(board: &Board) -> String {
    let health = board.look(|status| describe(status, Instant::now()));
    let health =
        Health { uptime_seconds: 0, uptime_text: String::new(), cpu_percent: health.cpu_percent.round(), ..health };
    serde_json::to_string(&health).unwrap_or_default()
}

pub(super) fn health(gateway: &Gateway) -> Response<Answer> {
    let health = gateway.board.look(|status| describe(status, Instant::now()));
    json(StatusCode::OK, &health)
}

fn describe(status: &Status, now: Instant) -> Health {
    let connected = status.upstreams.iter().any(|upstream| upstream.connected);
    let available = status.upstreams.iter().any(crate::status::UpstreamStatus::available);
    let uptime = now - status.started;
    Health {
        status: if available { "healthy" } else { "degraded" },
        cm4_status: "healthy",
        vps_status: vps_status(status),
        vps_available: available,
        vps_connected: connected,
        active_count: status.requests.active(),
        queue_count: status.queued,
        uptime_seconds: uptime.as_secs(),
        uptime_text: uptime_text(uptime),
        cpu_percent: status.cpu_percent,
    }
}

/// The word of the first upstream that has one.
fn vps_status(status: &Status) -> String {
    let word = status.upstreams.iter().find_map(|upstream| match (&upstream.probe, upstream.connected) {
        (Probe::Answered { status, .. }, true) => Some(status.to_string()),
        _ => None,
    });
    word.unwrap_or_else(|| "unreachable".to_owned())
}

/// Forms in which the display can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Picture {
    /// Four pixels for each of the panel's.
    Png,
    /// Characters, for a terminal.
    Text,
}

/// Pixels of the PNG for one of the panel's.
const PNG_SCALE: u32 = 4;

/// What the OLED shows at this moment.
pub(super) fn display(gateway: &Gateway, picture: Picture) -> Response<Answer> {
    let drawn =
        || gateway.board.look(|status| display::frame(&display::snapshot(status, gateway.port, Instant::now())));
    let frame = gateway.panel.as_ref().map_or_else(drawn, |panel| panel.shown().frame);
    match picture {
        Picture::Png => file("image/png", frame.to_png(PNG_SCALE)),
        Picture::Text => file("text/plain; charset=utf-8", frame.to_terminal()),
    }
}

/// `/openapi.json`: every call, for programs.
pub(super) fn description() -> Response<Answer> {
    file("application/json", include_str!("openapi.json"))
}

/// A file that comes with the program, or is made anew each time.
pub(super) fn file(kind: &'static str, content: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(full(content));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `3d 4h 5m`, `5m 7s`.
fn uptime_text(uptime: Duration) -> String {
    let seconds = uptime.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m {}s", seconds % 60),
        (0, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h {minutes}m"),
    }
}

/// `/v1/models`: OpenAI's list with the original's three fields beside it.
pub(super) async fn models(gateway: &Gateway) -> Response<Answer> {
    let mut models = all_models(gateway).await;
    let data: Vec<_> = served(gateway, &models).iter().map(|name| described(name)).collect();
    if let Some(object) = models.as_object_mut() {
        for (field, empty) in
            [("available_models", json!([])), ("cached_models", json!([])), ("inference_counts", json!({}))]
        {
            object.entry(field).or_insert(empty);
        }
        object.insert("object".into(), "list".into());
        object.insert("data".into(), data.into());
    }
    json(StatusCode::OK, &models)
}

/// `/v1/models/{id}`.
///
/// # Errors
/// No such model.
pub(super) async fn model(gateway: &Gateway, path: &str) -> Result<Response<Answer>, Refusal> {
    let coded = path.split_once("/models/").map_or("", |(_, name)| name);
    let asked = percent_decode_str(coded).decode_utf8_lossy();
    let models = all_models(gateway).await;
    match served(gateway, &models).iter().find(|name| **name == asked) {
        Some(name) => Ok(json(StatusCode::OK, &described(name))),
        None => {
            let message = format!("model: found {asked:?}, expected one that /v1/models lists");
            let failure = Failure { code: FailureCode::UnknownModel, message, retry_after_ms: None };
            Err(Refusal::Failed(failure))
        }
    }
}

fn described(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "cerebrum"})
}

/// What all servers of ours say of their models, as one: names once, counts together, of the rest the first one's word.
async fn all_models(gateway: &Gateway) -> Value {
    // At once: one that does not answer keeps nobody waiting longer than it would alone.
    let asking: Vec<_> = own(gateway).map(|upstream| ask(upstream, "/v1/models", ASK)).collect();
    let models = join_all(asking).await.into_iter().flatten().filter_map(object);
    Value::Object(models.fold(Map::new(), merged))
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(map) = value { Some(map) } else { None }
}

fn merged(mut all: Map<String, Value>, more: Map<String, Value>) -> Map<String, Value> {
    for (name, more) in more {
        match (all.get_mut(&name), more) {
            (None, more) => drop(all.insert(name, more)),
            (Some(Value::Array(list)), Value::Array(more)) => {
                let unknown: Vec<_> = more.into_iter().filter(|one| !list.contains(one)).collect();
                list.extend(unknown);
            }
            (Some(Value::Object(map)), Value::Object(more)) => {
                more.into_iter().for_each(|(key, value)| add(map.entry(key), value));
            }
            _ => {}
        }
    }
    all
}

/// Counts are added, of anything else the first one stays.
fn add(entry: Entry<'_>, more: Value) {
    let known = entry.or_insert(Value::Null);
    *known = match (known.take(), more) {
        (Value::Null, more) => more,
        (Value::Number(a), Value::Number(b)) => match (a.as_u64(), b.as_u64()) {
            (Some(a), Some(b)) => (a + b).into(),
            _ => Value::Number(a),
        },
        (first, _) => first,
    };
}

/// Names by which a model can be asked for: the servers' models and their aliases, and those of the services that are up.
fn served(gateway: &Gateway, models: &Value) -> Vec<String> {
    let own = models.get("available_models").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let aliases = models.get("aliases").and_then(Value::as_object).into_iter().flat_map(|aliases| aliases.keys());
    let foreign =
        gateway.upstreams.iter().filter(|upstream| upstream.way.is_up()).flat_map(|upstream| upstream.names());
    let mut names: Vec<String> = own.map(str::to_owned).chain(aliases.cloned()).chain(foreign).collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// `/v1/stats`: the appliance's own counts, and the server's where it answers.
pub(super) async fn stats(gateway: &Gateway) -> Response<Answer> {
    let vps = first_answer(gateway, "/v1/stats").await.unwrap_or(Value::Null);
    let figures = |status: &Status| serde_json::to_value(figures::everything(status, Now::here()));
    let mut cm4 = gateway.board.look(figures).unwrap_or_default();
    let board = gateway.panel.as_ref().map_or("off".to_owned(), |panel| panel.parts());
    if let Some(cm4) = cm4.as_object_mut() {
        cm4.insert("board".into(), board.into());
    }
    json(StatusCode::OK, &json!({"cm4": cm4, "vps": vps}))
}

/// `/v1/vps/health`: asked now, unlike `/health`.
///
/// # Errors
/// 503 when no upstream answers.
pub(super) async fn vps_health(gateway: &Gateway) -> Result<Response<Answer>, Refusal> {
    let health = first_answer(gateway, "/health").await.ok_or_else(|| {
        Refusal::Failed(Failure {
            code: FailureCode::Overloaded,
            message: "no inference server answers: check its address, its certificate and that it runs".into(),
            retry_after_ms: Some(5000),
        })
    })?;
    Ok(json(StatusCode::OK, &health))
}

/// The answer of the first server of ours that is connected and gives one.
async fn first_answer(gateway: &Gateway, path: &str) -> Option<Value> {
    for upstream in own(gateway) {
        if let Some(answer) = ask(upstream, path, ASK).await {
            return Some(answer);
        }
    }
    None
}

/// The servers of ours that are connected.
fn own(gateway: &Gateway) -> impl Iterator<Item = &Arc<Upstream>> {
    gateway.upstreams.iter().filter(|upstream| matches!(upstream.way, Way::Frames(_)) && upstream.way.is_up())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_several_servers_are_one_list() {
        let all = [
            json!({"available_models": ["a", "b"], "inference_counts": {"a": 1}, "aliases": {"x": "a"}, "default_model": "a"}),
            json!({"available_models": ["b", "c"], "inference_counts": {"a": 2, "c": 3}, "aliases": {"x": "c", "y": "c"},
                "default_model": "c"}),
        ]
        .into_iter()
        .filter_map(object)
        .fold(Map::new(), merged);
        let expected = json!({"available_models": ["a", "b", "c"], "inference_counts": {"a": 3, "c": 3},
            "aliases": {"x": "a", "y": "c"}, "default_model": "a"});
        assert_eq!(Value::Object(all), expected);
    }

    #[test]
    fn uptime_reads_like_a_person_would_say_it() {
        for (seconds, text) in [(7, "0m 7s"), (307, "5m 7s"), (3 * 3600 + 61, "3h 1m"), (273_900, "3d 4h 5m")] {
            assert_eq!(uptime_text(Duration::from_secs(seconds)), text);
        }
    }

    #[tokio::test]
    async fn health_tells_connected_from_available() {
        use crate::status::{Board, Event};
        let board = Board::new(["vps".into()]);
        let look = || board.look(|status| describe(status, Instant::now()));
        assert_eq!((look().status, look().vps_status.as_str()), ("degraded", "unreachable"));
        board.tell(Event::Link { upstream: 0, connected: true });
        let probe =
            |available, status: &str| Probe::Answered { status: status.into(), available, round_trip: Duration::ZERO };
        board.tell(Event::Probed { upstream: 0, probe: probe(false, "overloaded") });
        assert_eq!(
            (look().vps_available, look().vps_connected, look().vps_status.as_str()),
            (false, true, "overloaded")
        );
        board.tell(Event::Probed { upstream: 0, probe: probe(true, "healthy") });
        assert_eq!((look().status, look().vps_available), ("healthy", true));
    }
}
