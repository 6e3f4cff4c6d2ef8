//! JSON bodies in, with errors a person can act on: the field, what was found, what was expected.

use serde::de::DeserializeOwned;

/// Why a body is not the JSON that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JsonError {
    /// The field at fault, where one can be named: `max_tokens`, `stop[1]`.
    pub field: Option<String>,
    /// The whole sentence.
    pub message: String,
}

/// Parses `body` as `T`. Unknown fields are ignored.
///
/// # Errors
/// [`JsonError`] for invalid UTF-8 (with the byte), invalid JSON (with line and column) and wrong types (with the field).
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    let text = std::str::from_utf8(body).map_err(|error| JsonError {
        field: None,
        message: format!(
            "body: found a byte that is not UTF-8 at offset {}, expected JSON in UTF-8",
            error.valid_up_to()
        ),
    })?;
    // serde's derived types take a list for an object, field by field.
    if text.trim_start().starts_with('[') {
        return Err(JsonError { field: None, message: "body: found a list, expected a JSON object".to_owned() });
    }
    // Remembering the way to each field takes longer than all the rest, and only errors need it.
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        describe(&path, error.inner())
    })?;
    reader.end().map_err(|error| describe(".", &error))?;
    Ok(value)
}

fn describe(path: &str, error: &serde_json::Error) -> JsonError {
    use serde_json::error::Category;
    let message = error.to_string();
    match error.classify() {
        Category::Data => wrong_type(path, &message),
        Category::Eof if error.line() <= 1 && error.column() == 0 => {
            JsonError { field: None, message: "body: found nothing, expected a JSON object".to_owned() }
        }
        Category::Eof | Category::Syntax | Category::Io => {
            JsonError { field: None, message: format!("body: found invalid JSON ({message}), expected a JSON object") }
        }
    }
}

/// Turns serde's "invalid type: string "x", expected u32 at line 1 column 9" into a sentence about the field.
fn wrong_type(path: &str, message: &str) -> JsonError {
    let message = message.rsplit_once(" at line ").map_or(message, |(head, _)| head);
    let field = (path != ".").then(|| path.to_owned());
    let name = field.as_deref().unwrap_or("body");
    let sentence = match message.split_once(", expected ") {
        Some((found, expected)) => {
            let found = found.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
            format!("{name}: found {}, expected {}", cut(found), plain(expected))
        }
        None => format!("{name}: {message}"),
    };
    JsonError { field, message: sentence }
}

/// Longest quotation of what was found, in characters: a whole prompt may have been put into the wrong field.
const QUOTED: usize = 40;

fn cut(found: &str) -> String {
    match found.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}...", &found[..end]),
        None => found.to_owned(),
    }
}

/// Rust's type names mean nothing to somebody who writes Python.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" | "a borrowed string" => "a string",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Body {
        #[expect(dead_code, reason = "only parsed")]
        count: Option<u32>,
        #[expect(dead_code, reason = "only parsed")]
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "only parsed")]
        list: Vec<f32>,
    }

    fn check(body: &[u8], field: Option<&str>, message: &str) {
        let error = parse::<Body>(body).unwrap_err();
        assert_eq!((error.field.as_deref(), error.message.as_str()), (field, message));
    }

    #[test]
    fn errors_name_field_found_and_expected() {
        check(br#"{"count":"x"}"#, Some("count"), r#"count: found string "x", expected a whole number, 0 or more"#);
        check(br#"{"count":-1}"#, Some("count"), "count: found integer `-1`, expected a whole number, 0 or more");
        check(
            br#"{"inner":{"list":[1,"a"]}}"#,
            Some("inner.list[1]"),
            r#"inner.list[1]: found string "a", expected a number"#,
        );
        check(br#"[]"#, None, "body: found a list, expected a JSON object");
        check(br#" [1, {"list":[1]}]"#, None, "body: found a list, expected a JSON object");
        let long = format!(r#"{{"count":"{}"}}"#, "secret ".repeat(100));
        assert!(parse::<Body>(long.as_bytes()).unwrap_err().message.len() < 120);
        check(b"7", None, "body: found integer `7`, expected an object");
        check(b"", None, "body: found nothing, expected a JSON object");
        check(
            b"{\"count\":1",
            None,
            "body: found invalid JSON (EOF while parsing an object at line 1 column 10), expected a JSON object",
        );
        check(
            b"{} x",
            None,
            "body: found invalid JSON (trailing characters at line 1 column 4), expected a JSON object",
        );
        check(b"{\"a\xff\"", None, "body: found a byte that is not UTF-8 at offset 3, expected JSON in UTF-8");
    }

    #[test]
    fn unknown_fields_are_ignored() {
        assert!(parse::<Body>(br#"{"extra":{"deep":[1,2]}}"#).is_ok());
    }
}
