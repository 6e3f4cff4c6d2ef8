//! llama.cpp's log: into tracing, and, where a call fails, into the error that is returned.
//!
//! llama.cpp gives its reasons only to its log. It writes them on the thread that called it, so a capture is a thread's own.
#![expect(unsafe_code, reason = "the FFI of this crate; each block says why it is sound")]

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Once;

use llama_cpp_sys_2 as sys;

/// Sends llama.cpp's log to tracing (target `llama`) from now on.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    // SAFETY: the callback is a static function that uses no user data and never unwinds into C.
    INSTALLED.call_once(|| unsafe { sys::llama_log_set(Some(on_log), std::ptr::null_mut()) });
}

/// Runs a call and gives what llama.cpp complained of during it, on this thread.
pub(super) fn capture<T>(call: impl FnOnce() -> T) -> (T, String) {
    STATE.with_borrow_mut(|state| state.complaints.clear());
    let result = call();
    let said = STATE.with_borrow_mut(|state| std::mem::take(&mut state.complaints));
    let said = said.join("; ");
    (result, if said.is_empty() { "llama.cpp gave no reason".to_owned() } else { said })
}

#[derive(Default)]
struct State {
    level: sys::ggml_log_level,
    // A line may come in pieces.
    line: String,
    complaints: Vec<String>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

unsafe extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a NUL-terminated string that lives for the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // The thread may be ending, and a tracing subscriber may itself come here: both drop the text.
    let take = |state: &RefCell<State>| state.try_borrow_mut().ok().and_then(|mut state| state.take(level, &text));
    if let Ok(Some(line)) = STATE.try_with(take) {
        emit(line);
    }
}

impl State {
    // A complete line with its level.
    fn take(&mut self, level: sys::ggml_log_level, text: &str) -> Option<(sys::ggml_log_level, String)> {
        if level != sys::GGML_LOG_LEVEL_CONT {
            self.level = level;
        }
        self.line.push_str(text);
        if !text.ends_with('\n') && self.line.len() < LINE_BYTES {
            return None;
        }
        let line = std::mem::take(&mut self.line).trim().to_owned();
        if self.level == sys::GGML_LOG_LEVEL_ERROR && self.complaints.len() < COMPLAINTS {
            self.complaints.push(line.clone());
        }
        (!line.is_empty()).then_some((self.level, line))
    }
}

// One level lower than llama.cpp sees it: its information is a hundred lines a model, and its errors are reported where they are handled.
fn emit((level, line): (sys::ggml_log_level, String)) {
    match level {
        sys::GGML_LOG_LEVEL_ERROR => tracing::warn!(target: "llama", "{line}"),
        sys::GGML_LOG_LEVEL_WARN => tracing::info!(target: "llama", "{line}"),
        sys::GGML_LOG_LEVEL_INFO => tracing::debug!(target: "llama", "{line}"),
        _ => tracing::trace!(target: "llama", "{line}"),
    }
}

/// Beyond it a line is passed on in parts.
const LINE_BYTES: usize = 4096;
/// The first complaints say what happened; the rest follow from it.
const COMPLAINTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_errors_kept() {
        let mut state = State::default();
        assert_eq!(state.take(sys::GGML_LOG_LEVEL_ERROR, "broken "), None);
        let line = state.take(sys::GGML_LOG_LEVEL_CONT, "file\n");
        assert_eq!(line, Some((sys::GGML_LOG_LEVEL_ERROR, "broken file".to_owned())));
        assert_eq!(state.take(sys::GGML_LOG_LEVEL_INFO, "fine\n"), Some((sys::GGML_LOG_LEVEL_INFO, "fine".to_owned())));
        assert_eq!(state.complaints, ["broken file"]);
    }
}
