//! llama.cpp's `/infill`, as llama.vim and llama.vscode ask it. A request for no tokens fills the cache.

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Call, Dialect, Reply, Said};
use crate::wire::details::{Constraint, Details, Extra, Infill, Input, Urgency};
use crate::wire::json::{self, JsonError};
use crate::wire::native::{Generate, Limits, TokenLimit, refuse};
use crate::wire::{Completion, InferenceEvent, InferenceRequest, Sampling, Text, sse};

/// How a warning begins when other files found no room.
pub const LEFT_OUT: &str = "input_extra: ";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    input_prefix: Text,
    input_suffix: Text,
    input_extra: Vec<Extra>,
    prompt: Text,
    n_predict: Option<i64>,
    t_max_prompt_ms: Option<i64>,
    t_max_predict_ms: Option<i64>,
    response_fields: Option<Vec<String>>,
    stream: Option<bool>,
}

/// Reads a body of `/infill`.
///
/// # Errors
/// What is wrong with it, by field.
pub fn read(body: &[u8], limits: Limits) -> Result<Call, JsonError> {
    let (mut generate, body): (Generate, Body) = (json::parse(body)?, json::parse(body)?);
    let predict = body.n_predict.unwrap_or(i64::from(TOKENS));
    if predict < -1 {
        return Err(refuse("n_predict", predict, "-1 (as many as there is room for) or more"));
    }
    generate.max_tokens =
        Some(u64::try_from(predict).map_or(TokenLimit::Unlimited, |most| TokenLimit::AtMost(most.max(1))));
    let (hints, said) = (generate.hints(), Said::of(&generate));
    let given = (generate.temperature, generate.top_k, generate.top_p, generate.penalty());
    let (request, warnings) = generate.without_prompt(limits)?;
    let (temperature, top_k, top_p, penalty) = given;
    let sampling = Sampling {
        // What llama.cpp assumes where a request is silent, but for the temperature: a gap is filled with what is likeliest.
        temperature: temperature.unwrap_or(0.0),
        top_k: top_k.unwrap_or(40),
        top_p: top_p.unwrap_or(0.9),
        repetition_penalty: penalty.unwrap_or(1.0),
        ..request.sampling
    };
    let warm_up = predict == 0;
    let max_tokens = if warm_up { 0 } else { request.max_tokens };
    let gap =
        Infill { prefix: body.input_prefix, suffix: body.input_suffix, extra: body.input_extra, prompt: body.prompt };
    let details = Details {
        input: Input::Infill(gap),
        constraint: Constraint::Free,
        urgency: if warm_up { Urgency::WarmUp } else { Urgency::Infill },
        prompt_within_ms: within_ms(body.t_max_prompt_ms),
        answer_within_ms: within_ms(body.t_max_predict_ms),
        ..Details::default()
    };
    let reply =
        Reply { stream: body.stream.unwrap_or(false), fields: body.response_fields, ..Reply::whole(Dialect::Infill) };
    Ok(Call { request: InferenceRequest { sampling, max_tokens, ..request }, details, hints, warnings, reply, said })
}

/// A time; -1 and less set no limit, as silence does.
fn within_ms(asked: Option<i64>) -> u32 {
    asked.map_or(0, |ms| u32::try_from(ms.max(0)).unwrap_or(u32::MAX))
}

/// Tokens when the request names no number, as in llama.cpp's editors.
const TOKENS: u32 = 128;

/// A whole answer. With `fields`, what they name, flat, each under its whole path, as llama.cpp has it.
pub fn document(text: &str, completion: &Completion, fields: Option<&[String]>) -> Value {
    let usage = completion.usage;
    let computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    let (prompt_ms, prompt_rate) = timing(computed, completion.prefill_us);
    let (predicted_ms, predicted_rate) = timing(usage.completion_tokens, completion.decode_us);
    let whole = json!({
        "content": text,
        "model": completion.model,
        "stop": true,
        "stop_type": if completion.finish.as_str() == "length" { "limit" } else { "eos" },
        "truncated": completion.warnings.iter().any(|warning| warning.starts_with(LEFT_OUT)),
        "tokens_cached": usage.prompt_tokens + usage.completion_tokens,
        "tokens_evaluated": usage.prompt_tokens,
        "tokens_predicted": usage.completion_tokens,
        "timings": {
            "cache_n": usage.cached_tokens,
            "prompt_n": computed,
            "prompt_ms": prompt_ms,
            "prompt_per_token_ms": prompt_ms / f64::from(computed.max(1)),
            "prompt_per_second": prompt_rate,
            "predicted_n": usage.completion_tokens,
            "predicted_ms": predicted_ms,
            "predicted_per_token_ms": predicted_ms / f64::from(usage.completion_tokens.max(1)),
            "predicted_per_second": predicted_rate,
        },
    });
    let Some(fields) = fields else { return whole };
    let named = |field: &String| whole.pointer(&format!("/{field}")).cloned().map(|value| (field.clone(), value));
    Value::Object(fields.iter().filter_map(named).collect::<Map<_, _>>())
}

fn timing(tokens: u32, us: u64) -> (f64, f64) {
    let ms = us as f64 / 1000.0;
    (ms, if us > 0 { f64::from(tokens) * 1000.0 / ms } else { 0.0 })
}

/// Writes one event of a stream.
pub fn write(event: &InferenceEvent, out: &mut BytesMut) {
    match event {
        InferenceEvent::Token { text, total_tokens } => {
            sse::write_json(&json!({"content": text, "stop": false, "tokens_predicted": total_tokens}), out);
        }
        InferenceEvent::Done(completion) => sse::write_json(&document("", completion, None), out),
        InferenceEvent::Error(failure) => sse::write_json(&super::openai::error(500, &failure.into()), out),
        // None of it belongs into a gap.
        InferenceEvent::Reasoning { .. } | InferenceEvent::ToolCall { .. } | InferenceEvent::Refusal { .. } => {
            sse::write_comment("heartbeat", out);
        }
        InferenceEvent::Loading { .. }
        | InferenceEvent::Progress { .. }
        | InferenceEvent::Logprobs(_)
        | InferenceEvent::StopString(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Finish, Usage};

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
        let fields = fields.map(str::to_owned);
        let expected =
            json!({"content": "x", "timings/prompt_n": 20, "timings/prompt_per_second": 2000.0, "tokens_cached": 34});
        assert_eq!(document("x", &completion, Some(&fields)), expected);
        assert_eq!(document("x", &completion, Some(&[String::new()])), json!({}));
        let left_out = Completion { warnings: vec![format!("{LEFT_OUT}2 of 3 left out")], ..completion };
        assert_eq!(document("x", &left_out, None)["truncated"], true);
    }

    #[test]
    fn an_editors_request_is_understood() {
        let body = br#"{"id_slot":0,"input_prefix":"a","input_suffix":"b","input_extra":[{"filename":"f","text":"t"}],
            "prompt":"","n_predict":0,"stop":[],"n_indent":4,"top_k":40,"top_p":0.9,"samplers":["top_k","top_p","infill"],
            "stream":false,"cache_prompt":true,"t_max_prompt_ms":500,"t_max_predict_ms":1000,"response_fields":[""]}"#;
        let call = read(body, Limits::default()).unwrap();
        assert_eq!((call.request.max_tokens, call.details.urgency), (0, Urgency::WarmUp));
        assert_eq!((call.details.prompt_within_ms, call.details.answer_within_ms), (500, 1000));
        assert!(matches!(&call.details.input, Input::Infill(gap) if gap.extra.len() == 1 && &*gap.prefix == "a"));
        assert_eq!(read(br#"{"n_predict":-1}"#, Limits::default()).unwrap().request.max_tokens, 32_768);
        let silent = br#"{"t_max_prompt_ms":null,"t_max_predict_ms":-1,"stream":null}"#;
        let silent = read(silent, Limits::default()).unwrap();
        assert_eq!((silent.details.prompt_within_ms, silent.details.answer_within_ms), (0, 0));
        let error = read(br#"{"n_predict":-2}"#, Limits::default()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("n_predict"));
    }
}
