//! [`Text`]: prompt or answer text. Its `Debug` prints a length, so that a stray `{:?}` cannot put somebody's code into
//! a log.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// Text that belongs to a user: prompts, stop strings, generated code.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// The text itself, by value.
    pub fn into_inner(self) -> String {
        self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_content() {
        let shown = format!("{:?}", Text::from("secret = 1"));
        assert_eq!(shown, "<10 bytes>");
    }
}
