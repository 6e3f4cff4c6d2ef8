//! Who may call what, and what they get. The way of an inference (see `inference`): authenticate, admit, read, submit,
//! then stream or collect; the record is open from the first line and closes when the answer's body does.
//!
//! - `routes`: paths; every one needs a key unless it is said to be public.
//! - `inference`: the calls that generate. `request` reads their bodies, `job` is one generation in progress, for which
//!   `assemble` makes the prompt (of a chat, by the model's `template`); `several` of them where a request wants more
//!   than one answer; `stream` and `whole` write answers, `record` keeps the account.
//! - `hold`: answers that outlive their connection.
//! - `tokens`: text to tokens and back. `embeddings`: texts to vectors. `facts`: what preparing prompts needs to know.
//!   `info`, `manage`: reports, unloading.

mod assemble;
mod embeddings;
mod facts;
pub mod hold;
mod inference;
mod info;
mod job;
mod manage;
mod record;
mod renderer;
mod request;
mod routes;
mod several;
mod stream;
mod template;
mod tokens;
mod whole;

pub use hold::Holds;
pub use renderer::{Renderer, carry_out as render_template};
pub use routes::{Access, ROUTES, Route};

use std::sync::Arc;
use std::time::{Duration, Instant};

use cerebrum_common::keyring::Keyring;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::request_id::{self, RequestId};
use cerebrum_common::serve::{self, Answer, Connection, Peer, Refusal, Service, discard};
use cerebrum_common::wire::native::Limits as TokenLimits;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::guards::{self, Vitals};
use crate::registry::Registry;

/// Everything the calls work with.
#[derive(Debug)]
pub struct Api {
    /// Who may call.
    pub keys: Arc<Keyring>,
    /// Bounds of bodies.
    pub limits: serve::Limits,
    /// Bounds of `max_tokens`.
    pub tokens: TokenLimits,
    /// What the machine must have to spare.
    pub guards: guards::Limits,
    /// What it has.
    pub vitals: watch::Receiver<Vitals>,
    /// The models.
    pub registry: Registry,
    /// Where their chat templates are rendered.
    pub renderer: Renderer,
    /// Silence after which a stream gets a heartbeat.
    pub heartbeat: Duration,
    /// Answers that outlive their connection.
    pub holds: Arc<Holds>,
    /// For the end of the program.
    pub tasks: Tasks,
    /// When the program started.
    pub started: Instant,
}

impl Service for Api {
    async fn call(&self, request: Request<Incoming>, peer: Peer) -> Response<Answer> {
        let id = RequestId::from_headers(request.headers());
        let mut response = self.answer(request, id, peer.connection).await;
        response.headers_mut().insert(request_id::HEADER, id.header_value());
        response
    }
}

impl Api {
    async fn answer(&self, request: Request<Incoming>, id: RequestId, connection: Connection) -> Response<Answer> {
        let route = routes::find(request.method(), request.uri().path());
        // A path that does not exist is told only to those who may know which do.
        let public = route.as_ref().is_ok_and(|route| route.access() == Access::Public);
        let client = match (public, self.keys.authenticate(request.headers())) {
            (true, _) => None,
            (false, Ok(client)) => Some(client),
            (false, Err(denied)) => return self.refuse(request, &denied.into(), id),
        };
        match (route, client) {
            (Ok(Route::Inference(delivery)), Some(client)) => {
                let caller = inference::Caller { id, client, connection };
                inference::infer(self, request, caller, delivery).await
            }
            (Ok(Route::Held(token)), Some(client)) => {
                told(hold::resume(self, &token, request.headers(), &client, connection))
            }
            (Ok(Route::Cancel(token)), Some(client)) => told(hold::cancel(self, &token, &client)),
            (Ok(Route::Embeddings), _) => embeddings::embed(self, request).await,
            (Ok(Route::Tokenize), _) => told(tokens::tokenize(self, request).await),
            (Ok(Route::Detokenize), _) => told(tokens::detokenize(self, request).await),
            (Ok(Route::Model(name)), _) => told(facts::model(self, &name).await),
            (Ok(Route::Vocabulary(name)), _) => told(facts::vocabulary(self, &name).await),
            (Ok(route), _) => self.report(route).await,
            (Err(refusal), _) => self.refuse(request, &refusal, id),
        }
    }

    async fn report(&self, route: Route) -> Response<Answer> {
        match route {
            Route::Health => info::health(self),
            Route::Models => info::models(self),
            Route::Props => info::props(self),
            Route::Stats => info::stats(self),
            Route::Unload(model) => manage::unload(self, &model).await,
            Route::Cleanup => manage::cleanup(self).await,
            // Need the request, which only the arms above have.
            Route::Inference(_)
            | Route::Held(_)
            | Route::Cancel(_)
            | Route::Embeddings
            | Route::Tokenize
            | Route::Detokenize
            | Route::Model(_)
            | Route::Vocabulary(_) => Refusal::from(cerebrum_common::keys::Denied::Missing).response(),
        }
    }

    fn refuse(&self, request: Request<Incoming>, refusal: &Refusal, id: RequestId) -> Response<Answer> {
        tracing::info!(%id, method = %request.method(), reason = refusal.name(), "refused");
        discard(request.into_body(), &self.tasks);
        refusal.response()
    }

    /// Whether the machine has room for another inference.
    fn shortage(&self) -> Option<guards::Shortage> {
        self.guards.judge(&self.vitals.borrow()).err()
    }
}

fn told(outcome: Result<Response<Answer>, Refusal>) -> Response<Answer> {
    outcome.unwrap_or_else(|refusal| refusal.response())
}
