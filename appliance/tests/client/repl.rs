//! `cerebrum repl`, in a pseudo-terminal and with a script.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rexpect::session::{PtySession, spawn_command};
use serde_json::json;

use crate::program::Home;
use crate::stub::{Answer, PATIENCE, Stub};

const PROMPT: &str = "cerebrum> ";

fn answer() -> Answer {
    Answer::stream().token("answer").done()
}

fn terminal(home: &Home, url: &str) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cerebrum"));
    command.arg("repl").env_clear().env("HOME", home.0.path()).env("CEREBRUM_URL", url).env("TERM", "xterm");
    let session = spawn_command(command, Some(PATIENCE.as_millis().try_into().unwrap())).unwrap();
    wait_for_prompt(session)
}

fn wait_for_prompt(mut session: PtySession) -> PtySession {
    session.exp_string(PROMPT).unwrap();
    session
}

/// Types a line, waits for `shown` after its echo, and for the prompt.
fn enter(session: &mut PtySession, line: &str, shown: &str) {
    session.send_line(line).unwrap();
    session.exp_string("\n").unwrap();
    session.exp_string(shown).unwrap();
    session.exp_string(PROMPT).unwrap();
}

fn leave(mut session: PtySession) {
    session.send_control('d').unwrap();
    session.exp_eof().unwrap();
    let status = session.process().wait().unwrap();
    // The type is nix's, of the version that rexpect builds with.
    let status = format!("{status:?}");
    assert!(status.starts_with("Exited(") && status.ends_with(", 0)"), "{status}");
}

/// The conversation that a request says it belongs to, out of it.
fn taken(request: &mut serde_json::Value) -> String {
    let conversation = request.as_object_mut().and_then(|fields| fields.remove("session_id"));
    conversation.and_then(|id| id.as_str().map(str::to_owned)).expect("every request belongs to a conversation")
}

#[test]
fn settings_are_shown_validated_really_sent_and_reset() {
    let stub = Stub::start([answer(), answer(), answer()]);
    let home = Home::new();
    let mut session = terminal(&home, &stub.url());
    enter(&mut session, ":model", "model: chosen by the appliance");
    enter(&mut session, ":model m1", "model: m1");
    enter(&mut session, ":lang rust", "lang: rust");
    enter(&mut session, ":tokens many", "error: :tokens: found \"many\", expected a whole number from 1 to 32768");
    enter(&mut session, ":tokens 64", "tokens: 64");
    enter(&mut session, ":temp 0.5", "temp: 0.5");
    enter(&mut session, "Write f", "answer");
    let sent = json!({"prompt": "Write f", "model": "m1", "language": "rust", "max_tokens": 64, "temperature": 0.5,
        "progress": true});
    let mut asked = stub.asked().body;
    let conversation = taken(&mut asked);
    assert_eq!(asked, sent);
    enter(&mut session, ":model -", "model: chosen by the appliance");
    enter(&mut session, "again", "2 tokens in 0.5 s (4.00/s), model stub_1b, prompt 8,344 -> 1,120 characters");
    let mut again = stub.asked().body;
    assert_eq!((taken(&mut again), again.get("model")), (conversation.clone(), None));
    leave(session);
    // Another run is another conversation.
    assert_eq!(home.run_with(&stub.url(), &["repl"], "x\n").code, Some(0));
    assert_ne!(taken(&mut stub.asked().body), conversation);
}

#[test]
fn ctrl_c_stops_the_generation_and_not_the_program() {
    let (endless, closed) = Answer::stream().token("begun").until_closed();
    let (silent, closed_silent) = Answer::stream().until_closed();
    let stub = Stub::start([endless, silent, answer()]);
    let home = Home::new();
    let mut session = terminal(&home, &stub.url());
    session.send_line("x").unwrap();
    session.exp_string("begun").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("Stopped").unwrap();
    session.exp_string(PROMPT).unwrap();
    closed.recv_timeout(PATIENCE).expect("the connection is closed");

    session.send_line("y").unwrap();
    session.exp_string("waiting, 0 s").unwrap();
    session.send_control('c').unwrap();
    session.exp_string(PROMPT).unwrap();
    closed_silent.recv_timeout(PATIENCE).expect("the connection is closed");

    enter(&mut session, "once more", "answer");
    leave(session);
}

#[test]
fn errors_are_shown_and_the_prompt_comes_back() {
    let error = r#"{"error":"timeout","message":"too slow","done":true}"#;
    let stub = Stub::start([Answer::stream().token("a").event(error), Answer::stream().token("b"), answer()]);
    let home = Home::new();
    let mut session = terminal(&home, &stub.url());
    enter(&mut session, "x", "error: the generation failed: too slow (timeout)");
    enter(&mut session, "y", "error: the answer is incomplete");
    enter(&mut session, ":modle", "error: there is no command :modle; :help lists them");
    enter(&mut session, "z", "answer");
    leave(session);
}

#[test]
fn ctrl_c_at_the_prompt_clears_the_line() {
    let stub = Stub::start([answer()]);
    let home = Home::new();
    let mut session = terminal(&home, &stub.url());
    session.send("half a line").unwrap();
    session.flush().unwrap();
    session.exp_string("half a line").unwrap();
    session.send_control('c').unwrap();
    session.exp_string(PROMPT).unwrap();
    enter(&mut session, "whole", "answer");
    assert_eq!(stub.asked().body["prompt"], "whole");
    leave(session);
}

#[test]
fn several_lines_go_as_one_prompt() {
    let stub = Stub::start([answer()]);
    let home = Home::new();
    let mut session = terminal(&home, &stub.url());
    for line in [":multi", "def f():", "    :model x", ":done"] {
        session.send_line(line).unwrap();
    }
    assert_eq!(stub.asked().body["prompt"], "def f():\n    :model x");
    session.exp_string("answer").unwrap();
    session.exp_string(PROMPT).unwrap();
    leave(session);
}

#[test]
fn history_is_numbered_kept_private_and_can_be_forgotten() {
    let stub = Stub::start([answer(), answer()]);
    let home = Home::new();
    let mut session = terminal(&home, &stub.url());
    enter(&mut session, "Write f", "answer");
    for line in [":multi", "two", "lines"] {
        session.send_line(line).unwrap();
        session.exp_string(".. ").unwrap();
    }
    enter(&mut session, ":done", "answer");
    leave(session);
    let file = home.0.path().join(".local/state/cerebrum/history");
    assert!(std::fs::read_to_string(&file).unwrap().contains("Write f"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let mut session = terminal(&home, &stub.url());
    enter(&mut session, ":history", "    1  Write f\r\n    2  :multi\r\n    3  two\r\n       lines\r\n");
    enter(&mut session, ":history clear", "empty");
    leave(session);
    assert!(!std::fs::read_to_string(&file).unwrap().contains("Write f"));
}

#[test]
fn a_script_is_obeyed_line_by_line() {
    let stub = Stub::start([answer(), answer()]);
    let home = Home::new();
    let script = ":lang rust\none\n:multi\ntwo\nthree\n:done\n:history\n:exit\nnever\n";
    let ended = home.run_with(&stub.url(), &["repl", "--seed", "7"], script);
    assert_eq!(
        ended.out,
        "lang: rust\nanswer\nanswer\n    1  :lang rust\n    2  one\n    3  :multi\n    4  two\n       three\n    5  :history\n"
    );
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let (mut first, mut second) = (stub.asked().body, stub.asked().body);
    assert_eq!(taken(&mut first), taken(&mut second), "one run is one conversation");
    assert_eq!(first, json!({"prompt": "one", "language": "rust", "seed": 7}));
    assert_eq!(second["prompt"], "two\nthree");
    assert!(!home.0.path().join(".local").exists(), "a script leaves no history");
}

#[test]
fn a_script_goes_on_after_an_error_and_tells_by_its_exit_code() {
    let error = r#"{"error":"timeout","message":"too slow","done":true}"#;
    let stub = Stub::start([Answer::stream().event(error), answer()]);
    let ended = Home::new().run_with(&stub.url(), &["repl"], "one\ntwo\n:multi\nlost\n");
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), "answer\n"));
    assert_eq!(
        ended.err,
        "error: the generation failed: too slow (timeout)\nerror: the input ended before :done; the lines since :multi were not sent\n"
    );
}
