//! Text to tokens and back, by a model's own vocabulary. The model is loaded for it if need be; no slot is taken.

use cerebrum_common::serve::{Answer, Refusal, collect, json};
use cerebrum_common::wire::Failure;
use cerebrum_common::wire::json::{JsonError, parse};
use cerebrum_engine::{Engine, Prompt, Stopped, Token};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::Api;
use crate::registry::Unavailable;

#[derive(Deserialize)]
struct Tokenize {
    content: Option<String>,
    #[serde(default)]
    model: String,
    /// Whether the tokens that begin a prompt are among them; llama.cpp's server leaves them out where nothing is said.
    #[serde(default)]
    add_special: bool,
    /// Whether control tokens are recognised in the text.
    #[serde(default)]
    parse_special: bool,
    #[serde(default)]
    with_pieces: bool,
}

#[derive(Serialize)]
struct Piece {
    id: i32,
    /// A text where the token's bytes are one, else the bytes.
    piece: serde_json::Value,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Tokens {
    Plain { tokens: Vec<i32> },
    Pieces { tokens: Vec<Piece> },
}

#[derive(Deserialize)]
struct Detokenize {
    tokens: Option<Vec<i32>>,
    #[serde(default)]
    model: String,
}

#[derive(Serialize)]
struct Content {
    content: String,
}

/// `/tokenize`: the tokens that a generation would see, the one that begins a prompt only where it is asked for.
pub(super) async fn tokenize(api: &Api, request: Request<Incoming>) -> Result<Response<Answer>, Refusal> {
    let asked: Tokenize = parse(&collect(&mut request.into_body(), &api.limits).await?)?;
    let content = asked.content.ok_or_else(|| missing("content", "a text"))?;
    let engine = engine(api, &asked.model).await?;
    let prompt = if asked.parse_special { Prompt::new().markup(content) } else { Prompt::plain(content) };
    let mut tokens = engine.tokenize(prompt).await.map_err(stopped)?;
    if !asked.add_special {
        let begin = engine.tokenize(Prompt::plain(String::new())).await.map_err(stopped)?;
        let begins = tokens.starts_with(&begin);
        tokens.drain(..if begins { begin.len() } else { 0 });
    }
    if !asked.with_pieces {
        return Ok(json(StatusCode::OK, &Tokens::Plain { tokens: tokens.into_iter().map(|token| token.0).collect() }));
    }
    let mut pieces = Vec::with_capacity(tokens.len());
    for token in tokens {
        let bytes = engine.detokenize(vec![token]).await.map_err(stopped)?;
        let piece = String::from_utf8(bytes).map_or_else(|error| error.into_bytes().into(), serde_json::Value::from);
        pieces.push(Piece { id: token.0, piece });
    }
    Ok(json(StatusCode::OK, &Tokens::Pieces { tokens: pieces }))
}

/// `/detokenize`: the text of tokens, control tokens included. What is no UTF-8 is replaced.
pub(super) async fn detokenize(api: &Api, request: Request<Incoming>) -> Result<Response<Answer>, Refusal> {
    let asked: Detokenize = parse(&collect(&mut request.into_body(), &api.limits).await?)?;
    let tokens = asked.tokens.ok_or_else(|| missing("tokens", "a list of whole numbers"))?;
    let engine = engine(api, &asked.model).await?;
    let bytes = engine.detokenize(tokens.into_iter().map(Token).collect()).await.map_err(stopped)?;
    Ok(json(StatusCode::OK, &Content { content: String::from_utf8_lossy(&bytes).into_owned() }))
}

async fn engine(api: &Api, model: &str) -> Result<Engine, Refusal> {
    api.registry.engine(model).await.map_err(|reason| Refusal::from(Failure::from(&reason)))
}

fn missing(field: &str, expected: &str) -> Refusal {
    JsonError { field: Some(field.to_owned()), message: format!("{field}: found nothing, expected {expected}") }.into()
}

fn stopped(_: Stopped) -> Refusal {
    Refusal::from(Failure::from(&Unavailable::Stopping))
}
