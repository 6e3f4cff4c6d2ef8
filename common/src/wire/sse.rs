//! Server-sent events: writing them, and reading them however the transport cut the bytes.
//!
//! Reading follows the WHATWG rules (any of LF, CRLF, CR; comments; several `data` lines; a leading byte order mark).

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

/// Content type of an event stream.
pub const MEDIA_TYPE: &str = "text/event-stream";

/// Longest line a reader accepts, in bytes: one event of ours is a token, one of an OpenAI server a few kilobytes.
const LINE_BYTES: usize = 1 << 20;

/// Appends `data: <json>` and the blank line that ends the event.
pub fn write_json<T: Serialize>(value: &T, out: &mut BytesMut) {
    out.put_slice(b"data: ");
    // Our own types have string keys and no failing implementations; an empty object keeps the stream well-formed.
    if serde_json::to_writer((&mut *out).writer(), value).is_err() {
        out.put_slice(b"{}");
    }
    out.put_slice(b"\n\n");
}

/// Appends an event with a name of its own; `data` is one line.
pub fn write_named(name: &str, data: &str, out: &mut BytesMut) {
    out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
}

/// Appends a comment: clients skip it, timeouts and dead links notice it.
pub fn write_comment(comment: &str, out: &mut BytesMut) {
    out.put_slice(b": ");
    out.put_slice(comment.as_bytes());
    out.put_slice(b"\n\n");
}

/// One event as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field, empty when absent.
    pub name: String,
    /// The `data:` lines, joined by line feeds.
    pub data: String,
    /// The last `id:` seen so far.
    pub id: String,
}

/// A stream that cannot be read on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SseError {
    /// A line is longer than any event of ours.
    #[error("event stream: found a line of more than {LINE_BYTES} bytes")]
    LineTooLong,
    /// A line is not UTF-8.
    #[error("event stream: found a line that is not UTF-8")]
    NotUtf8,
}

/// Takes bytes in any portions, gives events.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    after_cr: bool,
    started: bool,
    ready: std::collections::VecDeque<Event>,
}

impl Decoder {
    /// Adds received bytes; the events they complete come out of [`Self::next`].
    ///
    /// # Errors
    /// [`SseError`]; the decoder is of no use afterwards.
    pub fn push(&mut self, bytes: &Bytes) -> Result<(), SseError> {
        for &byte in bytes.iter() {
            let ends_crlf = std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
            match byte {
                b'\n' if ends_crlf => {}
                b'\n' | b'\r' => self.end_line()?,
                _ if self.line.len() == LINE_BYTES => return Err(SseError::LineTooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    /// The next whole event.
    #[expect(clippy::should_implement_trait, reason = "a later push makes more of them, so this is no fused Iterator")]
    pub fn next(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    fn end_line(&mut self) -> Result<(), SseError> {
        let line = std::mem::take(&mut self.line);
        let text = std::str::from_utf8(&line).map_err(|_| SseError::NotUtf8)?;
        let text = if self.started { text } else { text.strip_prefix('\u{feff}').unwrap_or(text) };
        self.started = true;
        self.field(text);
        self.line = line;
        self.line.clear();
        Ok(())
    }

    fn field(&mut self, line: &str) {
        if line.is_empty() {
            return self.dispatch();
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.has_data = true;
                self.event.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event.name),
            "id" if !value.contains('\0') => value.clone_into(&mut self.event.id),
            _ => {} // a comment (empty name), `retry`, or a field of the future
        }
    }

    fn dispatch(&mut self) {
        let id = self.event.id.clone();
        let event = std::mem::replace(&mut self.event, Event { id, ..Event::default() });
        if std::mem::take(&mut self.has_data) {
            self.ready.push_back(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8], cut: usize) -> Vec<Event> {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        for portion in bytes.chunks(cut.max(1)) {
            decoder.push(&Bytes::copy_from_slice(portion)).unwrap();
            while let Some(event) = decoder.next() {
                events.push(event);
            }
        }
        events
    }

    fn data(bytes: &str) -> Vec<String> {
        decode(bytes.as_bytes(), bytes.len()).into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn reads_what_the_standard_describes() {
        assert_eq!(data("data: a\n\ndata:b\n\n"), ["a", "b"]);
        assert_eq!(data(": comment\n\ndata: a\ndata: b\n\n"), ["a\nb"]);
        assert_eq!(data("data: a\r\n\r\ndata: b\r\rdata: c\n\n"), ["a", "b", "c"]);
        assert_eq!(data("\u{feff}data: a\n\n"), ["a"]);
        assert_eq!(data("data\n\n"), [""]);
        assert_eq!(data("data: unfinished\n"), Vec::<String>::new());
        let events = decode(b"id: 7\nevent: x\ndata: a\n\ndata: b\n\n", 3);
        assert_eq!(events[0], Event { name: "x".into(), data: "a".into(), id: "7".into() });
        assert_eq!(events[1], Event { name: String::new(), data: "b".into(), id: "7".into() });
    }

    #[test]
    fn writes_what_it_reads() {
        let mut out = BytesMut::new();
        write_comment("heartbeat", &mut out);
        write_json(&serde_json::json!({"token": "a\nb\u{2028}"}), &mut out);
        let events = decode(&out, 1);
        assert_eq!(events.len(), 1);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&events[0].data).unwrap()["token"], "a\nb\u{2028}");
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut decoder = Decoder::default();
        let flood = Bytes::from(vec![b'a'; LINE_BYTES + 1]);
        assert_eq!(decoder.push(&flood), Err(SseError::LineTooLong));
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_events(
            lines in prop::collection::vec("(data: ?[a-zé]{0,5}|event: x|id: 1|: c|)(\n|\r\n|\r)", 0..20),
            cut in 1_usize..7,
        ) {
            let bytes = lines.concat().into_bytes();
            prop_assert_eq!(decode(&bytes, cut), decode(&bytes, bytes.len()));
        }
    }
}
