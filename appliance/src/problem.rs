//! What is wrong, as far as a person can mend it.
//!
//! Owns the judgement: which of the things that the status knows are problems, which comes first, and how each is said. Pure.
//! The board and the page show the first one that nobody has read yet.

use std::sync::Arc;
use std::time::Duration;

use cerebrum_board::Cause;
use tokio::time::Instant;

use crate::status::{Status, UpstreamStatus};

/// Why an upstream cannot be used, where more is known than that it does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its certificate is not valid yet, by our clock.
    ClockBehind,
    /// Its certificate is refused here.
    TheirCertificate,
    /// Our certificate is refused there.
    OurCertificate,
    /// Our key is refused there.
    Key,
}

/// What the machine suffers from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strain {
    /// It is about to slow down, or has.
    pub hot: bool,
    /// The supply voltage is too low.
    pub low_voltage: bool,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The machine is too hot.
    Hot,
    /// Its supply voltage is too low.
    LowVoltage,
    /// It has no address on the LAN.
    Unplugged,
    /// An upstream cannot be used.
    Trouble(Arc<str>, Trouble),
    /// No upstream can be reached.
    Alone,
    /// Upstreams can be reached, and none answers requests.
    Failing,
    /// All upstreams that answer take no requests.
    Overloaded(Arc<str>),
    /// Keys cannot be read or kept.
    Keys,
}

/// What is wrong for so long is something a person can do about: by then cables are found, addresses given, connections made,
/// and a server that was busy for a moment takes requests again.
const GRACE: Duration = Duration::from_secs(20);

/// Everything that is wrong, what matters most first.
pub fn standing(status: &Status, now: Instant) -> Vec<Problem> {
    let lasts = |since: Option<Instant>| since.is_some_and(|since| now - since >= GRACE);
    let mut problems = Vec::new();
    let mut note = |stands: bool, problem: Problem| {
        if stands {
            problems.push(problem);
        }
    };
    note(status.strain.low_voltage, Problem::LowVoltage);
    note(status.strain.hot, Problem::Hot);
    note(lasts(status.unplugged_since), Problem::Unplugged);
    let troubled = status.upstreams.iter().filter_map(|upstream| Some((upstream, upstream.trouble?)));
    troubled.clone().for_each(|(upstream, trouble)| note(true, Problem::Trouble(upstream.name.clone(), trouble)));
    // Said better by the above.
    let unexplained = troubled.count() == 0;
    let reached = status.upstreams.iter().any(|upstream| upstream.connected);
    let alone = if reached { Problem::Failing } else { Problem::Alone };
    note(unexplained && lasts(status.alone_since), alone);
    let refuses = |upstream: &&UpstreamStatus| upstream.connected && lasts(upstream.refusing_since);
    if let Some(upstream) = status.upstreams.iter().find(refuses) {
        let none = !status.upstreams.iter().any(UpstreamStatus::available);
        note(unexplained && none, Problem::Overloaded(upstream.name.clone()));
    }
    note(!status.keys_sound, Problem::Keys);
    problems
}

/// The first one that nobody has read yet.
pub fn shown(status: &Status, now: Instant) -> Option<Problem> {
    standing(status, now).into_iter().find(|problem| !status.dismissed.contains(problem))
}

impl Problem {
    /// What the error lamp tells.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Hot | Self::LowVoltage => Cause::Power,
            Self::Unplugged => Cause::Network,
            Self::Trouble(_, Trouble::ClockBehind) => Cause::Clock,
            Self::Trouble(_, Trouble::TheirCertificate | Trouble::OurCertificate) => Cause::Certificate,
            Self::Trouble(_, Trouble::Key) => Cause::Key,
            Self::Alone | Self::Failing => Cause::Upstream,
            Self::Overloaded(_) => Cause::Overloaded,
            Self::Keys => Cause::Storage,
        }
    }

    /// What the panel says.
    pub fn message(&self) -> String {
        match &self.with_short_name() {
            Self::Hot => "Too hot: it slows down. Does air reach it?".to_owned(),
            Self::LowVoltage => "The supply voltage is too low. Try a stronger power supply.".to_owned(),
            Self::Unplugged => "No network address. Is the cable plugged in?".to_owned(),
            Self::Trouble(name, Trouble::ClockBehind) => {
                format!("{name}'s certificate is not valid yet. Is the clock set?")
            }
            Self::Trouble(name, Trouble::TheirCertificate) => {
                format!("{name}'s certificate is refused: wrong name, too old, or not ours.")
            }
            Self::Trouble(name, Trouble::OurCertificate) => format!("{name} refuses our certificate. Renew it there."),
            Self::Trouble(name, Trouble::Key) => format!("{name} refuses our key. Add it there anew."),
            Self::Alone => "No inference server can be reached. Is it on, and the network up?".to_owned(),
            Self::Failing => "No inference server answers requests. What does its log say?".to_owned(),
            Self::Overloaded(name) => format!("{name} takes no requests: other programs use its processor or memory."),
            Self::Keys => "Keys cannot be read or saved. Is the storage full or damaged?".to_owned(),
        }
    }

    /// A longer name would leave no room for what is wrong.
    fn with_short_name(&self) -> Self {
        let short = |name: &Arc<str>| match name.char_indices().nth(LONGEST_NAME) {
            None => name.clone(),
            Some(_) => name.chars().take(LONGEST_NAME - 3).chain("...".chars()).collect::<String>().into(),
        };
        match self {
            Self::Trouble(name, trouble) => Self::Trouble(short(name), *trouble),
            Self::Overloaded(name) => Self::Overloaded(short(name)),
            other => other.clone(),
        }
    }
}

/// Characters of a server's name that a sentence on the panel has room for.
const LONGEST_NAME: usize = 14;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::status::{Board, Event, Probe};

    fn board() -> Board {
        let board = Board::new(["vps".into()]);
        board.tell(Event::Link { upstream: 0, connected: true });
        board
    }

    fn causes(board: &Board, after: Duration) -> Vec<Cause> {
        board.look(|status| standing(status, Instant::now() + after).iter().map(Problem::cause).collect())
    }

    fn shows(board: &Board) -> Option<Cause> {
        board.look(|status| shown(status, Instant::now() + GRACE).map(|problem| problem.cause()))
    }

    fn answered(available: bool) -> Event {
        let probe = Probe::Answered { status: "ok".into(), available, round_trip: Duration::ZERO };
        Event::Probed { upstream: 0, probe }
    }

    fn trouble(trouble: Option<Trouble>) -> Event {
        Event::Trouble { upstream: 0, trouble }
    }

    #[test]
    fn the_boards_pictures_say_what_is_said_here() {
        let vps = || Arc::from("vps");
        let all = [
            Problem::Unplugged,
            Problem::Alone,
            Problem::Failing,
            Problem::Overloaded(vps()),
            Problem::Trouble(vps(), Trouble::TheirCertificate),
            Problem::Trouble(vps(), Trouble::OurCertificate),
            Problem::Trouble(vps(), Trouble::Key),
            Problem::Trouble(vps(), Trouble::ClockBehind),
            Problem::Keys,
            Problem::Hot,
            Problem::LowVoltage,
        ];
        let pictured = cerebrum_board::samples::PROBLEMS.map(|(_, cause, message)| (cause, message.to_owned()));
        for problem in &all {
            assert!(pictured.contains(&(problem.cause(), problem.message())), "{problem:?}");
        }
        // And the settings, which are no problem of a daemon that runs.
        assert_eq!(pictured.len(), all.len() + 1);
    }

    #[test]
    fn the_longest_name_leaves_room_for_what_is_wrong() {
        let longest = cerebrum_board::samples::longest();
        let problem = Problem::Overloaded(longest.name.as_str().into());
        assert_eq!(Some(problem.message()), longest.error.map(|fault| fault.message));
    }

    #[tokio::test]
    async fn nothing_is_wrong_at_first_and_being_alone_only_after_a_while() {
        let board = Board::new(["vps".into()]);
        assert_eq!(causes(&board, GRACE / 2), []);
        assert_eq!(causes(&board, GRACE), [Cause::Upstream]);
        board.tell(Event::Link { upstream: 0, connected: true });
        assert_eq!(causes(&board, GRACE), []);
    }

    #[tokio::test]
    async fn a_server_that_fails_requests_is_none_until_one_succeeds() {
        use crate::upstream::breaker::State;
        let board = board();
        let until = Instant::now() + GRACE;
        for state in [State::Open { until, trips: 1 }, State::HalfOpen { probing: true, trips: 1 }] {
            board.tell(Event::Breaker { upstream: 0, state });
            assert_eq!(causes(&board, GRACE), [Cause::Upstream], "{state:?}");
        }
        board.tell(Event::Breaker { upstream: 0, state: State::Closed { failures: 0 } });
        assert_eq!(causes(&board, GRACE), []);
    }

    #[tokio::test]
    async fn each_event_shows_as_its_cause_and_goes_with_it() {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let pairs = [
            (Event::Addresses(vec![]), Event::Addresses(vec![address]), Cause::Network),
            (answered(false), answered(true), Cause::Overloaded),
            (trouble(Some(Trouble::TheirCertificate)), trouble(None), Cause::Certificate),
            (trouble(Some(Trouble::OurCertificate)), trouble(None), Cause::Certificate),
            (trouble(Some(Trouble::Key)), trouble(None), Cause::Key),
            (trouble(Some(Trouble::ClockBehind)), trouble(None), Cause::Clock),
            (Event::Keys(false), Event::Keys(true), Cause::Storage),
            (Event::Strain(Strain { hot: true, low_voltage: false }), Event::Strain(Strain::default()), Cause::Power),
            (Event::Strain(Strain { hot: false, low_voltage: true }), Event::Strain(Strain::default()), Cause::Power),
        ];
        for (wrong, mended, cause) in pairs {
            let board = board();
            board.tell(wrong);
            assert_eq!(causes(&board, GRACE), [cause]);
            board.tell(mended);
            assert_eq!(causes(&board, GRACE), [], "{cause:?} stays");
        }
    }

    #[tokio::test]
    async fn a_known_reason_is_told_instead_of_silence() {
        let board = Board::new(["vps".into()]);
        board.tell(trouble(Some(Trouble::OurCertificate)));
        assert_eq!(causes(&board, GRACE), [Cause::Certificate]);
    }

    #[tokio::test]
    async fn what_was_read_makes_room_and_comes_back_when_it_happens_again() {
        let board = board();
        board.tell(trouble(Some(Trouble::Key)));
        board.tell(Event::Keys(false));
        assert_eq!(shows(&board), Some(Cause::Key));
        board.tell(Event::Dismissed);
        assert_eq!(shows(&board), Some(Cause::Storage));
        board.tell(Event::Dismissed);
        assert_eq!(shows(&board), None);
        board.tell(trouble(None));
        board.tell(trouble(Some(Trouble::Key)));
        assert_eq!(shows(&board), Some(Cause::Key));
    }
}
