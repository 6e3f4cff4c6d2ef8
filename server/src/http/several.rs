//! The answers to one request (OpenAI's `n`), one after the other: from the second on the prompt is found in the cache.

use cerebrum_common::keys::Client;
use cerebrum_common::lifecycle::Tasks;
use cerebrum_common::request_id::RequestId;
use cerebrum_common::wire::Failure;
use cerebrum_common::wire::dialect::Call;

use super::Api;
use super::job::Job;
use super::record::Record;
use super::renderer::Renderer;
use crate::registry::Registry;

/// The generations that a request asks for and that have not begun.
pub(super) struct Several {
    registry: Registry,
    renderer: Renderer,
    tasks: Tasks,
    id: RequestId,
    client: Client,
    /// None after the last.
    call: Option<Call>,
    /// Of the first.
    record: Option<Record>,
    begun: u32,
}

impl Several {
    pub(super) fn new(api: &Api, call: Call, record: Record) -> Self {
        Self {
            registry: api.registry.clone(),
            renderer: api.renderer.clone(),
            tasks: api.tasks.clone(),
            id: record.id(),
            client: record.client(),
            call: Some(call),
            record: Some(record),
            begun: 0,
        }
    }

    /// Begins the next one; `None` after the last.
    ///
    /// # Errors
    /// What the registry refuses at once.
    pub(super) fn next(&mut self) -> Option<Result<Job, Failure>> {
        let number = self.begun;
        let choices = self.call.as_ref()?.reply.choices;
        self.begun += 1;
        let call = if self.begun < choices { self.call.clone() } else { self.call.take() }?;
        let opened = || Record::open(self.id, self.client.clone(), self.tasks.clone());
        let record = self.record.take().unwrap_or_else(opened);
        Some(Job::start(&self.registry, &self.renderer, call.numbered(number), record))
    }
}
