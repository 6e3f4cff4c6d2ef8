//! The calls that free memory. The guards never refuse them: short memory is what they are for.

use cerebrum_common::serve::{Answer, Refusal, json};
use cerebrum_common::wire::{Failure, FailureCode};
use http::{Response, StatusCode};
use serde::Serialize;

use super::Api;

#[derive(Serialize)]
struct Unloaded {
    status: &'static str,
    model: String,
}

/// `/v1/unload/{model}`: unloads it now; generations in progress end with an error.
pub(super) async fn unload(api: &Api, model: &str) -> Response<Answer> {
    match api.registry.unload(model).await {
        Some(model) => json(StatusCode::OK, &Unloaded { status: "unloaded", model }),
        None => {
            let loaded = api.registry.loaded().join(", ");
            let message = format!("model: found {model:?}, expected a loaded one (loaded: {loaded})");
            Refusal::from(Failure { code: FailureCode::UnknownModel, message, retry_after_ms: None }).response()
        }
    }
}

#[derive(Serialize)]
struct Cleaned {
    status: &'static str,
    models_removed: usize,
    models_remaining: usize,
}

/// `/v1/cleanup`: unloads all models that are idle now, however recently they were used. The original left those of the last
/// 30 minutes, and so freed nothing for somebody who asked because memory was short.
pub(super) async fn cleanup(api: &Api) -> Response<Answer> {
    let models_removed = api.registry.unload_idle().await;
    let models_remaining = api.registry.loaded().len();
    json(StatusCode::OK, &Cleaned { status: "cleaned", models_removed, models_remaining })
}
