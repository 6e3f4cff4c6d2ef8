//! `cerebrum repl`: prompt after prompt, with settings that are really sent. Ctrl-C stops a generation, not the program.
//!
//! [`command`] understands a line, [`settings`] keeps what goes with the next request, [`lines`] reads from a terminal or
//! a script. This file is the loop between them.

mod command;
mod lines;
mod settings;

use std::process::ExitCode;

use cerebrum_common::request_id::RequestId;
use cerebrum_common::wire::native::Generate;
use tokio::runtime::Runtime;

use super::cli::Repl;
use super::console::Console;
use super::failure::Failure;
use super::interrupt::unless_interrupted;
use super::server::Server;
use super::view::{Form, View};
use command::{Command, Line};
use lines::{Lines, Read};
use settings::Settings;

const PROMPT: &str = "cerebrum> ";
const PROMPT_MULTI: &str = "       .. ";

/// What the loop works on.
struct Session<'a> {
    server: &'a Server,
    console: &'a mut Console,
    runtime: &'a Runtime,
    settings: Settings,
    /// The conversation that all requests of this run belong to, so that the server finds what it has read before.
    conversation: String,
    lines: Lines,
    /// Lines since `:multi`, where it was given.
    collected: Option<Vec<String>>,
    failed: bool,
}

/// Whether to read on.
#[derive(PartialEq, Eq)]
enum Next {
    Read,
    Leave,
}

/// Runs the REPL until its input ends.
pub(super) fn run(
    arguments: &Repl,
    server: &Server,
    console: &mut Console,
    runtime: &Runtime,
) -> Result<ExitCode, Failure> {
    let lines = Lines::open(console.shows_answers())?;
    let settings = Settings::new(arguments.parameters.clone());
    let conversation = RequestId::random().to_string();
    let mut session =
        Session { server, console, runtime, settings, conversation, lines, collected: None, failed: false };
    if session.lines.is_interactive() {
        // From here on Ctrl-C between a line's end and its generation's start must not end the program either.
        runtime.block_on(unless_interrupted(async { Ok(()) }))?;
        session.console.remark(&format!("Cerebrum at {}; :help lists the commands", server.authority()));
    }
    session.read_all()?;
    // Who sits at a terminal has seen what failed; a script needs to be told.
    let failed = session.failed && !session.lines.is_interactive();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Session<'_> {
    fn read_all(&mut self) -> Result<(), Failure> {
        loop {
            let prompt = if self.collected.is_some() { PROMPT_MULTI } else { PROMPT };
            let next = match self.lines.read(prompt)? {
                Read::Line(line) if self.collected.is_some() => self.collect(line)?,
                Read::Line(line) => self.handle(&line)?,
                Read::Interrupted => self.abandon(),
                Read::End => self.end(),
            };
            if next == Next::Leave {
                return Ok(());
            }
        }
    }

    fn handle(&mut self, line: &str) -> Result<Next, Failure> {
        match command::parse(line) {
            Ok(Line::Empty) => Ok(Next::Read),
            Ok(Line::Prompt(prompt)) => {
                self.lines.remember(line);
                self.ask(prompt)?;
                Ok(Next::Read)
            }
            Ok(Line::Command(command)) => {
                self.lines.remember(line);
                self.obey(command)
            }
            Err(sentence) => {
                self.lines.remember(line);
                self.complain(&sentence);
                Ok(Next::Read)
            }
        }
    }

    fn obey(&mut self, command: Command) -> Result<Next, Failure> {
        match command {
            Command::Help => self.console.line(command::HELP.trim_end())?,
            Command::Show(setting) => self.console.line(&self.settings.describe(setting))?,
            Command::Set(setting, value) => match self.settings.set(setting, &value) {
                Ok(()) => self.console.line(&self.settings.describe(setting))?,
                Err(sentence) => self.complain(&sentence),
            },
            Command::Reset(setting) => {
                self.settings.reset(setting);
                self.console.line(&self.settings.describe(setting))?;
            }
            Command::Multi => {
                self.collected = Some(Vec::new());
                self.console.remark("Several lines; :done on a line of its own sends them, Ctrl-C drops them");
            }
            Command::History => self.show_history()?,
            Command::ForgetHistory => self.forget(),
            Command::Clear => self.console.clear_screen()?,
            Command::Exit => return Ok(Next::Leave),
        }
        Ok(Next::Read)
    }

    fn show_history(&mut self) -> Result<(), Failure> {
        for (index, entry) in self.lines.history().iter().enumerate() {
            // The further lines of a long entry are indented as far as its first.
            self.console.line(&format!("{:5}  {}", index + 1, entry.replace('\n', "\n       ")))?;
        }
        Ok(())
    }

    fn forget(&mut self) {
        match self.lines.forget() {
            Ok(()) => self.console.remark("The history is empty now."),
            Err(failure) => self.complain(&failure.to_string()),
        }
    }

    fn collect(&mut self, line: String) -> Result<Next, Failure> {
        if line.trim() != ":done" {
            self.collected.get_or_insert_default().push(line);
            return Ok(Next::Read);
        }
        let prompt = self.collected.take().unwrap_or_default().join("\n");
        if prompt.trim().is_empty() {
            self.console.remark("Nothing to send.");
            return Ok(Next::Read);
        }
        self.lines.remember(&prompt);
        self.ask(prompt)?;
        Ok(Next::Read)
    }

    /// Ctrl-C at the prompt: the line is gone, and what `:multi` collected.
    fn abandon(&mut self) -> Next {
        if self.collected.take().is_some() {
            self.console.remark("The lines are dropped.");
        }
        Next::Read
    }

    fn end(&mut self) -> Next {
        if self.collected.take().is_some() {
            self.complain("the input ended before :done; the lines since :multi were not sent");
        }
        Next::Leave
    }

    /// Only a broken output ends the program; everything else is told, and the prompt comes back.
    fn ask(&mut self, prompt: String) -> Result<(), Failure> {
        let result = self.generate(prompt);
        if let Err(failure @ (Failure::OutputClosed | Failure::Output(_))) = result {
            return Err(failure);
        }
        // In a script's output, too, each answer begins a line of its own.
        self.console.end_line()?;
        match result {
            Ok(()) => {}
            Err(Failure::Interrupted) => {
                self.console.remark("Stopped; the connection is closed, so the generation ends too.");
            }
            Err(failure) => self.complain(&failure.to_string()),
        }
        Ok(())
    }

    fn generate(&mut self, prompt: String) -> Result<(), Failure> {
        let mut view = View::new(self.console, Form::Text, false);
        let request = Generate {
            session_id: Some(self.conversation.clone()),
            ..self.settings.parameters().request(prompt, view.wants_progress())
        };
        let work = async {
            let summary = view.stream(self.server, &request).await?;
            view.conclude(&summary)
        };
        // A script's Ctrl-C is for the whole script: it keeps its usual meaning.
        match self.lines.is_interactive() {
            true => self.runtime.block_on(unless_interrupted(work)),
            false => self.runtime.block_on(work),
        }
    }

    fn complain(&mut self, sentence: &str) {
        self.failed = true;
        self.console.note(&format!("error: {sentence}"));
    }
}
