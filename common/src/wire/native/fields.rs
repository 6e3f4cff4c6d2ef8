//! Fields of the native interface that may be written in more than one way.

use serde::{Deserialize, Serialize};

use super::Text;

/// How many tokens a client wants at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenLimit {
    /// So many.
    AtMost(u64),
    /// As many as there is room for, which llama.cpp's clients call -1.
    Unlimited,
}

/// `null`, `"text"` or `["text", ..]`.
pub(super) fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Text>, D::Error> {
    struct OneOrMany;

    impl<'de> serde::de::Visitor<'de> for OneOrMany {
        type Value = Vec<Text>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            // Forms send the empty one for none.
            Ok(if text.is_empty() { Vec::new() } else { vec![text.into()] })
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = list.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }

    deserializer.deserialize_any(OneOrMany)
}

impl Serialize for TokenLimit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::AtMost(tokens) => serializer.serialize_u64(tokens),
            Self::Unlimited => serializer.serialize_i64(-1),
        }
    }
}

impl<'de> Deserialize<'de> for TokenLimit {
    /// A whole number, or -1.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl serde::de::Visitor<'_> for Number {
            type Value = TokenLimit;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number, 0 or more, or -1 (no limit)")
            }

            fn visit_u64<E>(self, tokens: u64) -> Result<TokenLimit, E> {
                Ok(TokenLimit::AtMost(tokens))
            }

            fn visit_i64<E: serde::de::Error>(self, tokens: i64) -> Result<TokenLimit, E> {
                let refused = |_| E::invalid_value(serde::de::Unexpected::Signed(tokens), &self);
                if tokens == -1 {
                    return Ok(TokenLimit::Unlimited);
                }
                u64::try_from(tokens).map(TokenLimit::AtMost).map_err(refused)
            }

            // Languages with one kind of number write 8.0.
            fn visit_f64<E: serde::de::Error>(self, tokens: f64) -> Result<TokenLimit, E> {
                if tokens.fract() == 0.0 && tokens.abs() < f64::from(u32::MAX) {
                    return self.visit_i64(tokens as i64);
                }
                Err(E::invalid_value(serde::de::Unexpected::Float(tokens), &self))
            }
        }

        deserializer.deserialize_any(Number)
    }
}

/// `null`, a whole number, or -1 for off, which is 0 here.
pub(super) fn or_off<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let found = Option::<TokenLimit>::deserialize(deserializer)?;
    Ok(found.map(|found| match found {
        TokenLimit::Unlimited => 0,
        TokenLimit::AtMost(count) => u32::try_from(count).unwrap_or(u32::MAX),
    }))
}

/// `null`, `"text"` or `["text"]`, as some libraries send a single prompt.
pub(super) fn one_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Text>, D::Error> {
    struct OneText;

    impl<'de> serde::de::Visitor<'de> for OneText {
        type Value = Option<Text>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.into()))
        }

        fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
            Ok(Some(text.into()))
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let text: Option<Text> = list.next_element()?;
            match list.next_element::<serde::de::IgnoredAny>()? {
                None => Ok(text),
                Some(_) => {
                    Err(serde::de::Error::custom("a list of several prompts, expected one: send them one by one"))
                }
            }
        }
    }

    deserializer.deserialize_any(OneText)
}
