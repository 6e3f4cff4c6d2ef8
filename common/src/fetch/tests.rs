//! Downloads from a scripted web server: each connection gets the next answer of a list, whatever it asks for.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;

const PATIENCE: Patience = Patience { idle: Duration::from_secs(20), attempts: 3, pause: Duration::from_millis(1) };

/// Gives the answers one after the other; returns the heads of the requests.
fn scripted_server(answers: &'static [&'static str]) -> (Uri, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let answer = |answer: &&str| {
            let (mut socket, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                socket.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            socket.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(head).unwrap().to_lowercase()
        };
        answers.iter().map(answer).collect()
    });
    (url(&format!("http://{address}/file?key=secret")).unwrap(), server)
}

#[derive(Debug, Default)]
struct Memory {
    bytes: Vec<u8>,
    validator: Option<String>,
    rest: Option<u64>,
}

impl Sink for Memory {
    type Error = Infallible;

    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn restart(&mut self) -> Result<(), Infallible> {
        self.bytes.clear();
        Ok(())
    }

    fn expect(&mut self, validator: Option<&str>, rest: Option<u64>) -> Result<(), Infallible> {
        (self.validator, self.rest) = (validator.map(str::to_owned), rest);
        Ok(())
    }

    fn write(&mut self, block: &[u8]) -> Result<(), Infallible> {
        self.bytes.extend(block);
        Ok(())
    }
}

async fn download(url: &Uri, validator: Option<&str>, had: &str) -> (Memory, Result<(), FetchError<Infallible>>) {
    let mut memory = Memory { bytes: had.into(), ..Memory::default() };
    let client = Client::new(None, PATIENCE);
    let outcome = client.download(url, validator.map(str::to_owned), &mut memory, |_, _| {}).await;
    (memory, outcome.map(drop))
}

#[tokio::test]
async fn what_was_cut_is_gone_on_with() {
    let (url, server) = scripted_server(&[
        "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\n\r\n0123",
        "HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n456789",
    ]);
    let (memory, outcome) = download(&url, None, "").await;
    outcome.unwrap();
    assert_eq!((memory.bytes.as_slice(), memory.rest), (&b"0123456789"[..], Some(6)));
    let asked = server.join().unwrap();
    assert!(!asked[0].contains("range:"), "{}", asked[0]);
    assert!(
        asked[1].contains("\r\nrange: bytes=4-\r\n") && asked[1].contains("\r\nif-range: \"v1\"\r\n"),
        "{}",
        asked[1]
    );
}

#[tokio::test]
async fn a_file_that_was_whole_already_is_not_fetched_again() {
    let (url, server) = scripted_server(&[
        "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */4\r\nContent-Length: 5\r\n\r\nsorry",
    ]);
    let (memory, outcome) = download(&url, Some("\"v1\""), "0123").await;
    outcome.unwrap();
    assert_eq!((memory.bytes.as_slice(), memory.validator.as_deref()), (&b"0123"[..], Some("\"v1\"")));
    assert_eq!(server.join().unwrap().len(), 1);
}

#[tokio::test]
async fn more_than_there_is_of_the_file_is_thrown_away() {
    let (url, server) = scripted_server(&[
        "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */2\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
    ]);
    let (memory, outcome) = download(&url, Some("\"v1\""), "0123").await;
    outcome.unwrap();
    assert_eq!((memory.bytes.as_slice(), memory.validator), (&b"ab"[..], None));
    assert!(!server.join().unwrap()[1].contains("range:"));
}

#[tokio::test]
async fn attempts_in_vain_have_an_end_and_a_sentence_without_secrets() {
    let (url, server) = scripted_server(&["HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"; 3]);
    let (_, outcome) = download(&url, None, "").await;
    let Err(FetchError::Fetch { url: shown, reason }) = outcome else { panic!("{outcome:?}") };
    assert!(shown.ends_with("/file") && reason.contains("503"), "{shown}: {reason}");
    server.join().unwrap();
}

#[test]
fn only_the_web_is_fetched_from() {
    assert!(url("https://host/a").is_some() && url("http://host:1/a").is_some());
    for other in ["", "/a/b", "file.update", "ftp://host/a", "http://", "https:///a"] {
        assert!(url(other).is_none(), "{other}");
    }
}
