//! A session keeps its model: another one costs its load and all that the cache holds, so one odd request does not change it.

/// The model of a session, and how firmly. Kept by whoever knows sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    model: String,
    /// Another model that the last requests wanted, and how many of them.
    rival: Option<(String, u8)>,
}

impl Held {
    /// A session that begins with a model.
    #[must_use]
    pub fn new(model: &str) -> Self {
        Self { model: model.to_owned(), rival: None }
    }

    /// The session's model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// What is held after a request that wants `model`: another model only when that is certain, or was wanted `after`
    /// times in a row.
    #[must_use]
    pub fn then(&self, model: &str, certain: bool, after: u8) -> Self {
        if model == self.model || certain {
            return Self::new(model);
        }
        let before = self.rival.as_ref().filter(|(rival, _)| rival == model).map_or(0, |(_, times)| *times);
        let times = before.saturating_add(1);
        if times >= after {
            return Self::new(model);
        }
        Self { model: self.model.clone(), rival: Some((model.to_owned(), times)) }
    }
}
