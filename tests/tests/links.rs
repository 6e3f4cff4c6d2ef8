//! The link between appliance and server breaks under answers: they pause and go on, and nobody's generation outlives its
//! client.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use cerebrum_tests::client::{Client, PATIENCE, eventually, text_of};
use cerebrum_tests::proxy::FaultProxy;
use cerebrum_tests::stack::{Program, Site};
use serde_json::{Value, json};

struct Running {
    _site: Site,
    _server: Program,
    appliance: Program,
    proxy: FaultProxy,
    lan: Client,
    /// Past the proxy.
    direct: Client,
}

async fn start(server: &str) -> Running {
    let site = Site::new().unwrap();
    let proxy = FaultProxy::start(site.server, 1).unwrap();
    let server = site.start_server(&format!("draft_tokens = 0\n{server}")).unwrap();
    let appliance = site
        .start_appliance_behind(
            proxy.address(),
            "cache.kib = 0\n[stream]\nheartbeat_ms = 100\n[limits]\nmax_in_progress = 8\n[board]\nbackend = \"off\"",
        )
        .unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    eventually(&lan, "/health", |health| health["vps_available"] == true).await.unwrap();
    let direct = site.direct_client();
    Running { _site: site, _server: server, appliance, proxy, lan, direct }
}

fn ask(tokens: u32) -> Value {
    json!({"prompt": "class Stack:\n    def push(self, item):\n", "language": "python", "max_tokens": tokens,
        "temperature": 0, "repetition_penalty": 1.0})
}

impl Running {
    async fn idle_server(&self) -> Value {
        let free = |stats: &Value| {
            let models = stats["models"].as_array().cloned().unwrap_or_default();
            !models.is_empty() && models.iter().all(|model| model["active"] == 0 && model["queued"] == 0)
        };
        eventually(&self.direct, "/v1/stats", free).await.unwrap()
    }
}

#[tokio::test]
async fn a_stream_pauses_while_the_link_is_down_and_ends_as_if_it_had_never_been() {
    let running = start("").await;
    let undisturbed = running.lan.post("/v1/complete", &ask(200)).await.unwrap().json().unwrap();
    let mut stream = running.lan.stream("/v1/complete/stream", &ask(200)).await.unwrap();
    let mut events = Vec::new();
    for round in 0..3 {
        events.push(stream.next().await.unwrap().unwrap());
        match round {
            0 => running.proxy.cut(),
            _ => {
                running.proxy.down();
                running.appliance.log().heard(PATIENCE, |line| line.contains("cannot connect")).await.unwrap();
                running.proxy.up();
            }
        }
    }
    events.extend(stream.rest().await.unwrap());
    assert_eq!(text_of(&events), undisturbed["result"].as_str().unwrap());
    let last = events.last().unwrap();
    assert_eq!((&last["done"], &last["error"]), (&json!(true), &Value::Null), "{last}");
    assert_eq!(last["total_tokens"], undisturbed["tokens_generated"]);
    assert_eq!(running.idle_server().await["models"][0]["requests"], 2, "nothing was generated twice");
    let figures = String::from_utf8(running.lan.get("/metrics").await.unwrap().body.to_vec()).unwrap();
    let resumed = figures.lines().find_map(|line| line.strip_prefix("cerebrum_answers_resumed_total ")).unwrap();
    assert!(resumed.parse::<f64>().unwrap() >= 1.0, "{resumed}");
}

#[tokio::test]
async fn an_answer_in_one_piece_survives_the_link_too() {
    let running = start("").await;
    let undisturbed = running.lan.post("/v1/complete", &ask(300)).await.unwrap().json().unwrap();
    let asking = {
        let lan = running.lan.clone();
        async move { lan.post("/v1/complete", &ask(300)).await.unwrap().json().unwrap() }
    };
    let cutting = async {
        eventually(&running.direct, "/v1/stats", |stats| stats["models"][0]["active"] == 1).await.unwrap();
        running.proxy.cut();
    };
    let (answer, ()) = tokio::join!(asking, cutting);
    assert_eq!(answer["result"], undisturbed["result"], "{answer}");
    assert_eq!(running.idle_server().await["models"][0]["requests"], 2, "nothing was generated twice");
}

/// What the tiny model does not end by itself for a while.
fn endless() -> Value {
    json!({"prompt": "x = [1, 2, 3,", "language": "python", "max_tokens": 900, "temperature": 1.5, "seed": 3})
}

#[tokio::test]
async fn a_client_that_leaves_while_the_link_is_down_is_cancelled_as_soon_as_it_is_back() {
    // An hour: only the appliance's word can end it.
    let running = start("hold.time_ms = 3600000\nslots = 1").await;
    let mut stream = running.lan.stream("/v1/complete/stream", &endless()).await.unwrap();
    while stream.next().await.unwrap().unwrap()["token"].is_null() {}
    running.proxy.down();
    running.appliance.log().heard(PATIENCE, |line| line.contains("waiting for it")).await.unwrap();
    drop(stream);
    running.appliance.log().heard(PATIENCE, |line| line.contains("ClientGone")).await.unwrap();
    running.proxy.up();
    running._server.log().heard(PATIENCE, |line| line.contains("outcome=ClientGone")).await.unwrap();
    running.idle_server().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_the_link_stands_is_cancelled_at_once() {
    let running = start("hold.time_ms = 3600000").await;
    let mut stream = running.lan.stream("/v1/complete/stream", &endless()).await.unwrap();
    while stream.next().await.unwrap().unwrap()["token"].is_null() {}
    drop(stream);
    running._server.log().heard(PATIENCE, |line| line.contains("outcome=ClientGone")).await.unwrap();
    running.idle_server().await;
}

#[tokio::test]
async fn a_link_that_does_not_come_back_is_told_in_band_when_the_time_is_over() {
    let running = start("hold.time_ms = 300").await;
    let mut stream = running.lan.stream("/v1/complete/stream", &endless()).await.unwrap();
    while stream.next().await.unwrap().unwrap()["token"].is_null() {}
    running.proxy.down();
    let last = stream.rest().await.unwrap().pop().unwrap();
    assert_eq!((&last["error"], &last["done"]), (&json!("upstream_lost"), &json!(true)), "{last}");
    running._server.log().heard(PATIENCE, |line| line.contains("outcome=ClientGone")).await.unwrap();
    running.idle_server().await;
}
