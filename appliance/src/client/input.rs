//! Puts the prompt together from an argument, a file and standard input. Never waits at a terminal unless asked to.

use std::io::{IsTerminal, Read};
use std::path::Path;

use super::failure::Failure;

/// Largest input that is read, in bytes: the appliance takes 4 MiB by default, and says so itself above that.
const INPUT_BYTES: u64 = 64 << 20;

/// Where the parts come from.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    /// A file; `-` for standard input.
    content: Option<&'a Path>,
    instruction: Option<&'a str>,
}

/// The prompt that the arguments mean.
///
/// # Errors
/// Nothing to complete, a source that cannot be read, or one that is not text.
pub(super) fn prompt(argument: Option<&str>, file: Option<&Path>) -> Result<String, Failure> {
    let parts = choose(argument, file, is_piped())?;
    let content = parts.content.map(read).transpose()?;
    let prompt = join(content, parts.instruction);
    if prompt.trim().is_empty() {
        return Err(Failure::Usage("the prompt is empty: there is nothing to complete".to_owned()));
    }
    Ok(prompt)
}

/// Whether standard input is a pipe or a file: then it is meant as input. A service's or job's empty stdin (`/dev/null`)
/// and a terminal are not.
fn is_piped() -> bool {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return false;
    }
    let file_type = std::fs::metadata("/dev/stdin").map(|data| data.file_type());
    file_type.is_ok_and(|kind| {
        use std::os::unix::fs::FileTypeExt;
        kind.is_fifo() || kind.is_file() || kind.is_socket()
    })
}

fn choose<'a>(argument: Option<&'a str>, file: Option<&'a Path>, piped: bool) -> Result<Parts<'a>, Failure> {
    let stdin = Path::new("-");
    match (argument, file) {
        (Some("-"), Some(_)) => Err(Failure::Usage(
            "found both `-` and --file: expected an instruction beside the file, or one source".to_owned(),
        )),
        (Some("-"), None) => Ok(Parts { content: Some(stdin), instruction: None }),
        (instruction, Some(file)) => Ok(Parts { content: Some(file), instruction }),
        (instruction, None) if piped => Ok(Parts { content: Some(stdin), instruction }),
        (Some(_), None) => Ok(Parts { content: None, instruction: argument }),
        (None, None) => Err(Failure::Usage(
            "found no prompt: expected one as an argument, in --file, or on standard input".to_owned(),
        )),
    }
}

/// File first, then a blank line and the instruction, where the appliance looks for it.
/// What the appliance knows an instruction by.
const MARKER: &str = "# INSTRUCTION:";

fn join(content: Option<String>, instruction: Option<&str>) -> String {
    match (content, instruction) {
        (Some(content), Some(instruction)) if !content.trim().is_empty() => {
            // Marked, so that every profile of the appliance finds it.
            format!("{}\n\n{MARKER} {instruction}", content.trim_end_matches(['\n', '\r']))
        }
        (_, Some(instruction)) => instruction.to_owned(),
        (content, None) => content.unwrap_or_default(),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let is_stdin = path == Path::new("-");
    let what = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let complaint = |source| Failure::Input { what: what.clone(), source };
    let mut source: Box<dyn Read> =
        if is_stdin { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(path).map_err(complaint)?) };
    let mut bytes = Vec::new();
    source.by_ref().take(INPUT_BYTES + 1).read_to_end(&mut bytes).map_err(complaint)?;
    if bytes.len() as u64 > INPUT_BYTES {
        return Err(Failure::Usage(format!("{what}: found more than {INPUT_BYTES} bytes, expected a prompt")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        complaint(std::io::Error::other(format!("found a byte that is not UTF-8 at offset {at}, expected text")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(content: Option<&'a str>, instruction: Option<&'a str>) -> Parts<'a> {
        Parts { content: content.map(Path::new), instruction }
    }

    #[test]
    fn each_combination_has_one_meaning() {
        let file = Some(Path::new("x.py"));
        assert_eq!(choose(Some("do"), None, false).unwrap(), parts(None, Some("do")));
        assert_eq!(choose(Some("do"), file, true).unwrap(), parts(Some("x.py"), Some("do")));
        assert_eq!(choose(None, file, false).unwrap(), parts(Some("x.py"), None));
        assert_eq!(choose(Some("do"), None, true).unwrap(), parts(Some("-"), Some("do")));
        assert_eq!(choose(Some("-"), None, false).unwrap(), parts(Some("-"), None));
        assert_eq!(choose(None, None, true).unwrap(), parts(Some("-"), None));
        assert!(choose(None, None, false).is_err());
        assert!(choose(Some("-"), file, false).is_err());
    }

    #[test]
    fn content_goes_first_then_a_blank_line_and_the_instruction() {
        assert_eq!(join(Some("a = 1\n\n".into()), Some("Refactor")), "a = 1\n\n# INSTRUCTION: Refactor");
        assert_eq!(join(Some("a = 1\n".into()), None), "a = 1\n");
        assert_eq!(join(Some(" \n".into()), Some("Write")), "Write");
        assert_eq!(join(None, Some("Write")), "Write");
    }
}
