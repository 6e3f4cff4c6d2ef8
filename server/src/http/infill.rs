//! `/infill`: fills a gap in a file, as editors ask for it (llama.vim's dialect of llama.cpp's call).
//!
//! The prompt is made of the model's own control tokens. Other files go before it while there is room, the last first, since editors put
//! what was looked at last at the end; what found no room is counted in the answer (`truncated`). A request for no tokens warms the cache:
//! it goes behind everything else.

use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::json::{JsonError, parse};
use cerebrum_common::wire::{Completion, Failure, InferenceEvent};
use cerebrum_engine::{self as engine, Control, Engine, Priority, Prompt, Sampling};
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Api;
use super::job::Job;
use super::record::Record;
use super::request::{Asked, PATIENCE};
use super::stream::Style;
use crate::registry::Unavailable;

#[derive(Deserialize)]
#[serde(default)]
struct Infill {
    model: String,
    input_prefix: String,
    input_suffix: String,
    input_extra: Vec<Extra>,
    /// What the answer has to begin with: already typed, but not in the file.
    prompt: String,
    n_predict: i64,
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    seed: Option<u32>,
    stop: Vec<String>,
    t_max_prompt_ms: u64,
    t_max_predict_ms: u64,
    response_fields: Option<Vec<String>>,
}

/// Another file, or a piece of one.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Extra {
    filename: String,
    text: String,
}

impl Default for Infill {
    /// What llama.cpp assumes where a request is silent, but for the temperature: a gap is filled with what is likeliest.
    fn default() -> Self {
        Self {
            model: String::new(),
            input_prefix: String::new(),
            input_suffix: String::new(),
            input_extra: Vec::new(),
            prompt: String::new(),
            n_predict: 128,
            temperature: 0.0,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.0,
            seed: None,
            stop: Vec::new(),
            t_max_prompt_ms: 0,
            t_max_predict_ms: 0,
            response_fields: None,
        }
    }
}

/// Reads, generates and answers.
///
/// # Errors
/// What is wrong with the body, a model without the control tokens, and what the generation failed with.
pub(super) async fn answer(api: &Api, body: Bytes, record: &mut Option<Record>) -> Result<Response<Answer>, Refusal> {
    let infill: Infill = parse(&body)?;
    let max_tokens = max_tokens(infill.n_predict, api.tokens.max_tokens_cap)?;
    let engine = api.registry.engine(&infill.model).await.map_err(|reason| Failure::from(&reason))?;
    let (prompt, truncated) = assemble(&infill, &engine, max_tokens as usize).await?;
    let fields = infill.response_fields.clone();
    let asked = Asked {
        model: infill.model.clone(),
        request: request(infill, prompt, max_tokens),
        warnings: Vec::new(),
        style: Style::Events { progress: false },
    };
    let Some(record) = record.take() else { return Err(Refusal::Stopping) };
    let (text, completion) = collect(Job::start(api, asked, record)?).await?;
    Ok(json(StatusCode::OK, &document(&text, &completion, truncated, fields)))
}

fn max_tokens(asked: i64, cap: u32) -> Result<u32, Refusal> {
    match u32::try_from(asked) {
        Ok(tokens) => Ok(tokens.min(cap)),
        Err(_) if asked == -1 => Ok(cap),
        Err(_) => {
            let message = format!("n_predict: found {asked}, expected -1 (as many as there is room for) or more");
            Err(JsonError { field: Some("n_predict".to_owned()), message }.into())
        }
    }
}

fn request(infill: Infill, prompt: Prompt, max_tokens: u32) -> engine::Request {
    let within = |ms: u64| (ms > 0).then(|| Duration::from_millis(ms));
    engine::Request {
        prompt,
        max_tokens,
        seed: infill.seed,
        sampling: Sampling {
            temperature: infill.temperature,
            top_k: infill.top_k,
            top_p: infill.top_p,
            min_p: infill.min_p,
            repetition_penalty: 1.0,
            ..Sampling::default()
        },
        stop: infill.stop,
        priority: if max_tokens == 0 { Priority::WarmUp } else { Priority::Infill },
        patience: Some(PATIENCE),
        prompt_within: within(infill.t_max_prompt_ms),
        answer_within: within(infill.t_max_predict_ms),
    }
}

// The prompt, and whether some of the other files found no room.
async fn assemble(infill: &Infill, engine: &Engine, max_tokens: usize) -> Result<(Prompt, bool), Refusal> {
    let files = engine.info().infill_files;
    let own = Prompt::new();
    let own = if files { own.control(Control::File).text("current\n") } else { own };
    let own = own.control(Control::InfillPrefix).text(&*infill.input_prefix).control(Control::InfillSuffix);
    let own = own.text(&*infill.input_suffix).control(Control::InfillMiddle).text(&*infill.prompt);
    if !engine.info().infill {
        // The engine refuses it, in its words.
        return Ok((own, false));
    }
    let head = if files { Prompt::new().control(Control::Repository).text("project\n") } else { Prompt::new() };
    let answer = max_tokens.min(engine.info().context / 4);
    let taken = length(engine, &head).await? + length(engine, &own).await? + answer;
    let mut room = engine.info().context.saturating_sub(taken);
    let mut kept = Vec::new();
    for extra in infill.input_extra.iter().rev() {
        let piece = match files {
            true => Prompt::new().control(Control::File).text(format!("{}\n{}", extra.filename, extra.text)),
            false => Prompt::plain(format!("\n\n--- snippet ---\n\n{}", extra.text)),
        };
        let tokens = length(engine, &piece).await?;
        if tokens > room {
            break;
        }
        room -= tokens;
        kept.push(piece);
    }
    let truncated = kept.len() < infill.input_extra.len();
    let prompt = kept.into_iter().rev().fold(head, Prompt::then);
    Ok((prompt.then(own), truncated))
}

async fn length(engine: &Engine, prompt: &Prompt) -> Result<usize, Refusal> {
    let tokens = engine.tokenize(prompt.clone()).await;
    Ok(tokens.map_err(|_| Failure::from(&Unavailable::Stopping))?.len())
}

async fn collect(mut job: Job) -> Result<(String, Completion), Refusal> {
    let mut text = String::new();
    while let Some(event) = job.next().await {
        match event {
            InferenceEvent::Token { text: more, .. } => text.push_str(&more),
            InferenceEvent::Done(completion) => return Ok((text, completion)),
            InferenceEvent::Error(failure) => return Err(failure.into()),
            InferenceEvent::Loading { .. } | InferenceEvent::Progress { .. } => {}
        }
    }
    Err(Refusal::Stopping)
}

// As llama.cpp has it: with `response_fields`, what they name, flat, each under its whole path.
fn document(text: &str, completion: &Completion, truncated: bool, fields: Option<Vec<String>>) -> Value {
    let usage = completion.usage;
    let computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    let timings = |tokens: u32, us: u64| {
        let ms = us as f64 / 1000.0;
        (ms, if us > 0 { f64::from(tokens) * 1000.0 / ms } else { 0.0 })
    };
    let (prompt_ms, prompt_rate) = timings(computed, completion.prefill_us);
    let (predicted_ms, predicted_rate) = timings(usage.completion_tokens, completion.decode_us);
    let whole = serde_json::json!({
        "content": text,
        "model": completion.model,
        "stop": true,
        "stop_type": if completion.finish.as_str() == "length" { "limit" } else { "eos" },
        "truncated": truncated,
        "tokens_cached": usage.prompt_tokens + usage.completion_tokens,
        "tokens_evaluated": usage.prompt_tokens,
        "tokens_predicted": usage.completion_tokens,
        "timings": {
            "cache_n": usage.cached_tokens,
            "prompt_n": computed,
            "prompt_ms": prompt_ms,
            "prompt_per_second": prompt_rate,
            "predicted_n": usage.completion_tokens,
            "predicted_ms": predicted_ms,
            "predicted_per_second": predicted_rate,
        },
    });
    let Some(fields) = fields else { return whole };
    let named = |field: String| whole.pointer(&format!("/{field}")).cloned().map(|value| (field, value));
    Value::Object(fields.into_iter().filter_map(named).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cerebrum_common::wire::{Finish, Usage};

    #[test]
    fn fields_are_flat_and_unknown_ones_left_out() {
        let completion = Completion {
            model: "m".into(),
            finish: Finish::Length,
            usage: Usage { prompt_tokens: 30, cached_tokens: 10, completion_tokens: 4 },
            prefill_us: 10_000,
            decode_us: 0,
            warnings: Vec::new(),
        };
        let fields = ["content", "timings/prompt_n", "timings/prompt_per_second", "tokens_cached", "nothing/here", ""];
        let fields = fields.map(str::to_owned).to_vec();
        let expected = serde_json::json!({"content": "x", "timings/prompt_n": 20, "timings/prompt_per_second": 2000.0,
            "tokens_cached": 34});
        assert_eq!(document("x", &completion, false, Some(fields)), expected);
        assert_eq!(document("x", &completion, false, Some(vec![String::new()])), serde_json::json!({}));
        assert_eq!(document("x", &completion, true, None)["truncated"], true);
    }
}
