//! A bar for people who watch. Where standard error is no terminal, nothing is shown.

use indicatif::{ProgressBar, ProgressStyle};

/// How far something of many bytes is.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar on standard error, if that is a terminal.
    pub fn shown(label: &str) -> Self {
        // The crate itself shows nothing elsewhere.
        let bar = ProgressBar::new(0).with_message(label.to_owned());
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        Self(match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        })
    }

    /// Nothing to be seen.
    pub fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// So many bytes are done, of so many where that is known.
    pub fn set(&self, done: u64, total: Option<u64>) {
        match total {
            Some(total) => self.0.set_length(total),
            None => self.0.unset_length(),
        }
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
