//! `cerebrum-server models`: pulls over bad connections, bad files, full disks; and the command line as a person uses it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod hub;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use cerebrum_server::models::{Folder, ModelError, Packing, Patience, Progress, Pull, Pulled, Source, pack};
use hub::secure::Secure;
use hub::{File, Hub};
use sha2::{Digest, Sha256};

/// A test's pauses are short; silence is noticed after a moment.
const PATIENCE: Patience = Patience { idle: Duration::from_secs(30), attempts: 3, pause: Duration::from_millis(1) };

fn bundled() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/cerebrum-tiny.gguf")).unwrap()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn model() -> File {
    File { bytes: bundled(), etag: "\"one\"".into(), ..File::default() }
}

struct Site {
    temporary: tempfile::TempDir,
    folder: Folder,
}

fn site() -> Site {
    let temporary = tempfile::tempdir().unwrap();
    Site { folder: Folder::new(temporary.path()), temporary }
}

impl Site {
    fn pull(&self, hub: &Hub, asked: &str) -> Pull {
        let asked = asked.replace("HUB", &hub.base);
        let source = Source::of(&asked, &hub.base).unwrap();
        Pull { name: "a".parse().unwrap(), source, sha256: None, replace: false, token: None, patience: PATIENCE }
    }

    async fn pulled(&self, pull: Pull) -> Result<Pulled, ModelError> {
        pull.run(&self.folder, &Progress::hidden()).await
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        files
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("a.gguf")).unwrap()
    }

    async fn refuses(&self, pull: Pull, expected: &str) {
        let error = self.pulled(pull).await.expect_err(expected).to_string();
        assert!(error.contains(expected), "{error} instead of {expected}");
        assert_eq!(self.files(), [""; 0], "{error}");
    }

    fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cerebrum-server"));
        command.arg("models").args(arguments).arg("--models-dir").arg(self.folder.path());
        command.current_dir(&self.temporary).output().unwrap()
    }

    fn says(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "no bar where nobody watches: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn complains(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[tokio::test]
async fn a_pull_goes_on_where_the_connection_was_cut() {
    let (site, file) = (site(), model());
    let sha256 = hash(&file.bytes);
    let hub = Hub::serving(File { cut_after: Some(1_500_000), linked_etag: Some(sha256.clone()), ..file.clone() });
    let pulled = site.pulled(site.pull(&hub, "hf:o/r:model.gguf")).await.unwrap();
    assert_eq!((pulled.manifest.sha256.as_str(), pulled.checked), (sha256.as_str(), true));
    assert_eq!(site.content(), file.bytes);
    assert_eq!(site.files(), ["a.gguf", "a.manifest.toml"]);
    let asked = hub.requests();
    let ranges: Vec<_> = asked.iter().filter(|head| head.contains("/stored/")).collect();
    assert_eq!(ranges.len(), 4, "4.6 MB in pieces of 1.5: {asked:#?}");
    assert!(ranges[1..].iter().all(|head| head.contains("range: bytes=") && head.contains("if-range: \"one\"")));
}

#[tokio::test]
async fn what_an_earlier_pull_fetched_is_gone_on_with() {
    let (site, file) = (site(), model());
    let hub = Hub::serving(File { cut_after: Some(2_000_000), ..file.clone() });
    let mut first = site.pull(&hub, "HUB/model.gguf");
    first.patience.attempts = 1;
    // Cut after 2 MB, and from then on at once.
    let watching = async {
        while hub.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        hub.change(|file| file.cut_after = Some(0));
    };
    let (outcome, ()) = tokio::join!(site.pulled(first), watching);
    assert!(matches!(outcome, Err(ModelError::Fetch { .. })), "{outcome:?}");
    assert_eq!(site.files(), [".a.gguf.part", ".a.gguf.part.toml"]);
    hub.change(|file| file.cut_after = None);
    let before = hub.requests().len();
    let pulled = site.pulled(site.pull(&hub, "HUB/model.gguf")).await.unwrap();
    assert_eq!((pulled.resumed, pulled.checked), (2_000_000, false));
    assert!(hub.requests()[before].contains("range: bytes=2000000-"));
    assert_eq!(site.content(), file.bytes);
    assert_eq!(site.files(), ["a.gguf", "a.manifest.toml"]);
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_fetched_from_its_beginning() {
    let (site, file) = (site(), model());
    let hub = Hub::serving(File { cut_after: Some(2_000_000), cuts: Some(1), ..file.clone() });
    let changing = async {
        while hub.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        hub.change(|file| {
            file.etag = "\"two\"".into();
            // Weights at the end: another model, and no less a model.
            *file.bytes.last_mut().unwrap() ^= 1;
        });
    };
    let (pulled, ()) = tokio::join!(site.pulled(site.pull(&hub, "HUB/model.gguf")), changing);
    let mut expected = file.bytes;
    *expected.last_mut().unwrap() ^= 1;
    assert_eq!(site.content(), expected);
    assert_eq!(pulled.unwrap().manifest.sha256, hash(&expected));
}

#[tokio::test]
async fn silence_counts_as_a_cut() {
    let (site, file) = (site(), model());
    let hub = Hub::serving(File { pause_after: Some(3_000_000), ..file.clone() });
    let mut pull = site.pull(&hub, "HUB/model.gguf");
    pull.patience.idle = Duration::from_millis(200);
    site.pulled(pull).await.unwrap();
    assert_eq!(site.content(), file.bytes);
    assert_eq!(hub.requests().len(), 2);
    hub.go_on();
}

#[tokio::test]
async fn what_is_not_what_it_should_be_leaves_nothing() {
    let site = site();
    let hub = Hub::serving(File { linked_etag: Some("0".repeat(64)), ..model() });
    site.refuses(site.pull(&hub, "hf:o/r:model.gguf"), "expected 0000").await;
    site.refuses(Pull { sha256: Some("1".repeat(64)), ..site.pull(&hub, "HUB/model.gguf") }, "expected 1111").await;
    site.refuses(site.pull(&hub, "HUB/missing.gguf"), "answered 404").await;
    hub.change(|file| {
        file.chunked = true;
        file.bytes.truncate(2_000_000);
    });
    site.refuses(site.pull(&hub, "HUB/model.gguf"), "a: the file ends within tensor").await;
    hub.change(|file| file.bytes = b"<html>Please log in</html>".to_vec());
    site.refuses(site.pull(&hub, "HUB/model.gguf"), "not a GGUF file (begins with \"<htm\"").await;
    let nobody = Source::of("http://127.0.0.1:9/model.gguf", &hub.base).unwrap();
    site.refuses(Pull { source: nobody, ..site.pull(&hub, "HUB/x.gguf") }, "http://127.0.0.1:9/model.gguf: ").await;
}

#[tokio::test]
async fn two_pulls_of_one_model_do_not_meet() {
    let (site, file) = (site(), model());
    let hub = Hub::serving(File { pause_after: Some(1000), ..file.clone() });
    let meeting = async {
        while hub.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let busy = "a is being installed by another process";
        assert_eq!(site.pulled(site.pull(&hub, "HUB/model.gguf")).await.unwrap_err().to_string(), busy);
        // Another process meets the lock just the same.
        assert!(site.complains(&["pull", &format!("{}/a.gguf", hub.base)]).contains(busy));
        assert!(site.complains(&["remove", "a"]).contains(busy));
        hub.go_on();
    };
    let (first, ()) = tokio::join!(site.pulled(site.pull(&hub, "HUB/model.gguf")), meeting);
    first.unwrap();
    assert_eq!(site.content(), file.bytes);
    let again = site.pulled(site.pull(&hub, "HUB/model.gguf")).await;
    assert!(matches!(again, Err(ModelError::Exists { .. })));
    site.pulled(Pull { replace: true, ..site.pull(&hub, "HUB/model.gguf") }).await.unwrap();
}

#[tokio::test]
async fn who_is_asked_sees_the_token_and_nobody_else() {
    let (site, file) = (site(), model());
    let store = Hub::serving(file);
    let token = Some(cerebrum_common::keys::Secret::new("hf_secret"));
    site.pulled(Pull { token: token.clone(), ..site.pull(&store, "hf:o/r:model.gguf") }).await.unwrap();
    assert!(store.requests().iter().all(|head| head.contains("authorization: Bearer hf_secret")), "same place");
    let elsewhere = Hub::serving(model());
    let sending = Hub::serving(File { location: Some(format!("{}/x.gguf", elsewhere.base)), ..File::default() });
    let pull = Pull { token, replace: true, ..site.pull(&sending, "hf:o/r:model.gguf") };
    site.pulled(pull).await.unwrap();
    assert!(sending.requests()[0].contains("hf_secret") && !elsewhere.requests()[0].contains("hf_secret"));
}

#[tokio::test]
async fn a_pulled_package_is_unpacked() {
    let (site, workshop) = (site(), site_with_package());
    let package = std::fs::read(workshop.join("m.gguf.zst")).unwrap();
    let hub = Hub::serving(File { bytes: package.clone(), ..model() });
    let pulled = site.pulled(site.pull(&hub, "HUB/m.gguf.zst")).await.unwrap();
    assert_eq!((pulled.manifest.sha256, pulled.checked), (hash(&bundled()), true));
    assert_eq!(site.content(), bundled());
    assert_eq!(site.files(), ["a.gguf", "a.manifest.toml"]);
    site.says(&["remove", "a"]);
    hub.change(|file| {
        let middle = file.bytes.len() / 2;
        file.bytes[middle] ^= 0x55;
    });
    assert!(site.pulled(site.pull(&hub, "HUB/m.gguf.zst")).await.is_err());
    assert_eq!(site.files(), [""; 0]);
}

fn site_with_package() -> PathBuf {
    let folder = tempfile::tempdir().unwrap().keep();
    std::fs::write(folder.join("m.gguf"), bundled()).unwrap();
    let packing = Packing { level: 1, ..Packing::default() };
    let (name, there) = ("m".parse().unwrap(), Folder::new(&folder));
    pack(&folder.join("m.gguf"), &there, &folder.join("m.gguf.zst"), &name, &packing, &mut |_, _| true).unwrap();
    folder
}

#[test]
fn a_full_disk_is_named_and_left_as_it_was() {
    let (site, hub) = (site(), Hub::serving(model()));
    let source = format!("{}/a.gguf", hub.base);
    std::fs::write(site.temporary.path().join("b.bin"), bundled()).unwrap();
    // A file may have a MiB: what the disk's end is to the program, and needs no disk. The signal is ignored as a service's is not,
    // since what is looked at is the error.
    let limited = |command: &str| {
        let script = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" models \"$@\"";
        let mut shell = Command::new("bash");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_cerebrum-server")]).args(command.split(' '));
        shell.arg("--models-dir").arg(site.folder.path()).current_dir(&site.temporary).output().unwrap()
    };
    for command in [format!("pull {source}"), "add b.bin --name a".to_owned()] {
        let output = limited(&command);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.contains("the disk is full after") && complaint.contains("nothing was kept"), "{output:?}");
        assert_eq!(site.files(), ["b.bin"]);
    }
    site.says(&["pull", &source]);
}

// The command itself: whom it trusts is what the system trusts, and the variable stands for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_over_tls_goes_to_who_can_be_trusted_and_on_after_a_cut() {
    let bytes = bundled();
    let half = bytes.len() / 2;
    let hub = Hub::serving(File { cut_after: Some(half), cuts: Some(1), ..model() });
    let site = site();
    let certificates = tempfile::tempdir().unwrap();
    let right = Secure::before(&hub, "localhost", certificates.path()).await;
    let pull = |base: &str, authority: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cerebrum-server"));
        command.args(["models", "pull", &format!("{base}/a.gguf"), "--models-dir"]).arg(site.folder.path());
        command.env("SSL_CERT_FILE", authority).env_remove("SSL_CERT_DIR");
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let output = pull(&right.base, &right.authority).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(site.content() == bytes && hub.requests().len() == 2, "cut once: {:?}", hub.requests());
    assert!(hub.requests()[1].contains(&format!("range: bytes={half}-")), "{:?}", hub.requests());
    std::fs::remove_file(site.folder.path().join("a.gguf")).unwrap();
    std::fs::remove_file(site.folder.path().join("a.manifest.toml")).unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    let other = Secure::before(&hub, "example.org", elsewhere.path()).await;
    for (base, authority, expected) in [
        (&right.base, &other.authority, "invalid peer certificate"),
        (&other.base, &other.authority, "not valid for name"),
    ] {
        let output = pull(base, authority).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(expected), "{said}");
        assert_eq!(site.files(), [""; 0], "{said}");
    }
    assert_eq!(hub.requests().len(), 2, "nobody asked who could not be trusted");
}

#[test]
fn the_commands_work_together() {
    let (site, workshop) = (site(), site_with_package());
    let file = |name: &str| workshop.join(name).display().to_string();
    assert!(site.says(&["list", "--catalogue"]).contains("qwen2.5-coder-7b"));
    assert!(site.says(&["add", &file("m.gguf"), "--name", "tiny"]).contains(&hash(&bundled())));
    assert!(site.complains(&["add", &file("m.gguf"), "--name", "tiny"]).contains("add --replace"));
    assert!(site.complains(&["add", &file("m.gguf"), "--name", "../tiny"]).contains("cannot be a model's name"));
    site.says(&["pack", "tiny", "--output", "packed.gguf.zst", "--level", "1"]);
    let list = site.says(&["list"]);
    let line = |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{list}"));
    assert!(line("tiny").contains("llama 4M Q8_0, context 1024"), "{list}");
    assert!(line("packed").contains("package of 4 MiB"), "{list}");
    assert!(site.says(&["verify"]).contains("tiny: its hash is right"));
    site.says(&["remove", "packed"]);
    site.says(&["add", &file("m.gguf.zst"), "--replace"]);
    assert_eq!(site.files(), ["m.gguf", "m.manifest.toml", "tiny.gguf", "tiny.manifest.toml"]);
    let mut bytes = bundled();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(site.folder.path().join("tiny.gguf"), bytes).unwrap();
    assert!(site.complains(&["verify"]).contains("tiny: the SHA-256 is"));
    assert!(site.says(&["verify", "m"]).contains("m: its hash is right"));
    assert!(site.complains(&["verify", "nothing"]).contains("found no model called \"nothing\""));
    site.says(&["remove", "tiny"]);
    assert!(site.complains(&["remove", "tiny"]).contains("found no model called \"tiny\""));
}
