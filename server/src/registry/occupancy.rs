//! Memory and idleness as pure decisions: what a model needs, what there is, who has to go.

use std::time::{Duration, Instant};

use cerebrum_engine::Snapshot;

/// Bytes that have to be free for a model of `file_bytes` with a KV cache of `cache_bytes`: these, an eighth of the file for compute
/// buffers, whose exact size is known only after loading, and what is to stay free whatever is loaded.
pub(super) fn needs(file_bytes: u64, cache_bytes: u64, stays_free: u64) -> u64 {
    [file_bytes, file_bytes / 8, cache_bytes, stays_free].into_iter().fold(0, u64::saturating_add)
}

/// Bytes a new model can have. Weights are mapped from their files, which the kernel counts as memory that can be had;
/// but taking it from a loaded model would have it read from disk again for every token.
pub(super) fn free(available: u64, loaded: &[Snapshot]) -> u64 {
    available.saturating_sub(loaded.iter().map(|model| model.model_bytes).sum())
}

/// Whether nobody uses the model at this moment.
pub(super) fn is_idle(model: &Snapshot) -> bool {
    model.active == 0 && model.queued == 0
}

/// The idle model that was used least recently.
pub(super) fn least_recent(loaded: &[Snapshot]) -> Option<&Snapshot> {
    loaded.iter().filter(|model| is_idle(model)).min_by_key(|model| model.last_used)
}

/// Whether the model has been of no use for `limit`. Only inference counts as use, and a generation in progress as use now.
pub(super) fn is_stale(model: &Snapshot, now: Instant, limit: Duration) -> bool {
    is_idle(model) && now.saturating_duration_since(model.last_used) >= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, active: usize, queued: usize, last_used: Instant) -> Snapshot {
        Snapshot {
            name: name.into(),
            slots: 2,
            active,
            queued,
            tokens_generated: 0,
            requests: 0,
            last_used,
            model_bytes: 100,
            stored_bytes: 0,
            drafted: 0,
            drafts_accepted: 0,
            context: 64,
        }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_nobody_at_work() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let models = [
            model("old but busy", 1, 0, at(0)),
            model("waited for", 0, 1, at(1)),
            model("new", 0, 0, at(9)),
            model("old", 0, 0, at(5)),
        ];
        assert_eq!(least_recent(&models).unwrap().name, "old");
        assert!(least_recent(&models[..2]).is_none());
    }

    #[test]
    fn stale_is_unused_for_long_and_not_at_work() {
        let used = Instant::now();
        let (limit, later) = (Duration::from_secs(60), used + Duration::from_secs(60));
        assert!(is_stale(&model("a", 0, 0, used), later, limit));
        assert!(!is_stale(&model("a", 0, 0, used), later - Duration::from_millis(1), limit));
        assert!(!is_stale(&model("a", 1, 0, used), later, limit));
        assert!(!is_stale(&model("a", 0, 1, used), later, limit));
        // A clock that seems to run backwards makes nothing stale.
        assert!(!is_stale(&model("a", 0, 0, later), used, limit));
    }

    #[test]
    fn mapped_weights_of_loaded_models_are_not_free() {
        let now = Instant::now();
        let loaded = [model("a", 0, 0, now), model("b", 0, 0, now)];
        assert_eq!(free(1000, &loaded), 800);
        assert_eq!(free(150, &loaded), 0);
        assert_eq!(free(150, &[]), 150);
        assert_eq!(needs(1000, 300, 50), 1475);
    }
}
