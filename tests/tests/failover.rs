//! Upstreams that are full, broken or silent: another one answers instead, and nobody waits for ever. The services here are
//! scripted, so that they fail in exactly one way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use cerebrum_common::wire::{Failure, FailureCode};
use cerebrum_tests::client::{Client, PATIENCE, eventually, upstreams_up};
use cerebrum_tests::scripted::{Ending, Script, ScriptedUpstream};
use cerebrum_tests::stack::{Program, Site};
use cerebrum_tests::stub_service::{STUB_MODEL, StubService};
use serde_json::{Value, json};

const PROMPT: &str = "my secret marmalade recipe";

async fn start(site: &Site, upstreams: &str, settings: &str) -> (Program, Client) {
    let text =
        format!("listen = \"{}\"\nauth = \"open\"\n{settings}[board]\nbackend = \"off\"\n{upstreams}", site.appliance);
    let appliance = Program::start("cerebrumd", &[], &site.write("cerebrum.toml", &text).unwrap()).unwrap();
    let lan = Client::plain(site.appliance, None);
    eventually(&lan, "/health", |health| health["vps_available"] == true).await.unwrap();
    (appliance, lan)
}

fn frames(name: &str, url: &str, priority: u32) -> String {
    format!("[[upstream]]\nname = \"{name}\"\nurl = \"{url}\"\npriority = {priority}\n")
}

#[tokio::test]
async fn every_request_goes_on_to_the_next_when_the_first_is_full_or_fails() {
    for (status, code) in [(503, FailureCode::Busy), (500, FailureCode::Internal), (404, FailureCode::UnknownModel)] {
        let site = Site::new().unwrap();
        let failure = Failure { code, message: "no".into(), retry_after_ms: Some(7000) };
        let refusing = Script { refuse: Some((status, failure.clone())), ..Script::default() };
        let broken = Script { tokens: 0, ending: Ending::Fail(failure), ..Script::default() };
        for script in [refusing, broken] {
            let (first, second) =
                (ScriptedUpstream::start(script).unwrap(), ScriptedUpstream::start(Script::default()).unwrap());
            let upstreams = frames("first", &first.url(), 0) + &frames("second", &second.url(), 1);
            let (_appliance, lan) = start(&site, &upstreams, "").await;
            upstreams_up(&lan, 2).await.unwrap();
            for number in 0..12 {
                let answer = lan.post("/v1/complete", &json!({"prompt": PROMPT})).await.unwrap();
                assert_eq!(answer.status.as_u16(), 200, "{code:?} {number}: {:?}", answer.json());
            }
            assert_eq!(second.seen().requests, 12);
            let stats = lan.get("/v1/stats").await.unwrap().json().unwrap();
            assert_eq!(
                (&stats["cm4"]["vps_client"]["requests_sent"], &stats["cm4"]["vps_client"]["requests_successful"]),
                (&json!(12), &json!(12))
            );
        }
    }
}

#[tokio::test]
async fn where_nobody_else_is_the_first_refusal_stands() {
    let site = Site::new().unwrap();
    let busy = Failure { code: FailureCode::Busy, message: "both slots are taken".into(), retry_after_ms: Some(7000) };
    let full = ScriptedUpstream::start(Script { refuse: Some((503, busy)), ..Script::default() }).unwrap();
    let (_appliance, lan) = start(&site, &frames("full", &full.url(), 0), "").await;
    let answer = lan.post("/v1/complete", &json!({"prompt": PROMPT})).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "7"));
    assert_eq!(full.seen().requests, 1);
}

#[tokio::test]
async fn a_service_that_says_nothing_is_given_up_and_its_client_has_an_answers_head_until_then() {
    let site = Site::new().unwrap();
    let service = StubService::silent().await.unwrap();
    let stream = "[stream]\nheartbeat_ms = 50\nidle_ms = 1500\ntotal_ms = 60000\n";
    let (_appliance, lan) = start(&site, &service.upstream(""), stream).await;
    let ask = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": PROMPT}]});
    let mut answer = lan.stream("/v1/chat/completions", &ask).await.unwrap();
    // The answer's head is there, long before the service's would have been.
    let mut last = Value::Null;
    while let Some(event) = answer.next_event().await.unwrap() {
        last = serde_json::from_str(&event.data).unwrap_or(last);
    }
    assert!(last["error"]["message"].as_str().unwrap().contains("silent"), "{last}");
    let whole = lan.post("/v1/complete", &json!({"model": "m", "prompt": PROMPT})).await.unwrap();
    assert_eq!(whole.status.as_u16(), 504, "{:?}", whole.json());
}

#[tokio::test]
async fn what_a_service_quotes_reaches_the_client_and_no_log() {
    let site = Site::new().unwrap();
    let service = StubService::refusing(&format!("could not process {PROMPT}")).await.unwrap();
    let (appliance, lan) = start(&site, &service.upstream(""), "").await;
    let ask = json!({"model": "m", "language": PROMPT, "messages": [{"role": "user", "content": PROMPT}]});
    let answer = lan.post("/v1/chat/completions", &ask).await.unwrap();
    assert_eq!(answer.status.as_u16(), 400);
    assert!(answer.json().unwrap()["error"]["message"].as_str().unwrap().contains(PROMPT));
    let status = lan.get("/v1/stats").await.unwrap().body;
    assert!(!String::from_utf8_lossy(&status).contains(PROMPT));
    // And it is the client's mistake, which is no failure of anybody here.
    let stats: Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(stats["cm4"]["vps_client"]["requests_failed"], 0, "{stats}");
    appliance.log().heard(PATIENCE, |line| line.contains("outcome=")).await.unwrap();
    let log = appliance.log().lines().join("\n");
    assert!(!log.contains(PROMPT), "{log}");
}

#[tokio::test]
async fn embeddings_go_on_to_the_next_and_an_upstreams_refusal_is_not_the_clients() {
    let (site, question) = (Site::new().unwrap(), json!({"model": STUB_MODEL, "input": "x"}));
    let second = StubService::start(Vec::new()).await.unwrap();
    for (status, sentence) in
        [("401 Unauthorized", "wrong key"), ("502 Bad Gateway", "no"), ("302 Found", "there"), ("429 Too Many", "slow")]
    {
        let first = StubService::refusing_with(status, sentence).await.unwrap();
        let upstreams =
            first.upstream("priority = 0") + &second.upstream("priority = 1").replace("\"stub\"", "\"second\"");
        let (appliance, lan) = start(&site, &upstreams, "").await;
        upstreams_up(&lan, 2).await.unwrap();
        let answer = lan.post("/v1/embeddings", &question).await.unwrap();
        assert_eq!(answer.status.as_u16(), 200, "{status}: {:?}", answer.json());
        assert_eq!(answer.json().unwrap()["data"][0]["embedding"], json!([1.0]));
        drop(appliance);
        let (_appliance, lan) = start(&site, &first.upstream(""), "").await;
        let answer = lan.post("/v1/embeddings", &question).await.unwrap();
        assert!([502, 503, 500].contains(&answer.status.as_u16()), "{status}: {}", answer.status);
        assert!(answer.json().unwrap()["error"]["message"].is_string(), "{:?}", answer.json());
    }
    let (appliance, lan) = start(&site, &second.upstream(""), "").await;
    let answer = lan.post("/tokenize", &json!({"content": "x"})).await.unwrap();
    assert_eq!(answer.json().unwrap(), json!({"tokens": [1]}), "{:?}", answer.status);
    drop(appliance);
    let strict = StubService::refusing("input: too long").await.unwrap();
    let (_appliance, lan) = start(&site, &strict.upstream(""), "").await;
    let answer = lan.post("/v1/embeddings", &question).await.unwrap();
    assert_eq!(answer.status.as_u16(), 400, "{:?}", answer.json());
}
