//! Bad weather on the link and on the LAN: every stream ends as the undisturbed one or with a clear error, and none hangs.
//!
//! `FAULT_STREAMS` and `FAULT_SEED` choose how many and which; `make test-faults` runs 200.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use cerebrum_tests::client::{Client, eventually, text_of};
use cerebrum_tests::proxy::{FAULTS, FaultProxy, Weather};
use cerebrum_tests::stack::Site;
use serde_json::{Value, json};

/// Streams at a time.
const TOGETHER: u64 = 4;

/// A stream that takes longer hangs.
const HANGS: Duration = Duration::from_secs(90);

fn number(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test's own knobs, which are no program's settings")]
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().unwrap())
}

fn ask(number: u64) -> Value {
    let starts = [
        "class Stack:\n    def push(self, item):\n",
        "def fibonacci(n):\n",
        "import os\n\ndef walk(path):\n",
        "for i in range(10):\n",
    ];
    let start = starts[(number % starts.len() as u64) as usize];
    json!({"prompt": start, "language": "python", "max_tokens": 48, "temperature": 0, "repetition_penalty": 1.0})
}

/// How a stream ended.
#[derive(Debug)]
enum End {
    Whole(String),
    Error(String),
}

async fn through(lan: &Client, ask: &Value) -> End {
    let streaming = async {
        let mut stream = match lan.stream("/v1/complete/stream", ask).await {
            Ok(stream) => stream,
            Err(refused) => return End::Error(format!("{refused:#}")),
        };
        let events = stream.rest().await.unwrap();
        match events.last() {
            Some(last) if last["error"].is_string() => {
                End::Error(last["message"].as_str().unwrap_or_default().to_owned())
            }
            Some(last) if last["done"] == true => End::Whole(text_of(&events)),
            _ => panic!("neither an end nor an error: {events:?}"),
        }
    };
    tokio::time::timeout(HANGS, streaming).await.expect("a stream hangs")
}

#[tokio::test]
async fn bad_weather_on_the_link_changes_no_answer() {
    let (streams, seed) = (number("FAULT_STREAMS", 24), number("FAULT_SEED", 7));
    let site = Site::new().unwrap();
    let proxy = FaultProxy::start(site.server, seed).unwrap();
    let _server = site.start_server("draft_tokens = 0\nslots = 4").unwrap();
    let settings =
        "cache.kib = 0\n[limits]\nmax_in_progress = 8\n[board]\nbackend = \"off\"\n[breaker]\nfailures = 1000";
    let appliance = site.start_appliance_behind(proxy.address(), settings).unwrap();
    let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
    eventually(&lan, "/health", |health| health["vps_available"] == true).await.unwrap();
    let mut expected = Vec::new();
    for number in 0..4 {
        match through(&lan, &ask(number)).await {
            End::Whole(text) => expected.push(text),
            End::Error(error) => panic!("in good weather: {error}"),
        }
    }
    proxy.weather(Some(Weather { bytes: (300, 6000), while_ms: (20, 300), faults: FAULTS }));
    let mut errors = Vec::new();
    let run = |caller: u64| {
        let (lan, expected) = (&lan, &expected);
        async move {
            let mut errors = Vec::new();
            for number in (caller..streams).step_by(TOGETHER as usize) {
                match through(lan, &ask(number)).await {
                    End::Whole(text) => {
                        assert_eq!(text, expected[(number % 4) as usize], "stream {number}, seed {seed}")
                    }
                    End::Error(error) => errors.push(error),
                }
            }
            errors
        }
    };
    let (a, b, c, d) = tokio::join!(run(0), run(1), run(2), run(3));
    errors.extend([a, b, c, d].concat());
    let struck = proxy.struck();
    println!("{streams} streams, {struck} faults, {} ended with an error: {errors:#?}", errors.len());
    assert!(struck >= streams / 4, "the weather was too good: {struck}");
    // An error is clear when it says what happened; most streams must not need one.
    assert!(errors.iter().all(|error| error.contains("inference server")), "{errors:#?}");
    assert!(errors.len() as u64 <= streams / 10, "{errors:#?}\n{:#?}", appliance.log().lines());
}
