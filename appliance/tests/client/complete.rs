//! `cerebrum complete`.

use serde_json::{Value, json};

use crate::program::{Ended, Home, expect_output, interrupt};
use crate::stub::{Answer, PATIENCE, Stub};

fn two_tokens() -> Answer {
    Answer::stream().token("a = ").send(": heartbeat\n\n").token("1").done()
}

fn fine(out: &str) -> Ended {
    Ended { code: Some(0), out: out.into(), err: String::new() }
}

#[test]
fn the_prompt_comes_from_argument_file_or_stdin() {
    let stub = Stub::start([(); 6].map(|()| two_tokens()));
    let (home, url) = (Home::new(), stub.url());
    let file = home.file("x.py", "def f():\n    pass\n");
    let check = |ended: Ended, prompt: &str| {
        assert_eq!(ended, fine("a = 1"));
        assert_eq!(stub.asked().body["prompt"], prompt);
    };
    check(home.run(&url, &["complete", "Write f"]), "Write f");
    check(home.run(&url, &["complete", "-f", &file]), "def f():\n    pass\n");
    check(
        home.run(&url, &["complete", "-f", &file, "Refactor this"]),
        "def f():\n    pass\n\n# INSTRUCTION: Refactor this",
    );
    check(home.run_with(&url, &["complete"], "piped"), "piped");
    check(home.run_with(&url, &["complete", "-"], "dash"), "dash");
    check(home.run_with(&url, &["complete", "Explain"], "piped\n"), "piped\n\n# INSTRUCTION: Explain");
}

#[test]
fn every_parameter_is_sent_and_silence_is_not() {
    let stub = Stub::start([two_tokens(), two_tokens()]);
    let home = Home::new();
    let arguments =
        "complete x --language rust --model m1 --max-tokens 64 --temperature 0.2 --seed 7 --stop A --stop B";
    home.run(&stub.url(), &arguments.split(' ').collect::<Vec<_>>());
    let asked = stub.asked();
    assert_eq!(asked.line, "POST /v1/complete/stream HTTP/1.1");
    assert_eq!(
        asked.body,
        json!({"prompt": "x", "language": "rust", "model": "m1", "max_tokens": 64, "temperature": 0.2, "seed": 7, "stop": ["A", "B"]})
    );
    home.run(&stub.url(), &["complete", "x"]);
    assert_eq!(stub.asked().body, json!({"prompt": "x"}));
}

#[test]
fn tokens_appear_as_they_come() {
    let (answer, go) = Answer::stream().token("first").gate();
    let stub = Stub::start([answer.token(" second\n").done()]);
    let mut child = Home::new().command(&stub.url(), &["complete", "x"]).spawn().unwrap();
    expect_output(&mut child, "first");
    go.send(()).unwrap();
    assert_eq!(Ended::from(child.wait_with_output().unwrap()), fine(" second\n"));
}

#[test]
fn json_is_the_answer_as_one_document() {
    let body = r#"{"result":"a = 1","model_used":"stub_1b","tokens_generated":2,"extra":[1]}"#;
    let stub = Stub::start([Answer::json("200 OK", body)]);
    let ended = Home::new().run(&stub.url(), &["complete", "x", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&ended.out).unwrap(), serde_json::from_str::<Value>(body).unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    assert_eq!(stub.asked().line, "POST /v1/complete HTTP/1.1");
}

#[test]
fn no_stream_prints_the_text_and_warnings_beside_it() {
    let body = r#"{"result":"a = 1","model_used":"stub_1b","tokens_generated":2,"warnings":["max_tokens: found 9"]}"#;
    let stub = Stub::start([Answer::json("200 OK", body)]);
    let ended = Home::new().run(&stub.url(), &["complete", "x", "--no-stream"]);
    assert_eq!(ended, Ended { err: "warning: max_tokens: found 9\n".into(), ..fine("a = 1") });
}

#[test]
fn json_lines_are_the_events_in_order() {
    let error = r#"{"error":"timeout","message":"too slow","done":true}"#;
    let stub = Stub::start([two_tokens(), Answer::stream().token("a").event(error)]);
    let home = Home::new();
    let lines =
        |ended: &Ended| -> Vec<Value> { ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let ended = home.run(&stub.url(), &["complete", "x", "--json-lines"]);
    let events = lines(&ended);
    assert_eq!((events.len(), &events[0]["token"], &events[2]["done"]), (3, &json!("a = "), &json!(true)));

    let failed = home.run(&stub.url(), &["complete", "x", "--json-lines"]);
    assert_eq!(failed.code, Some(1));
    assert_eq!(lines(&failed)[1], serde_json::from_str::<Value>(error).unwrap());
}

#[test]
fn an_error_event_is_shown_although_it_says_done() {
    let error = r#"{"error":"upstream_lost","message":"the link broke","done":true}"#;
    let stub = Stub::start([Answer::stream().token("a").event(error)]);
    let ended = Home::new().run(&stub.url(), &["complete", "x"]);
    let err = "cerebrum: the generation failed: the link broke (upstream_lost)\n".to_owned();
    assert_eq!(ended, Ended { code: Some(1), out: "a".into(), err });
}

#[test]
fn a_stream_without_its_last_event_is_an_error() {
    let cut = Answer::whole("200 OK", "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n", "");
    let stub = Stub::start([Answer::stream().token("a"), Answer::stream(), cut]);
    let home = Home::new();
    let ended = home.run(&stub.url(), &["complete", "x"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), "a"));
    assert!(ended.err.contains("the answer is incomplete: the stream ended after 1 token"), "{}", ended.err);
    assert_eq!(home.run(&stub.url(), &["complete", "x"]).code, Some(1));
    let broken = home.run(&stub.url(), &["complete", "x"]);
    assert!(broken.code == Some(1) && !broken.err.is_empty(), "{broken:?}");
}

#[test]
fn progress_is_asked_for_and_told_when_wanted() {
    let answer = Answer::stream().event(r#"{"progress":0.35}"#).token("a").done();
    let stub = Stub::start([answer]);
    let ended = Home::new().run(&stub.url(), &["complete", "x", "--progress"]);
    assert_eq!(ended, Ended { err: "reading the prompt: 35 %\n".into(), ..fine("a") });
    assert_eq!(stub.asked().body["progress"], true);
}

#[test]
fn ctrl_c_closes_the_connection_and_exits_130() {
    for begun in [true, false] {
        let answer = Answer::stream();
        let (answer, closed) = if begun { answer.token("a") } else { answer }.until_closed();
        let stub = Stub::start([answer]);
        let mut child = Home::new().command(&stub.url(), &["complete", "x"]).spawn().unwrap();
        stub.asked();
        if begun {
            expect_output(&mut child, "a");
        }
        interrupt(&child);
        closed.recv_timeout(PATIENCE).expect("the connection is closed");
        let ended = Ended::from(child.wait_with_output().unwrap());
        assert_eq!(ended, Ended { code: Some(130), out: String::new(), err: String::new() });
    }
}

#[test]
fn a_reader_that_had_enough_ends_it_quietly() {
    let (answer, go) = Answer::stream().token("a").gate();
    let (answer, closed) = answer.token("b").until_closed();
    let stub = Stub::start([answer]);
    let mut child = Home::new().command(&stub.url(), &["complete", "x"]).spawn().unwrap();
    expect_output(&mut child, "a");
    drop(child.stdout.take());
    go.send(()).unwrap();
    closed.recv_timeout(PATIENCE).expect("the connection is closed");
    assert_eq!(Ended::from(child.wait_with_output().unwrap()), fine(""));
}

#[test]
fn wrong_usage_is_64_and_asks_nobody() {
    let home = Home::new();
    let binary = home.0.path().join("binary");
    std::fs::write(&binary, [b'a', 0xff]).unwrap();
    let wrong: [&[&str]; 7] = [
        &["complete"],
        &["complete", " "],
        &["complete", "-", "--file", "x"],
        &["complete", "x", "--temperature", "3"],
        &["complete", "x", "--max-tokens", "0"],
        &["complete", "x", "--url", "ftp://box"],
        &["frobnicate"],
    ];
    for arguments in wrong {
        let ended = home.run("http://127.0.0.1:9", arguments);
        assert!(ended.code == Some(64) && ended.out.is_empty() && !ended.err.is_empty(), "{arguments:?} {ended:?}");
    }
    let missing = home.run("http://127.0.0.1:9", &["complete", "-f", "/nonexistent"]);
    assert!(missing.code == Some(1) && missing.err.contains("/nonexistent"), "{missing:?}");
    let ended = home.run("http://127.0.0.1:9", &["complete", "-f", binary.to_str().unwrap()]);
    assert!(ended.code == Some(1) && ended.err.contains("not UTF-8 at offset 1"), "{ended:?}");
    assert_eq!(home.run("", &["--help"]).code, Some(0));
}
