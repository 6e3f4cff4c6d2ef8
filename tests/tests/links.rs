//! The link between appliance and server breaks under answers: they pause and go on, and nobody's generation outlives its
//! client.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use cerebrum_tests::client::{Client, PATIENCE, eventually, text_of};
use cerebrum_tests::proxy::FaultProxy;
use cerebrum_tests::stack::{Program, Site};
use serde_json::{Value, json};

struct Running {
    _site: Site,
    server: Program,
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
    Running { _site: site, server, appliance, proxy, lan, direct }
}

fn ask(tokens: u32) -> Value {
    json!({"prompt": "class Stack:\n    def push(self, item):\n", "language": "python", "max_tokens": tokens,
        "temperature": 0, "repetition_penalty": 1.0})
}

/// The tiny model may be done before a test is: then it is tried again.
const ROUNDS: usize = 12;

/// Waits for a condition, which is looked at again and again.
async fn until(condition: impl Fn() -> bool) {
    let looking = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it never came true");
}

impl Running {
    /// How many lines of the appliance's log say so.
    fn heard(&self, words: &str) -> usize {
        self.appliance.log().lines().iter().filter(|line| line.contains(words)).count()
    }

    async fn hear(&self, words: &str, times: usize) {
        until(|| self.heard(words) >= times).await;
    }

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
    let undisturbed = running.lan.post("/v1/complete", &ask(400)).await.unwrap().json().unwrap();
    let mut requests = 1;
    for round in 0..ROUNDS {
        let mut stream = running.lan.stream("/v1/complete/stream", &ask(400)).await.unwrap();
        let mut events = vec![stream.next().await.unwrap().unwrap()];
        match round % 2 {
            0 => running.proxy.cut(),
            _ => {
                let before = running.heard("cannot connect");
                running.proxy.down();
                running.hear("cannot connect", before + 1).await;
                running.proxy.up();
            }
        }
        events.extend(stream.rest().await.unwrap());
        requests += 1;
        assert_eq!(text_of(&events), undisturbed["result"].as_str().unwrap());
        let last = events.last().unwrap();
        assert_eq!((&last["done"], &last["error"]), (&json!(true), &Value::Null), "{last}");
        assert_eq!(last["total_tokens"], undisturbed["tokens_generated"]);
        assert_eq!(running.idle_server().await["models"][0]["requests"], requests, "nothing was generated twice");
        if round >= 1 && running.heard("the answer goes on") >= 2 {
            let figures = String::from_utf8(running.lan.get("/metrics").await.unwrap().body.to_vec()).unwrap();
            let resumed =
                figures.lines().find_map(|line| line.strip_prefix("cerebrum_answers_resumed_total ")).unwrap();
            assert!(resumed.parse::<f64>().unwrap() >= 2.0, "{resumed}");
            return;
        }
    }
    panic!("the tiny model was always faster than the proxy");
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

#[tokio::test]
async fn a_client_that_leaves_while_the_link_is_down_is_cancelled_as_soon_as_it_is_back() {
    // An hour: only the appliance's word can end it.
    let running = start("hold.time_ms = 3600000\nslots = 1").await;
    for round in 1..=ROUNDS {
        let mut stream = running.lan.stream("/v1/complete/stream", &ask(900)).await.unwrap();
        while stream.next().await.unwrap().unwrap()["token"].is_null() {}
        // The model is fast: nothing of it happens until the link is back.
        running.server.signal("STOP").unwrap();
        let lost = running.heard("connection lost");
        running.proxy.down();
        running.hear("connection lost", lost + 1).await;
        drop(stream);
        eventually(&running.lan, "/health", |health| health["active_count"] == 0).await.unwrap();
        running.proxy.up();
        running.server.signal("CONT").unwrap();
        eventually(&running.lan, "/health", |health| health["vps_available"] == true).await.unwrap();
        running.idle_server().await;
        let ended =
            || running.server.log().lines().into_iter().filter(|line| line.contains("outcome=")).collect::<Vec<_>>();
        until(|| ended().len() == round).await;
        if ended().iter().any(|line| line.contains("outcome=ClientGone")) {
            return;
        }
    }
    panic!("never cancelled: {:#?}", running.server.log().lines());
}

#[tokio::test]
async fn a_client_that_leaves_while_the_link_stands_is_cancelled_at_once() {
    let running = start("hold.time_ms = 3600000").await;
    for _ in 0..ROUNDS {
        let mut stream = running.lan.stream("/v1/complete/stream", &ask(900)).await.unwrap();
        while stream.next().await.unwrap().unwrap()["token"].is_null() {}
        drop(stream);
        running.idle_server().await;
        let gone = |line: &String| line.contains("outcome=ClientGone");
        eventually(&running.lan, "/health", |health| health["active_count"] == 0).await.unwrap();
        if running.server.log().lines().iter().any(gone) {
            return;
        }
    }
    panic!("never cancelled: {:#?}", running.server.log().lines());
}

/// A heartbeat and a clear error, long before the answer's time is over.
#[tokio::test]
async fn an_answer_whose_server_has_died_is_not_waited_for_as_long_as_a_link() {
    let site = Site::new().unwrap();
    let mut server = site.start_server("draft_tokens = 0\nhold.time_ms = 900000").unwrap();
    let settings = "[stream]\nheartbeat_ms = 100\n[board]\nbackend = \"off\"";
    let _appliance = site.start_appliance(settings).unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    for _ in 0..ROUNDS {
        let mut stream = lan.stream("/v1/complete/stream", &ask(900)).await.unwrap();
        stream.next().await.unwrap().unwrap();
        server.kill();
        let answer = lan.whole(http::Method::GET, "/health", bytes::Bytes::new()).await.unwrap();
        assert_eq!(answer.status, 200, "the appliance itself is well");
        let events = stream.rest().await.unwrap();
        let last = events.last().unwrap();
        if last["error"].is_string() {
            let message = last["message"].as_str().unwrap();
            assert!(message.contains("nobody listens at localhost"), "{message}");
            assert_eq!(last["done"], true);
            return;
        }
        // It was done before it died.
        server = site.start_server("draft_tokens = 0\nhold.time_ms = 900000").unwrap();
        eventually(&lan, "/health", |health| health["vps_connected"] == true).await.unwrap();
    }
    panic!("no answer was long enough to be cut off");
}

#[tokio::test]
async fn a_link_that_does_not_come_back_is_told_in_band_when_the_time_is_over() {
    let running = start("hold.time_ms = 300").await;
    for _ in 0..ROUNDS {
        let mut stream = running.lan.stream("/v1/complete/stream", &ask(900)).await.unwrap();
        while stream.next().await.unwrap().unwrap()["token"].is_null() {}
        running.server.signal("STOP").unwrap();
        running.proxy.down();
        let rest = stream.rest().await.unwrap();
        running.server.signal("CONT").unwrap();
        let last = rest.last().unwrap();
        if last["error"].is_string() {
            assert_eq!((&last["error"], &last["done"]), (&json!("upstream_lost"), &json!(true)), "{last}");
            assert!(last["message"].as_str().unwrap().contains("inference server broke"), "{last}");
            running.idle_server().await;
            return;
        }
        running.proxy.up();
        eventually(&running.lan, "/health", |health| health["vps_connected"] == true).await.unwrap();
    }
    panic!("the tiny model was always faster than the proxy");
}
