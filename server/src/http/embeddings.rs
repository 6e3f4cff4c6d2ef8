//! Texts as vectors, as OpenAI's clients ask for them. The model is loaded for it if need be; its generations go on beside it.

use cerebrum_common::serve::{Answer, Refusal, collect, json};
use cerebrum_common::wire::dialect::Dialect;
use cerebrum_common::wire::extras::Extras;
use cerebrum_common::wire::json::{JsonError, parse};
use cerebrum_common::wire::{Failure, FailureCode};
use cerebrum_engine::{EmbeddingError, EmbeddingInput, Token};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Api;
use super::inference::admit;
use crate::registry::{Unavailable, busy_retry_ms};

#[derive(Deserialize)]
struct Body {
    input: Option<Value>,
    #[serde(default)]
    model: String,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Item>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Item {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// `/v1/embeddings`.
pub(super) async fn embed(api: &Api, request: Request<Incoming>) -> Response<Answer> {
    answer(api, request).await.unwrap_or_else(|refusal| refusal.response_in(Dialect::Chat))
}

async fn answer(api: &Api, request: Request<Incoming>) -> Result<Response<Answer>, Refusal> {
    admit(api)?;
    let bytes = collect(&mut request.into_body(), &api.limits).await?;
    let body: Body = parse(&bytes)?;
    let extras = Extras::read(&bytes)?;
    if let Some(adapter) = &extras.adapter {
        return Err(wrong("adapter", &format!("{:?}", adapter.name), "none: vectors are made by the bare model"));
    }
    let base64 = match body.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(wrong("encoding_format", &format!("{other:?}"), "float or base64")),
    };
    let inputs = inputs(body.input)?;
    let engine = api.registry.engine(&body.model).await.map_err(|reason| Refusal::from(Failure::from(&reason)))?;
    let embedded = engine.embed(inputs).await;
    api.registry.keep(engine.name(), extras.keep_alive);
    let free_in = || busy_retry_ms(None);
    let embedded = embedded.map_err(|error| Refusal::Failed(failure(&error, free_in)))?;
    let width = embedded.vectors.first().map_or(0, Vec::len);
    if let Some(asked) = body.dimensions.filter(|asked| *asked != width) {
        return Err(wrong("dimensions", &asked.to_string(), &format!("{width}, which is what the model gives")));
    }
    let vector = |numbers: Vec<f32>| if base64 { Vector::Base64(encoded(&numbers)) } else { Vector::Numbers(numbers) };
    let item = |(index, numbers)| Item { object: "embedding", index, embedding: vector(numbers) };
    let list = List {
        object: "list",
        data: embedded.vectors.into_iter().enumerate().map(item).collect(),
        model: engine.name(),
        usage: Usage { prompt_tokens: embedded.tokens, total_tokens: embedded.tokens },
    };
    Ok(json(StatusCode::OK, &list))
}

/// A text, a list of texts, a list of tokens, or a list of such lists.
fn inputs(input: Option<Value>) -> Result<Vec<EmbeddingInput>, Refusal> {
    const EXPECTED: &str = "a text, a list of texts, a list of tokens, or a list of such lists";
    let strange = || wrong("input", "something else", EXPECTED);
    let token = |value: &Value| {
        let token = value.as_i64().and_then(|token| i32::try_from(token).ok());
        token.map(Token).ok_or_else(strange)
    };
    let tokens = |values: &[Value]| Ok(EmbeddingInput::Tokens(values.iter().map(token).collect::<Result<_, _>>()?));
    let list = match input {
        None | Some(Value::Null) => return Err(wrong("input", "nothing", EXPECTED)),
        Some(Value::String(text)) => return Ok(vec![EmbeddingInput::Text(text)]),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(strange()),
    };
    match list.first() {
        None => Err(wrong("input", "an empty list", EXPECTED)),
        Some(Value::Number(_)) => Ok(vec![tokens(&list)?]),
        Some(_) if list.len() > MOST => {
            Err(wrong("input", &format!("{} texts", list.len()), &format!("at most {MOST} at a time")))
        }
        Some(_) => {
            let one = |value: Value| match value {
                Value::String(text) => Ok(EmbeddingInput::Text(text)),
                Value::Array(values) => tokens(&values),
                _ => Err(strange()),
            };
            list.into_iter().map(one).collect()
        }
    }
}

/// As many as OpenAI takes.
const MOST: usize = 2048;

fn failure(error: &EmbeddingError, free_in: impl Fn() -> u32) -> Failure {
    let code = match error {
        EmbeddingError::Unable { .. } | EmbeddingError::Empty { .. } | EmbeddingError::Token(_) => {
            FailureCode::BadRequest
        }
        EmbeddingError::TooLong { .. } => FailureCode::ContextOverflow,
        EmbeddingError::Full => FailureCode::Busy,
        EmbeddingError::Model(_) => FailureCode::Internal,
        EmbeddingError::Stopped => return Failure::from(&Unavailable::Stopping),
    };
    let retry_after_ms = (code == FailureCode::Busy).then(free_in);
    Failure { code, message: format!("input: {error}"), retry_after_ms }
}

fn wrong(field: &str, found: &str, expected: &str) -> Refusal {
    let message = format!("{field}: found {found}, expected {expected}");
    JsonError { field: Some(field.to_owned()), message }.into()
}

/// The numbers' bytes, the lowest first, in base64: a third of what digits take.
fn encoded(numbers: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= three.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_other_programs_read_them() {
        assert_eq!(encoded(&[]), "");
        assert_eq!(encoded(&[1.0]), "AACAPw==");
        assert_eq!(encoded(&[1.0, -2.0]), "AACAPwAAAMA=");
        assert_eq!(encoded(&[1.0, -2.0, 0.5]), "AACAPwAAAMAAAAA/");
    }

    #[test]
    fn what_is_asked_for_may_be_one_or_many() {
        let count = |input: &str| inputs(serde_json::from_str(input).unwrap()).map(|inputs| inputs.len());
        for (input, expected) in [("\"a\"", 1), ("[\"a\", \"b\"]", 2), ("[1, 2, 3]", 1), ("[[1, 2], [3]]", 2)] {
            assert_eq!(count(input).unwrap(), expected, "{input}");
        }
        for wrong in ["null", "[]", "1", "{}", "[1, \"a\"]", "[true]", "[1.5]", "[[1], 2]", "[99999999999]"] {
            assert!(count(wrong).unwrap_err().message().starts_with("input: found "), "{wrong}");
        }
    }
}
