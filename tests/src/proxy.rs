//! A TCP proxy that does to connections what bad networks do, where its script or chance says so: it cuts, resets, stalls, lets
//! bytes through one by one, sends some twice, is away for a while, and serves reconnections out of order.
//!
//! It knows nothing of what it carries, so that frames, TLS records and HTTP are broken at any byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cerebrum_common::serve::bind;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::random::Random;

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Both ends are closed in good order, wherever the bytes were.
    Cut,
    /// Both ends are reset.
    Reset,
    /// Nothing passes for a while, then all goes on.
    Stall,
    /// Bytes pass one by one for a while.
    Trickle,
    /// Some bytes come twice; what they mean is broken by that.
    Duplicate,
    /// Cut, and the next connections are closed as soon as they come.
    Away,
    /// Cut, and the next connection is carried only after a while, so that later ones overtake it.
    Overtaken,
}

/// All of them.
pub const FAULTS: &[Fault] =
    &[Fault::Cut, Fault::Reset, Fault::Stall, Fault::Trickle, Fault::Duplicate, Fault::Away, Fault::Overtaken];

/// Those that cannot be taken for something else without TLS: nothing tells bytes that came twice from two equal ones, but TCP
/// itself lets none through.
pub const HONEST: &[Fault] = &[Fault::Cut, Fault::Reset, Fault::Stall, Fault::Trickle, Fault::Away, Fault::Overtaken];

/// How often chance strikes: after so many bytes in one direction, at least and at most. Counted over all connections of that
/// direction, so that what is longer than that gets through all the same.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Bytes between two faults.
    pub bytes: (u64, u64),
    /// How long what takes a while takes, in milliseconds.
    pub while_ms: (u64, u64),
    /// What chance chooses from.
    pub faults: &'static [Fault],
}

/// The running proxy; dropped, its port and all connections are closed.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    /// The number of times that everything was cut.
    cuts: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    random: Random,
    weather: Option<Weather>,
    /// Bytes until the next fault, to the target and back.
    until: [u64; 2],
    /// The next connections are not carried.
    away: u64,
    /// None is.
    down: bool,
    /// The next connection is carried late.
    late: bool,
    struck: u64,
}

impl FaultProxy {
    /// Carries connections to `target` undisturbed.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(target: SocketAddr, seed: u64) -> anyhow::Result<Self> {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = listener.local_addr()?;
        let random = Random::new(seed);
        let state = State { random, weather: None, until: [0; 2], away: 0, down: false, late: false, struck: 0 };
        let shared = Arc::new(Shared { target, state: Mutex::new(state), cuts: watch::Sender::default() });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, _accepting: accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on chance strikes like this, or not at all.
    pub fn weather(&self, weather: Option<Weather>) {
        let mut state = self.shared.lock();
        state.weather = weather;
        for way in [0, 1] {
            state.draw(way);
        }
    }

    /// How many faults there have been by chance.
    pub fn struck(&self) -> u64 {
        self.shared.lock().struck
    }

    /// Cuts all connections there are.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts all connections and carries none until [`Self::up`].
    pub fn down(&self) {
        self.shared.lock().down = true;
        self.cut();
    }

    /// Carries connections again.
    pub fn up(&self) {
        self.shared.lock().down = false;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn draw(&mut self, way: usize) {
        if let Some(weather) = self.weather {
            self.until[way] = self.random.between(weather.bytes.0, weather.bytes.1);
        }
    }

    fn some_while(&mut self) -> Duration {
        let (low, high) = self.weather.map_or((1, 2), |weather| weather.while_ms);
        Duration::from_millis(self.random.between(low, high))
    }

    /// How many of `length` bytes pass before a fault, and the fault.
    fn pass(&mut self, way: usize, length: usize) -> (usize, Option<Fault>) {
        let Some(weather) = self.weather.filter(|_| self.until[way] <= length as u64) else {
            self.until[way] = self.until[way].saturating_sub(length as u64);
            return (length, None);
        };
        let passing = self.until[way] as usize;
        self.draw(way);
        self.struck += 1;
        let fault = weather.faults[self.random.below(weather.faults.len() as u64) as usize];
        match fault {
            Fault::Away => self.away = self.random.between(1, 4),
            Fault::Overtaken => self.late = true,
            _ => {}
        }
        (passing, Some(fault))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(carry(client, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let late = {
        let mut state = shared.lock();
        if state.down || state.away > 0 {
            state.away = state.away.saturating_sub(1);
            return;
        }
        std::mem::take(&mut state.late).then(|| state.some_while())
    };
    if let Some(late) = late {
        tokio::time::sleep(late).await;
    }
    // Who cannot connect any more has ended: a test notices that by itself.
    let Ok(target) = TcpStream::connect(shared.target).await else { return };
    for socket in [&client, &target] {
        let Ok(()) = socket.set_nodelay(true) else { return };
    }
    let ((from_client, to_client), (from_target, to_target)) = (client.into_split(), target.into_split());
    let reset = tokio::select! {
        reset = pump(0, from_client, &to_target, &shared) => reset,
        reset = pump(1, from_target, &to_client, &shared) => reset,
        _ = cuts.changed() => false,
    };
    if reset {
        for half in [&to_client, &to_target] {
            // Unset only where the socket is closed already.
            drop(socket2::SockRef::from(half.as_ref()).set_linger(Some(Duration::ZERO)));
        }
    }
}

/// Carries one direction until its end, or until a fault ends the connection; true when that is a reset.
async fn pump(way: usize, mut from: OwnedReadHalf, to: &OwnedWriteHalf, shared: &Shared) -> bool {
    let mut buffer = vec![0; 4096];
    let mut slowly = 0;
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return false };
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let (passing, fault) = shared.lock().pass(way, rest.len());
            let (now, later) = rest.split_at(passing);
            if write(to, now, &mut slowly).await.is_err() {
                return false;
            }
            rest = later;
            match fault {
                None => {}
                Some(Fault::Cut | Fault::Away | Fault::Overtaken) => return false,
                Some(Fault::Reset) => return true,
                Some(Fault::Stall) => {
                    let time = shared.lock().some_while();
                    tokio::time::sleep(time).await;
                }
                Some(Fault::Trickle) => slowly = 300,
                Some(Fault::Duplicate) => {
                    let again = write(to, &now[now.len().saturating_sub(40)..], &mut slowly).await;
                    if again.is_err() {
                        return false;
                    }
                }
            }
        }
    }
}

/// Writes all at once, or the first `slowly` bytes one by one.
async fn write(to: &OwnedWriteHalf, mut bytes: &[u8], slowly: &mut usize) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let part = if *slowly > 0 { 1 } else { bytes.len() };
        *slowly = slowly.saturating_sub(part);
        to.writable().await?;
        match to.try_write(&bytes[..part]) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if part == 1 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
