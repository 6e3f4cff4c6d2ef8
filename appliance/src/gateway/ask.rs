//! What an upstream is asked, in its own words, and how its answer is read: frames for a server of ours, OpenAI's calls for
//! everybody else's.

use bytes::{Bytes, BytesMut};
use cerebrum_common::request_id::{self, RequestId};
use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::dialect::{Call, openai};
use cerebrum_common::wire::frame::{self, Decoder, FrameError};
use cerebrum_common::wire::{InferenceEvent, TELL_STOP, held, sse};
use http::{HeaderValue, Method, Request, header};

use super::refused::{internal, lost};
use crate::upstream::Upstream;
use crate::upstream::hold::Hold;
use crate::upstream::way::Way;

/// Largest frame taken from an upstream, in bytes.
const FRAME_BYTES: usize = 1 << 20;

/// A request in the upstream's words.
pub(super) struct Asked {
    path: &'static str,
    media_type: &'static str,
    bytes: Bytes,
    /// The answer may end at a stop string, and the upstream is one that can tell at which.
    tells_stop: bool,
    pub(super) reader: Reader,
}

pub(super) fn ask(upstream: &Upstream, call: &Call) -> Result<Asked, Refusal> {
    Ok(match &upstream.way {
        Way::Frames(_) => Asked {
            path: "/v1/inference/stream",
            media_type: frame::MEDIA_TYPE,
            bytes: frames(call).map_err(|error| internal(error.to_string()))?,
            // Whoever asks: an answer that is remembered may be given in other words later.
            tells_stop: !call.request.stop.is_empty(),
            reader: Reader::Frames(Decoder::new(FRAME_BYTES)),
        },
        Way::Service(service) => {
            let model = upstream.model(&call.request.model).unwrap_or_default();
            let openai::Asked { path, body, warnings } = openai::ask(call, model, service.manner());
            let reader = Reader::Chunks(Box::new(openai::Reader::new(model).warning(warnings)));
            Asked { path, media_type: "application/json", bytes: body.to_string().into(), tells_stop: false, reader }
        }
    })
}

/// Makes events of an answer's bytes.
pub(super) enum Reader {
    Frames(Decoder),
    Chunks(Box<openai::Reader>),
    /// Events that are all there already.
    Remembered(std::vec::IntoIter<InferenceEvent>),
}

impl Reader {
    pub(super) fn media_type(&self) -> &'static str {
        match self {
            Self::Frames(_) => frame::MEDIA_TYPE,
            Self::Chunks(_) => sse::MEDIA_TYPE,
            Self::Remembered(_) => "",
        }
    }

    pub(super) fn push(&mut self, bytes: Bytes) -> Result<(), String> {
        match self {
            Self::Frames(decoder) => {
                decoder.push(bytes);
                Ok(())
            }
            Self::Chunks(reader) => reader.push(&bytes),
            Self::Remembered(_) => Ok(()),
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<InferenceEvent>, String> {
        match self {
            Self::Frames(decoder) => decoder.next().map_err(|error| error.to_string()),
            Self::Chunks(reader) => Ok(reader.next()),
            Self::Remembered(events) => Ok(events.next()),
        }
    }

    /// Begins anew: what follows comes over another connection.
    pub(super) fn restart(&mut self) {
        if let Self::Frames(decoder) = self {
            *decoder = Decoder::new(FRAME_BYTES);
        }
    }

    /// The event that the end of the bytes stands for.
    pub(super) fn cut(&mut self) -> InferenceEvent {
        let cut = match self {
            Self::Frames(decoder) if !decoder.is_empty() => FrameError::Truncated { missing: 1 }.to_string(),
            Self::Frames(_) | Self::Remembered(_) => "it ended without a last event".to_owned(),
            Self::Chunks(reader) => {
                reader.close();
                match reader.next() {
                    Some(last) => return last,
                    None => "it ended without a reason to finish".to_owned(),
                }
            }
        };
        InferenceEvent::Error(lost(&cut))
    }
}

/// One frame, and more where the first does not say it all.
pub(super) fn frames(call: &Call) -> Result<Bytes, FrameError> {
    let mut out = BytesMut::with_capacity(call.request.prompt.len() + 256);
    frame::encode_request(&call.request, &call.own_details(), &mut out)?;
    Ok(out.freeze())
}

impl Asked {
    /// The request itself; it can be made again.
    pub(super) fn request(
        &self,
        upstream: &Upstream,
        id: RequestId,
        hold: Option<&Hold>,
    ) -> Result<Request<Bytes>, Refusal> {
        let mut request = upstream
            .request(Method::POST, self.path)
            .header(header::CONTENT_TYPE, self.media_type)
            .header(request_id::HEADER, id.header_value());
        if let Some(hold) = hold {
            request = request.header(held::HEADER, hold.header());
        }
        if self.tells_stop {
            request = request.header(TELL_STOP, HeaderValue::from_static("1"));
        }
        request.body(self.bytes.clone()).map_err(|error| internal(error.to_string()))
    }
}
