//! A stub of the appliance. It speaks HTTP/1.1 with one answer per connection, exactly as scripted, and hands over what
//! it was asked. Threads, not tasks: what is tested runs on a runtime of its own.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// How long any wait of a test may take; reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the stub was asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|header| {
            let (found, value) = header.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// One step of an answer.
enum Step {
    Send(Vec<u8>),
    /// Waits until the test says go.
    Gate(Receiver<()>),
    /// Waits until the client is gone, and says so.
    UntilClosed(SyncSender<()>),
}

/// An answer, step by step; the connection is closed after the last.
pub(crate) struct Answer(Vec<Step>);

impl Answer {
    /// Status, further headers and body.
    pub(crate) fn whole(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self(vec![Step::Send(
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes(),
        )])
    }

    pub(crate) fn json(status: &str, body: &str) -> Self {
        Self::whole(status, "content-type: application/json\r\n", body)
    }

    /// The beginning of an event stream that ends with the connection.
    pub(crate) fn stream() -> Self {
        Self(Vec::new()).send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    }

    pub(crate) fn send(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// One write, and so one portion for the reader, unless the system joins it with the next.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.push(Step::Send(bytes.into()));
        self
    }

    pub(crate) fn event(self, json: &str) -> Self {
        self.send(&format!("data: {json}\n\n"))
    }

    pub(crate) fn token(self, text: &str) -> Self {
        self.event(&serde_json::json!({"token": text, "total_tokens": 1}).to_string())
    }

    pub(crate) fn done(self) -> Self {
        self.event(
            r#"{"done":true,"language":"python","model":"stub_1b","total_tokens":2,"inference_time":0.5,"prepared":{"original_chars":8344,"final_chars":1120}}"#,
        )
    }

    pub(crate) fn gate(mut self) -> (Self, SyncSender<()>) {
        let (go, gate) = sync_channel(1);
        self.0.push(Step::Gate(gate));
        (self, go)
    }

    pub(crate) fn until_closed(mut self) -> (Self, Receiver<()>) {
        let (tell, closed) = sync_channel(1);
        self.0.push(Step::UntilClosed(tell));
        (self, closed)
    }
}

/// A connection, with or without TLS.
trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// The stub. It serves until the test's process ends.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    asked: Receiver<Asked>,
}

impl Stub {
    /// Gives `answers` in turn, one a connection.
    pub(crate) fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::listen(answers, None)
    }

    /// As [`Self::start`], over TLS.
    pub(crate) fn start_tls(answers: impl IntoIterator<Item = Answer>, config: Arc<rustls::ServerConfig>) -> Self {
        Self::listen(answers, Some(config))
    }

    fn listen(answers: impl IntoIterator<Item = Answer>, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Mutex::new(answers.into_iter().collect::<VecDeque<_>>());
        let (tell, asked) = sync_channel(16);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut wire: Box<dyn Wire> = match &tls {
                    None => Box::new(stream),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config.clone()).unwrap();
                        Box::new(rustls::StreamOwned::new(session, stream))
                    }
                };
                // A connection that breaks before its request takes no answer away.
                let Some(request) = read_request(&mut wire) else { continue };
                let answer = answers.lock().unwrap().pop_front().expect("an answer for every request");
                tell.send(request).unwrap();
                std::thread::spawn(move || play(answer, wire));
            }
        });
        Self { address, asked }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request.
    pub(crate) fn asked(&self) -> Asked {
        self.asked.recv_timeout(PATIENCE).expect("a request")
    }
}

fn read_request(wire: &mut Box<dyn Wire>) -> Option<Asked> {
    let mut reader = BufReader::with_capacity(1, wire);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let mut asked = Asked { line: lines.remove(0), headers: lines, body: Value::Null };
    let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if length > 0 {
        asked.body = serde_json::from_slice(&body).expect("a body of JSON");
    }
    Some(asked)
}

/// A client that goes away in between ends the play.
fn play(answer: Answer, mut wire: Box<dyn Wire>) {
    for step in answer.0 {
        match step {
            Step::Send(bytes) => {
                if wire.write_all(&bytes).and_then(|()| wire.flush()).is_err() {
                    return;
                }
            }
            Step::Gate(gate) => drop(gate.recv_timeout(PATIENCE)),
            Step::UntilClosed(tell) => {
                while wire.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
                tell.send(()).unwrap();
            }
        }
    }
}
