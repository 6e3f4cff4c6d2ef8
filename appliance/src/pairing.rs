//! Pairing: a client asks for a key, it and the panel show the same code, a person decides at the board.
//!
//! [`Attempts`] is the pure part: at most one attempt at a time, few of them, each with an end. The code is there to be
//! compared by a person and opens nothing; what fetches the key is the claim, which only the client that asked has. Pairing
//! makes no keys: whoever hears that a client is allowed one makes it then, so that no key is left behind that nobody fetched.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cerebrum_common::keys::Secret;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a person has to decide.
pub const DECIDE: Duration = Duration::from_secs(60);

/// How long a decision waits for its client.
const COLLECT: Duration = Duration::from_secs(60);

/// How long an attempt stays without a client that waits for its decision; a client asks anew at once.
const ABANDONED: Duration = Duration::from_secs(10);

/// Pause after an attempt, in which the panel and its buttons are for other things; twice as long after each that nobody
/// granted, up to [`LONGEST_QUIET`].
const QUIET: Duration = Duration::from_secs(10);
const LONGEST_QUIET: Duration = Duration::from_secs(160);

/// Attempts that may begin within [`WINDOW`] without being granted: of one address (of one network of IPv6, whose
/// addresses cost nothing), so that nobody is guessed or pestered into a press, and of
/// all, so that the panel stays useful.
const OF_ONE: usize = 3;
const OF_ALL: usize = 6;
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
    /// One has just ended.
    JustNow(Duration),
    /// Too many attempts lately.
    Lately(Duration),
}

/// How an attempt stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has decided yet.
    Waiting,
    /// A person said yes: make a key under this name, the client's. Told once.
    Allowed(String),
    /// A person said no.
    Refused,
    /// Nobody decided in time.
    Expired,
}

#[derive(Debug)]
struct Attempt {
    id: u64,
    client: String,
    code: String,
    claim: String,
    standing: Standing,
    until: Instant,
    /// When its client last asked.
    heard: Instant,
}

/// The attempts, over a clock that its caller reads.
#[derive(Debug, Default)]
pub struct Attempts {
    current: Option<Attempt>,
    begun: VecDeque<(Instant, IpAddr)>,
    /// When the last one was decided, or was withdrawn.
    ended: Option<Instant>,
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
        let network = network(from);
        let own = self.begun.iter().filter(|(_, known)| *known == network);
        let oldest = match (own.clone().count() >= OF_ONE, self.begun.len() >= OF_ALL) {
            (true, _) => own.map(|(at, _)| *at).next(),
            (false, true) => self.begun.front().map(|(at, _)| *at),
            (false, false) => None,
        };
        if let Some(at) = oldest {
            return Err(TooMany::Lately(at + WINDOW - now));
        }
        let quiet = QUIET.saturating_mul(1 << self.begun.len().saturating_sub(1).min(8)).min(LONGEST_QUIET);
        if let Some(ended) = self.ended.filter(|ended| now < *ended + quiet) {
            return Err(TooMany::JustNow(ended + quiet - now));
        }
        self.begun.push_back((now, network));
        self.last += 1;
        let client: String = client.chars().filter(|c| !is_unseen(*c)).take(NAME_CHARS).collect();
        let client = if client.trim().is_empty() { from.to_string() } else { client.trim().to_owned() };
        let begun = Begun { id: self.last, code: code(), claim: Secret::random().expose().to_owned() };
        self.current = Some(Attempt {
            id: begun.id,
            client,
            code: begun.code.clone(),
            claim: begun.claim.clone(),
            standing: Standing::Waiting,
            until: now + DECIDE,
            heard: now,
        });
        Ok(begun)
    }

    /// What a person decided; a late decision changes nothing.
    pub fn decide(&mut self, id: u64, allowed: bool, now: Instant) {
        self.pass(now);
        let waits = |attempt: &&mut Attempt| attempt.id == id && attempt.standing == Standing::Waiting;
        if let Some(attempt) = self.current.as_mut().filter(waits) {
            attempt.standing = if allowed { Standing::Allowed(attempt.client.clone()) } else { Standing::Refused };
            if allowed {
                self.begun.pop_back();
            }
            attempt.until = now + COLLECT;
            self.ended = Some(now);
        }
    }

    /// How attempt `id` stands, for who has its claim; `None` where there is no such attempt (any more).
    pub fn standing(&mut self, id: u64, claim: &str, now: Instant) -> Option<Standing> {
        self.pass(now);
        let attempt = self.current.as_mut().filter(|attempt| attempt.id == id && attempt.claim == claim)?;
        attempt.heard = now;
        if attempt.standing == Standing::Waiting {
            return Some(Standing::Waiting);
        }
        self.current.take().map(|told| told.standing)
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
        let Some(attempt) = &mut self.current else { return };
        let waits = attempt.standing == Standing::Waiting;
        if attempt.heard + ABANDONED <= now {
            if waits {
                self.ended = Some(attempt.heard + ABANDONED);
            }
            self.current = None;
        } else if waits && attempt.until <= now {
            self.ended = Some(attempt.until);
            attempt.standing = Standing::Expired;
            attempt.until += COLLECT;
        } else if attempt.until <= now {
            self.current = None;
        }
    }
}

/// Whom a limit counts together: one household has 2^64 addresses of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// Characters that cannot be seen: controls, and those of Unicode's category Cf, which change how others look, so that one
/// client's name could pass for another's. Selectors of variants belong to them.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
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
    pub fn decide(&self, id: u64, allowed: bool) {
        self.attempts().decide(id, allowed, Instant::now());
        self.changed.send_replace(());
    }

    /// How attempt `id` stands, for who has its claim, once it is decided or `patience` is over.
    pub async fn wait(&self, id: u64, claim: &str, patience: Duration) -> Option<Standing> {
        let until = Instant::now() + patience;
        let mut changed = self.changed.subscribe();
        loop {
            let standing = self.attempts().standing(id, claim, Instant::now());
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

    /// Time passes, and the client goes on asking.
    fn wait(attempts: &mut Attempts, begun: &Begun, from: Instant, until: Instant) {
        let mut now = from;
        while now < until {
            assert_eq!(attempts.standing(begun.id, &begun.claim, now), Some(Standing::Waiting));
            now += Duration::from_secs(1);
        }
    }

    #[test]
    fn a_press_allows_the_key_to_who_asked_and_only_once() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let begun = attempts.begin("my\u{7} lap\u{202e}to\u{200b}p ", LAPTOP, now).unwrap();
        assert_eq!(attempts.shown(now).unwrap().client, "my laptop");
        assert_eq!(attempts.shown(now).unwrap().code, begun.code);
        assert_eq!(attempts.standing(begun.id, &begun.claim, now), Some(Standing::Waiting));
        attempts.decide(begun.id + 1, false, now); // a press meant for another attempt
        attempts.decide(begun.id, true, now);
        assert_eq!(attempts.shown(now), None);
        assert_eq!(attempts.standing(begun.id, "guess", now), None);
        assert_eq!(attempts.standing(begun.id, &begun.claim, now), Some(Standing::Allowed("my laptop".into())));
        assert_eq!(attempts.standing(begun.id, &begun.claim, now), None);
    }

    #[test]
    fn nobody_deciding_is_a_no_and_a_late_press_allows_nothing() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let begun = attempts.begin("", LAPTOP, now).unwrap();
        assert_eq!(attempts.shown(now).unwrap().client, "192.168.1.5");
        let later = now + DECIDE;
        wait(&mut attempts, &begun, now, later);
        attempts.decide(begun.id, true, later);
        assert_eq!(attempts.standing(begun.id, &begun.claim, later), Some(Standing::Expired));
    }

    #[test]
    fn an_attempt_whose_client_has_gone_is_withdrawn() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let begun = attempts.begin("", LAPTOP, now).unwrap();
        assert!(attempts.shown(now + ABANDONED / 2).is_some());
        assert!(attempts.shown(now + ABANDONED).is_none());
        attempts.decide(begun.id, true, now + ABANDONED);
        assert_eq!(attempts.standing(begun.id, &begun.claim, now + ABANDONED), None);
        // A decision that nobody fetches is forgotten likewise.
        let later = now + ABANDONED + QUIET;
        let begun = attempts.begin("", LAPTOP, later).unwrap();
        attempts.decide(begun.id, true, later);
        assert_eq!(attempts.standing(begun.id, &begun.claim, later + ABANDONED), None);
    }

    #[test]
    fn one_at_a_time_with_pauses_and_few_of_them() {
        let (mut attempts, mut now) = (Attempts::default(), Instant::now());
        let start = now;
        let first = attempts.begin("a", LAPTOP, now).unwrap();
        assert_eq!(attempts.begin("b", OTHER, now), Err(TooMany::Another(DECIDE)));
        attempts.decide(first.id, false, now);
        assert_eq!(attempts.begin("b", OTHER, now), Err(TooMany::JustNow(QUIET)));
        // Begins as soon as it may, and says how long that took.
        let mut one = |attempts: &mut Attempts, address| {
            let mut waited = Duration::ZERO;
            let mut begun = attempts.begin("a", address, now);
            if let Err(TooMany::JustNow(wait)) = begun {
                waited = wait;
                now += wait;
                begun = attempts.begin("a", address, now);
            }
            begun.map(|begun| {
                attempts.decide(begun.id, false, now);
                waited
            })
        };
        // Each pause is twice the one before it.
        for number in 1..OF_ONE {
            assert_eq!(one(&mut attempts, LAPTOP), Ok(QUIET * (1 << (number - 1))));
        }
        assert!(matches!(one(&mut attempts, LAPTOP), Err(TooMany::Lately(_))));
        // Somebody else is not locked out by it, but all together are; of IPv6 a whole network is one.
        let ipv6 = |host: u16| IpAddr::V6(Ipv6Addr::new(0xfd12, 0, 0, 1, 0, 0, 0, host));
        for host in 0..OF_ONE as u16 {
            one(&mut attempts, ipv6(host)).unwrap();
        }
        assert!(matches!(one(&mut attempts, ipv6(77)), Err(TooMany::Lately(_))));
        assert!(matches!(one(&mut attempts, OTHER), Err(TooMany::Lately(_))));
        assert!(attempts.begin("a", LAPTOP, start + WINDOW).is_ok());
    }

    #[test]
    fn clients_that_were_granted_their_keys_are_no_nuisance() {
        let (mut attempts, mut now) = (Attempts::default(), Instant::now());
        for _ in 0..OF_ONE + OF_ALL {
            let begun = attempts.begin("a", LAPTOP, now).unwrap();
            attempts.decide(begun.id, true, now);
            assert!(matches!(attempts.standing(begun.id, &begun.claim, now), Some(Standing::Allowed(_))));
            now += QUIET;
        }
    }
}
