//! The vocabulary of weights, for any thread: llama.cpp only reads it, and it lives as long as anybody has it.

use std::sync::Arc;

use llama_cpp_2::model::LlamaModel as Weights;
use llama_cpp_2::token::LlamaToken;

use super::load;
use crate::{Prompt, Segment, Token, Vocabulary};

#[derive(Debug)]
pub(super) struct Words {
    weights: Arc<Weights>,
    longest: usize,
}

impl Words {
    pub(super) fn of(weights: Arc<Weights>) -> Self {
        let bytes = |token| weights.vocab().token_to_piece(LlamaToken(token), true, None).len();
        let longest = (0..weights.n_vocab()).map(bytes).max().unwrap_or(0);
        Self { weights, longest }
    }
}

impl Vocabulary for Words {
    fn tokenize(&self, prompt: &Prompt) -> Vec<Token> {
        let vocab = self.weights.vocab();
        let mut tokens = Vec::new();
        for segment in prompt.segments() {
            let piece = match segment {
                Segment::Text(text) => vocab.tokenize(text.as_bytes(), false, false),
                Segment::Markup(text) => vocab.tokenize(text.as_bytes(), false, true),
                Segment::Control(control) => load::control(&self.weights, *control).into_iter().collect(),
            };
            tokens.extend(piece.into_iter().map(|token| Token(token.0)));
        }
        let begin = Token(vocab.bos().0);
        // A template may write the token itself; twice would be one too many.
        if vocab.should_add_bos() && tokens.first() != Some(&begin) {
            tokens.insert(0, begin);
        }
        tokens
    }

    fn tokenize_whole(&self, text: &str) -> Vec<Token> {
        self.weights.vocab().tokenize(text.as_bytes(), true, false).into_iter().map(|token| Token(token.0)).collect()
    }

    fn piece(&self, token: Token, special: bool, out: &mut Vec<u8>) {
        // The C side indexes its tables with the token.
        if (0..self.weights.n_vocab()).contains(&token.0) {
            out.extend(self.weights.vocab().token_to_piece(LlamaToken(token.0), special, None));
        }
    }

    fn longest(&self) -> usize {
        self.longest
    }
}
