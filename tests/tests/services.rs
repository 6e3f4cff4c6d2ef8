//! Upstreams that are not ours: an OpenAI-compatible service behind the appliance, failover between upstreams, batches and
//! figures. The service is a cerebrum server that is asked by its OpenAI calls over plain HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use cerebrum_tests::client::{Client, eventually, text_of};
use cerebrum_tests::scripted::{Script, ScriptedUpstream};
use cerebrum_tests::stack::{MODEL, Program, Site, free_port, models_folder};
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
    assert!(figures.contains("cerebrum_requests_successful_total 2") && figures.ends_with("# EOF\n"), "{figures}");
    // Nobody left: the batch's own record is that of its last request.
    assert!(figures.contains("cerebrum_requests_cancelled_total 0"), "{figures}");
}
