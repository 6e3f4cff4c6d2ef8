//! Upstreams that are not ours: an OpenAI-compatible service behind the appliance, failover between upstreams, batches and
//! figures. The service is a cerebrum server that is asked by its OpenAI calls over plain HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use cerebrum_tests::client::{Client, PATIENCE, eventually, text_of, upstreams_up};
use cerebrum_tests::scripted::{Script, ScriptedUpstream};
use cerebrum_tests::stack::{MODEL, Program, Site, free_port, models_folder};
use cerebrum_tests::stub_service::{STUB_MODEL, StubService};
use serde_json::{Value, json};

const OPEN: &str = "auth = \"open\"\n[board]\nbackend = \"off\"\n";

fn start_service(site: &Site) -> Program {
    let text = format!(
        "listen = \"{}\"\nkeys_file = \"server-keys.toml\"\nmodels_dir = {:?}\ndefault_model = \"{MODEL}\"\nthreads = 1\n\
         [guards]\nmax_cpu_percent = 100\nmin_free_ram_mib = 0\n",
        site.server,
        models_folder().display().to_string(),
    );
    Program::start("cerebrum-server", &["serve"], &site.write("service.toml", &text).unwrap()).unwrap()
}

fn start_appliance(site: &Site, upstreams: &str) -> Program {
    let text = format!("listen = \"{}\"\n{OPEN}{upstreams}", site.appliance);
    Program::start("cerebrumd", &[], &site.write("cerebrum.toml", &text).unwrap()).unwrap()
}

fn openai(site: &Site) -> String {
    format!(
        "[[upstream]]\nname = \"service\"\nkind = \"openai\"\nurl = \"http://{}/v1\"\nkey_file = \"server.secret\"\n\
         models = {{ qwen_7b = \"{MODEL}\", fast = \"{MODEL}\" }}\n",
        site.server
    )
}

#[tokio::test]
async fn a_service_answers_in_every_dialect() {
    let site = Site::new().unwrap();
    let _service = start_service(&site);
    let _appliance = start_appliance(&site, &openai(&site));
    let lan = Client::plain(site.appliance, None);
    eventually(&lan, "/health", |health| health["vps_available"] == true).await.unwrap();

    let direct = Client::plain(site.server, Some(site.server_key.expose()));
    let chat = |model: &str, stream: bool| {
        json!({"model": model, "max_tokens": 12, "temperature": 0, "stream": stream,
            "messages": [{"role": "user", "content": "def add(a, b):"}]})
    };
    let expected = direct.post("/v1/chat/completions", &chat(MODEL, false)).await.unwrap().json().unwrap();
    let expected = expected["choices"][0]["message"]["content"].as_str().unwrap();
    let through = lan.post("/v1/chat/completions", &chat("fast", false)).await.unwrap().json().unwrap();
    assert_eq!(through["choices"][0]["message"]["content"], expected, "{through}");
    assert!(through["usage"]["prompt_tokens"].as_u64().unwrap() > 5, "{through}");

    let ask = json!({"prompt": "def add(a, b):\n", "language": "python", "max_tokens": 8, "temperature": 0});
    let mut stream = lan.stream("/v1/complete/stream", &ask).await.unwrap();
    let events = stream.rest().await.unwrap();
    assert_eq!(events.last().unwrap()["total_tokens"], 8, "{events:?}");
    assert!(!text_of(&events).is_empty());

    let unknown = lan.post("/v1/chat/completions", &chat("gpt-9", false)).await.unwrap();
    assert_eq!(unknown.status.as_u16(), 404);
    let long = json!({"model": "fast", "messages": [{"role": "user", "content": "x ".repeat(5000)}]});
    let long = lan.post("/v1/chat/completions", &long).await.unwrap();
    assert_eq!(
        (long.status.as_u16(), &long.json().unwrap()["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );
}

#[tokio::test]
async fn the_next_upstream_answers_when_the_first_cannot() {
    let site = Site::new().unwrap();
    let _service = start_service(&site);
    let dead = free_port().unwrap();
    let upstreams =
        format!("[[upstream]]\nname = \"gone\"\nurl = \"http://127.0.0.1:{dead}\"\n{}priority = 1\n", openai(&site));
    let _appliance = start_appliance(&site, &upstreams);
    let lan = Client::plain(site.appliance, None);
    eventually(&lan, "/health", |health| health["vps_available"] == true).await.unwrap();
    let ask = json!({"prompt": "x", "model": "fast", "max_tokens": 2});
    for _ in 0..3 {
        let answer = lan.post("/v1/complete", &ask).await.unwrap();
        assert_eq!(answer.status.as_u16(), 200, "{:?}", answer.json());
    }
}

#[tokio::test]
async fn equals_share_the_requests_by_their_weights_and_the_last_resort_says_so() {
    let site = Site::new().unwrap();
    let scripted = || ScriptedUpstream::start(Script::default()).unwrap();
    let (mut heavy, light, local) = (Some(scripted()), scripted(), scripted());
    let of = |name: &str, upstream: &ScriptedUpstream, more: &str| {
        format!("[[upstream]]\nname = \"{name}\"\nurl = \"{}\"\n{more}\n", upstream.url())
    };
    let upstreams = of("local", &local, "local = true\npriority = 0")
        + &of("heavy", heavy.as_ref().unwrap(), "weight = 3\npriority = 7")
        + &of("light", &light, "priority = 7");
    let _appliance = start_appliance(&site, &upstreams);
    let lan = Client::plain(site.appliance, None);
    upstreams_up(&lan, 3).await.unwrap();
    for _ in 0..8 {
        assert_eq!(lan.post("/v1/complete", &json!({"prompt": "x"})).await.unwrap().json().unwrap()["source"], "vps");
    }
    assert_eq!((heavy.as_ref().unwrap().seen().requests, light.seen().requests, local.seen().requests), (6, 2, 0));
    drop(heavy.take());
    drop(light);
    let until = tokio::time::Instant::now() + cerebrum_tests::client::PATIENCE;
    loop {
        let answer = lan.post("/v1/complete", &json!({"prompt": "x"})).await.unwrap().json().unwrap();
        if answer["source"] == "local" {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{answer}");
    }
}

#[tokio::test]
async fn a_key_takes_no_more_than_it_may_and_is_told_when_to_come_back() {
    let site = Site::new().unwrap();
    let upstream = ScriptedUpstream::start(Script { tokens: 29, ..Script::default() }).unwrap();
    let path = site.folder().join("appliance-keys.toml");
    let mut keys = cerebrum_common::keys::KeyFile::read(&path).unwrap();
    let own = keys.add("has a word of its own");
    keys.keys[1].allowance.requests_per_minute = Some(1000);
    keys.write(&path).unwrap();
    let settings = "keys_file = \"appliance-keys.toml\"\n[board]\nbackend = \"off\"\n\
                    [limits.per_key]\nrequests_per_minute = 2\ntokens_per_minute = 1000";
    let _appliance = site.start_appliance_over(&upstream.url(), settings).unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    let ask = json!({"prompt": "x", "max_tokens": 100});
    for _ in 0..2 {
        assert_eq!(lan.post("/v1/complete", &ask).await.unwrap().status, 200);
    }
    let refused =
        lan.post("/v1/chat/completions", &json!({"messages": [{"role": "user", "content": "x"}]})).await.unwrap();
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(refused.json().unwrap()["error"]["type"], "rate_limit_error");
    let other = Client::plain(site.appliance, Some(own.expose()));
    let mut answered = 0;
    // 30 tokens each, of 1000 a minute.
    while other.post("/v1/complete", &ask).await.unwrap().status == 200 {
        answered += 1;
    }
    assert!((34..100).contains(&answered), "{answered}");
}

#[tokio::test]
async fn a_batch_has_a_result_or_an_error_in_each_place() {
    let (site, upstream) = (Site::new().unwrap(), ScriptedUpstream::start(Script::default()).unwrap());
    let _appliance = site.start_appliance_over(&upstream.url(), OPEN).unwrap();
    let lan = Client::plain(site.appliance, None);
    let batch = json!({"requests": [{"prompt": "a"}, {"prompt": 7}, {"prompt": "c", "language": "go"}]});
    let answer = lan.post("/v1/complete/batch", &batch).await.unwrap().json().unwrap();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    assert!(results[0]["result"].is_string() && results[2]["language"] == "go", "{answer}");
    assert_eq!((&results[1]["error"], &results[1]["result"]), (&json!("bad_request"), &Value::Null));
    assert_eq!(upstream.seen().requests, 2);
    for wrong in [json!({}), json!({"requests": []}), json!({"requests": vec![json!({"prompt": "x"}); 65]})] {
        assert_eq!(lan.post("/v1/complete/batch", &wrong).await.unwrap().status.as_u16(), 400);
    }
    let health = eventually(&lan, "/health", |health| health["active_count"] == 0).await.unwrap();
    assert_eq!(health["active_count"], 0);
    let figures = lan.get("/metrics").await.unwrap();
    let figures = String::from_utf8(figures.body.to_vec()).unwrap();
    assert!(figures.contains("\ncerebrum_requests_successful_total 2"), "{figures}");
    assert!(figures.contains("# TYPE cerebrum_requests_successful_total counter"), "{figures}");
    // Nobody left: the batch's own record is that of its last request.
    assert!(figures.contains("cerebrum_requests_cancelled_total 0"), "{figures}");
}

#[tokio::test]
async fn figures_come_in_the_format_that_is_asked_for() {
    let (site, upstream) = (Site::new().unwrap(), ScriptedUpstream::start(Script::default()).unwrap());
    let _appliance = site.start_appliance_over(&upstream.url(), OPEN).unwrap();
    let lan = Client::plain(site.appliance, None);
    let plain = lan.get("/metrics").await.unwrap();
    assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let open = lan.with_header("accept", "application/openmetrics-text; version=1.0.0").get("/metrics").await.unwrap();
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.body.ends_with(b"# EOF\n") && !plain.body.ends_with(b"# EOF\n"));
}

#[tokio::test]
async fn embeddings_use_the_tokens_that_a_key_may_use() {
    let (site, service) = (Site::new().unwrap(), StubService::start(Vec::new()).await.unwrap());
    let _appliance =
        start_appliance(&site, &format!("[limits.per_key]\ntokens_per_minute = 10\n{}", service.upstream("")));
    let lan = Client::plain(site.appliance, None);
    upstreams_up(&lan, 1).await.unwrap();
    let ask = json!({"input": "a text", "model": STUB_MODEL});
    // 8 tokens each: the second overdraws what the minute allows.
    for _ in 0..2 {
        assert_eq!(lan.post("/v1/embeddings", &ask).await.unwrap().status, 200);
    }
    let refused = lan.post("/v1/embeddings", &ask).await.unwrap();
    assert_eq!(refused.status, 429, "{:?}", refused.json());
    assert!(refused.header("retry-after").parse::<u64>().is_ok());
}

#[tokio::test]
async fn a_warm_up_makes_room_for_a_person() {
    let site = Site::new().unwrap();
    // The stand-in reads prompts only.
    let silent = Script { first_gap: PATIENCE * 10, read_requests: false, ..Script::default() };
    let upstream = ScriptedUpstream::start(silent).unwrap();
    let settings = "auth = \"open\"\n[limits]\nmax_in_progress = 1\n[board]\nbackend = \"off\"";
    let _appliance = site.start_appliance_over(&upstream.url(), settings).unwrap();
    let lan = Client::plain(site.appliance, None);
    let warm_up = json!({"input_prefix": "def f(", "input_suffix": ")", "n_predict": 0});
    let (warm, asked) = (lan.clone(), async {
        upstream.wait_for(PATIENCE, |seen| seen.in_progress == 1).await.unwrap();
        upstream.follow(Script::default());
        lan.post("/v1/complete", &json!({"prompt": "x"})).await.unwrap()
    });
    let (warmed, answer) = tokio::join!(warm.post("/infill", &warm_up), asked);
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_eq!(warmed.unwrap().status, 503);
}

#[tokio::test]
async fn what_was_written_counts_even_when_nobody_hears_the_end_and_a_batch_counts_as_its_requests() {
    let site = Site::new().unwrap();
    let slow = Script { tokens: 60, gap: std::time::Duration::from_millis(5), ..Script::default() };
    let upstream = ScriptedUpstream::start(slow).unwrap();
    let settings = |limits: &str| format!("auth = \"open\"\n[board]\nbackend = \"off\"\n[limits.per_key]\n{limits}");
    let appliance = site.start_appliance_over(&upstream.url(), &settings("tokens_per_minute = 30")).unwrap();
    let lan = Client::plain(site.appliance, None);
    let ask = json!({"prompt": "x", "max_tokens": 60});
    let mut stream = lan.stream("/v1/complete/stream", &ask).await.unwrap();
    for _ in 0..40 {
        stream.next().await.unwrap().unwrap();
    }
    drop(stream);
    upstream.wait_for(PATIENCE, |seen| seen.dropped == 1).await.unwrap();
    let refused = lan.post("/v1/complete", &ask).await.unwrap();
    assert_eq!(refused.status, 429, "{:?}", refused.json());
    drop(appliance);

    let _appliance = site.start_appliance_over(&upstream.url(), &settings("requests_per_minute = 3")).unwrap();
    let batch = json!({"requests": [{"prompt": "a", "max_tokens": 1}, {"prompt": "b", "max_tokens": 1}, {"prompt": "c", "max_tokens": 1}]});
    assert_eq!(lan.post("/v1/complete/batch", &batch).await.unwrap().status, 200);
    assert_eq!(lan.post("/v1/complete", &ask).await.unwrap().status, 429);
}
