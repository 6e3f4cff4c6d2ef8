//! The circuit breaker of one upstream: a pure state machine; time and chance come in as arguments.
//!
//! Closed until `failures` in a row; then open for a cool-down that doubles, with jitter, each time the probe fails; then
//! half open: exactly one request is let through, and decides.

use std::time::Duration;

use tokio::time::Instant;

/// When to open, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open it.
    pub failures: u32,
    /// The first cool-down.
    pub cooldown: Duration,
    /// The longest one.
    pub cooldown_max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { failures: 3, cooldown: Duration::from_secs(10), cooldown_max: Duration::from_secs(300) }
    }
}

/// What the breaker does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Lets all through; counts failures in a row.
    Closed {
        /// So far.
        failures: u32,
    },
    /// Lets none through.
    Open {
        /// Until then.
        until: Instant,
        /// How often it opened without a success in between.
        trips: u32,
    },
    /// Lets one through.
    HalfOpen {
        /// Whether that one is on its way.
        probing: bool,
        /// As in `Open`.
        trips: u32,
    },
}

/// One upstream's breaker.
#[derive(Debug)]
pub struct Breaker {
    policy: Policy,
    state: State,
    /// Requests in a row that failed, as far as they count beside attempts to connect.
    failed_requests: u32,
}

impl Breaker {
    /// A closed one.
    pub fn new(policy: Policy) -> Self {
        Self { policy, state: State::Closed { failures: 0 }, failed_requests: 0 }
    }

    /// What it does at present.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether a request may go through; the time to wait if not. Each admission is answered by exactly one of
    /// [`Self::succeeded`], [`Self::failed`] or [`Self::undecided`].
    ///
    /// # Errors
    /// How long until it is worth asking again.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until, .. } if now < until => Err(until - now),
            State::Open { trips, .. } | State::HalfOpen { probing: false, trips } => {
                self.state = State::HalfOpen { probing: true, trips };
                Ok(())
            }
            State::HalfOpen { probing: true, .. } => Err(PROBE_WAIT),
        }
    }

    /// An admitted request is being answered. That closes a half-open breaker, since a generation takes minutes; a closed
    /// one goes on counting, so that answers which begin and then break open it all the same.
    pub fn alive(&mut self) {
        if let State::HalfOpen { probing: true, .. } = self.state {
            self.succeeded();
        }
    }

    /// An admitted request came to its end.
    pub fn succeeded(&mut self) {
        (self.state, self.failed_requests) = (State::Closed { failures: 0 }, 0);
    }

    /// An admitted request failed. `chance` in 0..1 spreads the cool-downs.
    pub fn failed(&mut self, now: Instant, chance: f64) {
        self.failed_requests = self.failed_requests.saturating_add(1);
        self.unreachable(now, chance);
    }

    /// An attempt to connect failed. `chance` in 0..1 spreads the cool-downs.
    pub fn unreachable(&mut self, now: Instant, chance: f64) {
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < self.policy.failures => {
                State::Closed { failures: failures + 1 }
            }
            State::Closed { .. } => self.open(now, 1, chance),
            State::HalfOpen { trips, .. } => self.open(now, trips + 1, chance),
            open @ State::Open { .. } => open, // requests admitted before it opened tell nothing new
        };
    }

    /// An admitted request ended without telling anything: its client went away, or the upstream was merely busy.
    pub fn undecided(&mut self) {
        if let State::HalfOpen { probing, .. } = &mut self.state {
            *probing = false;
        }
    }

    /// The connection is back: no need to wait out the cool-down. Where it was only the connection, all is well again; else one
    /// request may try.
    pub fn reconnected(&mut self) {
        if let State::Open { trips, .. } = self.state {
            self.state = match self.failed_requests {
                failures if failures < self.policy.failures => State::Closed { failures },
                _ => State::HalfOpen { probing: false, trips },
            };
        }
    }

    fn open(&self, now: Instant, trips: u32, chance: f64) -> State {
        let doubled = self.policy.cooldown.saturating_mul(1 << (trips - 1).min(16)).min(self.policy.cooldown_max);
        State::Open { until: now + doubled.mul_f64(1.0 + JITTER * (chance * 2.0 - 1.0)), trips }
    }
}

/// Share by which a cool-down is longer or shorter, so that several boxes do not return in step.
const JITTER: f64 = 0.2;

/// What a request is told to wait while another one is the probe.
const PROBE_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVEN: f64 = 0.5;

    #[test]
    fn a_server_that_was_only_away_is_well_when_it_is_back() {
        let now = Instant::now();
        let mut breaker = Breaker::new(Policy::default());
        breaker.failed(now, EVEN); // the request that was on its way
        (0..5).for_each(|_| breaker.unreachable(now, EVEN));
        assert!(matches!(breaker.state(), State::Open { .. }));
        breaker.reconnected();
        assert_eq!(breaker.state(), State::Closed { failures: 1 }, "nobody need ask before the panel says so");
        breaker.failed(now, EVEN);
        breaker.failed(now, EVEN);
        breaker.reconnected();
        assert!(matches!(breaker.state(), State::HalfOpen { .. }), "one that dies of every request is not");
        breaker.admit(now).unwrap();
        breaker.succeeded();
        (0..3).for_each(|_| breaker.unreachable(now, EVEN));
        breaker.reconnected();
        assert_eq!(breaker.state(), State::Closed { failures: 0 });
    }

    #[test]
    fn a_probe_that_is_being_answered_lets_the_others_through() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.reconnected();
        assert_eq!(breaker.admit(now), Ok(()));
        assert_eq!(breaker.admit(now), Err(PROBE_WAIT));
        breaker.alive();
        assert_eq!(breaker.admit(now), Ok(()));
    }

    #[test]
    fn answers_that_begin_and_break_open_it_too() {
        let now = Instant::now();
        let mut breaker = Breaker::new(Policy::default());
        for _ in 0..3 {
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.alive();
            breaker.failed(now, EVEN);
        }
        assert!(matches!(breaker.state(), State::Open { .. }));
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(Policy::default());
        for _ in 0..3 {
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.failed(now, EVEN);
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn opens_on_failures_in_a_row_only() {
        let now = Instant::now();
        let mut breaker = Breaker::new(Policy::default());
        for _ in 0..10 {
            breaker.failed(now, EVEN);
            breaker.failed(now, EVEN);
            breaker.succeeded();
        }
        assert_eq!(breaker.admit(now), Ok(()));
        assert_eq!(opened(now).admit(now), Err(Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn lets_one_probe_through_and_believes_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + Duration::from_secs(10);
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!(breaker.admit(later), Err(PROBE_WAIT), "one probe at a time");
        breaker.failed(later, EVEN);
        assert_eq!(breaker.admit(later), Err(Duration::from_secs(20)), "the cool-down grows");
        let even_later = later + Duration::from_secs(20);
        assert_eq!(breaker.admit(even_later), Ok(()));
        breaker.succeeded();
        assert_eq!(breaker.state(), State::Closed { failures: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_tells_nothing_makes_room_for_another() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + Duration::from_secs(10);
        assert_eq!(breaker.admit(later), Ok(()));
        breaker.undecided();
        assert_eq!(breaker.admit(later), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reconnection_ends_the_cool_down_but_proves_nothing() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.reconnected();
        assert_eq!(breaker.admit(now), Ok(()));
        assert_eq!(breaker.admit(now), Err(PROBE_WAIT));
    }

    proptest! {
        #[test]
        fn cool_downs_stay_within_their_bounds(trips in 1_u32..200, chance in 0.0_f64..1.0) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let now = Instant::now();
                let State::Open { until, .. } = Breaker::new(Policy::default()).open(now, trips, chance) else {
                    unreachable!("open gives Open")
                };
                let waited = (until - now).as_secs_f64();
                assert!((8.0..=360.0).contains(&waited), "{waited}");
            });
        }
    }
}
