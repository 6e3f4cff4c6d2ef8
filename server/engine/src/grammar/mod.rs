//! Grammars in GBNF, llama.cpp's notation, read and followed here. Pure: text and bytes in, yes or no out.
//!
//! llama.cpp can do this too, but not with texts from anywhere: its parser recurses without a bound, its set of parallel stacks grows
//! without one while nothing can interrupt it, and what it does not expect ends the process. Here every size and every effort has a limit,
//! and what exceeds one is an error of the one request.

mod parse;
mod rules;
mod states;
#[cfg(test)]
mod tests;

use rules::Rules;
use states::{State, States};

/// A grammar and how far a text has come in it.
#[derive(Debug)]
pub(crate) struct Follower {
    states: States,
    cursor: Cursor,
}

/// Too much may come next to be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the grammar is too ambiguous: more ways to go on than can be followed")]
pub(crate) struct Ambiguous;

// A place between two tokens, perhaps in the middle of a character.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    state: State,
    partial: Option<Partial>,
}

// The first bytes of a character.
#[derive(Clone, Copy, Debug)]
struct Partial {
    value: u32,
    missing: u32,
    // The smallest character that is written with so many bytes.
    least: u32,
}

impl Follower {
    /// At the beginning of a text. `token` gives the number of a token that is written like this, `<|x|>`, if it is one.
    ///
    /// # Errors
    /// What is wrong with the grammar, as the end of a sentence.
    pub(crate) fn new(text: &str, token: &dyn Fn(&str) -> Option<i32>) -> Result<Self, String> {
        let rules = parse::rules(text, token)?;
        let (states, state) = States::new(rules).map_err(|error| error.to_string())?;
        Ok(Self { states, cursor: Cursor { state, partial: None } })
    }

    /// Whether the text may end here.
    pub(crate) fn may_end(&self) -> bool {
        self.cursor.partial.is_none() && self.states.may_end(self.cursor.state)
    }

    /// Begins a choice: the effort for all the questions about one token is limited together.
    pub(crate) fn begin_choice(&mut self) {
        self.states.renew_budget();
    }

    /// Whether this token, written like this, may come next.
    pub(crate) fn allows(&mut self, token: i32, piece: &[u8]) -> Result<bool, Ambiguous> {
        Ok(self.after(token, piece)?.is_some())
    }

    /// Goes on by a token. One that is not allowed leaves a text that nothing can follow.
    pub(crate) fn accept(&mut self, token: i32, piece: &[u8]) -> Result<(), Ambiguous> {
        self.states.renew_budget();
        self.cursor = self.after(token, piece)?.unwrap_or(Cursor { state: State::DEAD, partial: None });
        self.states.trim(&mut self.cursor.state);
        Ok(())
    }

    fn after(&mut self, token: i32, piece: &[u8]) -> Result<Option<Cursor>, Ambiguous> {
        let by_number = match self.cursor.partial {
            None => self.states.after_token(self.cursor.state, token)?,
            Some(_) => State::DEAD,
        };
        let by_text = self.after_text(piece)?;
        Ok(match by_text {
            None if by_number == State::DEAD => None,
            None => Some(Cursor { state: by_number, partial: None }),
            // Nothing can be both a token and the beginning of a character.
            Some(cursor) if by_number == State::DEAD || cursor.partial.is_some() => Some(cursor),
            Some(cursor) => Some(Cursor { state: self.states.union(cursor.state, by_number), partial: None }),
        })
    }

    fn after_text(&mut self, piece: &[u8]) -> Result<Option<Cursor>, Ambiguous> {
        let mut cursor = self.cursor;
        for &byte in piece {
            let Some((char, partial)) = fed(cursor.partial, byte) else { return Ok(None) };
            cursor.partial = partial;
            if let Some(char) = char {
                cursor.state = self.states.after(cursor.state, char)?;
            }
            if cursor.state == State::DEAD {
                return Ok(None);
            }
        }
        let possible = match cursor.partial {
            None => !piece.is_empty(),
            Some(Partial { value, missing, least }) => {
                let (low, high) = (value << (6 * missing), ((value + 1) << (6 * missing)) - 1);
                self.states.goes_on_within(cursor.state, low.max(least), high)?
            }
        };
        Ok(possible.then_some(cursor))
    }
}

// The character that a byte completes, or what there is of it then; nothing where no character is written so. A NUL is none: C would
// take it for the end.
fn fed(partial: Option<Partial>, byte: u8) -> Option<(Option<u32>, Option<Partial>)> {
    let begun = |value, missing, least| Some((None, Some(Partial { value, missing, least })));
    let Some(Partial { value, missing, least }) = partial else {
        let bits = |mask: u8| u32::from(byte & mask);
        return match byte {
            1..=0x7f => Some((Some(u32::from(byte)), None)),
            0xc2..=0xdf => begun(bits(0x1f), 1, 0x80),
            0xe0..=0xef => begun(bits(0x0f), 2, 0x800),
            0xf0..=0xf4 => begun(bits(0x07), 3, 0x1_0000),
            _ => None,
        };
    };
    if byte & 0xc0 != 0x80 {
        return None;
    }
    let value = value << 6 | u32::from(byte & 0x3f);
    match missing {
        1 => (value >= least && char::from_u32(value).is_some()).then_some((Some(value), None)),
        _ => begun(value, missing - 1, least),
    }
}
