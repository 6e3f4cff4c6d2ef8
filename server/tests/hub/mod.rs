//! A hub on loopback that serves one file and can be told to misbehave: cut connections, fall silent, send on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

pub(crate) mod secure;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// What the hub serves, and how.
#[derive(Clone, Default)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) etag: String,
    /// A connection is cut after so many bytes of a body.
    pub(crate) cut_after: Option<usize>,
    /// So many connections are cut; all when absent.
    pub(crate) cuts: Option<usize>,
    /// The hash that is sent as the hub does, with the redirection.
    pub(crate) linked_etag: Option<String>,
    /// Where `/resolve/main/` sends on to; this same hub by default.
    pub(crate) location: Option<String>,
    /// Bodies stop here until the hub is told to go on.
    pub(crate) pause_after: Option<usize>,
    /// `Transfer-Encoding` instead of a length.
    pub(crate) chunked: bool,
}

pub(crate) struct Hub {
    pub(crate) base: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    file: Mutex<File>,
    requests: Mutex<Vec<String>>,
    paused: Mutex<bool>,
    resumed: Condvar,
}

impl Hub {
    pub(crate) fn serving(file: File) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State { file: Mutex::new(file), paused: Mutex::new(true), ..State::default() });
        let shared = state.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                // A client that has gone is no failure of the hub.
                std::thread::spawn(move || drop(state.answer(socket)));
            }
        });
        Self { base, state }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut File)) {
        change(&mut self.state.file.lock().unwrap());
    }

    /// The heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    pub(crate) fn go_on(&self) {
        *self.state.paused.lock().unwrap() = false;
        self.state.resumed.notify_all();
    }
}

impl State {
    fn answer(&self, socket: TcpStream) -> std::io::Result<()> {
        let head = head(&socket)?;
        self.requests.lock().unwrap().push(head.clone());
        let file = self.file.lock().unwrap().clone();
        let path = head.split(' ').nth(1).unwrap();
        if let Some((_, name)) = path.split_once("/resolve/main/") {
            let own = format!("/stored/{name}");
            return sent_on(&socket, &file, file.location.as_ref().unwrap_or(&own));
        }
        if path.starts_with("/missing") {
            return (&socket).write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
        self.body(socket, &head, &file)
    }

    fn body(&self, mut socket: TcpStream, head: &str, file: &File) -> std::io::Result<()> {
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let unchanged = header("if-range: ").is_some_and(|tag| tag == file.etag);
        let from =
            header("range: bytes=").filter(|_| unchanged).map(|range| range.trim_end_matches('-').parse().unwrap());
        let bytes = &file.bytes[from.unwrap_or(0)..];
        let status = match from {
            None => "200 OK".to_owned(),
            Some(from) => {
                let total = file.bytes.len();
                format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}", total - 1)
            }
        };
        if file.chunked {
            write!(
                socket,
                "HTTP/1.1 {status}\r\nETag: {}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                file.etag,
                bytes.len()
            )?;
            socket.write_all(bytes)?;
            return socket.write_all(b"\r\n0\r\n\r\n");
        }
        write!(socket, "HTTP/1.1 {status}\r\nETag: {}\r\nContent-Length: {}\r\n\r\n", file.etag, bytes.len())?;
        if let Some(pause) = file.pause_after.filter(|pause| *pause < bytes.len()) {
            socket.write_all(&bytes[..pause])?;
            let mut paused = self.paused.lock().unwrap();
            while *paused {
                paused = self.resumed.wait(paused).unwrap();
            }
            return socket.write_all(&bytes[pause..]);
        }
        match file.cut_after.filter(|_| self.cuts_now()) {
            Some(cut) => socket.write_all(&bytes[..cut.min(bytes.len())]),
            None => socket.write_all(bytes),
        }
    }

    fn cuts_now(&self) -> bool {
        let cuts = &mut self.file.lock().unwrap().cuts;
        match cuts {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

fn sent_on(mut socket: &TcpStream, file: &File, location: &str) -> std::io::Result<()> {
    let hash = file.linked_etag.as_ref().map(|hash| format!("X-Linked-ETag: \"{hash}\"\r\n")).unwrap_or_default();
    write!(socket, "HTTP/1.1 302 Found\r\nLocation: {location}\r\n{hash}Content-Length: 0\r\n\r\n")
}

// The request's head, its field names in lower case.
fn head(socket: &TcpStream) -> std::io::Result<String> {
    let mut head = String::new();
    let mut reader = BufReader::new(socket);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            return Ok(head);
        }
        head.push_str(line.trim());
        head.push('\n');
    }
}
