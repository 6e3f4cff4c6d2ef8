//! One of the servers compared: how it is started and asked, and what it took.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cerebrum_tests::client::{Client, Stream};
use serde_json::{Value, json};

/// What a server is given to run with.
pub(crate) struct Setup<'a> {
    pub(crate) model: &'a Path,
    pub(crate) threads: usize,
    pub(crate) slots: usize,
    pub(crate) context: usize,
    /// Host memory for prefixes, MiB: the same for both.
    pub(crate) prefix_cache: usize,
    /// Further lines of our settings.
    pub(crate) settings: &'a str,
}

/// A running server.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    client: Client,
    ours: bool,
    child: Child,
    _folder: Option<tempfile::TempDir>,
}

/// One question.
#[derive(Clone, Default)]
pub(crate) struct Ask {
    pub(crate) prompt: String,
    pub(crate) max_tokens: u32,
    /// Greedy when absent.
    pub(crate) seed: Option<u64>,
    pub(crate) grammar: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Took {
    /// From the request to the first text.
    pub(crate) first: Duration,
    /// From the first text to the last.
    pub(crate) rest: Duration,
    pub(crate) text: String,
    pub(crate) tokens: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) cached: u64,
}

impl Took {
    pub(crate) fn decode_rate(&self) -> f64 {
        self.tokens.saturating_sub(1) as f64 / self.rest.as_secs_f64()
    }
}

const KEY: &str = "bench";
const READY: Duration = Duration::from_secs(120);

impl Side {
    /// cerebrum-server on a free port.
    pub(crate) async fn ours(name: &'static str, program: &Path, setup: &Setup<'_>) -> anyhow::Result<Self> {
        let address = free_address()?;
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("server.toml");
        let models = setup.model.parent().context("a model in a folder")?;
        let model = setup.model.file_stem().context("a model with a name")?.to_string_lossy();
        let Setup { threads, slots, context, prefix_cache, settings, .. } = setup;
        let text = format!(
            "listen = \"{address}\"\nlog = \"warn\"\nmodels_dir = {models:?}\ndefault_model = \"{model}\"\n\
             threads = {threads}\nslots = {slots}\nqueue = 16\ncontext = {context}\nprefix_cache_mib = {prefix_cache}\n\
             {settings}\n[guards]\nmax_cpu_percent = 100\nmin_free_ram_mib = 0\n"
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&config).env("CEREBRUM_API_KEY", KEY);
        Self::start(name, true, address, command, Some(folder)).await
    }

    /// llama-server in a chroot that has the model at the same place under its root.
    pub(crate) async fn llama(chroot: &Path, arguments: &[String], setup: &Setup<'_>) -> anyhow::Result<Self> {
        let address = free_address()?;
        let model = Path::new("/").join(setup.model.strip_prefix(chroot).context("the model is not in the chroot")?);
        let mut command = Command::new("chroot");
        command.arg(chroot).arg("llama-server").arg("--model").arg(model);
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string(), "--log-disable"]);
        command.args(["--threads", &setup.threads.to_string(), "--threads-batch", &setup.threads.to_string()]);
        command.args(["--parallel", &setup.slots.to_string()]);
        command.args(["--ctx-size", &(setup.slots * setup.context).to_string()]);
        command.args(["--cache-ram", &setup.prefix_cache.to_string()]).args(arguments);
        Self::start("llama-server", false, address, command, None).await
    }

    async fn start(
        name: &'static str,
        ours: bool,
        address: SocketAddr,
        mut command: Command,
        folder: Option<tempfile::TempDir>,
    ) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("starting {name}"))?;
        let mut side = Self { name, client: Client::plain(address, ours.then_some(KEY)), ours, child, _folder: folder };
        let until = Instant::now() + READY;
        while !side.client.get("/health").await.is_ok_and(|answer| answer.status.is_success()) {
            if let Some(status) = side.child.try_wait()? {
                bail!("{name} ended: {status}");
            }
            anyhow::ensure!(Instant::now() < until, "{name} did not get ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Ours loads at the first request.
        side.ask(&Ask { prompt: " aaaaa".to_owned(), max_tokens: 2, ..Ask::default() }).await?;
        Ok(side)
    }

    /// The most memory it ever had resident, in bytes.
    pub(crate) fn peak_rss(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(PathBuf::from(format!("/proc/{}/status", self.child.id())))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Asks and reads to the end.
    pub(crate) async fn ask(&self, ask: &Ask) -> anyhow::Result<Took> {
        self.open(ask).await?.finish().await
    }

    /// Asks and reads the first text.
    pub(crate) async fn open(&self, ask: &Ask) -> anyhow::Result<Answer> {
        let begun = Instant::now();
        let (path, body) =
            if self.ours { ("/v1/inference/stream", our_body(ask)) } else { ("/completion", llama_body(ask)) };
        let stream = self.client.stream(path, &body).await.with_context(|| self.name)?;
        let mut answer = Answer { stream, begun, first: None, text: String::new(), last: begun, end: Value::Null };
        while answer.first.is_none() && answer.step().await? {}
        Ok(answer)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn our_body(ask: &Ask) -> Value {
    sampled(ask, json!({"prompt": ask.prompt, "max_tokens": ask.max_tokens, "repetition_penalty": 1.0}))
}

fn llama_body(ask: &Ask) -> Value {
    let mut body = json!({"prompt": ask.prompt, "n_predict": ask.max_tokens, "stream": true, "cache_prompt": true,
        "repeat_penalty": 1.0});
    if ask.seed.is_some() {
        body["samplers"] = json!(["top_k", "top_p", "min_p", "temperature"]);
    }
    sampled(ask, body)
}

// The same samplers in both, and in both none where greedy is asked for.
fn sampled(ask: &Ask, mut body: Value) -> Value {
    body["temperature"] = json!(0);
    if let Some(seed) = ask.seed {
        body["temperature"] = json!(1.0);
        body["seed"] = json!(seed);
        body["top_k"] = json!(40);
        body["top_p"] = json!(0.95);
        body["min_p"] = json!(0.05);
    }
    if let Some(grammar) = &ask.grammar {
        body["grammar"] = json!(grammar);
    }
    body
}

/// An answer being read. Dropping it ends the generation.
pub(crate) struct Answer {
    stream: Stream,
    begun: Instant,
    first: Option<Instant>,
    last: Instant,
    text: String,
    end: Value,
}

impl Answer {
    async fn step(&mut self) -> anyhow::Result<bool> {
        let Some(event) = self.stream.next().await? else { return Ok(false) };
        let text = event["token"].as_str().or(event["content"].as_str()).unwrap_or_default();
        if !text.is_empty() {
            self.last = Instant::now();
            self.first.get_or_insert(self.last);
            self.text += text;
        }
        if event["done"] == true || event["stop"] == true {
            self.end = event;
        }
        Ok(true)
    }

    /// Reads to the end.
    pub(crate) async fn finish(mut self) -> anyhow::Result<Took> {
        while self.step().await? {}
        let first = self.first.unwrap_or(self.last);
        let number = |names: [&str; 2]| names.iter().find_map(|name| self.end.pointer(name)?.as_u64());
        Ok(Took {
            first: first - self.begun,
            rest: self.last - first,
            tokens: number(["/total_tokens", "/tokens_predicted"]).context("no count of tokens")?,
            prompt_tokens: number(["/prompt_tokens", "/tokens_evaluated"]).unwrap_or(0),
            cached: number(["/cached_tokens", "/timings/cache_n"]).unwrap_or(0),
            text: self.text,
        })
    }
}
