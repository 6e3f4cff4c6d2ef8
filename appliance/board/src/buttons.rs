//! From the edges of two bouncing contacts to presses.
//!
//! Owns the debouncing and the meaning of short, long and both. Pure: time comes with the edges. Edges come from a button port,
//! presses go to `desk`, which knows what they mean on the page that is shown.
//!
//! A contact counts as pressed or released once it has stayed so for `WINDOW`. So a press longer than the window is never
//! lost, nothing shorter is ever taken for one, and a thread that looks late still sees what happened from the edges' times.

use std::time::Duration;

/// A contact that stays for this long has stopped bouncing. Common tactile switches bounce for 1 to 10 ms.
pub const WINDOW: Duration = Duration::from_millis(20);
/// A press that is held this long is a long one.
pub const LONG: Duration = Duration::from_millis(800);
/// Both buttons held this long reset the appliance.
pub const RESET_SECONDS: u8 = 10;
/// A button held this long is jammed: it is left out until it comes up again.
pub const STUCK: Duration = Duration::from_secs(30);

/// One of the two buttons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Button {
    /// Forward.
    First,
    /// Back.
    Second,
}

impl Button {
    /// Both, in the order of a port's levels.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    const fn index(self) -> usize {
        self as usize
    }
}

/// A contact that closed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Whose contact.
    pub button: Button,
    /// Whether it closed.
    pub pressed: bool,
    /// When, on a clock that only goes forward.
    pub at: Duration,
}

/// What the person did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// Pressed and let go.
    Short(Button),
    /// Held for `LONG`; comes while it is still held.
    Long(Button),
    /// Both are held, and this many seconds are left; comes at once and every second.
    Countdown {
        /// Seconds until `BothHeld`.
        seconds_left: u8,
    },
    /// Both were held, and one was let go in time.
    Cancelled,
    /// Both were held to the end.
    BothHeld,
    /// A button does not come up again.
    Stuck(Button),
}

/// The presses that a history of edges amounts to, up to a moment; both contacts are open at first.
#[must_use]
pub fn buttons(edges: &[Edge], until: Duration) -> Vec<Press> {
    let mut buttons = Buttons::new([false; 2]);
    let mut presses: Vec<Press> = edges.iter().flat_map(|&edge| buttons.edge(edge)).collect();
    presses.extend(buttons.tick(until));
    presses
}

/// The state between edges.
#[derive(Debug)]
pub struct Buttons {
    contacts: [Contact; 2],
    /// When each went down the last time.
    down: [Duration; 2],
    /// Since when both are held, and the seconds told so far.
    both: Option<(Duration, u8)>,
}

#[derive(Debug, Clone, Copy)]
struct Contact {
    level: bool,
    since: Duration,
    /// When it began to bounce the last time.
    moved: Duration,
    /// The level after debouncing, and since when.
    settled: Held,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Held {
    /// Up.
    No,
    /// Down since then; `told` once the press has been used.
    Since { at: Duration, told: bool },
    /// Jammed, or down since before the start: ignored until it is up.
    Ignored,
}

impl Contact {
    /// Up to when it was certainly closed. While it bounces nobody knows where it is going, so a release that bounces past
    /// the time of a long press does not become one.
    fn closed_until(&self, now: Duration) -> Duration {
        let quiet = now.saturating_sub(self.since) >= WINDOW;
        if self.level && quiet { now } else { self.moved.min(now) }
    }
}

impl Buttons {
    /// Starts with the contacts' levels. A button that is held already is ignored until it comes up: a jammed button must not
    /// act at every start.
    #[must_use]
    pub fn new(pressed: [bool; 2]) -> Self {
        let contact = |level| Contact {
            level,
            since: Duration::ZERO,
            moved: Duration::ZERO,
            settled: if level { Held::Ignored } else { Held::No },
        };
        Self { contacts: pressed.map(contact), down: [Duration::ZERO; 2], both: None }
    }

    /// Takes an edge. Edges that come out of order count as happening together with the latest one.
    pub fn edge(&mut self, edge: Edge) -> Vec<Press> {
        let presses = self.tick(edge.at);
        let contact = &mut self.contacts[edge.button.index()];
        if contact.level != edge.pressed {
            let at = contact.since.max(edge.at);
            if at - contact.since >= WINDOW {
                contact.moved = at;
            }
            contact.level = edge.pressed;
            contact.since = at;
        }
        presses
    }

    /// When the button of a press that has just come went down; what was seen then is what the press means.
    #[must_use]
    pub fn down(&self, press: Press) -> Duration {
        let [first, second] = self.down;
        match press {
            Press::Short(button) | Press::Long(button) | Press::Stuck(button) => self.down[button.index()],
            Press::Countdown { .. } | Press::Cancelled | Press::BothHeld => first.max(second),
        }
    }

    /// Takes the levels as they are now. A kernel may drop edges that follow each other too fast; a contact that is taken for
    /// closed when it is open would make a factory reset of a long press on the other.
    pub fn levels(&mut self, pressed: [bool; 2], at: Duration) -> Vec<Press> {
        let edges = Button::ALL.map(|button| Edge { button, pressed: pressed[button.index()], at });
        edges.into_iter().flat_map(|edge| self.edge(edge)).collect()
    }

    /// Lets time pass.
    pub fn tick(&mut self, at: Duration) -> Vec<Press> {
        let mut presses = Vec::new();
        // In the order in which contacts settle, so that a late look finds what an early one would have found.
        while let Some(settles) = self.next_to_settle().filter(|&settles| settles < at) {
            self.pass(settles, &mut presses);
        }
        self.pass(at, &mut presses);
        presses
    }

    fn next_to_settle(&self) -> Option<Duration> {
        let moving = self.contacts.iter().filter(|contact| contact.level != (contact.settled != Held::No));
        moving.map(|contact| contact.since + WINDOW).min()
    }

    fn pass(&mut self, at: Duration, presses: &mut Vec<Press>) {
        for button in Button::ALL {
            self.hold(button, at, presses);
        }
        self.hold_both(at, presses);
        for button in Button::ALL {
            self.settle(button, at, presses);
        }
    }

    /// How long nothing can happen unless an edge comes.
    #[must_use]
    pub fn idle_for(&self) -> Option<Duration> {
        let moving = self.next_to_settle().is_some();
        let held = self.contacts.iter().any(|contact| contact.settled != Held::No);
        if moving {
            Some(WINDOW)
        } else if held {
            Some(LONG / 8)
        } else {
            None
        }
    }

    fn settle(&mut self, button: Button, at: Duration, presses: &mut Vec<Press>) {
        let contact = self.contacts[button.index()];
        if at.saturating_sub(contact.since) < WINDOW || contact.level == (contact.settled != Held::No) {
            return;
        }
        self.contacts[button.index()].settled =
            if contact.level { Held::Since { at: contact.since, told: false } } else { Held::No };
        match contact.settled {
            Held::No => {
                self.down[button.index()] = contact.since;
                self.begin_both(contact.since, presses);
            }
            Held::Since { told: false, .. } => presses.push(Press::Short(button)),
            Held::Since { told: true, .. } | Held::Ignored => {}
        }
        if !contact.level && self.both.take().is_some() {
            presses.push(Press::Cancelled);
        }
    }

    /// Once both are down neither is a press of its own.
    fn begin_both(&mut self, since: Duration, presses: &mut Vec<Press>) {
        let down = |contact: &Contact| matches!(contact.settled, Held::Since { .. });
        if self.contacts.iter().all(down) {
            self.both = Some((since, 0));
            presses.push(Press::Countdown { seconds_left: RESET_SECONDS });
            for contact in &mut self.contacts {
                if let Held::Since { told, .. } = &mut contact.settled {
                    *told = true;
                }
            }
        }
    }

    fn hold(&mut self, button: Button, at: Duration, presses: &mut Vec<Press>) {
        let both = self.both.is_some();
        let contact = &mut self.contacts[button.index()];
        let until = contact.closed_until(at);
        let Held::Since { at: since, told } = &mut contact.settled else { return };
        let held = until.saturating_sub(*since);
        if held >= LONG && !*told {
            *told = true;
            presses.push(Press::Long(button));
        }
        if held >= STUCK && !both {
            contact.settled = Held::Ignored;
            presses.push(Press::Stuck(button));
        }
    }

    fn hold_both(&mut self, at: Duration, presses: &mut Vec<Press>) {
        let [first, second] = self.contacts.map(|contact| contact.closed_until(at));
        let until = first.min(second);
        let Some((since, told)) = &mut self.both else { return };
        let elapsed = until.saturating_sub(*since).as_secs().min(RESET_SECONDS.into()) as u8;
        for second in *told + 1..=elapsed.min(RESET_SECONDS - 1) {
            presses.push(Press::Countdown { seconds_left: RESET_SECONDS - second });
        }
        *told = elapsed;
        if elapsed == RESET_SECONDS {
            self.both = None;
            presses.push(Press::BothHeld);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Button::{First, Second};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Edges of one button that changes after each of the gaps.
    fn changes(button: Button, gaps: &[u64]) -> Vec<Edge> {
        let times = gaps.iter().scan(0, |now, gap| {
            *now += gap;
            Some(*now)
        });
        times.zip([true, false].into_iter().cycle()).map(|(at, pressed)| Edge { button, pressed, at: ms(at) }).collect()
    }

    fn together(mut edges: Vec<Edge>, others: Vec<Edge>) -> Vec<Edge> {
        edges.extend(others);
        edges.sort_by_key(|edge| edge.at);
        edges
    }

    #[test]
    fn short_and_long() {
        assert_eq!(buttons(&changes(First, &[100, 50]), ms(300)), [Press::Short(First)]);
        assert_eq!(buttons(&changes(Second, &[100, 799]), ms(2_000)), [Press::Short(Second)]);
        assert_eq!(buttons(&changes(Second, &[100, 800]), ms(2_000)), [Press::Long(Second)]);
        assert_eq!(buttons(&changes(First, &[100]), ms(900)), [Press::Long(First)], "comes while it is held");
    }

    #[test]
    fn a_release_that_bounces_past_the_time_of_a_long_press_is_a_short_one() {
        let bounces = [100, 790, 8, 8];
        assert_eq!(buttons(&changes(First, &bounces), ms(2_000)), [Press::Short(First)]);
        let glitch = [100, 795, 10];
        assert_eq!(buttons(&changes(First, &glitch), ms(2_000)), [Press::Long(First)], "it went on being held");
        let both = together(changes(First, &[100]), changes(Second, &[100, 9_990, 8, 8]));
        assert_eq!(buttons(&both, ms(20_000)).last(), Some(&Press::Cancelled));
    }

    #[test]
    fn a_thread_that_looks_late_sees_the_press() {
        assert_eq!(buttons(&changes(First, &[100, 50]), ms(60_000)), [Press::Short(First)]);
    }

    #[test]
    fn a_lost_edge_is_made_up_by_the_levels() {
        let mut state = Buttons::new([false; 2]);
        assert_eq!(state.edge(Edge { button: Second, pressed: true, at: ms(100) }), []);
        // It was let go, and nobody said so.
        assert_eq!(state.levels([false; 2], ms(200)), []);
        assert_eq!(state.tick(ms(300)), [Press::Short(Second)]);
        assert_eq!(state.edge(Edge { button: First, pressed: true, at: ms(400) }), []);
        assert_eq!(state.levels([true, false], ms(20_000)), [Press::Long(First)], "and no reset");
    }

    #[test]
    fn both_held_count_down_and_reset() {
        let edges = together(changes(First, &[100]), changes(Second, &[300]));
        let presses = buttons(&edges, ms(10_400));
        assert_eq!(presses[..2], [10, 9].map(|seconds_left| Press::Countdown { seconds_left }));
        assert_eq!((presses.len(), presses.last()), (11, Some(&Press::BothHeld)));
        assert_eq!(buttons(&edges, ms(10_299)).last(), Some(&Press::Countdown { seconds_left: 1 }));
    }

    #[test]
    fn a_press_knows_when_its_button_went_down() {
        let mut state = Buttons::new([false; 2]);
        let mut downs = Vec::new();
        for edge in changes(First, &[100, 50, 100, 900, 100]) {
            downs.extend(state.edge(edge).into_iter().map(|press| (press, state.down(press))));
        }
        assert_eq!(downs, [(Press::Short(First), ms(100)), (Press::Long(First), ms(250))]);
    }

    #[test]
    fn letting_one_go_cancels_the_reset_and_nothing_else_happens() {
        let edges = together(changes(First, &[100, 9_000]), changes(Second, &[300, 9_500]));
        let presses = buttons(&edges, ms(60_000));
        assert_eq!(presses.last(), Some(&Press::Cancelled));
        assert!(!presses.iter().any(|press| matches!(press, Press::BothHeld | Press::Short(_) | Press::Long(_))));
    }

    #[test]
    fn a_jammed_button_is_told_once_and_comes_back() {
        let edges = changes(First, &[100, 90_000, 100, 50]);
        assert_eq!(buttons(&edges, ms(200_000)), [Press::Long(First), Press::Stuck(First), Press::Short(First)]);
        let with_jammed = together(changes(First, &[100]), changes(Second, &[60_000, 50]));
        assert_eq!(buttons(&with_jammed, ms(61_000)).last(), Some(&Press::Short(Second)), "the other one still works");
    }

    #[test]
    fn a_button_held_at_the_start_does_nothing() {
        let mut buttons = Buttons::new([true, false]);
        assert_eq!(buttons.tick(ms(60_000)), []);
        assert_eq!(buttons.edge(Edge { button: First, pressed: false, at: ms(61_000) }), []);
        assert_eq!(buttons.tick(ms(62_000)), []);
        assert_eq!(buttons.edge(Edge { button: First, pressed: true, at: ms(63_000) }), []);
        assert_eq!(buttons.edge(Edge { button: First, pressed: false, at: ms(63_100) }), []);
        assert_eq!(buttons.tick(ms(64_000)), [Press::Short(First)]);
    }

    /// The same rule written as a walk over every millisecond: how often the settled level goes down.
    fn presses_by_walking(edges: &[Edge], until: u64) -> usize {
        let (mut level, mut stable, mut settled, mut presses) = (false, 0, false, 0);
        for now in 0..=until {
            stable += 1;
            if stable >= WINDOW.as_millis() && level != settled {
                settled = level;
                presses += usize::from(!settled);
            }
            for _ in edges.iter().filter(|edge| edge.at == ms(now)) {
                (level, stable) = (!level, 0);
            }
        }
        presses
    }

    fn is_press(press: &Press) -> bool {
        matches!(press, Press::Short(_) | Press::Long(_))
    }

    proptest! {
        #[test]
        fn no_press_is_invented_or_lost(gaps in prop::collection::vec(1u64..60, 0..60)) {
            let edges = changes(First, &gaps);
            let until = gaps.iter().sum::<u64>() + 100;
            let seen = buttons(&edges, ms(until)).iter().filter(|press| is_press(press)).count();
            let held_at_the_end = gaps.len() % 2 == 1;
            prop_assert_eq!(seen, presses_by_walking(&edges, until));
            prop_assert!(seen <= gaps.len() / 2 + usize::from(held_at_the_end));
        }

        #[test]
        fn bounces_shorter_than_the_window_change_nothing(
            bounces in prop::collection::vec(1u64..19, 0..9),
            after in prop::collection::vec(1u64..19, 0..9),
            held in 20u64..800,
        ) {
            // Both trains have an even number of bounces, so that the contact ends where it was going.
            let even = |train: &[u64]| train[..train.len() / 2 * 2].to_vec();
            let gaps = [vec![1_000], even(&bounces), vec![held], even(&after)].concat();
            let presses = buttons(&changes(First, &gaps), ms(5_000));
            prop_assert_eq!(presses, [Press::Short(First)]);
        }

        #[test]
        fn looking_often_or_rarely_gives_the_same(gaps in prop::collection::vec(1u64..2_000, 0..20), step in 1u64..50) {
            let edges = changes(Second, &gaps);
            let until = gaps.iter().sum::<u64>() + 100;
            let mut often = Buttons::new([false; 2]);
            let mut presses = Vec::new();
            for now in 0..=until {
                for edge in edges.iter().filter(|edge| edge.at == ms(now)) {
                    presses.extend(often.edge(*edge));
                }
                if now % step == 0 || now == until {
                    presses.extend(often.tick(ms(now)));
                }
            }
            prop_assert_eq!(presses, buttons(&edges, ms(until)));
        }
    }
}
