//! What is on the panel now, and what a press means there.
//!
//! Owns the choice of page, the dimming, the shift against burn-in and the meaning of presses. Pure: time is handed in. It never
//! draws and never touches a port. Snapshots and presses come from `board`'s loop; views go to it, commands through it to the
//! appliance.

use std::{collections::VecDeque, mem::Discriminant, time::Duration};

use crate::{
    buttons::{Button, Press},
    page::Page,
    snapshot::{Command, Snapshot, Stage, UpdateState},
};

/// When the panel rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// Time without a press or news until it is dimmed.
    pub dim_after: Duration,
    /// Time until it goes dark; `None` keeps it dim. It stays dim while a request is in progress.
    pub off_after: Option<Duration>,
}

impl Default for Rest {
    /// Dim after a minute, dark after half an hour.
    fn default() -> Self {
        Self { dim_after: Duration::from_secs(60), off_after: Some(Duration::from_secs(1_800)) }
    }
}

/// How bright the panel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Light {
    /// Somebody is there.
    Bright,
    /// Nobody has been there for a while.
    Dim,
    /// Dark, to wear nothing out.
    Off,
}

/// What is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Which page.
    pub page: Page,
    /// How bright.
    pub light: Light,
    /// Pixels by which the picture is moved, right and down.
    pub shift: (i8, i8),
}

/// A page chosen by a press stays this long, then the appliance's own choice comes back.
const CHOSEN_STAYS: Duration = Duration::from_secs(60);
/// The question whether to power off is withdrawn after this long.
const QUESTION_STAYS: Duration = Duration::from_secs(10);
/// A button that went down this soon after the code was on the panel was meant for the page before: it must not grant a key.
const PAIRING_GUARD: Duration = Duration::from_secs(2);
/// Pictures that are remembered: more than turn up while a button is held for a long press.
const SIGHTS: usize = 8;
/// The picture moves by a pixel this often.
const SHIFT_EVERY: u64 = 60;
/// Places of the picture, in a circle around the middle, so that it never jumps by more than a pixel.
const SHIFTS: [(i8, i8); 8] = [(0, 0), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1)];

/// The state between presses.
#[derive(Debug)]
pub struct Desk {
    rest: Rest,
    /// The page a press has chosen, and when.
    chosen: Option<(Page, Duration)>,
    countdown: Option<u8>,
    /// What was to be seen, each since when, the newest last.
    sights: VecDeque<(Duration, Sight)>,
    /// An update waits for a person, and nobody has turned its page yet.
    update_unseen: bool,
    news: News,
    touched: Duration,
}

/// What a press means: the page that was to be seen when the button went down, and what was on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sight {
    page: Page,
    request: Option<u128>,
    /// Only when it has really reached the panel.
    pairing: Option<u64>,
}

/// What makes the panel light up by itself when it changes.
#[derive(Debug, Clone, PartialEq, Default)]
struct News {
    stage: Stage,
    error: Option<String>,
    update: Option<(String, Discriminant<UpdateState>)>,
    pairing: Option<u64>,
}

impl News {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            stage: snapshot.stage,
            error: snapshot.error.as_ref().map(|fault| fault.message.clone()),
            update: snapshot
                .update
                .as_ref()
                .map(|update| (update.version.clone(), std::mem::discriminant(&update.state))),
            pairing: snapshot.pairing.as_ref().map(|pairing| pairing.id),
        }
    }
}

impl Desk {
    /// Starts bright, with the splash.
    #[must_use]
    pub fn new(rest: Rest, at: Duration) -> Self {
        Self {
            rest,
            chosen: None,
            countdown: None,
            sights: VecDeque::new(),
            update_unseen: false,
            news: News::default(),
            touched: at,
        }
    }

    /// Notes what has changed; news light the panel up.
    pub fn notice(&mut self, snapshot: &Snapshot, at: Duration) {
        let news = News::of(snapshot);
        if news == self.news {
            return;
        }
        if news.update != self.news.update {
            self.update_unseen = snapshot.update.as_ref().is_some_and(|update| update.state.waits());
        }
        self.news = news;
        self.touched = at;
    }

    /// Notes what is to be seen from now on, and whether it has reached the panel.
    pub fn saw(&mut self, view: View, snapshot: &Snapshot, reached: bool, at: Duration) {
        let request = snapshot.request.as_ref().filter(|_| view.page == Page::Request).map(|request| request.id);
        let readable = reached && view.page == Page::Pairing && view.light != Light::Off;
        let pairing = snapshot.pairing.as_ref().filter(|_| readable).map(|pairing| pairing.id);
        let sight = Sight { page: view.page, request, pairing };
        if self.sights.back().is_none_or(|(_, last)| *last != sight) {
            self.sights.push_back((at, sight));
        }
        if self.sights.len() > SIGHTS {
            self.sights.pop_front();
        }
    }

    /// The buttons cannot be seen any more: nobody knows whether they are still held.
    pub fn buttons_lost(&mut self) {
        self.countdown = None;
    }

    /// What is to be seen.
    #[must_use]
    pub fn view(&self, snapshot: &Snapshot, at: Duration) -> View {
        let round = at.as_secs() / SHIFT_EVERY;
        let shift = SHIFTS[(round % SHIFTS.len() as u64) as usize];
        View { page: self.page(snapshot, at), light: self.light(snapshot, at), shift }
    }

    /// Takes a press whose button went down at `down`; what it asks of the appliance, if anything.
    pub fn press(&mut self, press: Press, down: Duration, snapshot: &Snapshot, at: Duration) -> Option<Command> {
        let asleep = self.light(snapshot, at) == Light::Off;
        let page = self.page(snapshot, at);
        self.touched = at;
        self.countdown = None;
        match press {
            Press::Countdown { .. } | Press::BothHeld if !snapshot.offers.factory_reset => {}
            Press::Countdown { seconds_left } => self.countdown = Some(seconds_left),
            Press::BothHeld => return Some(Command::FactoryReset),
            Press::Cancelled | Press::Stuck(_) => {}
            Press::Short(_) | Press::Long(_) if asleep => {}
            Press::Short(button) => return self.short((button, down), page, snapshot, at),
            Press::Long(_) => return self.long(down, page, snapshot, at),
        }
        None
    }

    fn page(&self, snapshot: &Snapshot, at: Duration) -> Page {
        match (self.countdown, snapshot.stage) {
            (_, Stage::Draining | Stage::Stopped) => Page::Shutdown,
            (Some(seconds_left), _) => Page::Reset { seconds_left },
            (None, Stage::Halted) => {
                self.chosen_page(snapshot, at).filter(|page| *page == Page::ConfirmPowerOff).unwrap_or(Page::Error)
            }
            (None, Stage::Starting) => Page::Splash,
            (None, Stage::Ready) if snapshot.pairing.is_some() => Page::Pairing,
            (None, Stage::Ready) => self.chosen_page(snapshot, at).unwrap_or_else(|| self.own_choice(snapshot)),
        }
    }

    fn chosen_page(&self, snapshot: &Snapshot, at: Duration) -> Option<Page> {
        let (page, since) = self.chosen?;
        let stays = if page == Page::ConfirmPowerOff { QUESTION_STAYS } else { CHOSEN_STAYS };
        (at.saturating_sub(since) < stays && page.has_content(snapshot)).then_some(page)
    }

    fn light(&self, snapshot: &Snapshot, at: Duration) -> Light {
        // It stays for as long as there is power.
        if snapshot.stage == Stage::Stopped {
            return Light::Dim;
        }
        let alone = at.saturating_sub(self.touched);
        let busy = snapshot.active > 0 || snapshot.request.is_some();
        if alone < self.rest.dim_after || snapshot.pairing.is_some() || self.countdown.is_some() {
            Light::Bright
        } else if busy || self.rest.off_after.is_none_or(|off_after| alone < off_after) {
            Light::Dim
        } else {
            Light::Off
        }
    }

    /// The page that matters most when nobody has chosen one.
    fn own_choice(&self, snapshot: &Snapshot) -> Page {
        let moves = snapshot.update.as_ref().is_some_and(|update| !update.state.waits());
        if moves {
            Page::Update
        } else if snapshot.error.is_some() {
            Page::Error
        } else if snapshot.request.is_some() {
            Page::Request
        } else if self.update_unseen {
            Page::Update
        } else {
            Page::Status
        }
    }

    fn short(
        &mut self,
        (button, down): (Button, Duration),
        page: Page,
        snapshot: &Snapshot,
        at: Duration,
    ) -> Option<Command> {
        match page {
            Page::Pairing => return self.decidable(down).map(|id| Command::GrantPairing { id }),
            Page::Update => self.update_unseen = false,
            _ => {}
        }
        let next = match (page, button) {
            (Page::ConfirmPowerOff, _) => Page::Status,
            (page, Button::First) => page.next(snapshot),
            (page, Button::Second) => page.previous(snapshot),
        };
        self.chosen = Some((next, at));
        None
    }

    fn long(&mut self, down: Duration, page: Page, snapshot: &Snapshot, at: Duration) -> Option<Command> {
        // A page that came under the finger is not what the person meant.
        let (_, seen) = self.sight(down).filter(|(_, seen)| seen.page == page)?;
        let halted = snapshot.stage == Stage::Halted;
        match page {
            Page::Pairing => return self.decidable(down).map(|id| Command::RefusePairing { id }),
            Page::Request => return seen.request.map(|id| Command::StopRequest { id }),
            Page::ConfirmPowerOff => self.chosen = None,
            Page::Update => self.update_unseen = false,
            Page::Status if snapshot.offers.power_off => self.chosen = Some((Page::ConfirmPowerOff, at)),
            Page::Error if halted && snapshot.offers.power_off => self.chosen = Some((Page::ConfirmPowerOff, at)),
            _ => {}
        }
        page.action(snapshot)
    }

    /// What was to be seen at that time, and since when.
    fn sight(&self, at: Duration) -> Option<(Duration, Sight)> {
        self.sights.iter().rev().find(|(since, _)| *since <= at).copied()
    }

    /// The pairing that a person has had time to read before the button went down.
    fn decidable(&self, down: Duration) -> Option<u64> {
        let (since, sight) = self.sight(down)?;
        sight.pairing.filter(|_| down.saturating_sub(since) >= PAIRING_GUARD)
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
