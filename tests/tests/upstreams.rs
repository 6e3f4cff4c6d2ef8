//! Services that nobody here wrote, behind the appliance: Debian's `llama-server`, `llama-cpp-python[server]`, and a Ray Serve
//! application of two replicas. `make test-upstreams` installs them and runs this; a plain `cargo test` leaves it out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cerebrum_tests::client::{Client, eventually, text_of};
use cerebrum_tests::stack::{MODEL, Program, Site, free_port, models_folder};
use serde_json::{Value, json};

/// How long a service may take until it serves: Python and Ray take their time on a shared machine.
const READY: Duration = Duration::from_secs(300);

fn folder(name: &str) -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "where make has installed things, which is no program's setting")]
    let given = std::env::var(name);
    given.unwrap_or_else(|_| panic!("{name} is not set: run `make test-upstreams`")).into()
}

/// A running service and all that it started.
struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    /// Starts it in a process group of its own and waits until it lists its models.
    async fn start(mut command: Command, address: SocketAddr) -> Self {
        use std::os::unix::process::CommandExt;
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        let mut service = Self { child: command.spawn().unwrap(), address };
        let until = Instant::now() + READY;
        loop {
            match Client::plain(address, None).get("/v1/models").await {
                Ok(answer) if answer.status == 200 => return service,
                other => {
                    assert!(Instant::now() < until, "not ready: {other:?}");
                    assert!(service.child.try_wait().unwrap().is_none(), "it ended: {other:?}");
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await; // polling a condition
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The group: Ray starts a number of processes. Fails only when they have ended.
        drop(Command::new("kill").args(["-TERM", "--", &format!("-{}", self.child.id())]).status());
        drop(self.child.wait());
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()))
}

fn model() -> PathBuf {
    models_folder().join(format!("{MODEL}.gguf"))
}

async fn llama_server() -> Service {
    let address = loopback();
    let mut command = Command::new("chroot");
    command.arg(folder("UPSTREAMS_CHROOT")).arg("llama-server").arg("--model").arg(format!("/models/{MODEL}.gguf"));
    command.args(["--host", "127.0.0.1", "--port", &address.port().to_string(), "--log-disable", "--alias", "theirs"]);
    command.args(["--threads", "1", "--parallel", "2", "--ctx-size", "2048"]);
    Service::start(command, address).await
}

async fn llama_cpp_python() -> Service {
    let address = loopback();
    let mut command = Command::new(folder("UPSTREAMS_PYTHON").join("bin/python"));
    command.args(["-m", "llama_cpp.server", "--n_threads", "1", "--n_ctx", "1024", "--model_alias", "theirs"]);
    command.args(["--host", "127.0.0.1", "--port", &address.port().to_string(), "--model"]).arg(model());
    Service::start(command, address).await
}

async fn ray_serve(folder_of_session: &Path) -> Service {
    let address = loopback();
    let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("upstreams");
    let mut command = Command::new(folder("UPSTREAMS_PYTHON").join("bin/python"));
    let start = format!(
        "import ray, sys, time; sys.path.insert(0, {app:?}); \
         ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100*2**20, _temp_dir={session:?}); \
         from ray import serve; serve.start(http_options={{'host': '127.0.0.1', 'port': {port}}}); \
         import ray_app; serve.run(ray_app.app); time.sleep(10**6)",
        session = folder_of_session.display().to_string(),
        port = address.port(),
    );
    command.args(["-c", &start]).env("MODEL", model()).env("PYTHONPATH", &app).env("RAY_USAGE_STATS_ENABLED", "0");
    Service::start(command, address).await
}

fn upstream(name: &str, service: &Service, model: &str, more: &str) -> String {
    format!(
        "[[upstream]]\nname = \"{name}\"\nkind = \"openai\"\nurl = \"http://{}/v1\"\nmodels = {{ qwen_7b = \"{model}\" }}\n{more}\n",
        service.address
    )
}

async fn appliance(site: &Site, upstreams: &str) -> (Program, Client) {
    let text = format!(
        "listen = \"{}\"\nauth = \"open\"\n[cache]\nkib = 0\n[limits]\nmax_in_progress = 8\n[board]\nbackend = \"off\"\n{upstreams}",
        site.appliance
    );
    let program = Program::start("cerebrumd", &[], &site.write("cerebrum.toml", &text).unwrap()).unwrap();
    let lan = Client::plain(site.appliance, None);
    eventually(&lan, "/health", |health| health["vps_available"] == true).await.unwrap();
    (program, lan)
}

fn complete() -> Value {
    json!({"prompt": "def add(a, b):\n", "language": "python", "max_tokens": 24, "temperature": 0})
}

fn chat(stream: bool) -> Value {
    json!({"model": "qwen_7b", "max_tokens": 24, "temperature": 0, "stream": stream,
        "messages": [{"role": "user", "content": "def add(a, b):"}]})
}

/// The same answer whole and streamed, in our words and in OpenAI's, and a client that leaves.
async fn all_calls(lan: &Client) {
    let whole = lan.post("/v1/complete", &complete()).await.unwrap();
    assert_eq!(whole.status, 200, "{:?}", whole.body);
    let whole = whole.json().unwrap();
    assert!(!whole["result"].as_str().unwrap().is_empty(), "{whole}");
    let events = lan.stream("/v1/complete/stream", &complete()).await.unwrap().rest().await.unwrap();
    assert_eq!(text_of(&events), whole["result"].as_str().unwrap());
    assert_eq!(events.last().unwrap()["done"], true);

    let answer = lan.post("/v1/chat/completions", &chat(false)).await.unwrap();
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let answer = answer.json().unwrap();
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!said.is_empty() && answer["usage"]["completion_tokens"].as_u64() > Some(0), "{answer}");
    let mut stream = lan.stream("/v1/chat/completions", &chat(true)).await.unwrap();
    let mut text = String::new();
    while let Some(event) = stream.next_event().await.unwrap().filter(|event| event.data != "[DONE]") {
        let chunk: Value = serde_json::from_str(&event.data).unwrap();
        text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    }
    assert_eq!(text, said);

    let mut leaving =
        lan.stream("/v1/complete/stream", &json!({"prompt": "x = [1, 2,", "max_tokens": 400})).await.unwrap();
    leaving.next().await.unwrap();
    drop(leaving);
    eventually(lan, "/health", |health| health["active_count"] == 0).await.unwrap();
    assert_eq!(lan.post("/v1/complete", &complete()).await.unwrap().status, 200, "the service is of use after that");
}

#[tokio::test]
#[ignore = "make test-upstreams installs what it needs"]
async fn debians_llama_server() {
    let (site, service) = (Site::new().unwrap(), llama_server().await);
    let (_appliance, lan) = appliance(&site, &upstream("llama-server", &service, "theirs", "")).await;
    all_calls(&lan).await;
}

#[tokio::test]
#[ignore = "make test-upstreams installs what it needs"]
async fn llama_cpp_for_python() {
    let (site, service) = (Site::new().unwrap(), llama_cpp_python().await);
    let (_appliance, lan) = appliance(&site, &upstream("llama-cpp-python", &service, "theirs", "")).await;
    all_calls(&lan).await;
}

#[tokio::test]
#[ignore = "make test-upstreams installs what it needs"]
async fn a_ray_serve_application_with_two_replicas() {
    let (site, session) = (Site::new().unwrap(), tempfile::tempdir().unwrap());
    let service = ray_serve(session.path()).await;
    let (_appliance, lan) = appliance(&site, &upstream("ray", &service, "cluster-model", "")).await;
    all_calls(&lan).await;
    // Ray's part: several at a time reach both replicas.
    for _ in 0..8 {
        let (ask, lan) = (complete(), &lan);
        let asks = || lan.post("/v1/complete", &ask);
        let (a, b, c, d) = tokio::join!(asks(), asks(), asks(), asks());
        assert!([a, b, c, d].into_iter().all(|answer| answer.unwrap().status == 200));
    }
    let direct = Client::plain(service.address, None);
    let mut worked = BTreeSet::new();
    for _ in 0..100 {
        let replica = direct.get("/replica").await.unwrap().json().unwrap();
        if replica["requests"].as_u64() > Some(0) {
            worked.insert(replica["replica"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(worked.len(), 2, "{worked:?}");
}

#[tokio::test]
#[ignore = "make test-upstreams installs what it needs"]
async fn two_services_share_the_requests_and_stand_in_for_each_other() {
    let (site, one, two) = (Site::new().unwrap(), llama_server().await, llama_cpp_python().await);
    let upstreams = upstream("one", &one, "theirs", "weight = 2") + &upstream("two", &two, "theirs", "");
    let (appliance, lan) = appliance(&site, &upstreams).await;
    for _ in 0..9 {
        assert_eq!(lan.post("/v1/complete", &complete()).await.unwrap().status, 200);
    }
    let served = |name: &str| {
        let wanted = format!("upstream=\"{name}\"");
        appliance
            .log()
            .lines()
            .iter()
            .filter(|line| line.contains("outcome=Complete") && line.contains(&wanted))
            .count()
    };
    assert!(served("one") >= 4 && served("two") >= 2, "{:#?}", appliance.log().lines());
    drop(one);
    for _ in 0..4 {
        assert_eq!(lan.post("/v1/complete", &complete()).await.unwrap().status, 200, "the other one answers");
    }
}
