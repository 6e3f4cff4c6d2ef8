//! What a request may ask of the model itself: an adapter added to its weights, and for how long it stays loaded afterwards.
//!
//! It travels as a third frame, behind the details and only when it says something: the first two are, byte for byte, what they always
//! were. In JSON the two fields mean the same in every call that generates, whoever's words the rest is in.

use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{self, JsonError};
use super::native::refuse;

/// The third frame of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Extras {
    /// What is added to the model's weights.
    pub adapter: Option<Adapter>,
    /// For how long the model stays loaded after this request.
    pub keep_alive: Option<KeepAlive>,
}

/// A LoRA adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// By its name in the server's settings.
    pub name: String,
    /// How much of it to add; absent as much as the settings say.
    pub scale: Option<f32>,
}

/// For how long an unused model stays loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeepAlive {
    /// So many seconds; 0 unloads it when nobody uses it any more.
    Seconds(u32),
    /// Until something else needs its memory.
    Forever,
}

impl Extras {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the two fields of a JSON body: `"adapter": "name"` or `{"name": .., "scale": ..}`, and `"keep_alive"` in seconds or as
    /// `"10m"`, -1 for ever.
    ///
    /// # Errors
    /// A value of another kind or out of its range, by field.
    pub fn read(body: &[u8]) -> Result<Self, JsonError> {
        // Few bodies have them, and reading a large one once more is not for nothing.
        if !["\"adapter\"", "\"keep_alive\""].iter().any(|field| memmem::find(body, field.as_bytes()).is_some()) {
            return Ok(Self::default());
        }
        let fields: Fields = json::parse(body)?;
        Ok(Self {
            adapter: fields.adapter.filter(|value| !value.is_null()).map(adapter).transpose()?,
            keep_alive: fields.keep_alive.filter(|value| !value.is_null()).map(keep_alive).transpose()?,
        })
    }
}

#[derive(Deserialize)]
struct Fields {
    adapter: Option<Value>,
    keep_alive: Option<Value>,
}

fn adapter(value: Value) -> Result<Adapter, JsonError> {
    let wrong = || refuse("adapter", "something else", "a name, or an object of a name and a scale");
    let (name, scale) = match &value {
        Value::String(name) => (name.as_str(), None),
        Value::Object(fields) => {
            let scale = fields.get("scale").filter(|scale| !scale.is_null());
            let scale = scale.map(|scale| scale.as_f64().ok_or_else(|| refuse("adapter.scale", scale, "a number")));
            (fields.get("name").and_then(Value::as_str).ok_or_else(wrong)?, scale.transpose()?)
        }
        _ => return Err(wrong()),
    };
    if name.is_empty() || name.len() > NAME_BYTES {
        let found = format_args!("{} bytes", name.len()).to_string();
        return Err(refuse("adapter", found, format_args!("a name of 1 to {NAME_BYTES} bytes")));
    }
    match scale {
        Some(scale) if !(-SCALE..=SCALE).contains(&scale) => {
            Err(refuse("adapter.scale", scale, format_args!("a number from -{SCALE} to {SCALE}")))
        }
        scale => Ok(Adapter { name: name.to_owned(), scale: scale.map(|scale| scale as f32) }),
    }
}

fn keep_alive(value: Value) -> Result<KeepAlive, JsonError> {
    const EXPECTED: &str =
        "seconds, a time such as \"10m\" or \"1h30m\", 0 to unload afterwards, or -1 to keep the model";
    let wrong = || refuse("keep_alive", &value, EXPECTED);
    let seconds = match &value {
        Value::Number(seconds) => seconds.as_f64().ok_or_else(wrong)?,
        Value::String(text) => time(text).ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    match seconds {
        seconds if seconds < 0.0 => Ok(KeepAlive::Forever),
        // Less than a second is not nothing.
        seconds if seconds <= f64::from(u32::MAX) => Ok(KeepAlive::Seconds(seconds.ceil() as u32)),
        _ => Err(wrong()),
    }
}

/// Seconds of `1h30m`, `90s`, `500ms`, `90` or `-1`.
fn time(text: &str) -> Option<f64> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    if let Ok(seconds) = rest.parse::<u32>() {
        return Some(sign * f64::from(seconds));
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, length) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        seconds += number * length;
        rest = &rest[unit.len()..];
    }
    Some(sign * seconds)
}

/// The longer before those that begin like them.
const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
/// As of a model's name.
const NAME_BYTES: usize = 128;
/// More than a few times what it was trained for makes noise of every adapter.
const SCALE: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Extras, String> {
        Extras::read(body.as_bytes()).map_err(|error| error.message)
    }

    #[test]
    fn an_adapter_has_a_name_and_perhaps_a_scale() {
        let of = |adapter: &str| read(&format!("{{\"adapter\": {adapter}}}")).map(|extras| extras.adapter);
        let adapter = |scale| Ok(Some(Adapter { name: "code".into(), scale }));
        assert_eq!(of("\"code\""), adapter(None));
        assert_eq!(of("{\"name\": \"code\"}"), adapter(None));
        assert_eq!(of("{\"name\": \"code\", \"scale\": 0.5}"), adapter(Some(0.5)));
        assert_eq!(of("null"), Ok(None));
        for wrong in ["1", "[]", "{}", "\"\"", "{\"name\": 1}"] {
            assert!(of(wrong).unwrap_err().starts_with("adapter: found "), "{wrong}");
        }
        for wrong in ["\"x\"", "10.5", "-11"] {
            let adapter = format!("{{\"name\": \"code\", \"scale\": {wrong}}}");
            assert!(of(&adapter).unwrap_err().starts_with("adapter.scale: found "), "{wrong}");
        }
    }

    #[test]
    fn a_time_may_be_a_number_or_a_text() {
        let of = |time: &str| read(&format!("{{\"keep_alive\": {time}}}")).map(|extras| extras.keep_alive);
        let seconds = |seconds| Ok(Some(KeepAlive::Seconds(seconds)));
        let times = [("0", 0), ("600", 600), ("0.5", 1), ("\"10m\"", 600), ("\"1h30m\"", 5400), ("\"90s\"", 90)];
        for (text, expected) in times.into_iter().chain([("\"500ms\"", 1), ("\"0\"", 0), ("\"1.5h\"", 5400)]) {
            assert_eq!(of(text), seconds(expected), "{text}");
        }
        for forever in ["-1", "\"-1\"", "\"-1m\""] {
            assert_eq!(of(forever), Ok(Some(KeepAlive::Forever)), "{forever}");
        }
        assert_eq!(of("null"), Ok(None));
        for wrong in ["\"\"", "\"m\"", "\"10 m\"", "\"soon\"", "true", "[]", "1e30", "\"-\""] {
            assert!(of(wrong).unwrap_err().starts_with("keep_alive: found "), "{wrong}");
        }
    }

    #[test]
    fn a_body_without_them_is_not_read_again() {
        assert_eq!(read("not even JSON"), Ok(Extras::default()));
        assert!(read("{\"prompt\": \"\\\"adapter\\\"\"}").unwrap().is_empty());
    }
}
