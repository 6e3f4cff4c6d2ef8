//! Reaching an appliance, or the sentence that says why not.

use std::net::TcpListener;
use std::sync::Arc;

use cerebrum_appliance::client::answer::Event;
use cerebrum_appliance::client::server::Server;
use cerebrum_common::pki::{Authority, Role};
use cerebrum_common::tls::{IdentityFiles, ServerFiles, TlsFiles};
use cerebrum_common::wire::native::Generate;

use crate::program::{Ended, Home};
use crate::stub::{Answer, PATIENCE, Stub};

fn answer() -> Answer {
    Answer::stream().token("a").done()
}

fn failed(ended: &Ended, words: &str) {
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.err.starts_with("cerebrum: ") && ended.err.contains(words), "{words:?} in {ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
}

fn request() -> Generate {
    Generate { prompt: Some("x".into()), ..Generate::default() }
}

#[tokio::test]
async fn events_are_the_same_however_the_bytes_are_cut() {
    let whole =
        "data: {\"token\":\"h\u{e9}\",\"total_tokens\":1}\r\n\r\n: beat\n\ndata: {\"done\":true,\"model\":\"m\"}\n\n";
    for size in [1, 2, 7, 64] {
        let mut answer = Answer::stream();
        for part in whole.as_bytes().chunks(size) {
            answer = answer.bytes(part);
        }
        let stub = Stub::start([answer]);
        let server = Server::new(stub.url().parse().unwrap(), None, None).unwrap();
        let mut events = server.stream(&request()).await.unwrap();
        assert_eq!(events.next().await.unwrap().unwrap().0, Event::Token("h\u{e9}".into()));
        assert!(matches!(events.next().await.unwrap().unwrap().0, Event::Done(summary) if summary.model == "m"));
        assert!(events.next().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn dropping_the_events_closes_the_connection() {
    let (answer, closed) = Answer::stream().token("a").until_closed();
    let stub = Stub::start([answer]);
    let server = Server::new(stub.url().parse().unwrap(), None, None).unwrap();
    let mut events = server.stream(&request()).await.unwrap();
    events.next().await.unwrap();
    assert!(closed.try_recv().is_err(), "closed too early");
    drop(events);
    closed.recv_timeout(PATIENCE).expect("the connection is closed");
}

#[test]
fn nobody_there_and_no_such_name() {
    let home = Home::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    failed(&home.run(&format!("http://{free}"), &["complete", "x"]), &format!("nothing listens at {free}"));
    failed(&home.run("http://nowhere.invalid:7000", &["health"]), "cannot find the host \"nowhere.invalid\"");
}

#[test]
fn refusals_are_passed_on_with_retry_after() {
    let busy = Answer::whole(
        "503 Service Unavailable",
        "content-type: application/json\r\nretry-after: 3\r\n",
        r#"{"error":"CM4 busy","message":"Too many concurrent requests, retry shortly"}"#,
    );
    let denied = Answer::json("403 Forbidden", r#"{"error":"forbidden","message":"no key: send one"}"#);
    let stub = Stub::start([busy, denied]);
    let home = Home::new();
    let busy = home.run(&stub.url(), &["complete", "x"]);
    failed(&busy, "refused (503): Too many concurrent requests, retry shortly; retry in 3 s");
    failed(&home.run(&stub.url(), &["models"]), "refused (403): no key: send one; give a key with --key-file");
}

#[test]
fn an_answer_of_another_server_is_recognised() {
    let page = |status| Answer::whole(status, "content-type: text/html\r\n", "<html>router</html>");
    let unlike = Answer::json("200 OK", r#"{"hello":"world"}"#);
    let stub = Stub::start([page("200 OK"), page("404 Not Found"), unlike, Answer::stream().event("[DONE]")]);
    let (home, url) = (Home::new(), stub.url());
    for arguments in [&["complete", "x"][..], &["complete", "x"], &["health"], &["complete", "x"]] {
        failed(&home.run(&url, arguments), "answers, but not as a Cerebrum appliance does");
    }
}

#[test]
fn the_key_comes_from_file_environment_or_settings() {
    let stub = Stub::start([(); 4].map(|()| answer()));
    let (home, url) = (Home::new(), stub.url());
    let key = || stub.asked().header("x-api-key").map(str::to_owned);
    home.run(&url, &["complete", "x"]);
    assert_eq!(key(), None);
    home.file(".config/cerebrum/client.toml", "key = \"from-settings\"\n");
    home.run(&url, &["complete", "x"]);
    assert_eq!(key().as_deref(), Some("from-settings"));
    home.command(&url, &["complete", "x"]).env("CEREBRUM_API_KEY", "from-environment").output().unwrap();
    assert_eq!(key().as_deref(), Some("from-environment"));
    let file = home.file("key", "from-file\n");
    home.command(&url, &["complete", "x", "--key-file", &file]).env("CEREBRUM_API_KEY", "no").output().unwrap();
    assert_eq!(key().as_deref(), Some("from-file"));
}

/// A CA, its server for 127.0.0.1, and the CA's file in `home`.
fn identity(home: &Home, name: &str) -> (Arc<rustls::ServerConfig>, String) {
    let authority = Authority::new().unwrap();
    let identity = authority.issue("stub", Role::Server, &["127.0.0.1".into()], 30).unwrap();
    let file = |end: &str, content: &str| home.file(&format!("{name}.{end}"), content);
    let identity = IdentityFiles {
        certificate: file("pem", &identity.certificate_pem).into(),
        key: file("key", &identity.key_pem).into(),
    };
    let config = ServerFiles { identity, client_ca: None }.build().unwrap();
    (config, file("ca.pem", authority.certificate_pem()))
}

#[test]
fn tls_with_the_right_ca_and_no_other() {
    let home = Home::new();
    let (config, ca) = identity(&home, "right");
    let (_, foreign) = identity(&home, "foreign");
    let stub = Stub::start_tls([answer()], config);
    let url = format!("https://{}", stub.address);
    assert_eq!(home.run(&url, &["--ca", &ca, "complete", "x"]).out, "a");
    failed(
        &home.run(&url, &["--ca", &foreign, "complete", "x"]),
        "was signed by another CA: give the CA that signed it with --ca",
    );
    let without = home.run(&url, &["complete", "x"]);
    assert!(without.code == Some(64) && without.err.contains("--ca FILE"), "{without:?}");
}

#[test]
fn tls_and_plain_ports_are_told_apart() {
    let home = Home::new();
    let (config, ca) = identity(&home, "stub");
    let tls = Stub::start_tls([], config);
    failed(&home.run(&tls.url(), &["complete", "x"]), "if the port speaks TLS, use https://");
    // What hyper's servers, ours among them, say to a TLS greeting.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", plain.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = plain.accept().unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    failed(&home.run(&url, &["--ca", &ca, "complete", "x"]), "does not speak TLS on this port: use http://");
    server.join().unwrap();
}
