//! Answers from memory: the same again for what would come out the same, marked, counted, and never of another model's file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use cerebrum_tests::client::{Client, PATIENCE, eventually, text_of};
use cerebrum_tests::stack::{MODEL, Site, models_folder};
use serde_json::{Value, json};

fn ask() -> Value {
    json!({"prompt": "def add(a, b):\n", "language": "python", "max_tokens": 12, "temperature": 0})
}

/// Asks until the answer comes from memory.
async fn remembered(lan: &Client) -> Value {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = lan.post("/v1/complete", &ask()).await.unwrap();
        if answer.header("x-cerebrum-cache") == "hit" {
            return answer.json().unwrap();
        }
        assert!(tokio::time::Instant::now() < until, "never from memory: {answer:?}");
    }
}

#[tokio::test]
async fn deterministic_answers_come_from_memory_until_the_models_file_changes() {
    let site = Site::new().unwrap();
    let models = site.folder().join("models");
    std::fs::create_dir(&models).unwrap();
    let file = models.join(format!("{MODEL}.gguf"));
    std::fs::copy(models_folder().join(format!("{MODEL}.gguf")), &file).unwrap();
    let settings = site.server_settings("");
    let bundled = format!("models_dir = {:?}", models_folder().display().to_string());
    let own = format!("models_dir = {:?}", models.display().to_string());
    assert!(settings.contains(&bundled));
    let config = site.write("cerebrum-server.toml", &settings.replace(&bundled, &own)).unwrap();
    let _server = cerebrum_tests::stack::Program::start("cerebrum-server", &["serve"], &config).unwrap();
    let _appliance = site.start_appliance("[board]\nbackend = \"off\"").unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));

    let first = lan.post("/v1/complete", &ask()).await.unwrap();
    assert_eq!((first.status.as_u16(), first.header("x-cerebrum-cache")), (200, ""), "{:?}", first.body);
    let first = first.json().unwrap();
    assert_eq!((&first["cached"], &first["source"]), (&Value::Null, &json!("vps")));
    let again = remembered(&lan).await;
    let ended = |stats: &Value| stats["cm4"]["vps_client"]["answers_cached_tokens"].as_u64() > Some(0);
    let before = eventually(&lan, "/v1/stats", ended).await.unwrap()["cm4"]["vps_client"].take();
    assert_eq!((&again["result"], &again["cached"]), (&first["result"], &json!(true)), "{again}");
    assert_eq!(again["tokens_generated"], first["tokens_generated"]);

    let mut stream = lan.stream("/v1/complete/stream", &ask()).await.unwrap();
    assert_eq!(stream.headers["x-cerebrum-cache"], "hit");
    let events = stream.rest().await.unwrap();
    assert_eq!(text_of(&events), first["result"].as_str().unwrap());
    assert_eq!(events.last().unwrap()["cached"], true);
    assert!(events.len() > 3, "token by token: {events:?}");
    let twice = |stats: &Value| {
        stats["cm4"]["vps_client"]["answers_cached_tokens"] == 2 * first["tokens_generated"].as_u64().unwrap()
    };
    let after = eventually(&lan, "/v1/stats", twice).await.unwrap()["cm4"]["vps_client"].take();
    for name in
        ["requests_sent", "requests_successful", "tokens_generated", "prompt_tokens", "total_inference_time_seconds"]
    {
        assert_eq!(after[name], before[name], "{name}: nobody but the memory did anything");
    }

    let mut other = ask();
    other["temperature"] = json!(0.5);
    assert_eq!(lan.post("/v1/complete", &other).await.unwrap().header("x-cerebrum-cache"), "");
    let figures = String::from_utf8(lan.get("/metrics").await.unwrap().body.to_vec()).unwrap();
    assert!(
        figures.lines().any(|line| line.starts_with("cerebrum_answers_cached_total ") && !line.ends_with(" 0")),
        "{figures}"
    );
    let stats =
        eventually(&lan, "/v1/stats", |stats| stats["cm4"]["vps_client"]["answers_cached"].as_u64() > Some(0)).await;
    assert!(stats.is_ok());

    // The same weights, but another file: nobody can know that they are the same.
    let touched = std::fs::File::options().append(true).open(&file).unwrap();
    touched.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(9)).unwrap();
    let direct = site.direct_client();
    direct.post(&format!("/v1/unload/{MODEL}"), &json!({})).await.unwrap();
    direct.post("/v1/inference", &json!({"prompt": "x", "max_tokens": 1})).await.unwrap();
    let forgotten = |models: &Value| models["versions"][MODEL].is_string();
    eventually(&direct, "/v1/models", forgotten).await.unwrap();
    let until = tokio::time::Instant::now() + PATIENCE;
    while lan.post("/v1/complete", &ask()).await.unwrap().header("x-cerebrum-cache") == "hit" {
        assert!(tokio::time::Instant::now() < until, "still from memory");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await; // the appliance asks every few seconds
    }
}
