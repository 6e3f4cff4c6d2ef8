//! Postcard framing between appliance and server.
//!
//! A frame is one byte of version, four bytes of payload length (little endian), the postcard payload. A request body is
//! one frame, an answer is a sequence of them. [`Decoder`] takes bytes however the transport cut them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Details, InferenceRequest};

/// The version this program speaks; also the `v1` in [`MEDIA_TYPE`].
pub const VERSION: u8 = 1;

/// Content type of framed postcard.
pub const MEDIA_TYPE: &str = "application/vnd.cerebrum.v1+postcard";

/// What every version's content type starts with: tells "another version" from "something else".
pub const MEDIA_TYPE_FAMILY: &str = "application/vnd.cerebrum.v";

const HEADER_BYTES: usize = 5;

/// Why bytes are not frames.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer speaks another version.
    #[error(
        "wire version: found {found}, expected {VERSION}; run the same release of cerebrumd and cerebrum-server on both ends"
    )]
    Version {
        /// The version byte received.
        found: u8,
    },
    /// The peer announces more than this end will hold.
    #[error("frame length: found {found} bytes, expected at most {limit}")]
    TooLong {
        /// Announced length in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The payload is not what was expected at this place.
    #[error("frame payload of {length} bytes is not valid: {source}")]
    Payload {
        /// Payload length in bytes.
        length: usize,
        /// Postcard's complaint.
        source: postcard::Error,
    },
    /// The bytes end inside a frame.
    #[error("the message ends inside a frame: {missing} bytes are missing")]
    Truncated {
        /// Bytes still expected.
        missing: usize,
    },
}

/// Appends `message` to `out` as one frame.
///
/// # Errors
/// [`FrameError::Payload`] when the type cannot be written as postcard (a map of unknown length, say).
pub fn encode<T: Serialize>(message: &T, out: &mut BytesMut) -> Result<(), FrameError> {
    let start = out.len();
    out.put_u8(VERSION);
    out.put_u32_le(0);
    if let Err(source) = postcard::to_io(message, out.writer()) {
        let length = out.len() - start - HEADER_BYTES;
        out.truncate(start);
        return Err(FrameError::Payload { length, source });
    }
    let length = u32::try_from(out.len() - start - HEADER_BYTES).unwrap_or(u32::MAX);
    out[start + 1..start + HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// `message` as one frame.
///
/// # Errors
/// As [`encode`].
pub fn to_bytes<T: Serialize>(message: &T) -> Result<Bytes, FrameError> {
    let mut out = BytesMut::with_capacity(64);
    encode(message, &mut out)?;
    Ok(out.freeze())
}

/// Reads exactly one frame from a whole body.
///
/// # Errors
/// Any [`FrameError`]; trailing bytes count as a payload error.
pub fn from_bytes<T: DeserializeOwned>(body: Bytes, limit: usize) -> Result<T, FrameError> {
    let length = body.len();
    let mut decoder = Decoder::new(limit);
    decoder.push(body);
    let message = decoder.next()?.ok_or_else(|| FrameError::Truncated { missing: decoder.missing() })?;
    if decoder.is_empty() {
        Ok(message)
    } else {
        Err(FrameError::Payload { length, source: postcard::Error::DeserializeBadEncoding })
    }
}

/// Writes a request: its first frame, and as many more as it takes to say it all.
///
/// # Errors
/// As [`encode`].
pub fn encode_request(request: &InferenceRequest, details: &Details, out: &mut BytesMut) -> Result<(), FrameError> {
    encode(request, out)?;
    if !details.is_empty() {
        encode(details, out)?;
    }
    if !details.extras.is_empty() {
        encode(&details.extras, out)?;
    }
    Ok(())
}

/// Reads what [`encode_request`] wrote.
///
/// # Errors
/// As [`from_bytes`].
pub fn request_from_bytes(body: Bytes, limit: usize) -> Result<(InferenceRequest, Details), FrameError> {
    let length = body.len();
    let mut decoder = Decoder::new(limit);
    decoder.push(body);
    let request = decoder.next()?.ok_or_else(|| FrameError::Truncated { missing: decoder.missing() })?;
    let mut details: Details = further(&mut decoder, length)?.unwrap_or_default();
    details.extras = further(&mut decoder, length)?.unwrap_or_default();
    if decoder.is_empty() { Ok((request, details)) } else { Err(trailing(length)) }
}

// The next frame of a body of `length` bytes, if there is one.
fn further<T: DeserializeOwned>(decoder: &mut Decoder, length: usize) -> Result<Option<T>, FrameError> {
    if decoder.is_empty() {
        return Ok(None);
    }
    match decoder.next() {
        // The version was judged by the first frame: this is something else behind it.
        Err(FrameError::Version { .. }) => Err(trailing(length)),
        frame => frame?.map(Some).ok_or_else(|| FrameError::Truncated { missing: decoder.missing() }),
    }
}

fn trailing(length: usize) -> FrameError {
    FrameError::Payload { length, source: postcard::Error::DeserializeBadEncoding }
}

/// Takes bytes in any portions, gives messages.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    limit: usize,
}

impl Decoder {
    /// A decoder that refuses payloads of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: Bytes) {
        if self.buffer.is_empty() {
            // Usually a portion is exactly one frame: taken over without a copy where its buffer is not shared.
            self.buffer = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        } else {
            self.buffer.extend_from_slice(&bytes);
        }
    }

    /// The next whole message, if its bytes are all there.
    ///
    /// # Errors
    /// [`FrameError`]; the decoder is of no use afterwards.
    #[expect(clippy::should_implement_trait, reason = "generic in the message and fallible, so no Iterator")]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(length) = self.payload_length()? else { return Ok(None) };
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let payload = self.buffer.split_to(length);
        match postcard::take_from_bytes(&payload) {
            Ok((message, [])) => Ok(Some(message)),
            Ok(_) => Err(FrameError::Payload { length, source: postcard::Error::DeserializeBadEncoding }),
            Err(source) => Err(FrameError::Payload { length, source }),
        }
    }

    /// Whether no byte of a further frame has arrived.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    fn payload_length(&self) -> Result<Option<usize>, FrameError> {
        // The version is judged on the first byte: the layout of what follows belongs to that version.
        match self.buffer.first() {
            None => return Ok(None),
            Some(&VERSION) => {}
            Some(&found) => return Err(FrameError::Version { found }),
        }
        let Some(&[a, b, c, d]) = self.buffer.get(1..HEADER_BYTES).and_then(|bytes| bytes.first_chunk::<4>()) else {
            return Ok(None);
        };
        let found = u32::from_le_bytes([a, b, c, d]) as usize;
        if found > self.limit { Err(FrameError::TooLong { found, limit: self.limit }) } else { Ok(Some(found)) }
    }

    fn missing(&self) -> usize {
        match self.payload_length() {
            Ok(Some(length)) => (HEADER_BYTES + length).saturating_sub(self.buffer.len()),
            _ => HEADER_BYTES.saturating_sub(self.buffer.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::InferenceEvent;
    use proptest::prelude::*;

    fn token(text: &str, total_tokens: u32) -> InferenceEvent {
        InferenceEvent::Token { text: text.into(), total_tokens }
    }

    #[test]
    fn a_foreign_version_is_named() {
        let error = from_bytes::<InferenceEvent>(Bytes::from_static(&[9, 0, 0, 0, 0]), 100).unwrap_err();
        assert!(matches!(error, FrameError::Version { found: 9 }), "{error}");
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_it_is_held() {
        let error = from_bytes::<InferenceEvent>(Bytes::from_static(&[1, 0, 0, 1, 0]), 100).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { found: 65536, limit: 100 }), "{error}");
    }

    #[test]
    fn a_body_that_ends_early_says_how_much_is_missing() {
        let whole = to_bytes(&token("abc", 1)).unwrap();
        let error = from_bytes::<InferenceEvent>(whole.slice(..whole.len() - 2), 100).unwrap_err();
        assert!(matches!(error, FrameError::Truncated { missing: 2 }), "{error}");
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut whole = BytesMut::from(&to_bytes(&token("abc", 1)).unwrap()[..]);
        whole.put_u8(1);
        assert!(from_bytes::<InferenceEvent>(whole.freeze(), 100).is_err());
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_messages(texts in prop::collection::vec(".{0,40}", 1..8), cut in 1_usize..40) {
            let events: Vec<_> = texts.iter().zip(1..).map(|(text, n)| token(text, n)).collect();
            let mut bytes = BytesMut::new();
            for event in &events {
                encode(event, &mut bytes).unwrap();
            }
            let mut decoder = Decoder::new(1 << 20);
            let mut seen = Vec::new();
            for portion in bytes.chunks(cut) {
                decoder.push(Bytes::copy_from_slice(portion));
                while let Some(event) = decoder.next::<InferenceEvent>().unwrap() {
                    seen.push(event);
                }
            }
            prop_assert_eq!(seen, events);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::new(64);
            decoder.push(Bytes::from(bytes));
            while let Ok(Some(_)) = decoder.next::<InferenceEvent>() {}
        }
    }
}
