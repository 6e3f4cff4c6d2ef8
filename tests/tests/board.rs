//! The board in the real daemon, simulated: what it shows, what its buttons do, and pairing from a client's question to a
//! key that is known.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cerebrum_board::{Cause, Fault, Page, Pairing, Phase, Request, Snapshot, render};
use cerebrum_common::wire::InferenceEvent;
use cerebrum_tests::client::{Answer, Client, PATIENCE, eventually, first_page};
use cerebrum_tests::scripted::{Ending, Script, ScriptedUpstream};
use cerebrum_tests::stack::{MODEL, Program, Site, binary, models_folder};
use http::Method;
use serde_json::json;

/// The daemon over a scripted upstream.
struct Box {
    site: Site,
    upstream: ScriptedUpstream,
    daemon: Program,
    lan: Client,
}

impl Box {
    fn start(script: Script) -> Self {
        Self::start_with(script, "keys_file = \"appliance-keys.toml\"")
    }

    fn start_with(script: Script, keys: &str) -> Self {
        let (site, upstream) = (Site::new().unwrap(), ScriptedUpstream::start(script).unwrap());
        let daemon =
            site.start_appliance_over(&upstream.url(), &format!("{keys}\n[board]\nbackend = \"sim\"")).unwrap();
        let lan = Client::plain(site.appliance, Some(site.client_key.expose()));
        Self { site, upstream, daemon, lan }
    }

    async fn press(&self, button: &str, held: Duration) {
        let press = json!({"button": button, "held_ms": held.as_millis() as u64});
        let answer = self.lan.post("/v1/board/press", &press).await.unwrap();
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }

    async fn picture(&self) -> String {
        let answer = Client::plain(self.site.appliance, None).get("/display.txt").await.unwrap();
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    /// The first picture after the splash.
    async fn first_page(&self) -> String {
        first_page(&Client::plain(self.site.appliance, None)).await.unwrap()
    }

    /// Presses until `done`: a press within the first second of a page was meant for the page before, and does nothing.
    async fn press_until(&self, button: &str, held: Duration, mut done: impl AsyncFnMut() -> bool) {
        let until = tokio::time::Instant::now() + PATIENCE;
        while !done().await {
            assert!(tokio::time::Instant::now() < until, "presses do nothing; the panel:\n{}", self.picture().await);
            self.press(button, held).await;
            tokio::time::sleep(held + Duration::from_millis(300)).await; // a person's pace
        }
    }

    /// Waits until the panel asks about this client with this code, however much time is left.
    async fn asks(&self, client: &str, code: &str) {
        let allowed = Duration::from_secs(60);
        let asked = |left: u32| {
            let remaining = allowed.mul_f64(f64::from(left) / 500.0);
            let pairing = Pairing { id: 1, client: client.to_owned(), code: code.to_owned(), remaining, allowed };
            render(&Snapshot { pairing: Some(pairing), ..Snapshot::default() }, Page::Pairing).to_terminal()
        };
        let wanted: HashSet<String> = (0..=500).map(asked).collect();
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let picture = self.picture().await;
            if wanted.contains(&picture) {
                return;
            }
            assert!(tokio::time::Instant::now() < until, "{client} with {code} is not shown, but:\n{picture}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn client(&self, home: &std::path::Path) -> Child {
        Command::new(binary("cerebrum").unwrap())
            .args(["pair", "--name", "laptop", &self.site.appliance.to_string()])
            .env("HOME", home)
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(1200);

#[tokio::test]
async fn a_short_press_turns_the_page() {
    let board = Box::start(Script::default());
    let before = board.first_page().await;
    board.press_until("first", SHORT, async || board.picture().await != before).await;
    let stranger = Client::plain(board.site.appliance, None);
    assert_eq!(stranger.post("/v1/board/press", &json!({"button": "first"})).await.unwrap().status, 403);
}

#[tokio::test]
async fn a_long_press_stops_the_request_in_progress() {
    let board = Box::start(Script { tokens: 100_000, gap: Duration::from_millis(20), ..Script::default() });
    let mut stream =
        board.lan.stream("/v1/complete/stream", &json!({"prompt": "x", "max_tokens": 32768})).await.unwrap();
    assert!(stream.next().await.unwrap().unwrap()["token"].is_string());
    let stopped = async || board.upstream.seen().dropped == 1;
    board.press_until("first", LONG, stopped).await;
    let last = stream.rest().await.unwrap().pop().unwrap();
    assert!(last["message"].as_str().unwrap().contains("press on the appliance's button"), "{last}");
    assert!(last["done"] == true && last["error"] == "stopping", "{last}");
    board.daemon.log().heard(PATIENCE, |line| line.contains("Stopped")).await.unwrap();
}

#[tokio::test]
async fn the_panel_shows_how_a_model_is_loaded_and_a_prompt_is_read() {
    let cases = [
        (InferenceEvent::Loading { permille: 700 }, Phase::Loading, 0.7),
        (InferenceEvent::Progress { processed: 30, total: 120 }, Phase::Reading, 0.25),
    ];
    for (event, phase, progress) in cases {
        let board = Box::start(Script { before: vec![event], tokens: 0, ending: Ending::Stall, ..Script::default() });
        let ask = json!({"prompt": "x", "model": "qwen_7b"});
        let _stream = board.lan.stream("/v1/complete/stream", &ask).await.unwrap();
        let request =
            Request { id: 1, phase, progress, tokens: 0, tokens_per_second: 0.0, model: "qwen_7b".to_owned() };
        let snapshot = Snapshot { active: 1, request: Some(request), ..Snapshot::default() };
        let wanted = render(&snapshot, Page::Request).to_terminal();
        let until = tokio::time::Instant::now() + PATIENCE;
        while board.picture().await != wanted {
            assert!(tokio::time::Instant::now() < until, "{phase:?}:\n{}", board.picture().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn what_the_board_shows_can_be_watched() {
    let board = Box::start(Script::default());
    let stranger = Client::plain(board.site.appliance, None);
    let mut watch = stranger.watch("/v1/events").await.unwrap();
    let (name, display) = watch.next_named().await.unwrap().unwrap();
    assert_eq!(name, "display");
    assert_eq!(display["frame"].as_str().unwrap().len(), 2048);
    let (name, health) = watch.next_named().await.unwrap().unwrap();
    assert_eq!((name.as_str(), health["cm4_status"].as_str()), ("health", Some("healthy")));
    // The lamp breathes: news without anybody doing anything.
    assert!(watch.next_named().await.unwrap().is_some());
    let once = Command::new(binary("cerebrum").unwrap())
        .args(["board", "--url", &format!("http://{}", board.site.appliance)])
        .output()
        .unwrap();
    assert!(once.status.success() && String::from_utf8_lossy(&once.stdout).lines().count() > 10, "{once:?}");
}

/// What the panel shows of a problem.
fn problem(message: &str) -> String {
    let error = Some(Fault { cause: Cause::Key, message: message.to_owned() });
    render(&Snapshot { error, ..Snapshot::default() }, Page::Error).to_terminal()
}

/// Waits until the panel of the appliance at this site shows, or no longer shows, this problem.
async fn panel_shows(site: &Site, message: &str, wanted: bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = Client::plain(site.appliance, None).get("/display.txt").await.unwrap();
        let picture = String::from_utf8(answer.body.to_vec()).unwrap();
        if (picture == problem(message)) == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{message:?} is shown: {}, the panel:\n{picture}", !wanted);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_panel_says_that_the_server_refuses_the_key_until_it_takes_it() {
    let site = Site::new().unwrap();
    let secret = std::fs::read_to_string(site.folder().join("server.secret")).unwrap();
    site.write("server.secret", "cbr_this-key-was-never-given-to-the-server").unwrap();
    let _server = site.start_server("").unwrap();
    let wrong = site.start_appliance("[board]\nbackend = \"sim\"").unwrap();
    let message = "vps refuses our key. Add it there anew.";
    panel_shows(&site, message, true).await;
    // A server that refuses the key works: the lamp of the servers says so.
    let health = Client::plain(site.appliance, None).get("/health").await.unwrap().json().unwrap();
    assert_eq!(health["vps_connected"], true, "{health}");
    drop(wrong);
    site.write("server.secret", &secret).unwrap();
    let _right = site.start_appliance("[board]\nbackend = \"sim\"").unwrap();
    eventually(&Client::plain(site.appliance, None), "/health", |health| health["vps_available"] == true)
        .await
        .unwrap();
    panel_shows(&site, message, false).await;
}

#[tokio::test]
async fn the_panel_says_that_a_service_refuses_the_key() {
    let site = Site::new().unwrap();
    let text = format!(
        "listen = \"{}\"\nkeys_file = \"server-keys.toml\"\nmodels_dir = {:?}\ndefault_model = \"{MODEL}\"\nthreads = 1\n\
         [guards]\nmax_cpu_percent = 100\nmin_free_ram_mib = 0\n",
        site.server,
        models_folder().display().to_string(),
    );
    let _service = Program::start("cerebrum-server", &["serve"], &site.write("service.toml", &text).unwrap()).unwrap();
    site.write("service.secret", "cbr_this-key-was-never-given-to-the-service").unwrap();
    let upstream = format!(
        "[[upstream]]\nname = \"cluster\"\nkind = \"openai\"\nurl = \"http://{}/v1\"\nkey_file = \"service.secret\"\n",
        site.server
    );
    let text = format!("listen = \"{}\"\nauth = \"open\"\n[board]\nbackend = \"sim\"\n{upstream}", site.appliance);
    let _appliance = Program::start("cerebrumd", &[], &site.write("cerebrum.toml", &text).unwrap()).unwrap();
    panel_shows(&site, "cluster refuses our key. Add it there anew.", true).await;
}

#[tokio::test]
async fn the_panel_says_whose_certificate_is_refused() {
    let (site, stranger) = (Site::new().unwrap(), Site::new().unwrap());
    let _server = site.start_server("").unwrap();
    let other = |name: &str| format!("{:?}", stranger.folder().join(name).display().to_string());
    let settings = site.appliance_settings("[board]\nbackend = \"sim\"");
    let cases = [
        (
            settings.replace("\"ca.pem\"", &other("ca.pem")),
            "vps's certificate is refused: wrong name, too old, or not ours.",
        ),
        (
            settings
                .replace("\"appliance.pem\"", &other("appliance.pem"))
                .replace("\"appliance.key\"", &other("appliance.key")),
            "vps refuses our certificate. Renew it there.",
        ),
    ];
    for (settings, message) in cases {
        assert!(!settings.contains("= \"ca.pem\"") || !settings.contains("= \"appliance.pem\""));
        let config = site.write("cerebrum.toml", &settings).unwrap();
        let _daemon = Program::start("cerebrumd", &[], &config).unwrap();
        panel_shows(&site, message, true).await;
    }
}

/// The code that the client says the panel shows.
fn code(err: &mut impl BufRead) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(err.read_line(&mut line).unwrap() > 0, "no code was told");
        let digits: String = line.chars().filter(char::is_ascii_digit).collect();
        if digits.len() == 6 && line.starts_with("    ") {
            return line.trim().to_owned();
        }
    }
}

#[tokio::test]
async fn a_press_grants_a_client_its_key() {
    let board = Box::start(Script::default());
    let home = tempfile::tempdir().unwrap();
    let mut client = board.client(home.path());
    let mut err = BufReader::new(client.stderr.take().unwrap());
    let code = code(&mut err);
    board.asks("laptop", &code).await;
    board.press_until("first", SHORT, async || client.try_wait().unwrap().is_some()).await;
    let mut rest = String::new();
    err.read_to_string(&mut rest).unwrap();
    assert!(client.wait().unwrap().success(), "{rest}");
    assert!(rest.contains("Paired."), "{rest}");
    // The key is known at once, and by its client's name; the client finds it by itself from now on.
    let mut ask = Command::new(binary("cerebrum").unwrap());
    ask.args(["complete", "--json", "x"]).env("HOME", home.path()).env_remove("XDG_CONFIG_HOME");
    // Off this thread, which is the scripted upstream's too.
    let ended = tokio::task::spawn_blocking(move || ask.output()).await.unwrap().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    board.daemon.log().heard(PATIENCE, |line| line.contains("client=\"laptop\"")).await.unwrap();
}

#[tokio::test]
async fn a_long_press_refuses_and_pestering_is_limited() {
    let board = Box::start(Script::default());
    let stranger = Client::plain(board.site.appliance, None);
    let home = tempfile::tempdir().unwrap();
    let mut client = board.client(home.path());
    let mut err = BufReader::new(client.stderr.take().unwrap());
    code(&mut err);
    let another = stranger.post("/v1/pair", &json!({"name": "other"})).await.unwrap();
    assert_eq!(another.status, 429, "{:?}", another.body);
    assert!(!another.header("retry-after").is_empty());
    board.press_until("first", LONG, async || client.try_wait().unwrap().is_some()).await;
    let mut rest = String::new();
    err.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("refused at the appliance"), "{rest}");
    assert!(!home.path().join(".config/cerebrum/key").exists());
    let guess = stranger.clone().with_header("x-pairing-claim", "cbr_guess");
    assert_eq!(guess.whole(Method::GET, "/v1/pair/1", Default::default()).await.unwrap().status, 404);
    // Two more from this address, after a pause, each refused at the board, and then no more for a while.
    let mut statuses: Vec<u16> = Vec::new();
    for _ in 0..3 {
        let begun = begin(&stranger).await;
        statuses.push(begun.status.as_u16());
        let Some(begun) = begun.json().ok().filter(|_| begun.status == 201) else { continue };
        let mine =
            Client::plain(board.site.appliance, None).with_header("x-pairing-claim", begun["claim"].as_str().unwrap());
        let decision = format!("/v1/pair/{}", begun["id"]);
        let decided = RefCell::new(None);
        let waiting = async { decided.replace(Some(patient_wait(&mine, &decision).await)) };
        let pressing = board.press_until("first", LONG, async || decided.borrow().is_some());
        tokio::join!(waiting, pressing);
        assert_eq!(decided.into_inner().unwrap(), "refused");
    }
    assert_eq!(statuses, [201, 201, 429]);
}

#[tokio::test]
async fn where_no_key_is_asked_for_nobody_is_bothered_for_one() {
    let board = Box::start_with(Script::default(), "auth = \"open\"");
    let answer = Client::plain(board.site.appliance, None).post("/v1/pair", &json!({"name": "laptop"})).await.unwrap();
    assert_eq!(answer.status, 400, "{:?}", answer.body);
    assert!(String::from_utf8_lossy(&answer.body).contains("asks nobody for a key"), "{:?}", answer.body);
    // Nor by a web page from elsewhere, whatever it may call.
    let page = Client::plain(board.site.appliance, None).with_header("origin", "https://elsewhere.example");
    let answer = page.post("/v1/pair", &json!({"name": "laptop"})).await.unwrap();
    assert!(String::from_utf8_lossy(&answer.body).contains("elsewhere.example"), "{:?}", answer.body);
}

/// Asks for a key as soon as the pause after another attempt is over.
async fn begin(client: &Client) -> Answer {
    loop {
        let begun = client.post("/v1/pair", &json!({})).await.unwrap();
        if !String::from_utf8_lossy(&begun.body).contains("just now") {
            return begun;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Waits for a decision as a client does.
async fn patient_wait(client: &Client, decision: &str) -> String {
    loop {
        let answer = client.get(decision).await.unwrap().json().unwrap();
        match answer["state"].as_str().unwrap() {
            "waiting" => {}
            state => return state.to_owned(),
        }
    }
}

#[test]
fn the_board_can_be_tried_without_serving() {
    let site = Site::new().unwrap();
    let try_it = |backend: &str| {
        let settings = format!(
            "listen = \"127.0.0.1:1\"\nauth = \"open\"\n[board]\n{backend}\n[[upstream]]\nurl = \"http://x\"\n"
        );
        let config = site.write("board.toml", &settings).unwrap();
        Command::new(binary("cerebrumd").unwrap()).arg("--check-board").arg("--config").arg(config).output().unwrap()
    };
    let sim = try_it("backend = \"sim\"");
    let report = String::from_utf8_lossy(&sim.stdout).into_owned();
    assert!(sim.status.success() && report.contains("screen   ok, shows the test pattern"), "{report}");
    let none = try_it("backend = \"cdev\"\ngpio_chip = \"/nowhere\"\ni2c_bus = \"/nowhere\"");
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stdout).contains("missing: "));
    assert_eq!(try_it("backend = \"off\"").status.code(), Some(64));
}
