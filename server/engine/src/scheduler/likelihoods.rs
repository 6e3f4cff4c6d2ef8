//! What is known about tokens whose text has not been sent yet.
//!
//! Pure. A token's text may be held back (half a character, perhaps a stop string), and what is said about a token must come with its
//! text and not before; about a token that ended up in a stop string nothing is said.

use std::collections::VecDeque;

use crate::TokenLogprob;

/// Tokens in order, with where their text begins.
#[derive(Debug, Default)]
pub(super) struct Likelihoods {
    waiting: VecDeque<(usize, TokenLogprob)>,
    /// Bytes of all tokens pushed.
    pushed: usize,
    /// Bytes of all text sent.
    sent: usize,
}

impl Likelihoods {
    /// Takes the next token.
    pub(super) fn push(&mut self, token: TokenLogprob) {
        let begins = self.pushed;
        self.pushed += token.bytes.len();
        self.waiting.push_back((begins, token));
    }

    /// The tokens of the next `bytes` bytes of text: those that begin in it.
    pub(super) fn of(&mut self, bytes: usize) -> Vec<TokenLogprob> {
        self.sent += bytes;
        let sent = self.sent;
        std::iter::from_fn(|| self.waiting.pop_front_if(|(begins, _)| *begins < sent)).map(|(_, token)| token).collect()
    }

    /// The tokens whose text is not going to be sent.
    pub(super) fn rest(&mut self) -> Vec<TokenLogprob> {
        self.waiting.drain(..).map(|(_, token)| token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(bytes: &[u8]) -> TokenLogprob {
        TokenLogprob { bytes: bytes.to_vec(), logprob: -1.0, top: Vec::new() }
    }

    #[test]
    fn tokens_come_with_the_text_they_begin_in() {
        let mut likelihoods = Likelihoods::default();
        for bytes in [&b"a"[..], b"\xe2\x82", b"\xac", b"", b"EN", b"D"] {
            likelihoods.push(token(bytes));
        }
        let given = |tokens: Vec<TokenLogprob>| tokens.into_iter().map(|token| token.bytes).collect::<Vec<_>>();
        assert_eq!(given(likelihoods.of(1)), [b"a"]);
        assert_eq!(given(likelihoods.of(3)), [&b"\xe2\x82"[..], b"\xac"]);
        assert!(likelihoods.of(0).is_empty());
        assert_eq!(given(likelihoods.rest()), [&b""[..], b"EN", b"D"]);
        assert!(likelihoods.rest().is_empty());
    }
}
