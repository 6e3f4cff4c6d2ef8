//! The appliance's figures: who gets them, and that they tell of requests without telling what was asked.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use cerebrum_common::keys::KeyFile;
use cerebrum_tests::client::{Client, PATIENCE, Stream, eventually};
use cerebrum_tests::scripted::{Script, ScriptedUpstream};
use cerebrum_tests::stack::{Program, Site};
use serde_json::{Value, json};

fn start(script: Script) -> (Site, ScriptedUpstream, Program) {
    let (site, upstream) = (Site::new().unwrap(), ScriptedUpstream::start(script).unwrap());
    let settings = "keys_file = \"appliance-keys.toml\"\n[board]\nbackend = \"off\"";
    let daemon = site.start_appliance_over(&upstream.url(), settings).unwrap();
    (site, upstream, daemon)
}

/// The next event of that name that is as wanted.
async fn hear(watch: &mut Stream, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let heard = async {
        loop {
            let (found, value) = watch.next_named().await.unwrap().unwrap();
            if found == name && wanted(&value) {
                return value;
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap()
}

#[tokio::test]
async fn figures_follow_a_request_and_hold_nothing_of_what_was_asked() {
    let (site, _upstream, _daemon) = start(Script { tokens: 200, gap: Duration::from_millis(20), ..Script::default() });
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let mut watch = lan.watch("/v1/events").await.unwrap();
    let access = hear(&mut watch, "access", |_| true).await;
    assert_eq!((&access["figures"], &access["client"]), (&json!(true), &json!("test client")));
    assert_eq!(hear(&mut watch, "recent", |_| true).await, json!([]));
    let body = json!({"prompt": "let marmalade = 1;", "language": "rust", "max_tokens": 200});
    // What it says fits into the connection's buffers: nobody need read it meanwhile.
    let mut stream = lan.stream("/v1/complete/stream", &body).await.unwrap();
    let writes = |figures: &Value, more: u64| figures["running"][0]["tokens"].as_u64() > Some(more);
    let first = hear(&mut watch, "figures", |figures| writes(figures, 0)).await;
    let request = &first["running"][0];
    assert_eq!((&request["call"], &request["language"]), (&json!("stream"), &json!("rust")));
    assert_eq!((&request["client"], &request["phase"]), (&json!("test client"), &json!("writing")));
    let tokens = request["tokens"].as_u64().unwrap();
    let later = hear(&mut watch, "figures", |figures| writes(figures, tokens)).await;
    assert!(!later.to_string().contains("marmalade"));
    let recent = hear(&mut watch, "recent", |recent| recent[0].is_object()).await;
    assert_eq!((&recent[0]["outcome"], &recent[0]["tokens"]), (&json!("complete"), &json!(200)));
    assert_eq!(recent[0]["id"], request["id"]);
    assert!(recent[0]["tokens_per_second"].as_f64() > Some(0.0), "{recent}");
    assert_eq!(stream.rest().await.unwrap().pop().unwrap()["done"], true);
    // The same figures, asked for, and one more request, which was none.
    assert_eq!(lan.post("/v1/complete", &json!({"prompt": 1})).await.unwrap().status, 400);
    let refused = |stats: &Value| stats["cm4"]["recent"][0]["outcome"] == "refused";
    let stats = eventually(&lan, "/v1/stats", refused).await.unwrap();
    assert_eq!(stats["cm4"]["recent"][1]["id"], request["id"]);
    assert_eq!(stats["cm4"]["recent"][0]["reason"], "bad_request");
    assert_eq!(stats["cm4"]["running"], json!([]));
    assert!(!stats.to_string().contains("marmalade"));
}

#[tokio::test]
async fn figures_need_a_key_that_counts() {
    let (site, _upstream, _daemon) = start(Script::default());
    for key in [None, Some("cbr_wrong")] {
        let mut watch = Client::plain(site.appliance, key).watch("/v1/events").await.unwrap();
        let (name, _) = watch.next_named().await.unwrap().unwrap();
        assert_eq!(name, "health");
        let (name, access) = watch.next_named().await.unwrap().unwrap();
        assert_eq!((name.as_str(), &access["figures"], &access["client"]), ("access", &json!(false), &Value::Null));
        assert_eq!(access["version"], Value::Null);
    }
    // A key that is revoked ends the figures of those who watch already.
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let mut watch = lan.watch("/v1/events").await.unwrap();
    hear(&mut watch, "figures", |_| true).await;
    KeyFile::default().write(&site.folder().join("appliance-keys.toml")).unwrap();
    hear(&mut watch, "access", |access| access["figures"] == false).await;
    assert_eq!(lan.get("/v1/stats").await.unwrap().status, 403);
}

#[tokio::test]
async fn watchers_without_a_key_lock_nobody_out() {
    let (site, _upstream, _daemon) = start(Script::default());
    let (lan, stranger) =
        (Client::plain(site.appliance, Some(site.client_key.expose())), Client::plain(site.appliance, None));
    let mut watching = Vec::new();
    while let Ok(watch) = stranger.watch("/v1/events").await {
        watching.push(watch);
    }
    assert_eq!(watching.len(), 8, "of one address");
    let refused = stranger.get("/v1/events").await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "10"));
    for _ in 0..3 {
        watching.push(lan.watch("/v1/events").await.unwrap());
    }
}
