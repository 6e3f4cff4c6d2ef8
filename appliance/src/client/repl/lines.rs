//! Where the REPL's lines come from: a terminal with editing and history, or a script. Owns the history file.

use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use crate::client::config::home;
use crate::client::failure::Failure;

/// Entries kept: months of use, and a file of some hundred kilobytes.
const ENTRIES: usize = 1000;

/// The first line of rustyline's own history format; without it, entries of several lines are read as they are escaped.
const HEADER: &str = "#V2\n";

/// What reading gave.
#[derive(Debug)]
pub(super) enum Read {
    /// A line, without its end.
    Line(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    /// Ctrl-D, or the script's end.
    End,
}

/// A source of lines.
pub(super) enum Lines {
    /// Somebody types.
    Terminal {
        /// The line editor with its history.
        editor: Box<Editor<(), FileHistory>>,
        /// Where the history is kept, if anywhere.
        file: Option<PathBuf>,
    },
    /// Standard input is no terminal.
    Script {
        /// What was read so far; never stored.
        past: Vec<String>,
    },
}

impl Lines {
    /// Standard input; edited when it and standard output are terminals.
    pub(super) fn open(output_is_terminal: bool) -> Result<Self, Failure> {
        if !(output_is_terminal && std::io::stdin().is_terminal()) {
            return Ok(Self::Script { past: Vec::new() });
        }
        let config = Config::builder().max_history_size(ENTRIES).map_err(terminal)?;
        let config = config.history_ignore_dups(true).map_err(terminal)?.auto_add_history(false).build();
        let history = FileHistory::with_config(&config);
        let mut editor: Editor<(), FileHistory> = Editor::with_history(config, history).map_err(terminal)?;
        let file = home("XDG_STATE_HOME", ".local/state").map(|folder| folder.join("history"));
        // Without a history file, or with a damaged one, one can still type.
        let file = file.filter(|file| prepare(file).is_ok());
        if let Some(file) = &file {
            drop(editor.load_history(file));
        }
        Ok(Self::Terminal { editor: Box::new(editor), file })
    }

    /// Whether somebody types.
    pub(super) fn is_interactive(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next line; only a terminal shows `prompt`.
    pub(super) fn read(&mut self, prompt: &str) -> Result<Read, Failure> {
        match self {
            Self::Terminal { editor, .. } => edited(editor.readline(prompt)),
            Self::Script { .. } => scripted(),
        }
    }

    /// Adds an input to the history, and to its file.
    pub(super) fn remember(&mut self, input: &str) {
        match self {
            Self::Script { past } => past.push(input.to_owned()),
            Self::Terminal { editor, file } => {
                let added = editor.add_history_entry(input).unwrap_or(false);
                if let Some(file) = file.as_deref().filter(|_| added) {
                    // A full disk costs the history, not the session.
                    drop(editor.append_history(file));
                }
            }
        }
    }

    /// Past inputs, oldest first.
    pub(super) fn history(&self) -> Vec<String> {
        match self {
            Self::Script { past } => past.clone(),
            Self::Terminal { editor, .. } => editor.history().iter().cloned().collect(),
        }
    }

    /// Forgets all past inputs.
    ///
    /// # Errors
    /// When the file cannot be emptied.
    pub(super) fn forget(&mut self) -> Result<(), Failure> {
        match self {
            Self::Script { past } => past.clear(),
            Self::Terminal { editor, file } => {
                editor.clear_history().map_err(terminal)?;
                if let Some(file) = file {
                    // The editor leaves the file as it is when there is nothing to save.
                    std::fs::write(&*file, HEADER)
                        .map_err(|source| Failure::Input { what: file.display().to_string(), source })?;
                }
            }
        }
        Ok(())
    }
}

/// Makes the history file readable by its owner only, before anything is in it.
fn prepare(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
    if file.metadata()?.len() == 0 { file.write_all(HEADER.as_bytes()) } else { Ok(()) }
}

fn edited(line: rustyline::Result<String>) -> Result<Read, Failure> {
    match line {
        Ok(line) => Ok(Read::Line(line)),
        Err(ReadlineError::Interrupted) => Ok(Read::Interrupted),
        Err(ReadlineError::Eof) => Ok(Read::End),
        Err(error) => Err(terminal(error)),
    }
}

fn scripted() -> Result<Read, Failure> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    match read.map_err(|source| Failure::Input { what: "standard input".to_owned(), source })? {
        0 => Ok(Read::End),
        _ => Ok(Read::Line(line.trim_end_matches(['\n', '\r']).to_owned())),
    }
}

fn terminal(error: ReadlineError) -> Failure {
    Failure::Terminal(error.to_string())
}
