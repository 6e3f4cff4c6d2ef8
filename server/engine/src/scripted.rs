//! A stub model for tests: it says what its script says, as slowly and as badly as asked. It computes nothing.
//!
//! Its vocabulary is the 256 bytes, a token to begin with, one to end with, the two ChatML control tokens and five for infilling, so that
//! characters are split over tokens at every opportunity. It keeps each sequence's tokens and panics when the scheduler hands it a token at the wrong
//! place or asks for a row that was not computed: a test that passes over it has proved the scheduler's bookkeeping.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use crate::{
    Adapter, Batch, DecodeError, EmbedStop, Embedding, Interrupt, Likelihood, LoadControl, LoadError, Model,
    ModelError, ModelInfo, Prompt, SampleError, Sampling, Vocabulary,
};
use crate::{Pooling, Segment, Sequence, Token};

/// What a [`ScriptedModel`] does. Clones share the script and the record of batches.
#[derive(Clone)]
pub struct Script {
    reply: Arc<dyn Fn(&str) -> String + Send + Sync>,
    context: usize,
    step_delay: Duration,
    token_delay: Duration,
    load_delay: Duration,
    load_error: Option<LoadError>,
    reading_delay: Duration,
    failures: Arc<Mutex<Vec<(usize, DecodeError)>>>,
    forgets: bool,
    infill: bool,
    adapters: Vec<String>,
    batches: Arc<Mutex<Vec<Batch>>>,
}

impl Script {
    /// Answers every prompt with this text.
    pub fn saying(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::answering(move |_| text.clone())
    }

    /// Answers each prompt with what the function makes of it (of its text, control tokens included).
    pub fn answering(reply: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self {
            reply: Arc::new(reply),
            context: 4096,
            step_delay: Duration::ZERO,
            token_delay: Duration::ZERO,
            load_delay: Duration::ZERO,
            load_error: None,
            reading_delay: Duration::ZERO,
            failures: Arc::default(),
            forgets: false,
            infill: true,
            adapters: Vec::new(),
            batches: Arc::default(),
        }
    }

    /// Tokens (bytes) that prompt and answer of one request may have together; 4096 unless set.
    #[must_use]
    pub fn context(self, context: usize) -> Self {
        Self { context, ..self }
    }

    /// Every step takes this long. The wait ends early when the step is interrupted, as in a real model.
    #[must_use]
    pub fn step_delay(self, step_delay: Duration) -> Self {
        Self { step_delay, ..self }
    }

    /// Every token of a step adds this much: makes long prompts slow.
    #[must_use]
    pub fn token_delay(self, token_delay: Duration) -> Self {
        Self { token_delay, ..self }
    }

    /// Loading takes this long and reports ten times on the way.
    #[must_use]
    pub fn load_delay(self, load_delay: Duration) -> Self {
        Self { load_delay, ..self }
    }

    /// Loading fails.
    #[must_use]
    pub fn load_error(self, error: LoadError) -> Self {
        Self { load_error: Some(error), ..self }
    }

    /// Dividing a prompt of a thousand bytes or more into tokens takes this long.
    #[must_use]
    pub fn reading_delay(self, reading_delay: Duration) -> Self {
        Self { reading_delay, ..self }
    }

    /// Step number `step` (from 0, failed ones counted) fails like this.
    #[must_use]
    pub fn fail_at(self, step: usize, error: DecodeError) -> Self {
        lock(&self.failures).push((step, error));
        self
    }

    /// Rewinding loses the whole sequence, as it does in a recurrent model.
    #[must_use]
    pub fn forgetful(self) -> Self {
        Self { forgets: true, ..self }
    }

    /// The vocabulary has no control tokens for filling in the middle.
    #[must_use]
    pub fn without_infill(self) -> Self {
        Self { infill: false, ..self }
    }

    /// It can compute with these adapters, which change nothing but what a sequence may be used for.
    #[must_use]
    pub fn adapters(self, names: &[&str]) -> Self {
        Self { adapters: names.iter().map(|name| (*name).to_owned()).collect(), ..self }
    }

    /// The batches computed so far, failed ones included.
    pub fn batches(&self) -> Vec<Batch> {
        lock(&self.batches).clone()
    }

    /// A loader for [`Engine::start`](crate::Engine::start).
    pub fn loader(self) -> impl FnOnce(&LoadControl) -> Result<ScriptedModel, LoadError> + Send + 'static {
        move |control| ScriptedModel::load(self, control)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("context", &self.context).finish_non_exhaustive()
    }
}

/// The stub. Made by [`Script::loader`].
#[derive(Debug)]
pub struct ScriptedModel {
    script: Script,
    sequences: Vec<Vec<Token>>,
    adapter: Adapter,
    // With which adapter each sequence was computed; unknown after it was restored.
    made: Vec<Option<Adapter>>,
    // For each row that is sampled from: its sequence, and the length of that up to this row.
    rows: Vec<Option<(Sequence, usize)>>,
    steps: usize,
    batch_entries: usize,
    interrupt: Interrupt,
}

impl ScriptedModel {
    pub(crate) fn load(script: Script, control: &LoadControl) -> Result<Self, LoadError> {
        for tenth in 0..10 {
            control.report(tenth as f32 / 10.0);
            if control.is_cancelled() {
                return Err(LoadError::Cancelled);
            }
            thread::sleep(script.load_delay / 10);
        }
        if let Some(error) = script.load_error.clone() {
            return Err(error);
        }
        let limits = control.limits();
        Ok(Self {
            script,
            sequences: vec![Vec::new(); limits.slots],
            adapter: Adapter::default(),
            made: vec![None; limits.slots],
            rows: Vec::new(),
            steps: 0,
            batch_entries: limits.chunk_tokens + limits.slots,
            interrupt: control.interrupt(),
        })
    }

    fn text(tokens: &[Token]) -> String {
        let mut bytes = Vec::new();
        tokens.iter().for_each(|&token| append_piece(token, true, &mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn wait(&self, batch: &Batch) -> Result<(), DecodeError> {
        let tokens = u32::try_from(batch.entries.len()).unwrap_or(u32::MAX);
        let until = Instant::now() + self.script.step_delay + self.script.token_delay * tokens;
        loop {
            if self.interrupt.is_raised() {
                return Err(DecodeError::Interrupted);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(POLL));
        }
    }

    fn planned_failure(&self, step: usize) -> Option<DecodeError> {
        lock(&self.script.failures).iter().find(|(at, _)| *at == step).map(|(_, error)| error.clone())
    }

    fn extend(&mut self, batch: &Batch, entries: usize) {
        self.rows.clear();
        for entry in batch.entries.iter().take(entries) {
            let sequence = &mut self.sequences[entry.sequence.0];
            assert_eq!(entry.position, sequence.len(), "a token at the wrong place of {:?}", entry.sequence);
            let made = &mut self.made[entry.sequence.0];
            let known = made.filter(|_| !sequence.is_empty());
            assert!(
                known.is_none_or(|made| made == self.adapter),
                "{:?} continued with another adapter",
                entry.sequence
            );
            *made = Some(self.adapter);
            sequence.push(entry.token);
            assert!(sequence.len() <= self.script.context, "{:?} is longer than the context", entry.sequence);
            self.rows.push(entry.output.then_some((entry.sequence, sequence.len())));
        }
    }
}

/// One request's place in the script.
#[derive(Debug)]
pub struct ScriptedSampler {
    expected: Vec<Token>,
    reply: Vec<Token>,
    said: usize,
}

struct Words(Duration);

impl Vocabulary for Words {
    fn tokenize(&self, prompt: &Prompt) -> Vec<Token> {
        if prompt.len() >= LONG {
            thread::sleep(self.0);
        }
        let mut tokens = vec![BEGIN];
        for segment in prompt.segments() {
            match segment {
                Segment::Markup(text) => parse_markup(text, &mut tokens),
                Segment::Text(text) => tokens.extend(text.bytes().map(|byte| Token(byte.into()))),
                Segment::Control(control) => tokens.push(Token(IM_END.0 + 1 + *control as i32)),
            }
        }
        tokens
    }

    fn tokenize_whole(&self, text: &str) -> Vec<Token> {
        self.tokenize(&Prompt::plain(text)).into_iter().chain([END]).collect()
    }

    fn piece(&self, token: Token, special: bool, out: &mut Vec<u8>) {
        append_piece(token, special, out);
    }

    fn longest(&self) -> usize {
        16
    }
}

/// A prompt of so many bytes takes its time to divide.
const LONG: usize = 1000;

impl Model for ScriptedModel {
    type Sampler = ScriptedSampler;

    fn info(&self) -> ModelInfo {
        ModelInfo {
            description: "scripted stub".to_owned(),
            architecture: "scripted".to_owned(),
            size_bytes: 1 << 20,
            parameters: 0,
            context: self.script.context,
            context_train: self.script.context,
            vocabulary: 265,
            sequences: self.sequences.len(),
            batch_entries: self.batch_entries,
            output_rows: self.batch_entries,
            rewinds: !self.script.forgets,
            infill: self.script.infill,
            infill_files: self.script.infill,
            adapters: self.script.adapters.clone(),
            chat_template: None,
            begin_text: String::new(),
            end_text: String::new(),
            control_texts: Vec::new(),
            metadata: [("general.name".to_owned(), "scripted".to_owned())].into(),
        }
    }

    fn vocabulary(&self) -> Arc<dyn Vocabulary> {
        Arc::new(Words(self.script.reading_delay))
    }

    fn ends_generation(&self, token: Token) -> bool {
        token == END
    }

    fn sampler(&mut self, _: &Sampling, _: u32, history: &[Token]) -> Result<ScriptedSampler, ModelError> {
        let reply = (self.script.reply)(&Self::text(&history[1..]));
        let reply = reply.bytes().map(|byte| Token(byte.into())).chain([END]).collect();
        Ok(ScriptedSampler { expected: history.to_vec(), reply, said: 0 })
    }

    fn adapt(&mut self, adapter: Adapter) -> Result<(), ModelError> {
        assert!(
            adapter.0.is_none_or(|addition| addition.index < self.script.adapters.len()),
            "an adapter that is not there"
        );
        self.adapter = adapter;
        Ok(())
    }

    fn decode(&mut self, batch: &Batch) -> Result<(), DecodeError> {
        lock(&self.script.batches).push(batch.clone());
        assert!(!batch.entries.is_empty() && batch.entries.len() <= self.batch_entries, "a batch of the wrong size");
        let step = self.steps;
        self.steps += 1;
        let result = match self.planned_failure(step) {
            Some(error) => Err(error),
            None => self.wait(batch),
        };
        // A real model may have computed a part when it fails.
        let done = if result.is_ok() { batch.entries.len() } else { batch.entries.len() / 2 };
        if result != Err(DecodeError::CacheFull) {
            self.extend(batch, done);
        }
        result
    }

    fn sample(&mut self, sampler: &mut ScriptedSampler, row: usize) -> Result<Token, SampleError> {
        let (sequence, length) = self.rows[row].expect("a row that was asked for");
        assert_eq!(
            self.sequences[sequence.0][..length],
            sampler.expected[..],
            "{sequence:?} does not hold the request's tokens"
        );
        let token = sampler.reply.get(sampler.said).copied().unwrap_or(END);
        sampler.said += 1;
        sampler.expected.push(token);
        Ok(token)
    }

    // Of the token by itself, so that a test can tell which row it was asked for: the longer the sequence, the less likely.
    fn likelihood(&mut self, row: usize, token: Token, top: usize) -> Option<Likelihood> {
        let (_, length) = self.rows[row].expect("a row that was asked for");
        let logprob = -(length as f32);
        Some(Likelihood { logprob, top: (0..top).map(|n| (Token(token.0 + n as i32), logprob - n as f32)).collect() })
    }

    // One token at a time, so that a test can tell what happens in between.
    fn embed(&mut self, text: &mut Embedding) -> Result<(), EmbedStop> {
        let token = text.tokens[text.done].0 as f32;
        text.take(&[1.0, token], Pooling::Last);
        Ok(())
    }

    fn rest(&mut self) {}

    fn rewind(&mut self, sequence: Sequence, length: usize) -> bool {
        let tokens = &mut self.sequences[sequence.0];
        if self.script.forgets && length < tokens.len() {
            tokens.clear();
            return length == 0;
        }
        tokens.truncate(length);
        true
    }

    fn copy(&mut self, from: Sequence, to: Sequence, length: usize) -> bool {
        assert!(from != to && length <= self.sequences[from.0].len(), "a copy of what is not there");
        assert!(!self.script.forgets, "a copy of a part from a model that cannot rewind");
        self.sequences[to.0] = self.sequences[from.0][..length].to_vec();
        self.made[to.0] = self.made[from.0];
        true
    }

    fn save(&mut self, sequence: Sequence, limit: usize) -> Option<Vec<u8>> {
        let bytes: Vec<_> = self.sequences[sequence.0].iter().flat_map(|token| token.0.to_le_bytes()).collect();
        (bytes.len() <= limit).then_some(bytes)
    }

    fn restore(&mut self, sequence: Sequence, state: &[u8], length: usize) -> bool {
        let (tokens, _) = state.as_chunks();
        self.sequences[sequence.0] = tokens.iter().map(|&token| Token(i32::from_le_bytes(token))).collect();
        self.made[sequence.0] = None;
        self.rewind(sequence, length)
    }
}

fn append_piece(token: Token, special: bool, out: &mut Vec<u8>) {
    match (u8::try_from(token.0), special) {
        (Ok(byte), _) => out.push(byte),
        (Err(_), true) if token == IM_START => out.extend(IM_START_TEXT.bytes()),
        (Err(_), true) if token == IM_END => out.extend(IM_END_TEXT.bytes()),
        _ => {}
    }
}

fn parse_markup(mut text: &str, tokens: &mut Vec<Token>) {
    while let Some(character) = text.chars().next() {
        let (token, rest) = match (text.strip_prefix(IM_START_TEXT), text.strip_prefix(IM_END_TEXT)) {
            (Some(rest), _) => (Some(IM_START), rest),
            (_, Some(rest)) => (Some(IM_END), rest),
            _ => (None, &text[character.len_utf8()..]),
        };
        match token {
            Some(token) => tokens.push(token),
            None => tokens.extend(text.bytes().take(character.len_utf8()).map(|byte| Token(byte.into()))),
        }
        text = rest;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const BEGIN: Token = Token(256);
const END: Token = Token(257);
const IM_START: Token = Token(258);
const IM_END: Token = Token(259);
const IM_START_TEXT: &str = "<|im_start|>";
const IM_END_TEXT: &str = "<|im_end|>";
/// How often a waiting step looks whether it was interrupted.
const POLL: Duration = Duration::from_millis(1);
