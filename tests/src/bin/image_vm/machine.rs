//! The image on an emulated Raspberry Pi 3: its card, its boot loader, its console, and a way in by SSH.
//!
//! Owns the emulator's process, which ends with it, as a power cut would. The card is the image's own disk; what a person would
//! put on its boot partition with another computer is put there by mtools.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use cerebrum_tests::stack::{Log, free_port};

/// The card's size; the emulator wants a power of two.
const CARD_BYTES: u64 = 1 << 30;
/// Where the boot partition begins.
const BOOT_START: u64 = 8192 * 512;
/// From the start to SSH; the emulated card alone takes half a minute to give the kernel.
pub(crate) const BOOT: Duration = Duration::from_secs(600);
/// For one command by SSH; writing and reading back a slot takes the emulated card some minutes.
const COMMAND: Duration = Duration::from_secs(900);
/// For a greeting from who listens; the emulator's network tries a connection again only after pauses that grow.
const GREETING: Duration = Duration::from_secs(8);
/// For bringing an update there.
const SEND: Duration = Duration::from_secs(900);

/// Folders and files of the tests.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) tree: PathBuf,
    pub(crate) folder: PathBuf,
}

impl Place {
    /// A command in the project's own Debian, with `target/image` at `/image`.
    pub(crate) fn inside(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.tree.join("cross/debian.sh"));
        let mount = format!("{}:/image", self.tree.join("target/image").display());
        command.args(["run", "--mount", &mount, "--"]).args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn done(&self, arguments: &[&str]) -> anyhow::Result<String> {
        output(self.inside(arguments).output()?, arguments)
    }

    /// A fresh card with the image's disk.
    pub(crate) fn card(&self) -> anyhow::Result<PathBuf> {
        let card = self.folder.join("card.img");
        let disk = self.tree.join("target/image/disk.img");
        output(Command::new("cp").arg("--sparse=always").args([&disk, &card]).output()?, &["cp"])?;
        std::fs::OpenOptions::new().write(true).open(&card)?.set_len(CARD_BYTES)?;
        Ok(card)
    }

    /// Puts a file on the card's boot partition.
    pub(crate) fn put(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let put = self.folder.join("put");
        std::fs::write(&put, content)?;
        self.put_file(name, &put)
    }

    /// As [`Self::put`], a file of `target/image`.
    pub(crate) fn put_file(&self, name: &str, file: &Path) -> anyhow::Result<()> {
        let image = format!("/image/vm/card.img@@{BOOT_START}");
        let file = Path::new("/image").join(file.strip_prefix(self.tree.join("target/image"))?);
        self.done(&["mcopy", "-o", "-i", &image, &file.display().to_string(), &format!("::{name}")]).map(drop)
    }

    /// The update that `make image` has made.
    pub(crate) fn bundle(&self) -> anyhow::Result<PathBuf> {
        let out = std::fs::read_dir(self.tree.join("target/image/out"))?;
        let bundle =
            out.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "update"));
        bundle.context("found no update in target/image/out, expected make image to have made one")
    }

    /// Signs an update with the key that the image trusts.
    pub(crate) fn bundle_of(&self, version: &str, slot: &str, bundle: &str) -> anyhow::Result<()> {
        let image = self.tree.join("target/image").display().to_string();
        let mut command = Command::new(self.tree.join("cross/debian.sh"));
        command.args([
            "run",
            "--mount",
            &format!("{image}:/image"),
            "--mount",
            &format!("{image}/signing:/keys"),
            "--",
        ]);
        command.args(["/src/image-build/inside/bundle.sh", version, "1", slot, bundle]).stdin(Stdio::null());
        output(command.output()?, &["bundle.sh"]).map(drop)
    }

    /// An update, signed with the key that the image trusts, whose system starts and never gets healthy.
    pub(crate) fn sick_bundle(&self) -> anyhow::Result<PathBuf> {
        let mut command = Command::new(self.tree.join("tests/image-vm/sick.sh"));
        output(command.stdin(Stdio::null()).output()?, &["sick.sh"])?;
        Ok(self.tree.join("target/image/vm/sick/sick.update"))
    }

    /// Turns one bit of the card around.
    pub(crate) fn flip(&self, place: u64) -> anyhow::Result<()> {
        let card = std::fs::OpenOptions::new().read(true).write(true).open(self.folder.join("card.img"))?;
        let mut byte = [0];
        card.read_exact_at(&mut byte, place)?;
        Ok(card.write_all_at(&[byte[0] ^ 1], place)?)
    }
}

fn output(output: Output, what: &[&str]) -> anyhow::Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{what:?} failed:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

/// A running machine.
#[derive(Debug)]
pub(crate) struct Machine {
    emulator: Child,
    pub(crate) console: Arc<Log>,
    pub(crate) started: Instant,
    place: Place,
    door: u16,
    shut: u16,
}

impl Machine {
    /// Starts the card. Connections to `port` of this machine's loopback reach port 7000 of the emulated one.
    pub(crate) fn start(place: &Place, port: u16) -> anyhow::Result<Self> {
        let door = free_port()?;
        let shut = free_port()?;
        let forward = |from: u16, to: u16| format!("hostfwd=tcp:127.0.0.1:{from}-:{to}");
        let lan = format!("user,id=lan,ipv6=off,{},{},{}", forward(port, 7000), forward(door, 22), forward(shut, 9));
        std::fs::write(place.folder.join("i2c.trace"), "")?;
        let mut emulator = place
            // Should this test be killed, the emulator goes with it.
            .inside(&["setpriv", "--pdeathsig", "TERM", "qemu-system-aarch64", "-machine", "raspi3b"])
            // One thread for all four processors: a waiting one then gives its turn away, instead of keeping one of ours busy.
            .args(["-accel", "tcg,thread=single"])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
            .args(["-kernel", "/image/u-boot.bin", "-dtb", "/image/board.dtb"])
            .args(["-drive", "if=sd,format=raw,file=/image/vm/card.img"])
            .args(["-device", "ssd0303,address=0x3c,bus=i2c-bus.1"])
            .args(["-netdev", &lan, "-device", "usb-net,netdev=lan"])
            .args(["-trace", "i2c_*", "-D", "/image/vm/i2c.trace", "-msg", "timestamp=on"])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(place.folder.join("emulator.log"))?)
            .spawn()
            .context("cross/debian.sh")?;
        let console = Log::of(emulator.stdout.take().context("no standard output")?);
        Ok(Self { emulator, console, started: Instant::now(), place: place.clone(), door, shut })
    }

    /// Runs a command as root and returns what it prints.
    pub(crate) fn run(&self, command: &str) -> anyhow::Result<String> {
        output(self.attempt(command)?, &[command])
    }

    /// As [`Self::run`], whatever comes of it.
    pub(crate) fn attempt(&self, command: &str) -> anyhow::Result<Output> {
        Ok(self.ssh(COMMAND, command).stdin(Stdio::null()).output()?)
    }

    fn ssh(&self, limit: Duration, command: &str) -> Command {
        let mut ssh = Command::new("timeout");
        ssh.arg(limit.as_secs().to_string()).arg("ssh").args(self.options()).args(["root@127.0.0.1", command]);
        ssh
    }

    /// Commands go through the connection that [`Self::open`] has made, as long as it stands: the emulated processor takes
    /// seconds for the cryptography of a new one.
    fn options(&self) -> Vec<String> {
        let folder = self.place.folder.display();
        let mut options = vec!["-i".to_owned(), format!("{folder}/ssh"), "-p".to_owned(), self.door.to_string()];
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
            "ConnectTimeout=60",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=8",
            &format!("ControlPath={folder}/door-{}", self.door),
        ] {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    /// Logs in.
    fn open(&self) -> anyhow::Result<bool> {
        self.close();
        let mut ssh = Command::new("timeout");
        ssh.arg("180").arg("ssh").args(self.options()).args(["-M", "-N", "-f", "root@127.0.0.1"]);
        let opened = ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        Ok(opened.success() && self.attempt("true")?.status.success())
    }

    /// Ends the connection, if there is one.
    fn close(&self) {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options()).args(["-O", "exit", "root@127.0.0.1"]);
        drop(ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status());
    }

    /// Whether a connection to a port that nothing opens stays without any word, as the firewall means it: without one, the
    /// system would refuse it at once.
    pub(crate) fn is_silent(&self) -> anyhow::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.shut))?;
        stream.set_read_timeout(Some(GREETING))?;
        Ok(stream
            .read(&mut [0])
            .is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)))
    }

    /// Whether somebody answers at the door.
    pub(crate) fn greets(&self) -> bool {
        let mut greeting = [0; 4];
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.door))
            .and_then(|mut stream| {
                stream.set_read_timeout(Some(GREETING))?;
                stream.read_exact(&mut greeting)
            })
            .is_ok_and(|()| greeting == *b"SSH-")
    }

    /// Whether the emulator's USB host, through which all the network goes, does not see what is plugged into it. It happens
    /// at some starts on a busy machine, and lasts until the next.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.console.lines().iter().filter(|line| line.contains("dwc2") && line.contains("Not connected")).count() > 8
    }

    /// Brings a file there.
    pub(crate) fn send(&self, file: &Path, to: &str) -> anyhow::Result<()> {
        let mut command = self.ssh(SEND, &format!("cat >{to}"));
        command.stdin(std::fs::File::open(file)?);
        output(command.output()?, &["cat >", to]).map(drop)
    }

    /// Waits until somebody can log in.
    pub(crate) fn wait_for_ssh(&self) -> anyhow::Result<()> {
        let until = Instant::now() + BOOT;
        loop {
            if self.greets() && self.open()? {
                return Ok(());
            }
            ensure!(!self.is_cut_off(), "the emulated network was never plugged in");
            if Instant::now() > until {
                bail!("nobody can log in within {BOOT:?}; the console:\n{}", self.said());
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Asks for the staged system to be started; what the console says from then on.
    pub(crate) fn tries(&self) -> anyhow::Result<Since<'_>> {
        let since = Since { machine: self, line: self.console.lines().len() };
        // The session ends with the system it runs on.
        drop(self.attempt("cerebrum update try")?);
        self.close();
        Ok(since)
    }

    /// Waits until the console says something.
    pub(crate) fn says(&self, wanted: &str) -> anyhow::Result<()> {
        Since { machine: self, line: 0 }.says(wanted)
    }

    /// All of the console.
    pub(crate) fn said(&self) -> String {
        self.console.lines().join("\n")
    }

    /// What the I2C bus carried.
    pub(crate) fn trace(place: &Place) -> PathBuf {
        place.folder.join("i2c.trace")
    }
}

/// The console from some line on.
#[derive(Debug)]
pub(crate) struct Since<'a> {
    machine: &'a Machine,
    line: usize,
}

impl Since<'_> {
    /// Waits until the console says something.
    pub(crate) fn says(&self, wanted: &str) -> anyhow::Result<()> {
        let until = Instant::now() + BOOT;
        while !self.machine.console.lines().iter().skip(self.line).any(|line| line.contains(wanted)) {
            ensure!(Instant::now() < until, "waiting for {wanted:?}; the console:\n{}", self.machine.said());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.close();
        drop(Command::new("kill").arg(self.emulator.id().to_string()).status());
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && matches!(self.emulator.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(self.emulator.kill());
        drop(self.emulator.wait());
        drop(std::fs::write(self.place.folder.join("console.log"), self.said()));
    }
}

/// The key that a person would log in with.
pub(crate) fn make_key(folder: &Path) -> anyhow::Result<String> {
    let key = folder.join("ssh");
    for old in [key.clone(), key.with_extension("pub")] {
        if old.exists() {
            std::fs::remove_file(old)?;
        }
    }
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(&key).output();
    output(made.context("ssh-keygen, of the package openssh-client")?, &["ssh-keygen"])?;
    Ok(std::fs::read_to_string(key.with_extension("pub"))?.trim().to_owned())
}
