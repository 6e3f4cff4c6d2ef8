//! [`StubService`]: a stand-in for an OpenAI-compatible service that nobody here wrote. It has no model: whatever it is asked, it
//! streams the chunks that it was given, each after its pause, and notes what it was sent; or it says nothing, or refuses.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The model that it lists.
pub const STUB_MODEL: &str = "stub-model";

/// A chunk of an answer, and how long it is waited before it.
pub type Chunk = (Duration, Value);

/// The running stand-in. Dropping it closes its port and all its connections.
#[derive(Debug)]
pub struct StubService {
    address: SocketAddr,
    asked: Arc<Mutex<Option<Value>>>,
    _accepting: JoinSet<()>,
}

/// A delta of a chat, at once.
pub fn delta(delta: Value) -> Chunk {
    (Duration::ZERO, json!({"model": STUB_MODEL, "choices": [{"index": 0, "delta": delta, "finish_reason": null}]}))
}

/// The last chunk of a chat.
pub fn finish(reason: &str) -> Chunk {
    (Duration::ZERO, json!({"model": STUB_MODEL, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

/// How it treats whatever it is asked.
#[derive(Clone, Debug)]
enum Manner {
    Says(Arc<Vec<Chunk>>),
    Silent,
    Refuses(&'static str, Arc<str>),
}

impl StubService {
    /// Starts on a free loopback port.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(chunks: Vec<Chunk>) -> anyhow::Result<Self> {
        Self::with(Manner::Says(Arc::new(chunks))).await
    }

    /// Starts one that takes every request and says nothing, for ever.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn silent() -> anyhow::Result<Self> {
        Self::with(Manner::Silent).await
    }

    /// Starts one that refuses every request, with this sentence.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn refusing(sentence: &str) -> anyhow::Result<Self> {
        Self::refusing_with("400 Bad Request", sentence).await
    }

    /// As [`Self::refusing`], with this status.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn refusing_with(status: &'static str, sentence: &str) -> anyhow::Result<Self> {
        Self::with(Manner::Refuses(status, sentence.into())).await
    }

    async fn with(manner: Manner) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let asked = Arc::new(Mutex::new(None));
        let noted = asked.clone();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (noted, manner) = (noted.clone(), manner.clone());
                // A caller that leaves is no failure of the stand-in.
                connections.spawn(async move { serve(stream, &noted, &manner).await.unwrap_or_default() });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, asked, _accepting: accepting })
    }

    /// An upstream of the appliance's settings, with `more` lines.
    pub fn upstream(&self, more: &str) -> String {
        format!("[[upstream]]\nname = \"stub\"\nkind = \"openai\"\nurl = \"http://{}/v1\"\n{more}\n", self.address)
    }

    /// What it was sent last.
    pub fn asked(&self) -> Option<Value> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(mut stream: TcpStream, asked: &Mutex<Option<Value>>, manner: &Manner) -> anyhow::Result<()> {
    let (head, body) = read(&mut stream).await?;
    if head.starts_with("get ") {
        let list = json!({"object": "list", "data": [{"id": STUB_MODEL, "object": "model"}]});
        return document(&mut stream, "200 OK", &list).await;
    }
    *asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(serde_json::from_slice(&body)?);
    let chunks = match manner {
        Manner::Says(_) if head.starts_with("post /v1/embeddings") => {
            let embedding = json!({"object": "embedding", "index": 0, "embedding": [1.0]});
            let usage = json!({"prompt_tokens": 8, "total_tokens": 8});
            return document(&mut stream, "200 OK", &json!({"object": "list", "data": [embedding], "usage": usage}))
                .await;
        }
        // llama.cpp's own calls lie beside OpenAI's.
        Manner::Says(_) if head.starts_with("post /tokenize ") => {
            return document(&mut stream, "200 OK", &json!({"tokens": [1]})).await;
        }
        Manner::Says(chunks) => chunks,
        Manner::Silent => return std::future::pending().await,
        Manner::Refuses(status, sentence) => {
            let error = json!({"error": {"message": &**sentence, "type": "invalid"}});
            return document(&mut stream, status, &error).await;
        }
    };
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n").await?;
    for (pause, chunk) in chunks.iter() {
        tokio::time::sleep(*pause).await;
        stream.write_all(format!("data: {chunk}\n\n").as_bytes()).await?;
    }
    Ok(stream.write_all(b"data: [DONE]\n\n").await?)
}

async fn document(stream: &mut TcpStream, status: &str, value: &Value) -> anyhow::Result<()> {
    let text = value.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close",
        text.len()
    );
    Ok(stream.write_all(format!("{head}\r\n\r\n{text}").as_bytes()).await?)
}

/// A request's head, and its body by the length that the head tells.
async fn read(stream: &mut TcpStream) -> anyhow::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "it ended in the head");
    };
    let head = String::from_utf8(bytes[..end].to_vec())?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(Ok(0), |length| length.trim().parse()).context("content-length")?;
    while bytes.len() < end + length {
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "it ended in the body");
    }
    Ok((head, bytes.split_off(end)))
}
