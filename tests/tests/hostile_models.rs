//! Files that are no models, or claim to be: the server says what is wrong with each and goes on serving.
//!
//! Headers are damaged at random, the same way in each run, and in the ways that are known to matter. Some files stay usable, since
//! not every byte of a header is looked at; then there is an answer. What may not be is a server that ends, hangs or says nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cerebrum_tests::client::Client;
use cerebrum_tests::stack::{MODEL, Program, Site, models_folder};
use http::Method;
use serde_json::json;

/// Random files; each is a load, of about a tenth of a second.
const FILES: u64 = 80;
/// One answer; a file that hangs the server fails the test.
const ANSWER: Duration = Duration::from_secs(60);

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Where the value of a metadata key begins, after its type.
fn value(model: &[u8], key: &str) -> usize {
    model.windows(key.len()).position(|bytes| bytes == key.as_bytes()).expect(key) + key.len() + 4
}

// Bytes of the header's scalars and tensor descriptions, where nearly every one means something; the vocabulary between them is a
// hundred times as long and much the same all over.
fn telling(model: &[u8]) -> Vec<usize> {
    let tokens = value(model, "tokenizer.ggml.tokens");
    let tensors = model.windows(17).position(|bytes| bytes == b"token_embd.weight").unwrap();
    (0..tokens + 64).chain(tensors - 512..tensors + 2048).collect()
}

fn random(model: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let (mut bytes, places) = (model.to_vec(), telling(model));
    for _ in 0..=random.below(3) {
        let at = places[random.below(places.len())];
        bytes[at] = match random.below(4) {
            0 => 0,
            1 => 0xff,
            2 => bytes[at] ^ (1 << random.below(8)),
            _ => random.below(256) as u8,
        };
    }
    if random.below(8) == 0 {
        bytes.truncate(random.below(model.len()));
    }
    bytes
}

/// Files that a reader of headers finds nothing wrong with, and llama.cpp might trip over.
fn plausible(model: &[u8]) -> Vec<(String, Vec<u8>)> {
    let keys = [
        "llama.block_count",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.rope.dimension_count",
        "llama.context_length",
        "llama.vocab_size",
    ];
    let mut files = Vec::new();
    for key in keys.into_iter().filter(|key| model.windows(key.len()).any(|bytes| bytes == key.as_bytes())) {
        for number in [0_u32, 1, 3, 7, 500, 65_535] {
            let (mut bytes, at) = (model.to_vec(), value(model, key));
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            files.push((format!("{}-{number}", key.replace('.', "-")), bytes));
        }
    }
    assert!(files.len() >= 30, "{}: the bundled model has changed its keys", files.len());
    files
}

/// A vocabulary that has a token twice: nothing a header's reader looks at, and the end of the process in llama.cpp.
fn twice(model: &[u8]) -> Vec<u8> {
    let mut bytes = model.to_vec();
    let mut at = value(model, "tokenizer.ggml.tokens") + 12;
    let mut seen = BTreeMap::new();
    loop {
        let length = u64::from_le_bytes(model[at..at + 8].try_into().unwrap()) as usize;
        at += 8;
        if let Some(earlier) = seen.insert(length, at).filter(|_| length > 3) {
            bytes.copy_within(earlier..earlier + length, at);
            return bytes;
        }
        at += length;
    }
}

/// With another chat template, as long as the model's own at most.
fn speaking(model: &[u8], template: &str) -> Vec<u8> {
    let (mut bytes, at) = (model.to_vec(), value(model, "tokenizer.chat_template"));
    let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    bytes[at + 8..at + 8 + length].copy_from_slice(format!("{template:length$}").as_bytes());
    bytes
}

async fn asked(client: &Client, model: &str) -> (u16, String) {
    let body = json!({"prompt": "def f(", "model": model, "max_tokens": 2, "temperature": 0}).to_string();
    let answer = client.whole(Method::POST, "/v1/inference", Bytes::from(body));
    let answer = tokio::time::timeout(ANSWER, answer).await.expect("no answer in time").expect("the server has gone");
    (answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
}

fn serving(site: &Site, folder: &Path) -> Program {
    let settings = format!(
        "listen = \"{}\"\nkeys_file = \"server-keys.toml\"\nmodels_dir = {:?}\nthreads = 1\ncontext = 256\n\
         [guards]\nmax_cpu_percent = 100\nmin_free_ram_mib = 0\n",
        site.server,
        folder.display().to_string()
    );
    Program::start("cerebrum-server", &["serve"], &site.write("plain.toml", &settings).unwrap()).unwrap()
}

#[tokio::test]
async fn no_file_ends_the_server() {
    let site = Site::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = std::fs::read(models_folder().join(format!("{MODEL}.gguf"))).unwrap();
    std::fs::write(folder.path().join("good.gguf"), &model).unwrap();
    let server = serving(&site, folder.path());
    let client = Client::plain(site.server, Some(site.server_key.expose()));
    assert_eq!(asked(&client, "good").await.0, 200);

    let mut files = plausible(&model);
    files.push(("twice".to_owned(), twice(&model)));
    files.extend((0..FILES).map(|seed| (format!("random-{seed}"), random(&model, seed))));
    let mut outcomes = BTreeMap::<&str, usize>::new();
    for (name, bytes) in files {
        // It appears while the server runs, and goes again.
        let path = folder.path().join(format!("{name}.gguf"));
        std::fs::write(&path, bytes).unwrap();
        let (status, body) = asked(&client, &name).await;
        let outcome = match status {
            200 => "served",
            _ if body.contains("did not survive") => {
                println!("{name}: {body}");
                "llama.cpp ended"
            }
            _ => "refused",
        };
        // One that is a model with a very small context is served, which is what it says.
        let told = body.contains(&format!("{name}.gguf: ")) || body.contains("the context holds");
        assert!(status == 200 || told, "{name}: {status} {body}");
        *outcomes.entry(outcome).or_default() += 1;
        client.whole(Method::POST, &format!("/v1/unload/{name}"), Bytes::new()).await.unwrap();
        std::fs::remove_file(path).unwrap();
    }
    println!("{outcomes:?}");
    assert!(outcomes.get("refused").is_some_and(|refused| *refused > 40), "{outcomes:?}");
    // What the process of its own is for; should llama.cpp come to refuse this file, find another.
    assert!(outcomes.contains_key("llama.cpp ended"), "{outcomes:?}");
    assert_eq!(asked(&client, "good").await.0, 200);
    assert!(std::fs::read_to_string(format!("/proc/{}/status", server.pid())).is_ok());
}

#[tokio::test]
async fn no_template_ends_the_server() {
    let site = Site::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = std::fs::read(models_folder().join(format!("{MODEL}.gguf"))).unwrap();
    let doubling = "{% set n = namespace(s='x') %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}";
    let late = "{% set n = namespace(s='x') %}{% if 'now' in messages[0].content %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}{% endif %}x";
    let slow = "{% for i in range(99999) %}{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}{% endfor %}";
    for (name, template) in [("doubling", doubling), ("late", late), ("slow", slow)] {
        std::fs::write(folder.path().join(format!("{name}.gguf")), speaking(&model, template)).unwrap();
    }
    std::fs::write(folder.path().join("good.gguf"), &model).unwrap();
    let server = serving(&site, folder.path());
    let client = Client::plain(site.server, Some(site.server_key.expose()));
    for (name, said, expected) in
        [("doubling", "x", 400), ("late", "later", 200), ("late", "now", 400), ("slow", "x", 400), ("good", "now", 200)]
    {
        let body = json!({"messages": [{"role": "user", "content": said}], "model": name, "max_tokens": 2}).to_string();
        let answer = client.whole(Method::POST, "/v1/chat/completions", Bytes::from(body));
        let answer =
            tokio::time::timeout(ANSWER, answer).await.expect("no answer in time").expect("the server has gone");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status.as_u16(), expected, "{name} {said}: {body}");
        assert!(expected == 200 || body.contains("chat template failed"), "{name} {said}: {body}");
    }
    assert!(std::fs::read_to_string(format!("/proc/{}/status", server.pid())).is_ok());
}
