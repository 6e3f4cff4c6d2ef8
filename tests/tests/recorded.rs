//! What editors' plugins send, replayed through both real programs: every request is taken, and every field that the plugin reads
//! is there with the type it expects. Each file of `recorded/` says which client and which version of its source it follows; the
//! texts in it are made up.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use cerebrum_tests::client::{Client, eventually};
use cerebrum_tests::stack::{MODEL, Site};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recording {
    client: String,
    source: String,
    #[serde(default)]
    #[expect(dead_code, reason = "for who reads the file")]
    note: Option<String>,
    exchanges: Vec<Exchange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    method: String,
    path: String,
    body: Option<Value>,
    /// The answer is server-sent events; what is read has to be in one of them.
    #[serde(default)]
    stream: bool,
    reads: Vec<Read>,
}

/// A field that the client reads: the way to it, and what it has to be.
#[derive(Debug, Deserialize)]
struct Read {
    at: Vec<Value>,
    r#type: String,
}

impl Read {
    fn is_in(&self, document: &Value) -> bool {
        let step = |value: &'_ Value, at: &Value| match at {
            Value::String(name) => value.get(name).cloned(),
            at => value.get(usize::try_from(at.as_u64()?).ok()?).cloned(),
        };
        let found = self.at.iter().try_fold(document.clone(), |value, at| step(&value, at));
        found.is_some_and(|found| match self.r#type.as_str() {
            "string" => found.is_string(),
            "number" => found.is_number(),
            "boolean" => found.is_boolean(),
            "array" => found.is_array(),
            "object" => found.is_object(),
            other => panic!("{other} is no type"),
        })
    }
}

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_editors_send_is_answered_as_they_read_it() {
    let site = Site::new().unwrap();
    // The name that llama.vscode has for whatever embeds.
    let settings = site.server_settings("").replace("[aliases]\n", &format!("[aliases]\nGPT-4 = \"{MODEL}\"\n"));
    let config = site.write("cerebrum-server.toml", &settings).unwrap();
    let _server = cerebrum_tests::stack::Program::start("cerebrum-server", &["serve"], &config).unwrap();
    let _appliance = site.start_appliance("[board]\nbackend = \"off\"").unwrap();
    let appliance = Client::plain(site.appliance, Some(site.client_key.expose()));
    // Until the appliance has heard which models there are, it can name none.
    let listed = |list: &Value| list["data"].as_array().is_some_and(|models| !models.is_empty());
    eventually(&appliance, "/v1/models", listed).await.unwrap();
    let files = recordings();
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let recording: Recording = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert!(recording.source.contains("https://"), "{}", file.display());
        for exchange in &recording.exchanges {
            replay(&appliance, &recording.client, exchange).await;
        }
    }
}

async fn replay(appliance: &Client, client: &str, exchange: &Exchange) {
    let method: Method = exchange.method.parse().unwrap();
    let body = exchange.body.as_ref().map(Value::to_string).unwrap_or_default();
    let what = format!("{client}: {} {} {body}", exchange.method, exchange.path);
    let answer = appliance.whole(method, &exchange.path, body.into()).await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.status, 200, "{what}\n{text}");
    let documents: Vec<Value> = match exchange.stream {
        false => vec![serde_json::from_str(&text).unwrap()],
        true => {
            assert!(text.ends_with("data: [DONE]\n\n"), "{what}\n{text}");
            let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
            data.filter_map(|data| serde_json::from_str(data).ok()).collect()
        }
    };
    for read in &exchange.reads {
        assert!(documents.iter().any(|document| read.is_in(document)), "{what}\nreads {read:?}, found\n{text}");
    }
}
