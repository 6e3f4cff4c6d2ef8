//! The calls that report. None of them waits for a model, and none counts as its use.

use std::collections::BTreeMap;

use cerebrum_common::serve::{Answer, json};
use cerebrum_engine::Snapshot;
use http::{Response, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use super::Api;
use crate::guards::Vitals;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    cpu_usage_percent: f64,
    ram_available_gb: f64,
    ram_used_gb: f64,
    models_in_cache: Vec<String>,
    uptime_seconds: u64,
}

/// `/health`: from the newest measurements.
pub(super) fn health(api: &Api) -> Response<Answer> {
    let vitals: Vitals = *api.vitals.borrow();
    let shortage = api.shortage();
    let status = if shortage.is_some() { "overloaded" } else { "healthy" };
    let health = Health {
        status,
        available: shortage.is_none() && !api.tasks.is_stopping(),
        reason: shortage.map(|shortage| shortage.to_string()),
        cpu_usage_percent: rounded(f64::from(vitals.cpu_percent), 10.0),
        ram_available_gb: gibibytes(vitals.ram_available),
        ram_used_gb: gibibytes(vitals.ram_used),
        models_in_cache: api.registry.loaded(),
        uptime_seconds: api.started.elapsed().as_secs(),
    };
    json(StatusCode::OK, &health)
}

fn gibibytes(bytes: u64) -> f64 {
    rounded(bytes as f64 / f64::from(1 << 30), 100.0)
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// A model as OpenAI's clients list them.
#[derive(Serialize)]
struct Listed {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

#[derive(Serialize)]
struct Models<'a> {
    object: &'static str,
    data: Vec<Listed>,
    available_models: Vec<String>,
    cached_models: Vec<String>,
    inference_counts: BTreeMap<String, u64>,
    aliases: &'a BTreeMap<String, String>,
    default_model: Option<String>,
    /// Which file each loaded model was loaded from.
    versions: BTreeMap<String, String>,
}

/// `/v1/models`: what the folder holds now, and which are loaded.
pub(super) fn models(api: &Api) -> Response<Answer> {
    let catalog = api.registry.catalog();
    let available_models: Vec<String> = catalog.list().into_iter().map(|model| model.name).collect();
    let names = available_models.iter().chain(catalog.aliases.keys()).cloned();
    let listed = |id| Listed { id, object: "model", created: 0, owned_by: "cerebrum" };
    let models = Models {
        object: "list",
        data: names.map(listed).collect(),
        available_models,
        cached_models: api.registry.loaded(),
        inference_counts: api.registry.counts(),
        aliases: &catalog.aliases,
        default_model: catalog.resolve("").ok(),
        versions: api.registry.versions(),
    };
    json(StatusCode::OK, &models)
}

/// `/props`: what llama.cpp's clients want to know of a server.
pub(super) fn props(api: &Api) -> Response<Answer> {
    let loaded = api.registry.snapshots();
    let first = loaded.first();
    let props = serde_json::json!({
        "default_generation_settings": {"n_ctx": first.map(|model| model.context)},
        "total_slots": first.map(|model| model.slots),
        "model_alias": api.registry.catalog().resolve("").ok(),
        "build_info": concat!("cerebrum-server ", env!("CARGO_PKG_VERSION")),
        "modalities": {"vision": false, "audio": false},
    });
    json(StatusCode::OK, &props)
}

#[derive(Serialize)]
struct Stats {
    version: &'static str,
    uptime_seconds: u64,
    cpu_usage_percent: f64,
    cpu_others_percent: f64,
    ram_available_gb: f64,
    inference_counts: BTreeMap<String, u64>,
    loading: Vec<String>,
    models: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    name: String,
    slots: usize,
    active: usize,
    queued: usize,
    requests: u64,
    tokens_generated: u64,
    context: usize,
    model_bytes: u64,
    /// Host memory of prefixes that no slot holds any more.
    stored_prefix_bytes: usize,
    /// Tokens guessed ahead, and those of them that were right.
    drafted: u64,
    drafts_accepted: u64,
    idle_seconds: u64,
}

/// `/v1/stats`: what the server and each loaded model are doing.
pub(super) fn stats(api: &Api) -> Response<Answer> {
    let vitals: Vitals = *api.vitals.borrow();
    let stats = Stats {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: api.started.elapsed().as_secs(),
        cpu_usage_percent: rounded(f64::from(vitals.cpu_percent), 10.0),
        cpu_others_percent: rounded(f64::from(vitals.others_percent), 10.0),
        ram_available_gb: gibibytes(vitals.ram_available),
        inference_counts: api.registry.counts(),
        loading: api.registry.loading(),
        models: api.registry.snapshots().into_iter().map(Model::from).collect(),
    };
    json(StatusCode::OK, &stats)
}

impl From<Snapshot> for Model {
    fn from(model: Snapshot) -> Self {
        let unused = Instant::now().into_std().saturating_duration_since(model.last_used);
        let idle = if model.active > 0 { 0 } else { unused.as_secs() };
        Self {
            name: model.name,
            slots: model.slots,
            active: model.active,
            queued: model.queued,
            requests: model.requests,
            tokens_generated: model.tokens_generated,
            context: model.context,
            model_bytes: model.model_bytes,
            stored_prefix_bytes: model.stored_bytes,
            drafted: model.drafted,
            drafts_accepted: model.drafts_accepted,
            idle_seconds: idle,
        }
    }
}
