//! What the board may know about the appliance, and what it may ask of it.
//!
//! Owns the `Snapshot` that the appliance publishes and the `Command`s that a press can send back. There is no field for
//! prompts, answers or keys, so nothing on this side can show them. Data comes from the appliance's status task and goes to
//! `screen` and `lamps`; commands go to the appliance's supervisor.

use std::{net::IpAddr, time::Duration};

/// Everything the lamps and the OLED show, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The name people reach the appliance by, such as `cerebrum.local`.
    pub name: String,
    /// Version of the daemon, such as `0.1.0`.
    pub version: String,
    /// Addresses of the LAN side, the most useful one first; empty while there is no network.
    pub addresses: Vec<IpAddr>,
    /// TCP port of the HTTP interface.
    pub port: u16,
    /// Time since the daemon started.
    pub uptime: Duration,
    /// Where the daemon is in its life.
    pub stage: Stage,
    /// Requests in progress.
    pub active: u32,
    /// Requests waiting for a place.
    pub queued: u32,
    /// The newest request in progress.
    pub request: Option<Request>,
    /// Inference servers in order of preference.
    pub upstreams: Vec<Upstream>,
    /// What preparation has saved since the daemon started.
    pub savings: Savings,
    /// Totals since the daemon started.
    pub counters: Counters,
    /// A client that asks for a key and waits for a person to decide.
    pub pairing: Option<Pairing>,
    /// A newer version and how far it has come.
    pub update: Option<Update>,
    /// What is wrong, as far as a person can mend it.
    pub error: Option<Fault>,
    /// What the buttons can have done.
    pub offers: Offers,
}

impl Default for Snapshot {
    /// A daemon that has just been started and knows nothing yet.
    fn default() -> Self {
        Self {
            name: "cerebrum.local".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: Vec::new(),
            port: 7000,
            uptime: Duration::ZERO,
            stage: Stage::Starting,
            active: 0,
            queued: 0,
            request: None,
            upstreams: Vec::new(),
            savings: Savings::default(),
            counters: Counters::default(),
            pairing: None,
            update: None,
            error: None,
            offers: Offers::default(),
        }
    }
}

/// What the appliance can do when a button asks for it: what is not to be had is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offers {
    /// Switching off.
    pub power_off: bool,
    /// Forgetting everything.
    pub factory_reset: bool,
    /// Installing or starting an update.
    pub apply_update: bool,
}

impl Offers {
    /// All of it.
    pub const ALL: Self = Self { power_off: true, factory_reset: true, apply_update: true };
}

/// Where the daemon is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Started, not yet answering.
    #[default]
    Starting,
    /// Answering requests.
    Ready,
    /// Settings are missing or wrong: nothing is served, and there is only a problem to show.
    Halted,
    /// Finishing the last requests; new ones are refused.
    Draining,
    /// Gone: the picture of this stage stays on the panel.
    Stopped,
}

/// The request that is in progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The request's UUID as a number, so that a press can name the request it stops.
    pub id: u128,
    /// What is being done for it now.
    pub phase: Phase,
    /// Share of the phase that is done (while generating: of the tokens allowed), 0 to 1; values outside are drawn as the nearest end.
    pub progress: f32,
    /// Tokens generated so far.
    pub tokens: u32,
    /// Tokens generated per second, over the last seconds.
    pub tokens_per_second: f32,
    /// Model that answers.
    pub model: String,
}

/// The steps of a request that take long enough to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The prompt is being shortened and ordered.
    Preparing,
    /// The upstream loads the model.
    Loading,
    /// The upstream reads the prompt.
    Reading,
    /// Tokens arrive.
    Generating,
}

/// One inference server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The name from the settings.
    pub name: String,
    /// What the breaker and the latest probe say.
    pub state: UpstreamState,
    /// Round trip of the latest probe that was answered.
    pub round_trip: Option<Duration>,
}

/// Whether an upstream can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamState {
    /// It answers.
    Up,
    /// It does not answer; its breaker is open.
    Down,
    /// Its breaker lets one probe through.
    HalfOpen,
}

/// Totals of prompt preparation, in characters as the clients sent them and as the upstream got them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Savings {
    /// Prompts that were prepared.
    pub prompts: u64,
    /// Characters before preparation.
    pub characters_before: u64,
    /// Characters after preparation.
    pub characters_after: u64,
    /// Upstream time that was not spent, by the upstream's own reading speed; zero when unknown.
    pub time_saved: Duration,
}

/// Totals of answered requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests answered in full.
    pub served: u64,
    /// Requests that ended in an error.
    pub failed: u64,
    /// Requests refused because the appliance was busy.
    pub refused: u64,
    /// Tokens generated.
    pub tokens: u64,
}

/// A client that waits for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairing {
    /// Number of the attempt, so that a late press cannot grant the next one.
    pub id: u64,
    /// The name the client gave itself. Foreign text: drawn shortened, control characters replaced.
    pub client: String,
    /// The code that the client shows too, at most eight characters.
    pub code: String,
    /// Time left until the attempt is refused.
    pub remaining: Duration,
    /// Time that there was at first.
    pub allowed: Duration,
}

/// A newer version.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Its version.
    pub version: String,
    /// How far it has come.
    pub state: UpdateState,
}

/// How far an update has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum UpdateState {
    /// Known, and waiting for a person.
    Available,
    /// Being fetched, share 0 to 1.
    Fetching(f32),
    /// Signature and hashes are being checked.
    Checking,
    /// Being written to the other slot, share 0 to 1.
    Installing(f32),
    /// In place; starts with the next boot.
    RestartNeeded,
    /// Given up; the running version stays.
    Failed,
}

impl UpdateState {
    /// Whether it is a person's turn.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(self, Self::Available | Self::RestartNeeded | Self::Failed)
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind, which chooses the error lamp's pattern.
    pub cause: Cause,
    /// One sentence for a person. Never quotes a request.
    pub message: String,
}

/// Causes that the error lamp tells apart. Long blinks say where to look, short ones what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No LAN address.
    Network,
    /// No upstream answers.
    Upstream,
    /// Upstreams answer, and take no requests.
    Overloaded,
    /// A certificate was refused, by us or by the upstream.
    Certificate,
    /// An upstream refused our key.
    Key,
    /// The clock is wrong.
    Clock,
    /// Keys cannot be kept: storage is full, read-only or damaged.
    Storage,
    /// Too hot, or the supply voltage is too low.
    Power,
    /// The settings file is missing or wrong.
    Settings,
}

/// Blinks of the error lamp in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blinks {
    /// Long ones, which come first. None: the network and the servers; one: who may talk to whom; two: the appliance itself.
    pub long: u32,
    /// Short ones.
    pub short: u32,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 9] = [
        Self::Network,
        Self::Upstream,
        Self::Overloaded,
        Self::Certificate,
        Self::Key,
        Self::Clock,
        Self::Storage,
        Self::Power,
        Self::Settings,
    ];

    /// Blinks of the error lamp per round: few enough to be counted at a glance.
    #[must_use]
    pub const fn blinks(self) -> Blinks {
        let (long, short) = match self {
            Self::Network => (0, 1),
            Self::Upstream => (0, 2),
            Self::Overloaded => (0, 3),
            Self::Certificate => (1, 1),
            Self::Key => (1, 2),
            Self::Clock => (1, 3),
            Self::Storage => (2, 1),
            Self::Power => (2, 2),
            Self::Settings => (2, 3),
        };
        Blinks { long, short }
    }
}

/// What a press asks of the appliance. The only way from the board inward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// End this request.
    StopRequest {
        /// The request's UUID as a number.
        id: u128,
    },
    /// Probe every upstream now instead of waiting for the next round.
    ProbeUpstreams,
    /// Give the waiting client its key.
    GrantPairing {
        /// Number of the attempt.
        id: u64,
    },
    /// Refuse the waiting client.
    RefusePairing {
        /// Number of the attempt.
        id: u64,
    },
    /// Fetch and install the known update, or restart into it when it is in place.
    ApplyUpdate,
    /// The person has read the error.
    DismissError,
    /// Drain and power off.
    PowerOff,
    /// Forget keys, settings and history, and start as from the first boot.
    FactoryReset,
}
