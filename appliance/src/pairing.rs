//! Pairing: a client asks for a key, it and the panel show the same code, a person decides at the board.
//!
//! [`Attempts`] is the pure part: at most one attempt at a time, few of them, each with an end. The code is there to be
//! compared by a person and opens nothing; what fetches the key is the claim, which only the client that asked has.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cerebrum_common::keys::Secret;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a person has to decide.
pub const DECIDE: Duration = Duration::from_secs(60);

/// How long a decision waits for its client.
const COLLECT: Duration = Duration::from_secs(60);

/// Attempts that may begin within [`WINDOW`]: of one address, so that nobody is guessed or pestered into a press, and of
/// all, so that the panel stays useful.
const OF_ONE: usize = 3;
const OF_ALL: usize = 12;
const WINDOW: Duration = Duration::from_secs(10 * 60);

/// Longest name, in characters; the panel shows fewer.
const NAME_CHARS: usize = 40;

/// What the client gets when it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Number of the attempt.
    pub id: u64,
    /// What both ends show.
    pub code: String,
    /// Fetches the key.
    pub claim: String,
}

/// Why an attempt does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMany {
    /// Another client is waiting for its answer.
    Another(Duration),
    /// Too many attempts lately.
    Lately(Duration),
}

/// How an attempt stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has decided yet.
    Waiting,
    /// Here is the key. Told once.
    Granted(Secret),
    /// A person said no.
    Refused,
    /// Nobody decided in time.
    Expired,
    /// A person said yes, but no key could be made.
    Failed,
}

#[derive(Debug)]
struct Attempt {
    id: u64,
    client: String,
    code: String,
    claim: String,
    standing: Standing,
    until: Instant,
}

/// The attempts, over a clock that its caller reads.
#[derive(Debug, Default)]
pub struct Attempts {
    current: Option<Attempt>,
    begun: VecDeque<(Instant, IpAddr)>,
    last: u64,
}

impl Attempts {
    /// A client asks.
    ///
    /// # Errors
    /// When to ask again.
    pub fn begin(&mut self, client: &str, from: IpAddr, now: Instant) -> Result<Begun, TooMany> {
        self.pass(now);
        if let Some(attempt) = self.current.as_ref().filter(|attempt| attempt.standing == Standing::Waiting) {
            return Err(TooMany::Another(attempt.until - now));
        }
        let own = self.begun.iter().filter(|(_, address)| *address == from);
        let oldest = match (own.clone().count() >= OF_ONE, self.begun.len() >= OF_ALL) {
            (true, _) => own.map(|(at, _)| *at).next(),
            (false, true) => self.begun.front().map(|(at, _)| *at),
            (false, false) => None,
        };
        if let Some(at) = oldest {
            return Err(TooMany::Lately(at + WINDOW - now));
        }
        self.begun.push_back((now, from));
        self.last += 1;
        let client: String = client.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect();
        let client = if client.trim().is_empty() { from.to_string() } else { client.trim().to_owned() };
        let begun = Begun { id: self.last, code: code(), claim: Secret::random().expose().to_owned() };
        self.current = Some(Attempt {
            id: begun.id,
            client,
            code: begun.code.clone(),
            claim: begun.claim.clone(),
            standing: Standing::Waiting,
            until: now + DECIDE,
        });
        Ok(begun)
    }

    /// The name of the client that a press would decide about.
    pub fn waiting(&mut self, id: u64, now: Instant) -> Option<String> {
        self.pass(now);
        let attempt = self.current.as_ref()?;
        (attempt.id == id && attempt.standing == Standing::Waiting).then(|| attempt.client.clone())
    }

    /// What a person decided; a late decision changes nothing.
    pub fn decide(&mut self, id: u64, standing: Standing, now: Instant) {
        if self.waiting(id, now).is_some()
            && let Some(attempt) = &mut self.current
        {
            attempt.standing = standing;
            attempt.until = now + COLLECT;
        }
    }

    /// How the attempt of `claim` stands; `None` for a claim that is not known (any more).
    pub fn standing(&mut self, claim: &str, now: Instant) -> Option<Standing> {
        self.pass(now);
        let attempt = self.current.take_if(|attempt| attempt.claim == claim && attempt.standing != Standing::Waiting);
        match (attempt, &self.current) {
            (Some(told), _) => Some(told.standing),
            (None, Some(attempt)) if attempt.claim == claim => Some(Standing::Waiting),
            _ => None,
        }
    }

    /// For the panel, while a decision is wanted.
    pub fn shown(&mut self, now: Instant) -> Option<cerebrum_board::Pairing> {
        self.pass(now);
        let attempt = self.current.as_ref().filter(|attempt| attempt.standing == Standing::Waiting)?;
        Some(cerebrum_board::Pairing {
            id: attempt.id,
            client: attempt.client.clone(),
            code: attempt.code.clone(),
            remaining: attempt.until - now,
            allowed: DECIDE,
        })
    }

    /// What time alone changes.
    fn pass(&mut self, now: Instant) {
        while self.begun.front().is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.begun.pop_front();
        }
        let Some(attempt) = self.current.as_mut().filter(|attempt| attempt.until <= now) else { return };
        match attempt.standing {
            Standing::Waiting => {
                attempt.standing = Standing::Expired;
                attempt.until += COLLECT;
            }
            _ => self.current = None,
        }
    }
}

/// Six digits in two groups: easy to compare, and to read aloud.
fn code() -> String {
    let number = (crate::upstream::chance() * 1e6) as u32;
    format!("{:03} {:03}", number / 1000, number % 1000)
}

/// The attempts, shared by requests and the board.
#[derive(Debug, Default)]
pub struct Pairing {
    attempts: Mutex<Attempts>,
    changed: watch::Sender<()>,
}

impl Pairing {
    /// The attempts, for one question or change.
    pub fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Attempts::decide`], and tells whoever waits.
    pub fn decide(&self, id: u64, standing: Standing) {
        self.attempts().decide(id, standing, Instant::now());
        self.changed.send_replace(());
    }

    /// How the attempt of `claim` stands, once it is decided or `patience` is over.
    pub async fn wait(&self, claim: &str, patience: Duration) -> Option<Standing> {
        let until = Instant::now() + patience;
        let mut changed = self.changed.subscribe();
        loop {
            let standing = self.attempts().standing(claim, Instant::now());
            if standing != Some(Standing::Waiting) || Instant::now() >= until {
                return standing;
            }
            // At least every second: that it expires is no change that anybody tells.
            let soon = (Instant::now() + Duration::from_secs(1)).min(until);
            drop(tokio::time::timeout_at(soon, changed.changed()).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAPTOP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 5));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 6));

    #[test]
    fn a_press_grants_the_key_to_who_asked_and_only_once() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let begun = attempts.begin("my\u{7} laptop ", LAPTOP, now).unwrap();
        assert_eq!(attempts.shown(now).unwrap().client, "my laptop");
        assert_eq!(attempts.shown(now).unwrap().code, begun.code);
        assert_eq!(attempts.standing(&begun.claim, now), Some(Standing::Waiting));
        let key = Secret::random();
        attempts.decide(begun.id + 1, Standing::Refused, now); // a press meant for another attempt
        attempts.decide(begun.id, Standing::Granted(key.clone()), now);
        assert_eq!(attempts.shown(now), None);
        assert_eq!(attempts.standing("guess", now), None);
        assert_eq!(attempts.standing(&begun.claim, now), Some(Standing::Granted(key)));
        assert_eq!(attempts.standing(&begun.claim, now), None);
    }

    #[test]
    fn nobody_deciding_is_a_no_and_a_late_press_grants_nothing() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let begun = attempts.begin("", LAPTOP, now).unwrap();
        assert_eq!(attempts.shown(now).unwrap().client, "192.168.1.5");
        let later = now + DECIDE;
        attempts.decide(begun.id, Standing::Granted(Secret::random()), later);
        assert_eq!(attempts.standing(&begun.claim, later), Some(Standing::Expired));
        // A decision that nobody fetches is forgotten.
        let begun = attempts.begin("", LAPTOP, later).unwrap();
        attempts.decide(begun.id, Standing::Granted(Secret::random()), later);
        assert_eq!(attempts.standing(&begun.claim, later + COLLECT), None);
    }

    #[test]
    fn one_at_a_time_and_few_of_them() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let first = attempts.begin("a", LAPTOP, start).unwrap();
        assert_eq!(attempts.begin("b", OTHER, start), Err(TooMany::Another(DECIDE)));
        attempts.decide(first.id, Standing::Refused, start);
        for _ in 1..OF_ONE {
            let begun = attempts.begin("a", LAPTOP, start).unwrap();
            attempts.decide(begun.id, Standing::Refused, start);
        }
        assert_eq!(attempts.begin("a", LAPTOP, start), Err(TooMany::Lately(WINDOW)));
        // Somebody else is not locked out by it, but all together are.
        for number in OF_ONE..OF_ALL {
            let address = IpAddr::from([10, 0, 0, number as u8]);
            let begun = attempts.begin("c", address, start).unwrap();
            attempts.decide(begun.id, Standing::Refused, start);
        }
        assert_eq!(attempts.begin("b", OTHER, start), Err(TooMany::Lately(WINDOW)));
        assert!(attempts.begin("a", LAPTOP, start + WINDOW).is_ok());
    }
}
