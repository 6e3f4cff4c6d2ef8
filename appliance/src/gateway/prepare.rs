//! From bytes to a request worth sending: reads the body within its limits, checks it, finds the language, chooses the model,
//! and has the prompt prepared for what is known of that model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::serve::Refusal;
use cerebrum_common::wire::details::Input;
use cerebrum_common::wire::dialect::{self, Call, Dialect};
use cerebrum_common::wire::native::Limits;
use cerebrum_prompt::language::{self, Detected};
use cerebrum_prompt::route::{Asked, Difficulty, NO_THINK, Route, RouteProfile, Rules, Tier, difficulty, route};
use cerebrum_prompt::tokens::Estimate;
use cerebrum_prompt::{Clock, PreparedInfill, Profile, Rates, Report, Request, TokenCount};

use super::Gateway;
use super::admit::{Admitted, Permit};
use super::chat::{self, Conversation};
use super::pipeline::{Body, Delivery};
use super::route::likely;
use super::sessions::{Session, Sessions, Turn};
use crate::settings::Settings;
use crate::upstream::Upstream;
use crate::upstream::knowledge::{Age, Facts, learn};
use crate::upstream::way::Way;

/// What preparing needs to know.
#[derive(Debug)]
pub(super) struct Preparation {
    limits: Limits,
    settings: cerebrum_prompt::Settings,
    rules: Arc<Rules>,
    sessions: Arc<Sessions>,
    upstreams: Vec<Arc<Upstream>>,
    tasks: Tasks,
}

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Its place, held until the answer ends.
    pub(super) permit: Arc<Permit>,
    /// Apart, since a request's futures hold several of it and are moved about as they are polled.
    pub(super) ready: Box<Ready>,
    /// What its answer is to be remembered under.
    pub(super) remember: Option<[u8; 32]>,
}

/// What is sent, and what was done to it.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// What is asked for, how the answer is wanted, and what was changed in it, as sentences.
    pub(super) call: Call,
    /// The code's language, given or detected.
    pub(super) language: String,
    /// What preparation did.
    pub(super) report: Report,
    /// How the model was chosen.
    pub(super) route: Route,
    /// Whether tokens were counted by the model's own vocabulary.
    pub(super) counted: bool,
    /// Tokens of what is sent, for clients who want to know before the answer begins ([`Dialect::Messages`]).
    pub(super) prompt_tokens: u32,
    /// The turn of the conversation that it is, where it belongs to one.
    pub(super) turn: Option<Turn>,
}

impl Prepared {
    /// The same for another answer, in the same place.
    pub(super) fn numbered(&self, number: u32) -> Self {
        let mut ready = self.ready.clone();
        ready.call = ready.call.numbered(number);
        Self { permit: self.permit.clone(), ready, remember: None }
    }
}

/// Bodies from this size on, in bytes, are worked on off the thread that serves everybody else.
const LARGE: usize = 64 << 10;

/// Bodies from this size on may wait a moment for what the server knows of a model that nobody has asked it about.
const WORTH_ASKING: usize = 2 << 10;
const ASKING: Duration = Duration::from_secs(1);

/// Tokens that a template adds: to a prompt, and to each message.
const OVERHEAD: usize = 64;
const MESSAGE_OVERHEAD: usize = 8;

impl Preparation {
    pub(super) fn new(settings: &Settings, upstreams: &[Arc<Upstream>], tasks: &Tasks) -> Self {
        Self {
            limits: settings.tokens,
            settings: settings.prompt,
            rules: Arc::new(settings.rules.clone()),
            sessions: Arc::default(),
            upstreams: upstreams.to_vec(),
            tasks: tasks.clone(),
        }
    }

    /// Checks and prepares a body of `client`'s, with `profile` instead of the settings' where one is given; large ones off
    /// the thread that serves everybody else.
    ///
    /// # Errors
    /// Everything wrong with the body.
    pub(super) async fn run(
        &self,
        dialect: Dialect,
        bytes: Bytes,
        profile: Option<Profile>,
        client: &Arc<str>,
    ) -> Result<Box<Ready>, Refusal> {
        let size = bytes.len();
        let settings = profile.map_or(self.settings, |profile| cerebrum_prompt::Settings { profile });
        let (limits, rules, sessions) = (self.limits, self.rules.clone(), self.sessions.clone());
        let client = client.clone();
        let read = move || {
            let call = dialect::read(dialect, &bytes, limits)?;
            Ok(Box::new(Draft::read(call, limits, rules, &sessions, &client)?))
        };
        let draft = work(size, read).await?;
        let again = draft.may_be_harder().then(|| draft.clone());
        let facts = self.facts(&draft.route.model, size).await;
        let ready = work(size, move || Ok(draft.prepare(&facts, settings))).await?;
        match again.and_then(|draft| draft.harder(&ready.report)) {
            None => Ok(ready),
            Some(draft) => {
                let facts = self.facts(&draft.route.model, size).await;
                work(size, move || Ok(draft.prepare(&facts, settings))).await
            }
        }
    }

    /// What is known of a model, by whoever will probably answer. Asks a server of ours where nobody has, and again from time
    /// to time.
    async fn facts(&self, model: &str, size: usize) -> Facts {
        let Some(upstream) = likely(&self.upstreams, model) else { return Facts::default() };
        let asks = matches!(upstream.way, Way::Frames(_)) && upstream.way.is_up();
        let age = if asks { upstream.knowledge.due(model) } else { Age::Fresh };
        if age != Age::Fresh {
            let (told, telling) = tokio::sync::oneshot::channel();
            let (upstream, model) = (upstream.clone(), model.to_owned());
            self.tasks.spawn(async move {
                learn(&upstream, &model).await;
                told.send(()).ok();
            });
            if age == Age::Unknown && size >= WORTH_ASKING {
                tokio::time::timeout(ASKING, telling).await.ok();
            }
        }
        upstream.knowledge.facts(model)
    }
}

/// A request that has been read, and has a model.
#[derive(Clone)]
struct Draft {
    call: Call,
    limits: Limits,
    rules: Arc<Rules>,
    /// Of a chat.
    conversation: Option<Conversation>,
    wish: Wish,
    route: Route,
    turn: Option<Turn>,
}

/// What a model is chosen by.
#[derive(Clone)]
struct Wish {
    /// The language as the client names it.
    language: Option<String>,
    /// The language as the prompt tells it, where the choice is open.
    detected: Option<Detected>,
    /// The model or tier that the client names.
    model: Option<String>,
    /// What the user says, where that matters.
    said: String,
}

impl Wish {
    fn route(&self, rules: &Rules, difficulty: Difficulty, turn: Option<&Turn>) -> Route {
        let asked = Asked {
            model: self.model.as_deref(),
            language: self.language.as_deref(),
            detected: self.detected.unwrap_or_default(),
            request: &self.said,
            difficulty,
            held: turn.and_then(Turn::before).map(|session| &session.held),
        };
        route(&asked, rules)
    }
}

impl Draft {
    fn read(
        mut call: Call,
        limits: Limits,
        rules: Arc<Rules>,
        sessions: &Arc<Sessions>,
        client: &str,
    ) -> Result<Self, Refusal> {
        let model = Some(call.request.model.trim().to_owned()).filter(|model| !model.is_empty());
        let language = call.hints.language.take();
        let conversation = match &call.details.input {
            Input::Chat(chat) => Some(Conversation::of(chat)),
            _ => None,
        };
        let text = text(&call, conversation.as_ref());
        // Who names a model has chosen, whatever the language.
        let detected = model.is_none().then(|| language::identify(text, language.as_deref()));
        let choosing = model.is_none() && rules.profile == RouteProfile::Size;
        let tier = model.as_deref().and_then(Tier::named);
        let said = if choosing || tier.is_some() { cerebrum_prompt::user_request(text) } else { String::new() };
        let turn = match (call.hints.session.take(), &conversation) {
            (Some(name), _) => Some(sessions.turn(client, &name)),
            // Whose beginning is the same is the same conversation, as far as its model goes.
            (None, Some(chat)) if model.is_none() => Some(sessions.turn(client, &chat.beginning())),
            _ => None,
        };
        let wish = Wish { language, detected, model, said };
        let route = wish.route(&rules, Difficulty::Easy, turn.as_ref());
        let mut draft = Self { call, limits, rules, conversation, wish, route, turn };
        draft.apply_route();
        Ok(draft)
    }

    /// Writes the route into the request: the model, and how long the answer may be.
    fn apply_route(&mut self) {
        self.call.request.model.clone_from(&self.route.model);
        let asked = self.call.request.max_tokens;
        if self.route.tier.is_none() || asked == 0 {
            return;
        }
        let tokens = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX).min(self.limits.max_tokens_cap);
        self.call.request.max_tokens = match self.call.hints.bounded {
            true => tokens(self.route.at_most(asked as usize)),
            false => tokens(self.route.answer_tokens(asked as usize)),
        };
        let used = self.call.request.max_tokens;
        if used < asked {
            self.call.warnings.push(format!("max_tokens: found {asked}, used {used} (the most that this tier writes)"));
        }
    }

    /// Whether what preparation finds may ask for a larger model.
    fn may_be_harder(&self) -> bool {
        self.wish.model.is_none() && self.rules.profile == RouteProfile::Size
    }

    /// The same for a larger model, where it looks hard.
    fn harder(mut self: Box<Self>, report: &Report) -> Option<Box<Self>> {
        let route = self.wish.route(&self.rules, difficulty(&self.wish.said, report), self.turn.as_ref());
        if route.model == self.route.model {
            return None;
        }
        self.route = route;
        self.apply_route();
        Some(self)
    }

    fn prepare(mut self: Box<Self>, facts: &Facts, settings: cerebrum_prompt::Settings) -> Box<Ready> {
        let estimate: &dyn TokenCount = &Estimate;
        let tokens = facts.vocabulary.as_deref().map_or(estimate, |exact| exact);
        let (usual, watch) = (Rates::default(), Watch(Instant::now()));
        let request = Request {
            language: self.wish.language.as_deref(),
            detected: self.wish.detected,
            room: facts.context.map(|context| self.room(context, tokens)),
            rates: Rates {
                prefill_per_s: facts.prefill_per_s.unwrap_or(usual.prefill_per_s),
                decode_per_s: facts.decode_per_s.unwrap_or(usual.decode_per_s),
                answer_tokens: usual.answer_tokens.min(self.call.request.max_tokens as usize),
                ..usual
            },
            tokens,
            clock: Some(&watch),
            ..Request::new("")
        };
        let report = match &self.call.details.input {
            Input::Prompt => {
                // A conversation without a past begins with its context as well, so that the next turn finds it there.
                let slot = self.turn.as_ref().and_then(|turn| turn.before().map_or_else(fresh, Session::slot));
                let asked = Request { prompt: &self.call.request.prompt, slot, ..request };
                let prepared = cerebrum_prompt::prepare_request(&asked, &settings);
                self.call.request.prompt = prepared.prompt.into();
                prepared.report
            }
            Input::Chat(chat) => {
                let conversation = self.conversation.take().unwrap_or_else(|| Conversation::of(chat));
                let asked = Request { prompt: conversation.last(), ..request };
                let (messages, report) = conversation.prepare(&asked, &settings);
                if let (Some(messages), Input::Chat(chat)) = (messages, &mut self.call.details.input) {
                    chat.messages = messages.into();
                }
                report
            }
            Input::Infill(gap) => {
                let asked = Request { prompt: &gap.prefix, ..request };
                let PreparedInfill { prefix, suffix, report } =
                    cerebrum_prompt::prepare_infill(&asked, &gap.suffix, &settings);
                let suffix = suffix.into_owned();
                if let Input::Infill(gap) = &mut self.call.details.input {
                    (gap.prefix, gap.suffix) = (prefix.into(), suffix.into());
                }
                report
            }
        };
        self.forbid_thinking(tokens);
        let prompt_tokens = match (&self.call.details.input, self.call.reply.dialect) {
            (Input::Chat(chat), Dialect::Messages) => u32::try_from(chat::count(chat, tokens)).unwrap_or(u32::MAX),
            _ => 0,
        };
        if let Some(turn) = &mut self.turn {
            turn.sent(&self.call.request.prompt, report.stable_bytes, self.route.held.clone());
        }
        // A language we do not know is still the client's word, and may have a model of its own.
        let Self { call, route, turn, wish, .. } = *self;
        let language = wish.language.unwrap_or_else(|| report.language.name().to_owned());
        Box::new(Ready { call, language, report, route, counted: facts.vocabulary.is_some(), prompt_tokens, turn })
    }

    /// Tokens that the prompt may have, of the context's.
    fn room(&self, context: usize, tokens: &dyn TokenCount) -> usize {
        // Nobody asks for so long an answer that hardly anything could be said before it.
        let answer = (self.call.request.max_tokens as usize).min(context / 2);
        let other = match &self.call.details.input {
            Input::Prompt => 0,
            Input::Chat(chat) => {
                let messages = self.conversation.as_ref().map_or(0, Conversation::len);
                tokens.count(&chat.tools) + messages * MESSAGE_OVERHEAD
            }
            Input::Infill(gap) => gap.extra.iter().map(|extra| tokens.count(&extra.text)).sum(),
        };
        context.saturating_sub(answer + other + OVERHEAD)
    }

    fn forbid_thinking(&mut self, tokens: &dyn TokenCount) {
        let text = match &self.call.details.input {
            Input::Prompt => &self.call.request.prompt,
            Input::Chat(chat) => &chat.messages,
            Input::Infill(_) => return,
        };
        // A token is a byte at least.
        let forbidden = |count| self.rules.forbids_thinking(&self.route.model, count);
        if !forbidden(text.len()) || !forbidden(tokens.count(text)) {
            return;
        }
        match &mut self.call.details.input {
            Input::Chat(chat) => chat::append(chat, NO_THINK),
            _ => self.call.request.prompt = format!("{}\n{NO_THINK}\n", self.call.request.prompt.trim_end()).into(),
        }
    }
}

/// The text in which the user asks.
fn text<'c>(call: &'c Call, conversation: Option<&'c Conversation>) -> &'c str {
    match (&call.details.input, conversation) {
        (Input::Infill(gap), _) => &gap.prefix,
        (_, Some(conversation)) => conversation.last(),
        _ => &call.request.prompt,
    }
}

fn fresh<'s>() -> Option<cerebrum_prompt::Slot<'s>> {
    Some(cerebrum_prompt::Slot { prompt: "", stable_bytes: 0 })
}

/// Reads, checks and prepares one request.
///
/// # Errors
/// Everything wrong with the body.
pub(super) async fn prepare(
    gateway: &Gateway,
    admitted: Admitted,
    delivery: Delivery,
    body: &mut Body,
) -> Result<Prepared, Refusal> {
    let (bytes, _room) = body.collect(&gateway.bodies).await?;
    let mut ready = gateway.preparation.run(delivery.dialect(), bytes, None, &admitted.client.name).await?;
    ready.call.reply.stream |= delivery == Delivery::Stream;
    Ok(Prepared { permit: Arc::new(admitted.permit), ready, remember: None })
}

/// Measures the stages of a preparation.
struct Watch(Instant);

impl Clock for Watch {
    fn now_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// Works on something of `size` bytes, where that belongs.
async fn work<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    if size < LARGE {
        return work();
    }
    let busy = || Refusal::Busy { who: "preparation", retry_after: Duration::from_secs(1) };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(busy()))
}
