//! From bytes to a request worth sending: reads the body within its limits, checks it, finds the language and the model,
//! and has the prompt prepared.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cerebrum_common::serve::{Refusal, collect};
use cerebrum_common::wire::native::{Generate, Limits};
use cerebrum_common::wire::{InferenceRequest, json};
use cerebrum_prompt::{Profile, Report};
use hyper::body::Incoming;

use super::Gateway;
use super::admit::{Admitted, Permit};
use crate::settings::Settings;

/// What preparing needs to know.
#[derive(Clone, Debug)]
pub(super) struct Preparation {
    tokens: Limits,
    settings: Arc<cerebrum_prompt::Settings>,
}

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Its place, held until the answer ends.
    pub(super) _permit: Permit,
    /// What is sent.
    pub(super) request: InferenceRequest,
    /// The code's language, given or detected.
    pub(super) language: String,
    /// What was changed in the request, as sentences.
    pub(super) warnings: Vec<String>,
    /// What preparation did.
    pub(super) report: Report,
    /// Whether the client wants progress as events.
    pub(super) progress: bool,
}

/// Prompts from this size on, in bytes, are prepared off the thread that serves everybody else.
const LARGE_PROMPT: usize = 64 << 10;

impl Preparation {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { tokens: settings.tokens, settings: Arc::new(settings.prompt.clone()) }
    }

    /// Checks and prepares a body, with `profile` instead of the settings' where one is given; large ones off the thread
    /// that serves everybody else.
    ///
    /// # Errors
    /// Everything wrong with the body.
    pub(super) async fn run(&self, bytes: Bytes, profile: Option<Profile>) -> Result<Done, Refusal> {
        let mut own = self.clone();
        if let Some(profile) = profile {
            let settings = (*own.settings).clone();
            own.settings = Arc::new(cerebrum_prompt::Settings { profile, ..settings });
        }
        let large = bytes.len() >= LARGE_PROMPT;
        let work = move || own.prepare(json::parse::<Generate>(&bytes)?);
        if large { off_thread(work).await } else { work() }
    }

    fn prepare(&self, body: Generate) -> Result<Done, Refusal> {
        let progress = body.progress;
        let given = body.language.clone();
        let (mut request, warnings) = body.into_request(self.tokens)?;
        let asked =
            cerebrum_prompt::Request { language: given.as_deref(), ..cerebrum_prompt::Request::new(&request.prompt) };
        let prepared = cerebrum_prompt::prepare_request(&asked, &self.settings);
        // A language we do not know is still the client's word, and may have a model of its own.
        let language = given.unwrap_or_else(|| prepared.report.language.name().to_owned());
        if request.model.is_empty() {
            request.model = self.settings.languages.model_for(Some(&language)).to_owned();
        }
        request.prompt = prepared.prompt.into();
        Ok(Done { request, language, warnings, report: prepared.report, progress })
    }
}

/// A request and what was done to it.
pub(super) struct Done {
    pub(super) request: InferenceRequest,
    pub(super) language: String,
    pub(super) warnings: Vec<String>,
    pub(super) report: Report,
    pub(super) progress: bool,
}

/// Reads, checks and prepares one request.
///
/// # Errors
/// Everything wrong with the body.
pub(super) async fn prepare(gateway: &Gateway, admitted: Admitted, body: &mut Incoming) -> Result<Prepared, Refusal> {
    let bytes = collect(body, &gateway.limits).await?;
    let Done { request, language, warnings, report, progress } = gateway.preparation.run(bytes, None).await?;
    Ok(Prepared { _permit: admitted.permit, request, language, warnings, report, progress })
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let busy = || Refusal::Busy { who: "preparation", retry_after: Duration::from_secs(1) };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(busy()))
}
