//! One generation in progress: waits for its model, then gives the engine's events as the wire knows them, and one last event
//! whatever happens. It owns the engine's [`Generation`] and the record, so dropping it frees the slot and closes the account.

use std::pin::Pin;

use cerebrum_common::wire::details::{Input, TokenLogprob};
use cerebrum_common::wire::dialect::Call;
use cerebrum_common::wire::extras::KeepAlive;
use cerebrum_common::wire::{
    Completion, Details, Failure, FailureCode, Finish, InferenceEvent, InferenceRequest, Text, Usage,
};
use cerebrum_engine::{self as engine, Event, Generation, Prompt};

use super::assemble::assemble;
use super::record::Record;
use super::renderer::Renderer;
use super::request::engine_request;
use crate::registry::{Load, Phase, Reached, Registry, Submission, Unavailable, busy_retry_ms};

/// A generation and what belongs to it.
pub(super) struct Job {
    work: Work,
    ahead: Option<InferenceEvent>,
    ending: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    record: Record,
}

struct Work {
    registry: Registry,
    renderer: Renderer,
    asked: String,
    max_tokens: u32,
    keep_alive: Option<KeepAlive>,
    warnings: Vec<String>,
    /// Those of which it is told when they end the answer.
    stops: Vec<Text>,
    model: String,
    context: usize,
    stage: Stage,
    /// The last event, behind what is told before it.
    done: Option<InferenceEvent>,
}

type Assembly = Pin<Box<dyn Future<Output = Result<(engine::Request, Vec<String>), Failure>> + Send>>;

enum Stage {
    Waiting(Load, Option<Pending>),
    /// The prompt is being made of its parts.
    Assembling(Assembly),
    Running(Generation),
    Ended,
}

/// What waits for its model.
enum Pending {
    /// Parts, of which only the model knows how to make a prompt.
    Parts(Box<(InferenceRequest, Details)>),
    Request(Box<engine::Request>),
}

impl Job {
    /// Hands the request to its model.
    ///
    /// # Errors
    /// What the registry refuses at once; the record has it too.
    pub(super) fn start(registry: &Registry, renderer: &Renderer, call: Call, record: Record) -> Result<Self, Failure> {
        let Call { mut request, details, warnings, reply, .. } = call;
        let asked = std::mem::take(&mut request.model);
        let work = Work {
            registry: registry.clone(),
            renderer: renderer.clone(),
            model: registry.catalog().resolve(&asked).unwrap_or_default(),
            asked,
            max_tokens: request.max_tokens,
            keep_alive: details.extras.keep_alive,
            warnings,
            stops: if reply.stop_string { request.stop.clone() } else { Vec::new() },
            context: 0,
            stage: Stage::Ended,
            done: None,
        };
        let mut job = Self { work, ahead: None, ending: Box::pin(record.ending()), record };
        job.record.model(&job.work.model);
        let submitted = job.work.submit(Pending::new(request, details));
        submitted.map_err(|reason| {
            job.record.refused(&reason.to_string());
            Failure::from(&reason)
        })?;
        Ok(job)
    }

    /// The model's own name; empty when there is none of the name asked for.
    pub(super) fn model(&self) -> &str {
        &self.work.model
    }

    /// The next event; `None` after the last. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<InferenceEvent> {
        if let Some(event) = self.ahead.take() {
            return Some(event);
        }
        let event = tokio::select! {
            biased;
            event = self.work.next() => event?,
            () = &mut self.ending => {
                let message = "the server is shutting down; the answer is incomplete".to_owned();
                InferenceEvent::Error(Failure { code: FailureCode::Stopping, message, retry_after_ms: None })
            }
        };
        if event.is_last() {
            self.work.stage = Stage::Ended;
        }
        self.record.note(&event);
        Some(event)
    }

    /// Gives an event that [`Self::next`] gave once more.
    pub(super) fn put_back(&mut self, event: InferenceEvent) {
        self.ahead = Some(event);
    }
}

impl Pending {
    /// A prompt needs nothing of its model; whatever else does.
    fn new(mut request: InferenceRequest, details: Details) -> Self {
        match details.input {
            Input::Prompt => {
                // Plain: control tokens in somebody's prompt are text.
                let prompt = Prompt::plain(std::mem::take(&mut request.prompt).into_inner());
                Self::Request(Box::new(engine_request(request, &details, prompt)))
            }
            _ => Self::Parts(Box::new((request, details))),
        }
    }
}

impl Work {
    fn submit(&mut self, pending: Pending) -> Result<(), Unavailable> {
        self.stage = match pending {
            Pending::Request(request) => match self.registry.submit(&self.asked, *request)? {
                Submission::Taken(taken) => {
                    self.model = taken.model;
                    self.context = taken.context;
                    self.registry.keep(&self.model, self.keep_alive);
                    Stage::Running(taken.generation)
                }
                Submission::Waiting(load, request) => Stage::Waiting(load, Some(Pending::Request(request))),
            },
            Pending::Parts(parts) => match self.registry.reach(&self.asked)? {
                Reached::Loaded(engine) => {
                    Stage::Assembling(Box::pin(assemble(parts.0, parts.1, engine, self.renderer.clone())))
                }
                Reached::Waiting(load) => Stage::Waiting(load, Some(Pending::Parts(parts))),
            },
        };
        Ok(())
    }

    async fn next(&mut self) -> Option<InferenceEvent> {
        if let Some(done) = self.done.take() {
            return Some(done);
        }
        loop {
            let outcome = match &mut self.stage {
                Stage::Ended => return None,
                Stage::Running(generation) => {
                    let event = generation.next().await?;
                    return Some(self.translate(event));
                }
                Stage::Waiting(load, pending) => match (load.next().await, pending.take()) {
                    (Phase::Loading(share), waiting) => {
                        *pending = waiting;
                        return Some(InferenceEvent::Loading { permille: (share * 1000.0) as u16 });
                    }
                    (Phase::Ready, Some(pending)) => self.submit(pending).map_err(|reason| Failure::from(&reason)),
                    (Phase::Ready, None) => Err(Failure::from(&Unavailable::Stopping)),
                    (Phase::Failed(reason), _) => Err(Failure::from(&reason)),
                },
                Stage::Assembling(assembly) => match assembly.await {
                    Ok((request, mut left_out)) => {
                        self.warnings.append(&mut left_out);
                        let submitted = self.submit(Pending::Request(Box::new(request)));
                        submitted.map_err(|reason| Failure::from(&reason))
                    }
                    Err(failure) => Err(failure),
                },
            };
            if let Err(failure) = outcome {
                return Some(InferenceEvent::Error(failure));
            }
        }
    }

    fn translate(&mut self, event: Event) -> InferenceEvent {
        match event {
            Event::Progress { processed, total } => {
                InferenceEvent::Progress { processed: count(processed), total: count(total) }
            }
            Event::Text { text, tokens_so_far } => {
                InferenceEvent::Token { text: text.into(), total_tokens: count(tokens_so_far) }
            }
            Event::Logprobs(tokens) => InferenceEvent::Logprobs(tokens.into_iter().map(logprob).collect()),
            Event::Done(completion) => {
                let done = InferenceEvent::Done(self.completion(&completion));
                match self.stop_string(completion.finish) {
                    Some(text) => {
                        self.done = Some(done);
                        InferenceEvent::StopString(text)
                    }
                    None => done,
                }
            }
            Event::Failed(failure) => InferenceEvent::Error(wire_failure(&failure)),
        }
    }

    fn stop_string(&self, finish: engine::Finish) -> Option<Text> {
        match finish {
            engine::Finish::StopString(index) => self.stops.get(index).cloned(),
            engine::Finish::Stop | engine::Finish::Length => None,
        }
    }

    fn completion(&mut self, completion: &engine::Completion) -> Completion {
        let room = count(self.context.saturating_sub(completion.prompt_tokens));
        if self.max_tokens > room {
            self.warnings.push(format!(
                "max_tokens: found {}, used {room} (the context of {} tokens also holds the prompt's {})",
                self.max_tokens, self.context, completion.prompt_tokens
            ));
        }
        Completion {
            model: self.model.clone(),
            finish: match completion.finish {
                engine::Finish::Stop | engine::Finish::StopString(_) => Finish::Stop,
                engine::Finish::Length => Finish::Length,
            },
            usage: Usage {
                prompt_tokens: count(completion.prompt_tokens),
                cached_tokens: count(completion.cached_tokens),
                completion_tokens: count(completion.completion_tokens),
            },
            prefill_us: (completion.queued + completion.prefill).as_micros() as u64,
            decode_us: completion.decode.as_micros() as u64,
            warnings: std::mem::take(&mut self.warnings),
        }
    }
}

fn logprob(token: engine::TokenLogprob) -> TokenLogprob {
    let engine::TokenLogprob { bytes, logprob, top } = token;
    TokenLogprob { bytes, logprob, top }
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

fn wire_failure(failure: &engine::Failure) -> Failure {
    let code = match failure {
        engine::Failure::ContextOverflow { .. } => FailureCode::ContextOverflow,
        engine::Failure::EmptyPrompt
        | engine::Failure::NoInfill
        | engine::Failure::NoAdapter { .. }
        | engine::Failure::Sampling(_) => FailureCode::BadRequest,
        engine::Failure::NoSlotInTime { .. } => FailureCode::Busy,
        engine::Failure::Model(_) => FailureCode::Internal,
        engine::Failure::Stopped => FailureCode::Stopping,
    };
    let retry_after_ms = match failure {
        engine::Failure::NoSlotInTime { free_in, .. } => Some(busy_retry_ms(*free_in)),
        _ => (code == FailureCode::Stopping).then_some(1_000),
    };
    Failure { code, message: failure.to_string(), retry_after_ms }
}
