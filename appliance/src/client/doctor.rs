//! `cerebrum doctor`: tries everything that an answer needs, step by step, and says of each what was found and how to mend it.
//! Asks the appliance as any client would; on the appliance itself it also reads the daemon's settings and asks every
//! inference server as the daemon would. Changes nothing.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use cerebrum_common::program::Settings as _;
use cerebrum_common::tls::TlsFiles;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::cli::{Connection, Doctor};
use super::config;
use super::console::Console;
use super::cure;
use super::failure::Failure;
use super::interrupt::unless_interrupted;
use super::server::{Answered, Server};
use crate::settings::{Settings, Upstream};

/// Clocks further apart than this make certificates and logs wrong.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// For one step.
const STEP: Duration = Duration::from_secs(10);

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not well.
    Warning,
    /// Nothing will work before this is mended.
    Bad,
}

/// What was found in a step.
#[derive(Debug, Serialize)]
struct Finding {
    verdict: Verdict,
    /// Where.
    about: String,
    /// What was found, and what to do about it.
    found: String,
}

/// Everything that was found.
#[derive(Debug, Default, Serialize)]
struct Findings(Vec<Finding>);

impl Findings {
    fn note(&mut self, verdict: Verdict, about: &str, found: impl Into<String>) {
        self.0.push(Finding { verdict, about: about.to_owned(), found: found.into() });
    }

    fn ok(&mut self, about: &str, found: impl Into<String>) {
        self.note(Verdict::Ok, about, found);
    }

    fn bad(&mut self, about: &str, found: impl Into<String>) {
        self.note(Verdict::Bad, about, found);
    }

    fn is_bad(&self) -> bool {
        self.0.iter().any(|finding| finding.verdict == Verdict::Bad)
    }
}

/// `cerebrum doctor`: exit code 1 when something keeps answers from coming.
pub(super) async fn run(
    arguments: &Doctor,
    connection: &Connection,
    console: &mut Console,
) -> Result<ExitCode, Failure> {
    let mut findings = Findings::default();
    unless_interrupted(async {
        let own = arguments.daemon.exists();
        if own {
            own_daemon(&arguments.daemon, &mut findings).await;
        }
        match config::server(connection) {
            Ok(server) => appliance(&server, arguments.generate, own, &mut findings).await,
            Err(failure) => findings.bad("client settings", failure.to_string()),
        }
        Ok(())
    })
    .await?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&findings).unwrap_or_default();
        console.line(&text)?;
    } else {
        lines(&findings).iter().try_for_each(|line| console.line(line))?;
    }
    Ok(if findings.is_bad() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn lines(findings: &Findings) -> Vec<String> {
    let width = findings.0.iter().map(|finding| finding.about.chars().count()).max().unwrap_or(0);
    let line = |finding: &Finding| {
        let word = match finding.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warning => "warn",
            Verdict::Bad => "BAD ",
        };
        format!("{word}  {:width$}  {}", finding.about, finding.found)
    };
    findings.0.iter().map(line).collect()
}

/// What somebody on the network cannot see.
const ELSEWHERE: &str = " `cerebrum doctor` on the appliance itself looks deeper.";

/// The appliance as its clients see it; `own` when this is the machine that it runs on.
async fn appliance(server: &Server, generate: bool, own: bool, findings: &mut Findings) {
    let about = format!("appliance {}", server.authority());
    let Some(answered) = reach(server, &about, Failure::to_string, findings).await else { return };
    if answered.body.get("cm4_status").is_none() {
        return findings.bad(&about, "something answers there that is no appliance: check --url");
    }
    clock(&answered, &about, findings);
    let cure = |failure: &Failure| key_cure(failure, server);
    let Some(stats) = keyed(server, "/v1/stats", &about, cure, findings).await else { return };
    for problem in stats.pointer("/cm4/problems").and_then(Value::as_array).into_iter().flatten() {
        findings.bad("appliance", problem.as_str().unwrap_or_default());
    }
    let mut connected = false;
    for upstream in stats.pointer("/cm4/upstreams").and_then(Value::as_array).into_iter().flatten() {
        let text = |field: &str| upstream.get(field).and_then(Value::as_str).unwrap_or_default();
        let about = format!("server {}", text("name"));
        connected |= upstream.get("connected").and_then(Value::as_bool) == Some(true);
        match (upstream.get("available").and_then(Value::as_bool), text("status")) {
            (Some(true), _) => findings.ok(&about, format!("{}, connected", text("status"))),
            (_, "overloaded") => findings.note(
                Verdict::Warning,
                &about,
                "connected, but takes no requests now: other programs use its processor or memory",
            ),
            _ => findings.bad(&about, format!("{}{}", text("message"), if own { "" } else { ELSEWHERE })),
        }
    }
    // Whoever cannot be asked lists nothing.
    if connected {
        model(server, findings).await;
    }
    board(&stats, findings);
    if generate && !findings.is_bad() {
        generation(server, findings).await;
    }
}

/// Name, port, TLS and HTTP in one go: what fails tells how far it came.
async fn reach(
    server: &Server,
    about: &str,
    cure: impl Fn(&Failure) -> String,
    findings: &mut Findings,
) -> Option<Answered> {
    match within(server.answered("/health")).await {
        Ok(answered) => {
            let took = answered.took.as_millis();
            findings.ok(about, format!("answers in {took} ms{}", if server.is_tls() { ", over TLS" } else { "" }));
            Some(answered)
        }
        Err(failure) => {
            findings.bad(about, cure(&failure));
            None
        }
    }
}

fn clock(answered: &Answered, about: &str, findings: &mut Findings) {
    let Some(theirs) = answered.date else { return };
    let ours = SystemTime::now();
    let apart = ours.duration_since(theirs).unwrap_or_else(|before| before.duration());
    if apart > CLOCKS_APART {
        let found = format!(
            "its clock and this machine's are {} s apart: set the time on the one that is wrong (`timedatectl`)",
            apart.as_secs()
        );
        findings.note(Verdict::Warning, about, found);
    }
}

/// A question that needs a key.
async fn keyed(
    server: &Server,
    path: &str,
    about: &str,
    cure: impl Fn(&Failure) -> String,
    findings: &mut Findings,
) -> Option<Value> {
    match within(server.answered(path)).await {
        Ok(answered) => {
            findings.ok(about, "takes the key");
            Some(answered.body)
        }
        Err(failure) => {
            findings.bad(about, cure(&failure));
            None
        }
    }
}

/// Who has shown a key needs another one, not to be told how one is shown.
fn key_cure(failure: &Failure, server: &Server) -> String {
    let url = server.url();
    match failure {
        Failure::Refusal { status: StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, .. } if server.has_key() => {
            format!(
                "does not know the key: it was revoked, or is another box's; `cerebrum pair {url}`, or `cerebrum key add NAME` there, \
             makes a new one"
            )
        }
        Failure::Refusal { status: StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, .. } => format!(
            "wants a key: `cerebrum pair {url}` gets one; or give one with --key-file, CEREBRUM_API_KEY or the settings file"
        ),
        other => other.to_string(),
    }
}

/// Whether the model that a request would get is there.
async fn model(server: &Server, findings: &mut Findings) {
    let asked = serde_json::json!({ "prompt": "def a():" });
    let (Ok(told), Ok(models)) =
        (within(server.ask::<Value>("/v1/prepare", &asked)).await, within(server.report::<Value>("/v1/models")).await)
    else {
        return;
    };
    let wanted = told.get("model").and_then(Value::as_str).unwrap_or_default();
    let listed = models.get("data").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<&str> = listed.filter_map(|model| model.get("id").and_then(Value::as_str)).collect();
    match names.contains(&wanted) {
        true => findings.ok("model", format!("{wanted:?} answers when a request names none")),
        // A server that refuses the appliance's key tells it no models either.
        false if names.is_empty() && findings.is_bad() => {}
        false if names.is_empty() => findings.bad("model", "no server lists a model: `cerebrum-server models pull` there"),
        false => findings.bad(
            "model",
            format!(
                "{wanted:?} would be asked for, and no server has it (there are {}): set [models] default in the appliance's \
                 settings, or [aliases] in the server's",
                names.join(", ")
            ),
        ),
    }
}

fn board(stats: &Value, findings: &mut Findings) {
    match stats.pointer("/cm4/board").and_then(Value::as_str) {
        None | Some("off") => findings.ok("board", "switched off"),
        Some(found) if found.starts_with("missing") => findings.note(
            Verdict::Warning,
            "board",
            format!("{found}: check the wiring, then `cerebrumd --check-board`"),
        ),
        Some(found) => findings.ok("board", found),
    }
}

async fn generation(server: &Server, findings: &mut Findings) {
    let asked = serde_json::json!({ "prompt": "def add(a, b):", "max_tokens": 1 });
    // A model may have to be loaded first; whoever is tired of it presses Ctrl-C.
    match server.ask::<Value>("/v1/complete", &asked).await {
        Ok(answer) => {
            let seconds = answer.get("inference_time_seconds").and_then(Value::as_f64).unwrap_or_default();
            findings.ok("generation", format!("a token in {seconds:.1} s"));
        }
        Err(failure) => findings.bad("generation", failure.to_string()),
    }
}

/// The daemon's own side: its settings, its keys, and every server as it would ask it.
async fn own_daemon(file: &Path, findings: &mut Findings) {
    let about = file.display().to_string();
    let settings = match Settings::read(file) {
        Ok(settings) => settings,
        Err(error) => return findings.bad(&about, error.to_string()),
    };
    findings.ok(&about, "valid");
    match settings.keys.count() {
        None => findings.note(Verdict::Warning, "keys", "auth = \"open\": everybody may ask"),
        Some(0) => findings.bad("keys", "no client has one: `cerebrum key add NAME`, or `cerebrum pair` on the client"),
        Some(count) => findings.ok("keys", format!("{count} in the key file")),
    }
    for upstream in &settings.upstreams {
        own_upstream(upstream, findings).await;
    }
}

async fn own_upstream(upstream: &Upstream, findings: &mut Findings) {
    let about = format!("server {}", upstream.name);
    if upstream.service.is_some() {
        // Asked by the daemon, which tells below.
        return;
    }
    let tls = match upstream.tls.as_ref().map(TlsFiles::build).transpose() {
        Ok(tls) => tls.map(|tls| config::over_http1(&tls)),
        Err(error) => return findings.bad(&about, error.to_string()),
    };
    let server = upstream.url.to_string().parse().map_err(Failure::Usage);
    let server = match server.and_then(|address| Server::new(address, upstream.key.as_ref(), tls)) {
        Ok(server) => server,
        Err(failure) => return findings.bad(&about, failure.to_string()),
    };
    let Some(answered) = reach(&server, &about, cure::of_server, findings).await else { return };
    clock(&answered, &about, findings);
    keyed(&server, "/v1/models", &about, cure::of_server, findings).await;
}

async fn within<T>(step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || Failure::Missing(format!("no answer within {} s: is it reachable from here?", STEP.as_secs()));
    tokio::time::timeout(STEP, step).await.unwrap_or_else(|_| Err(late()))
}
