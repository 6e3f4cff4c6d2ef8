//! An emulated Raspberry Pi 3 with an OLED on its I2C bus, and a shell that answers over the network.
//!
//! Owns the emulator's process, which ends with it. Commands go in and their output comes back as text. What runs inside is
//! `tests/board-vm/init`.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cerebrum_tests::stack::{Log, free_port};

/// From the start of the emulator to its shell; it takes half a minute on two busy cores.
const BOOT: Duration = Duration::from_secs(300);
/// For one command.
const COMMAND: Duration = Duration::from_secs(90);

/// For the shell's first answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The port of the machine's shell.
const SHELL: u16 = 2323;

/// The emulator's process, which ends with it.
#[derive(Debug)]
struct Emulator(Child);

/// A running machine.
#[derive(Debug)]
pub(crate) struct Machine {
    _emulator: Emulator,
    shell: TcpStream,
    said: Arc<Log>,
    commands: u32,
    trace: PathBuf,
}

impl Machine {
    /// Starts it with what `tests/board-vm/pack.sh` has packed to `folder` and waits for its shell. Connections to `port`
    /// of this machine's loopback reach the emulated one's port 7000.
    ///
    /// # Errors
    /// It does not start; with what it said.
    pub(crate) fn start(tree: &Path, port: u16) -> anyhow::Result<Self> {
        let folder = tree.join("target/vm");
        let trace = folder.join("i2c.trace");
        std::fs::write(&trace, "")?;
        let door = free_port()?;
        let forward = |from: u16, to: u16| format!("hostfwd=tcp:127.0.0.1:{from}-:{to}");
        let lan = format!("user,id=lan,ipv6=off,{},{}", forward(port, 7000), forward(door, SHELL));
        let mut emulator = Command::new(tree.join("cross/debian.sh"))
            .args(["run", "--mount", &format!("{}:/vm", folder.display()), "--"])
            // Should this test be killed, the emulator goes with it.
            .args(["setpriv", "--pdeathsig", "TERM", "qemu-system-aarch64", "-machine", "raspi3b"])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"])
            .args(["-kernel", "/vm/kernel", "-initrd", "/vm/root.cpio.gz", "-dtb", "/vm/board.dtb"])
            // The kernel's tests of its own cryptography take a minute here.
            .args(["-append", "console=ttyAMA0 quiet loglevel=3 panic=-1 cryptomgr.notests"])
            .args(["-device", "ssd0303,address=0x3c,bus=i2c-bus.1"])
            .args(["-netdev", &lan, "-device", "usb-net,netdev=lan"])
            .args(["-trace", "i2c_*", "-D", "/vm/i2c.trace", "-msg", "timestamp=on"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join("emulator.log"))?)
            .spawn()
            .context("cross/debian.sh")?;
        let serial = Log::of(emulator.stdout.take().context("no standard output")?);
        let emulator = Emulator(emulator);
        serial.wait_for(BOOT, |line| line.contains("BOARD-VM READY")).context("the machine does not start")?;
        let (shell, said) = open_shell(door)?;
        Ok(Self { _emulator: emulator, shell, said, commands: 0, trace })
    }

    /// What the I2C bus carried so far.
    pub(crate) fn trace(&self) -> &Path {
        &self.trace
    }

    /// Seconds that the machine says it has been up.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn uptime(&mut self) -> anyhow::Result<f64> {
        Ok(self.run("cat /proc/uptime")?.split(' ').next().unwrap_or_default().parse()?)
    }

    /// Runs commands in the machine's shell and returns what they print.
    ///
    /// # Errors
    /// They fail, or do not end in time.
    pub(crate) fn run(&mut self, commands: &str) -> anyhow::Result<String> {
        let (output, code) = self.attempt(commands)?;
        ensure!(code == 0, "{commands:?} failed with {code}:\n{output}");
        Ok(output)
    }

    /// As [`Self::run`], with the exit code, whatever it is.
    ///
    /// # Errors
    /// They do not end in time.
    pub(crate) fn attempt(&mut self, commands: &str) -> anyhow::Result<(String, i32)> {
        let number = self.commands;
        self.commands += 1;
        // The shell reads its commands from its input, which none of them may take away.
        let command = format!("{{ echo BEGIN-{number}\n{commands}\n}} </dev/null; echo END-{number} $?\n");
        self.shell.write_all(command.as_bytes())?;
        let end = format!("END-{number} ");
        let last = self.said.wait_for(COMMAND, |line| line.contains(&end)).with_context(|| commands.to_owned())?;
        let code = last.split(&end).nth(1).unwrap_or_default().trim().parse()?;
        let begin = format!("BEGIN-{number}");
        let lines = self.said.lines();
        let output = lines.iter().skip_while(|line| line.trim() != begin).skip(1);
        let output: Vec<&str> = output.take_while(|line| !line.contains(&end)).map(|line| line.trim_end()).collect();
        Ok((output.join("\n"), code))
    }

    /// Writes a file.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn put(&mut self, path: &str, content: &str) -> anyhow::Result<()> {
        let folder = Path::new(path).parent().unwrap_or(Path::new("/")).display();
        self.run(&format!("mkdir -p {folder}\ncat >{path} <<'END-OF-FILE'\n{content}\nEND-OF-FILE")).map(drop)
    }
}

/// The emulator takes connections before the machine listens, and breaks them then: only an answer tells that it is there.
fn open_shell(door: u16) -> anyhow::Result<(TcpStream, Arc<Log>)> {
    let until = Instant::now() + COMMAND;
    loop {
        let mut shell = TcpStream::connect(("127.0.0.1", door))?;
        let said = Log::of(shell.try_clone()?);
        // Where this fails, there is no answer either.
        drop(shell.write_all(b"echo HERE\n"));
        match said.wait_for(ANSWER, |line| line.contains("HERE")) {
            Ok(_) => return Ok((shell, said)),
            Err(error) if Instant::now() > until => return Err(error.context("the machine's shell does not answer")),
            Err(_) => {}
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It has no disk: there is nothing to save. An interrupted or ended emulator is what is wanted here.
        drop(Command::new("kill").arg(self.0.id().to_string()).status());
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
