//! The JSON of the native interface: `/v1/complete` on the appliance, `/v1/inference` on the server.
//!
//! One request body serves both (the server ignores `language`); [`Generate::into_request`] turns it into the
//! [`InferenceRequest`] that travels on, refusing what cannot be carried out and clamping `max_tokens` with a warning.

mod fields;

use serde::{Deserialize, Serialize};

pub use fields::TokenLimit;
use fields::{one_or_many, one_text, or_off};

use super::json::JsonError;
use super::{Completion, Failure, InferenceEvent, InferenceRequest, Sampling, Text};
use crate::settings::Section;

/// A generation as a client asks for it. Every field but `prompt` may be absent; unknown ones are ignored.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Generate {
    /// What to complete; a list of one text is that text.
    #[serde(deserialize_with = "one_text")]
    pub prompt: Option<Text>,
    /// Language of the code; detected when absent.
    pub language: Option<String>,
    /// Names the conversation that the request belongs to: what was decided for it before is kept to.
    pub session_id: Option<String>,
    /// Model by name; chosen from the language when absent.
    pub model: Option<String>,
    /// Most tokens to generate.
    pub max_tokens: Option<TokenLimit>,
    /// See [`Sampling::temperature`].
    pub temperature: Option<f32>,
    /// See [`Sampling::top_p`]; 0 is what other servers call greedy: the likeliest token.
    pub top_p: Option<f32>,
    /// See [`Sampling::top_k`]; -1 is off, as other servers have it.
    #[serde(deserialize_with = "or_off")]
    pub top_k: Option<u32>,
    /// See [`Sampling::min_p`].
    pub min_p: Option<f32>,
    /// See [`Sampling::typical_p`].
    pub typical_p: Option<f32>,
    /// See [`Sampling::repetition_penalty`].
    pub repetition_penalty: Option<f32>,
    /// llama.cpp's name for it, where the other is absent.
    #[serde(skip_serializing)]
    pub repeat_penalty: Option<f32>,
    /// See [`Sampling::frequency_penalty`].
    pub frequency_penalty: Option<f32>,
    /// See [`Sampling::presence_penalty`].
    pub presence_penalty: Option<f32>,
    /// See [`Sampling::mirostat`].
    pub mirostat: Option<u8>,
    /// See [`Sampling::mirostat_tau`].
    pub mirostat_tau: Option<f32>,
    /// See [`Sampling::mirostat_eta`].
    pub mirostat_eta: Option<f32>,
    /// See [`Sampling::seed`]; -1 draws one, as llama.cpp's clients expect.
    pub seed: Option<i64>,
    /// One stop string or several.
    #[serde(deserialize_with = "one_or_many")]
    pub stop: Vec<Text>,
    /// Whether a stream shall carry `{"progress":0.35}` events while the prompt is read.
    pub progress: bool,
}

/// What a program allows and assumes where a request is silent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `max_tokens` when absent.
    pub max_tokens_default: u32,
    /// Larger values are clamped to this.
    pub max_tokens_cap: u32,
}

impl Default for Limits {
    /// The product's defaults for code: 512 and 32,768 tokens.
    fn default() -> Self {
        Self { max_tokens_default: 512, max_tokens_cap: 32_768 }
    }
}

impl Limits {
    /// What the settings' `[generation]` says of them.
    pub fn read(section: &mut Section<'_>) -> Self {
        let base = Self::default();
        let mut tokens = |key, default: u32| section.within(key, default.into(), 1, 131_072) as u32;
        Self {
            max_tokens_default: tokens("max_tokens_default", base.max_tokens_default),
            max_tokens_cap: tokens("max_tokens_cap", base.max_tokens_cap),
        }
    }
}

/// Most stop strings a request may carry, and the longest, in bytes: each is compared with every token's text.
const STOP_STRINGS: usize = 64;
const STOP_BYTES: usize = 256;

/// Longest name of a model or language, in bytes: names are shown, logged and counted by.
const NAME_BYTES: usize = 128;

fn name(field: &str, name: Option<&str>) -> Result<(), JsonError> {
    match name {
        Some(name) if name.len() > NAME_BYTES => Err(JsonError {
            field: Some(field.to_owned()),
            message: format!("{field}: found {} bytes, expected a name of at most {NAME_BYTES}", name.len()),
        }),
        _ => Ok(()),
    }
}

/// What a client says that no model reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// The code's language.
    pub language: Option<String>,
    /// The conversation that the request belongs to.
    pub session: Option<String>,
    /// Whether it was the client that said how long the answer may be.
    pub bounded: bool,
}

impl Generate {
    /// What the client says beside the request itself.
    pub fn hints(&self) -> Hints {
        Hints { language: self.language.clone(), session: self.session_id.clone(), bounded: self.max_tokens.is_some() }
    }

    /// The request to carry out, and what was changed in it.
    ///
    /// # Errors
    /// A missing or empty prompt, a NUL character in it, and every sampling value out of its range, by field.
    pub fn into_request(mut self, limits: Limits) -> Result<(InferenceRequest, Vec<String>), JsonError> {
        let text = prompt(self.prompt.take())?;
        let (request, warnings) = self.without_prompt(limits)?;
        Ok((InferenceRequest { prompt: text, ..request }, warnings))
    }

    /// As [`Self::into_request`], for calls whose prompt is none of a single text: the request's stays empty.
    ///
    /// # Errors
    /// Every value out of its range, by field.
    pub fn without_prompt(self, limits: Limits) -> Result<(InferenceRequest, Vec<String>), JsonError> {
        let mut warnings = Vec::new();
        let sampling = self.sampling()?;
        name("model", self.model.as_deref())?;
        name("language", self.language.as_deref())?;
        name("session_id", self.session_id.as_deref())?;
        let request = InferenceRequest {
            model: self.model.unwrap_or_default(),
            prompt: Text::default(),
            max_tokens: max_tokens(self.max_tokens, limits, &mut warnings),
            sampling,
            stop: stop_strings(self.stop)?,
        };
        Ok((request, warnings))
    }

    /// The penalty on repeated tokens, by either name.
    pub fn penalty(&self) -> Option<f32> {
        self.repetition_penalty.or(self.repeat_penalty)
    }

    fn sampling(&self) -> Result<Sampling, JsonError> {
        let base = Sampling::default();
        let temperature = within("temperature", self.temperature, base.temperature, 0.0, 2.0)?;
        let top_p = within("top_p", self.top_p, base.top_p, 0.0, 1.0)?;
        let greedy = top_p == 0.0;
        Ok(Sampling {
            temperature: if greedy { 0.0 } else { temperature },
            top_p: if greedy { base.top_p } else { top_p },
            top_k: self.top_k.unwrap_or(base.top_k),
            min_p: within("min_p", self.min_p, base.min_p, 0.0, 1.0)?,
            typical_p: positive_share("typical_p", self.typical_p, base.typical_p)?,
            repetition_penalty: within("repetition_penalty", self.penalty(), base.repetition_penalty, 0.5, 2.0)?,
            frequency_penalty: within("frequency_penalty", self.frequency_penalty, base.frequency_penalty, -2.0, 2.0)?,
            presence_penalty: within("presence_penalty", self.presence_penalty, base.presence_penalty, -2.0, 2.0)?,
            mirostat: mirostat(self.mirostat)?,
            mirostat_tau: within("mirostat_tau", self.mirostat_tau, base.mirostat_tau, 0.0, 20.0)?,
            mirostat_eta: within("mirostat_eta", self.mirostat_eta, base.mirostat_eta, 0.0, 1.0)?,
            seed: seed(self.seed)?,
            logit_bias: Vec::new(),
        })
    }
}

pub(super) fn refuse(field: &str, found: impl std::fmt::Display, expected: impl std::fmt::Display) -> JsonError {
    JsonError { field: Some(field.to_owned()), message: format!("{field}: found {found}, expected {expected}") }
}

fn prompt(prompt: Option<Text>) -> Result<Text, JsonError> {
    const EXPECTED: &str = "a text to complete";
    let prompt = prompt.ok_or_else(|| refuse("prompt", "nothing", EXPECTED))?;
    if prompt.trim().is_empty() {
        return Err(refuse("prompt", "an empty string", EXPECTED));
    }
    match prompt.find('\0') {
        Some(at) => Err(refuse(
            "prompt",
            format_args!("a NUL character at byte {at}"),
            "text without NUL: is it a binary file?",
        )),
        None => Ok(prompt),
    }
}

fn max_tokens(asked: Option<TokenLimit>, limits: Limits, warnings: &mut Vec<String>) -> u32 {
    let asked = match asked {
        None => return limits.max_tokens_default.min(limits.max_tokens_cap),
        Some(TokenLimit::Unlimited) => return limits.max_tokens_cap,
        Some(TokenLimit::AtMost(asked)) => asked,
    };
    let used = u32::try_from(asked).unwrap_or(u32::MAX).clamp(1, limits.max_tokens_cap);
    if u64::from(used) != asked {
        warnings.push(format!("max_tokens: found {asked}, used {used} (expected 1 to {})", limits.max_tokens_cap));
    }
    used
}

fn within(field: &str, found: Option<f32>, default: f32, low: f32, high: f32) -> Result<f32, JsonError> {
    match found {
        None => Ok(default),
        Some(value) if (low..=high).contains(&value) => Ok(value),
        Some(value) => Err(refuse(field, value, format_args!("a number from {low} to {high}"))),
    }
}

fn positive_share(field: &str, found: Option<f32>, default: f32) -> Result<f32, JsonError> {
    match found {
        Some(value) if value <= 0.0 => Err(refuse(field, value, "a number above 0 and up to 1")),
        found => within(field, found, default, 0.0, 1.0),
    }
}

fn mirostat(found: Option<u8>) -> Result<u8, JsonError> {
    match found {
        None => Ok(0),
        Some(version @ 0..=2) => Ok(version),
        Some(other) => Err(refuse("mirostat", other, "0 (off), 1 or 2")),
    }
}

fn seed(found: Option<i64>) -> Result<Option<u32>, JsonError> {
    match found {
        None | Some(-1) => Ok(None),
        Some(seed) => {
            u32::try_from(seed).map(Some).map_err(|_| refuse("seed", seed, "-1 or a whole number below 2^32"))
        }
    }
}

fn stop_strings(stop: Vec<Text>) -> Result<Vec<Text>, JsonError> {
    if stop.len() > STOP_STRINGS {
        return Err(refuse("stop", format_args!("{} strings", stop.len()), format_args!("at most {STOP_STRINGS}")));
    }
    match stop.iter().position(|text| text.is_empty() || text.len() > STOP_BYTES) {
        Some(at) => Err(refuse(
            &format!("stop[{at}]"),
            format_args!("{} bytes", stop[at].len()),
            format_args!("1 to {STOP_BYTES} bytes"),
        )),
        None => Ok(stop),
    }
}

/// A token of a stream: `{"token":" asyncio","total_tokens":2}`.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenEvent<'a> {
    /// The new text.
    pub token: &'a str,
    /// Tokens so far.
    pub total_tokens: u32,
}

/// Progress of prompt processing (and of loading the model before it), 0 to 1.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProgressEvent {
    /// Share of the prompt that has been read.
    pub progress: f32,
}

/// The end of a stream that failed: `{"error":..,"message":..,"done":true}`.
#[derive(Debug, Serialize)]
pub struct ErrorEvent<'a> {
    /// Short name.
    pub error: &'a str,
    /// What happened and what to do.
    pub message: &'a str,
    /// Always true.
    pub done: bool,
}

impl<'a> From<&'a Failure> for ErrorEvent<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self { error: failure.code.as_str(), message: &failure.message, done: true }
    }
}

/// The progress an event stands for, where it stands for any.
pub fn progress(event: &InferenceEvent) -> Option<ProgressEvent> {
    match *event {
        InferenceEvent::Loading { .. } => Some(ProgressEvent { progress: 0.0 }),
        InferenceEvent::Progress { processed, total } => {
            Some(ProgressEvent { progress: processed as f32 / total.max(1) as f32 })
        }
        _ => None,
    }
}

/// Tokens per second of decoding.
pub fn tokens_per_second(completion: &Completion) -> f64 {
    if completion.decode_us == 0 {
        return 0.0;
    }
    f64::from(completion.usage.completion_tokens) * 1e6 / completion.decode_us as f64
}

/// Seconds from admission to the last token.
pub fn inference_seconds(completion: &Completion) -> f64 {
    (completion.prefill_us + completion.decode_us) as f64 / 1e6
}

/// Now, as RFC 3339 in UTC with milliseconds.
pub fn timestamp() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    fn request(body: &str) -> Result<(InferenceRequest, Vec<String>), JsonError> {
        json::parse::<Generate>(body.as_bytes())?.into_request(Limits::default())
    }

    #[test]
    fn silence_means_the_defaults() {
        let (request, warnings) = request(r#"{"prompt":"x"}"#).unwrap();
        assert_eq!(request.max_tokens, 512);
        assert_eq!(request.sampling, Sampling::default());
        assert!(warnings.is_empty());
    }

    #[test]
    fn max_tokens_is_clamped_with_a_warning() {
        for (asked, used) in [("0", 1), ("1000000000", 32_768), ("18446744073709551615", 32_768)] {
            let (request, warnings) = request(&format!(r#"{{"prompt":"x","max_tokens":{asked}}}"#)).unwrap();
            assert_eq!(request.max_tokens, used);
            assert_eq!(warnings, [format!("max_tokens: found {asked}, used {used} (expected 1 to 32768)")]);
        }
    }

    #[test]
    fn everything_else_out_of_range_is_refused_by_name() {
        let cases = [
            (r#"{}"#, "prompt: found nothing, expected a text to complete"),
            (r#"{"prompt":" \n"}"#, "prompt: found an empty string, expected a text to complete"),
            (
                r#"{"prompt":"a\u0000b"}"#,
                "prompt: found a NUL character at byte 1, expected text without NUL: is it a binary file?",
            ),
            (r#"{"prompt":"x","temperature":3}"#, "temperature: found 3, expected a number from 0 to 2"),
            (r#"{"prompt":"x","temperature":-0.1}"#, "temperature: found -0.1, expected a number from 0 to 2"),
            (r#"{"prompt":"x","top_p":-1}"#, "top_p: found -1, expected a number from 0 to 1"),
            (r#"{"prompt":"x","typical_p":0}"#, "typical_p: found 0, expected a number above 0 and up to 1"),
            (r#"{"prompt":["a","b"]}"#, "prompt: found a list of several prompts, expected one: send them one by one"),
            (r#"{"prompt":"x","mirostat":3}"#, "mirostat: found 3, expected 0 (off), 1 or 2"),
            (r#"{"prompt":"x","seed":-2}"#, "seed: found -2, expected -1 or a whole number below 2^32"),
            (r#"{"prompt":"x","stop":["ok",""]}"#, "stop[1]: found 0 bytes, expected 1 to 256 bytes"),
            (r#"{"prompt":"x","stop":5}"#, "stop: found integer `5`, expected a string or a list of strings"),
            (r#"{"prompt":7}"#, "prompt: found integer `7`, expected a string"),
            (
                r#"{"prompt":"x","max_tokens":"many"}"#,
                "max_tokens: found string \"many\", expected a whole number, 0 or more, or -1 (no limit)",
            ),
        ];
        for (body, sentence) in cases {
            assert_eq!(request(body).unwrap_err().message, sentence, "{body}");
        }
    }

    #[test]
    fn other_peoples_ways_to_say_it_are_understood() {
        let (greedy, _) = request(r#"{"prompt":"x","top_p":0,"temperature":1.5}"#).unwrap();
        assert_eq!((greedy.sampling.temperature, greedy.sampling.top_p), (0.0, Sampling::default().top_p));
        let (other, _) =
            request(r#"{"prompt":"x","top_k":-1,"max_tokens":8.0,"stop":"","repeat_penalty":1.3}"#).unwrap();
        assert_eq!((other.sampling.top_k, other.max_tokens, other.stop.len()), (0, 8, 0));
        assert_eq!(other.sampling.repetition_penalty, 1.3);
        let both = request(r#"{"prompt":"x","repetition_penalty":1.2,"repeat_penalty":1.3}"#).unwrap();
        assert_eq!(both.0.sampling.repetition_penalty, 1.2);
        assert!(request(r#"{"prompt":"x","max_tokens":8.5}"#).unwrap_err().message.starts_with("max_tokens: found"));
    }

    #[test]
    fn stop_takes_one_or_many_and_seed_minus_one_draws() {
        let (one, _) = request(r#"{"prompt":"x","stop":"END","seed":-1}"#).unwrap();
        assert_eq!((one.stop, one.sampling.seed), (vec![Text::from("END")], None));
        let (many, _) = request(r#"{"prompt":"x","stop":["a","b"],"seed":7}"#).unwrap();
        assert_eq!((many.stop.len(), many.sampling.seed), (2, Some(7)));
        assert!(request(r#"{"prompt":"x","stop":null}"#).unwrap().0.stop.is_empty());
    }
}
