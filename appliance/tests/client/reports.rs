//! `cerebrum health`, `models`, `stats`.

use serde_json::Value;

use crate::program::Home;
use crate::stub::{Answer, Stub};

const HEALTH: &str = r#"{"status":"healthy","cm4_status":"healthy","vps_status":"healthy","vps_available":true,
    "vps_connected":true,"active_count":1,"queue_count":0,"uptime_seconds":61,"uptime_text":"1m 1s","cpu_percent":12.4}"#;

#[test]
fn health_is_readable_and_its_exit_code_tells_the_server() {
    let down = HEALTH.replace("\"vps_available\":true", "\"vps_available\":false");
    let stub = Stub::start([HEALTH, HEALTH, &down].map(|body| Answer::json("200 OK", body)));
    let home = Home::new();
    let well = home.run(&stub.url(), &["health"]);
    assert_eq!(
        well.out,
        "appliance  healthy, up 1m 1s, CPU 12 %\nserver     healthy, connected\nrequests   1 running, 0 waiting\n"
    );
    assert_eq!((well.code, stub.asked().line.as_str()), (Some(0), "GET /health HTTP/1.1"));
    let json = home.run(&stub.url(), &["health", "--json"]).out;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), serde_json::from_str::<Value>(HEALTH).unwrap());
    assert_eq!(home.run(&stub.url(), &["health"]).code, Some(1));
}

#[test]
fn models_and_stats_are_listed() {
    let models = r#"{"available_models":["qwen_7b","tiny"],"cached_models":["tiny"],"inference_counts":{"tiny":1234}}"#;
    let stats = r#"{"cm4":{"uptime_seconds":4000,"vps_client":{"requests_sent":3}},"vps":null}"#;
    let stub = Stub::start([models, stats].map(|body| Answer::json("200 OK", body)));
    let home = Home::new();
    let models = home.run(&stub.url(), &["models"]).out;
    assert_eq!(models, "qwen_7b  on disk  0 answers\ntiny     loaded   1,234 answers\n");
    let stats = home.run(&stub.url(), &["stats"]).out;
    assert_eq!(stats, "cm4\n  uptime seconds  4,000\n  vps client\n    requests sent  3\nvps  not known\n");
}
