//! Why a model does not take a request, and how that is said on the wire.

use std::sync::Arc;
use std::time::Duration;

use cerebrum_common::wire::{Failure, FailureCode};
use cerebrum_engine::{LoadError, SubmitError};

use crate::models::ModelError;

/// Why a model does not take a request.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// There is no model of that name, or no default to take instead of none.
    #[error("model: found {}, expected one of {}", shown(asked), listed(known))]
    Unknown {
        /// The name asked for.
        asked: String,
        /// Those there are, aliases included.
        known: Vec<String>,
    },
    /// Its file is larger than what memory has to spare, and nothing idle is left to unload.
    #[error("model {model} needs about {} MiB of memory, {} MiB can be had", needed >> 20, free >> 20)]
    Memory {
        /// The model.
        model: String,
        /// Bytes wanted.
        needed: u64,
        /// Bytes there are.
        free: u64,
    },
    /// The file cannot be loaded.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// Its package cannot be unpacked.
    #[error("{0}")]
    Unpack(Arc<ModelError>),
    /// It was unloaded while it was being loaded.
    #[error("model {model} was unloaded while it was being loaded; send the request again to load it")]
    Unloaded {
        /// The model.
        model: String,
    },
    /// The engine did not take the request.
    #[error("{0}")]
    Submit(#[from] SubmitError),
    /// The program is shutting down.
    #[error("shutting down; retry in a moment")]
    Stopping,
}

/// How long memory mostly stays short: until somebody's generation is over.
const MEMORY_RETRY_MS: u32 = 30_000;
/// Before any request has ended, and so told how long they take.
const BUSY_RETRY_MS: u32 = 5_000;
/// Even where requests are short, callers must not come back at once and all together; and none waits for an hour.
const BUSY_RETRY_RANGE_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;

/// When to come back to a model whose slots and queue are full.
pub(crate) fn busy_retry_ms(free_in: Option<Duration>) -> u32 {
    let bounded = |time: Duration| {
        u64::try_from(time.as_millis())
            .unwrap_or(u64::MAX)
            .clamp(*BUSY_RETRY_RANGE_MS.start(), *BUSY_RETRY_RANGE_MS.end())
    };
    free_in.map_or(BUSY_RETRY_MS, |time| bounded(time) as u32)
}
const STOPPING_RETRY_MS: u32 = 5_000;

impl From<&Unavailable> for Failure {
    fn from(reason: &Unavailable) -> Self {
        let (code, retry_after_ms) = match reason {
            Unavailable::Unknown { .. } => (FailureCode::UnknownModel, None),
            Unavailable::Memory { .. } => (FailureCode::Overloaded, Some(MEMORY_RETRY_MS)),
            Unavailable::Load(_) | Unavailable::Unpack(_) => (FailureCode::LoadFailed, None),
            Unavailable::Unloaded { .. } => (FailureCode::Overloaded, Some(1_000)),
            Unavailable::Submit(SubmitError::Invalid { .. }) => (FailureCode::BadRequest, None),
            Unavailable::Submit(SubmitError::QueueFull { free_in, .. }) => {
                (FailureCode::Busy, Some(busy_retry_ms(*free_in)))
            }
            Unavailable::Submit(SubmitError::Stopped) => (FailureCode::Overloaded, Some(1_000)),
            Unavailable::Stopping => (FailureCode::Stopping, Some(STOPPING_RETRY_MS)),
        };
        Self { code, message: reason.to_string(), retry_after_ms }
    }
}

fn shown(asked: &str) -> String {
    if asked.is_empty() { "no name and no default model".to_owned() } else { format!("{asked:?}") }
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { "none: the models folder is empty".to_owned() } else { known.join(", ") }
}
