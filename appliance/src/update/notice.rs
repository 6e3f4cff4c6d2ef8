//! What `cerebrum update` leaves for the daemon, which shows it on the panel: one small file in memory.

use std::io;
use std::path::{Path, PathBuf};

use cerebrum_board::{Update, UpdateState};
use serde::{Deserialize, Serialize};

/// An update, and how far it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Its version, as far as it is known.
    pub version: String,
    /// Where it comes from: a path or a URL.
    pub source: Option<String>,
    /// How far it is.
    pub stage: Stage,
    /// Per cent of this stage that are done, where that is known.
    #[serde(default)]
    pub percent: u8,
}

/// How far an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Looked at, found good, and waiting for a person.
    Available,
    /// On its way here.
    Fetching,
    /// Being looked at.
    Checking,
    /// Being written.
    Installing,
    /// Whole in the other slot.
    RestartNeeded,
    /// Given up.
    Failed,
}

impl Notice {
    /// The one at `path`, if there is one that makes sense.
    pub fn read(path: &Path) -> Option<Self> {
        toml::from_str(&std::fs::read_to_string(path).ok()?).ok()
    }

    /// Replaces the one at `path`; a reader sees the old one or the new one.
    ///
    /// # Errors
    /// The system's complaint.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        std::fs::write(&new, text)?;
        std::fs::rename(new, path)
    }
}

impl From<Notice> for Update {
    fn from(notice: Notice) -> Self {
        let share = f32::from(notice.percent.min(100)) / 100.0;
        let state = match notice.stage {
            Stage::Available => UpdateState::Available,
            Stage::Fetching => UpdateState::Fetching(share),
            Stage::Checking => UpdateState::Checking,
            Stage::Installing => UpdateState::Installing(share),
            Stage::RestartNeeded => UpdateState::RestartNeeded,
            Stage::Failed => UpdateState::Failed,
        };
        Self { version: notice.version, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("update.toml");
        assert_eq!(Notice::read(&path), None);
        let notice = Notice {
            version: "1.3.0".into(),
            source: Some("https://host/x.update".into()),
            stage: Stage::Installing,
            percent: 40,
        };
        notice.write(&path).unwrap();
        assert_eq!(Notice::read(&path), Some(notice.clone()));
        assert_eq!(Update::from(notice), Update { version: "1.3.0".into(), state: UpdateState::Installing(0.4) });
        std::fs::write(&path, "stage = \"dancing\"").unwrap();
        assert_eq!(Notice::read(&path), None);
    }
}
