//! Shows one generation as it happens. Dropping what it waits on closes the connection, so it holds no cancel code.

use std::time::Duration;

use cerebrum_common::wire::native::Generate;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::answer::{Event, Sizes, Summary};
use super::console::Console;
use super::failure::Failure;
use super::figures::{count, grouped};
use super::server::Server;

/// How often the status line is drawn anew.
const TICK: Duration = Duration::from_secs(1);

/// What standard output gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The answer's text.
    Text,
    /// Every event, as a line of JSON.
    JsonLines,
}

/// One generation on the console.
pub(super) struct View<'a> {
    console: &'a mut Console,
    form: Form,
    /// Progress is told also where standard error is no terminal.
    insistent: bool,
    started: Instant,
    percent: Option<u8>,
}

impl<'a> View<'a> {
    pub(super) fn new(console: &'a mut Console, form: Form, insistent: bool) -> Self {
        Self { console, form, insistent, started: Instant::now(), percent: None }
    }

    /// Whether progress events are of use.
    pub(super) fn wants_progress(&self) -> bool {
        self.insistent || self.console.is_watched()
    }

    /// Asks for a stream and shows it to its end.
    pub(super) async fn stream(&mut self, server: &Server, request: &Generate) -> Result<Summary, Failure> {
        let mut events = self.waiting(server.stream(request)).await?;
        loop {
            let waiting = events.tokens() == 0 || !self.console.shows_answers();
            let tokens = events.tokens();
            let next = match waiting {
                true => self.counting(tokens, events.next()).await,
                false => events.next().await,
            };
            let Some((event, json)) = self.tell_failure(next)? else { break Err(unfinished(tokens)) };
            self.show(&event, &json)?;
            if let Event::Done(summary) = event {
                drop(events.next().await); // lets the appliance end its body
                break Ok(summary);
            }
        }
    }

    /// Waits for `work`, with a status line meanwhile.
    pub(super) async fn waiting<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.counting(0, work).await
    }

    async fn counting<T>(&mut self, tokens: u32, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = ticks.tick() => self.draw(tokens),
            }
        }
    }

    fn draw(&mut self, tokens: u32) {
        let seconds = self.started.elapsed().as_secs();
        let text = match (tokens, self.percent) {
            (0, None) => format!("waiting, {seconds} s"),
            (0, Some(percent)) => format!("reading the prompt: {percent} %, {seconds} s"),
            (tokens, _) => format!("{}, {seconds} s", count(tokens.into(), "token")),
        };
        self.console.status(&text);
    }

    fn show(&mut self, event: &Event, json: &str) -> Result<(), Failure> {
        if let Event::Progress(share) = event {
            self.progress(*share);
        }
        match (self.form, event) {
            (Form::JsonLines, _) => self.console.line(json),
            (Form::Text, Event::Token(text)) => self.console.answer(text),
            (Form::Text, _) => Ok(()),
        }
    }

    fn progress(&mut self, share: f32) {
        let percent = (share.clamp(0.0, 1.0) * 100.0).round() as u8;
        if self.percent.replace(percent) == Some(percent) {
            return;
        }
        if self.console.is_watched() {
            self.draw(0);
        } else if self.insistent {
            self.console.note(&format!("reading the prompt: {percent} %"));
        }
    }

    /// In JSON lines, a failed generation is a line too: a program reads one thing only.
    fn tell_failure<T>(&mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        if let (Form::JsonLines, Err(Failure::Generation { error, message })) = (self.form, &result) {
            let event = serde_json::json!({"error": error, "message": message, "done": true});
            self.console.line(&event.to_string())?;
        }
        result
    }

    /// Shows a whole answer.
    pub(super) fn print(&mut self, text: &str) -> Result<(), Failure> {
        self.console.answer(text)
    }

    /// Ends the answer and says what there is to say about it.
    pub(super) fn conclude(&mut self, summary: &Summary) -> Result<(), Failure> {
        self.console.end_answer()?;
        for warning in &summary.warnings {
            self.console.note(&format!("warning: {warning}"));
        }
        self.console.remark(&describe(summary));
        Ok(())
    }
}

fn unfinished(tokens: u32) -> Failure {
    Failure::Incomplete { tokens, reason: "nothing more came".to_owned() }
}

/// `129 tokens in 182.1 s (0.71/s), model qwen_7b, prompt 8,344 -> 1,120 characters`.
fn describe(summary: &Summary) -> String {
    let tokens = count(summary.total_tokens.into(), "token");
    let seconds = summary.inference_time;
    let rate = if seconds > 0.0 { f64::from(summary.total_tokens) / seconds } else { 0.0 };
    let prompt = match summary.prepared {
        Some(Sizes { original_chars, final_chars }) if original_chars != final_chars => {
            format!(", prompt {} -> {} characters", grouped(original_chars), grouped(final_chars))
        }
        Some(Sizes { original_chars, .. }) => format!(", prompt {}", count(original_chars, "character")),
        None => String::new(),
    };
    format!("{tokens} in {seconds:.1} s ({rate:.2}/s), model {}{prompt}", summary.model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_reads_as_documented() {
        let prepared = Some(Sizes { original_chars: 8344, final_chars: 1120 });
        let summary =
            Summary { model: "qwen_7b".into(), total_tokens: 129, inference_time: 182.14, prepared, warnings: vec![] };
        let expected = "129 tokens in 182.1 s (0.71/s), model qwen_7b, prompt 8,344 -> 1,120 characters";
        assert_eq!(describe(&summary), expected);
        let silent = Summary { prepared: None, inference_time: 0.0, total_tokens: 1, ..summary };
        assert_eq!(describe(&silent), "1 token in 0.0 s (0.00/s), model qwen_7b");
    }
}
