//! Which pages there are and in what order a short press shows them.
//!
//! Owns the order and the rule that a page without content is left out. Never draws (that is `screen`) and never decides when
//! to turn (that is `desk`).

use crate::snapshot::{Command, Phase, Snapshot, Stage};

/// One page of the OLED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The name and version, from the daemon's start until it answers.
    Splash,
    /// Ready or busy, and the totals.
    Status,
    /// The request in progress.
    Request,
    /// Name and addresses.
    Network,
    /// The inference servers.
    Upstreams,
    /// What preparation has saved.
    Savings,
    /// A client that asks for a key, with its code.
    Pairing,
    /// A newer version.
    Update,
    /// What is wrong.
    Error,
    /// Asks whether to power off.
    ConfirmPowerOff,
    /// Both buttons are held: the countdown to the factory reset.
    Reset {
        /// Seconds until it happens.
        seconds_left: u8,
    },
    /// The daemon is leaving or has left; this picture stays.
    Shutdown,
    /// Every pixel of the border and a pattern, to check the panel by eye.
    Test,
}

impl Page {
    /// The pages that short presses walk through, in this order.
    pub const ROTATION: [Self; 8] = [
        Self::Status,
        Self::Request,
        Self::Network,
        Self::Upstreams,
        Self::Savings,
        Self::Update,
        Self::Error,
        Self::Pairing,
    ];

    /// Whether the page has anything to show.
    #[must_use]
    pub fn has_content(self, snapshot: &Snapshot) -> bool {
        match self {
            Self::Request => snapshot.request.is_some(),
            Self::Pairing => snapshot.pairing.is_some(),
            Self::Update => snapshot.update.is_some(),
            Self::Error => snapshot.error.is_some(),
            _ => true,
        }
    }

    /// The page after this one that has content.
    #[must_use]
    pub fn next(self, snapshot: &Snapshot) -> Self {
        self.turned(1, snapshot)
    }

    /// The page before this one that has content.
    #[must_use]
    pub fn previous(self, snapshot: &Snapshot) -> Self {
        self.turned(Self::ROTATION.len() - 1, snapshot)
    }

    fn turned(self, step: usize, snapshot: &Snapshot) -> Self {
        let count = Self::ROTATION.len();
        let Some(here) = Self::ROTATION.iter().position(|&page| page == self) else { return Self::Status };
        let others = (1..=count).map(|turns| Self::ROTATION[(here + turns * step) % count]);
        others.into_iter().find(|page| page.has_content(snapshot)).unwrap_or(Self::Status)
    }

    /// What a long press on this page asks of the appliance; `None` where it asks nothing, or (on the status page) asks the
    /// person first.
    #[must_use]
    pub fn action(self, snapshot: &Snapshot) -> Option<Command> {
        match self {
            // One that is not sent yet is over sooner than it could be stopped.
            Self::Request => {
                let sent = snapshot.request.as_ref().filter(|request| request.phase != Phase::Preparing);
                sent.map(|request| Command::StopRequest { id: request.id })
            }
            Self::Upstreams => Some(Command::ProbeUpstreams),
            Self::Pairing => snapshot.pairing.as_ref().map(|pairing| Command::RefusePairing { id: pairing.id }),
            Self::Update => {
                let waits = snapshot.update.as_ref().is_some_and(|update| update.state.waits());
                (waits && snapshot.offers.apply_update).then_some(Command::ApplyUpdate)
            }
            // Without settings there is nothing else to show.
            Self::Error if snapshot.stage == Stage::Halted => None,
            Self::Error => snapshot.error.as_ref().map(|_| Command::DismissError),
            Self::ConfirmPowerOff => snapshot.offers.power_off.then_some(Command::PowerOff),
            Self::Splash | Self::Status | Self::Network | Self::Savings => None,
            Self::Reset { .. } | Self::Shutdown | Self::Test => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{samples, snapshot::Offers};

    #[test]
    fn a_full_round_visits_every_page_and_comes_back() {
        let snapshot = samples::everything();
        let pages = std::iter::successors(Some(Page::Status), |page| Some(page.next(&snapshot)));
        let visited: Vec<Page> = pages.take(Page::ROTATION.len() + 1).collect();
        assert_eq!(visited[..8], Page::ROTATION);
        assert_eq!(visited[8], Page::Status);
    }

    #[test]
    fn back_undoes_forth_and_empty_pages_are_left_out() {
        for snapshot in [samples::idle(), samples::everything(), Snapshot::default()] {
            for page in Page::ROTATION.into_iter().filter(|page| page.has_content(&snapshot)) {
                assert_eq!(page.next(&snapshot).previous(&snapshot), page);
                assert!(page.next(&snapshot).has_content(&snapshot));
            }
        }
    }

    #[test]
    fn a_page_whose_content_went_has_no_action() {
        let empty = Snapshot::default();
        let acts = Page::ROTATION.into_iter().filter(|page| page.action(&empty).is_some());
        assert_eq!(acts.collect::<Vec<_>>(), [Page::Upstreams]);
    }

    #[test]
    fn what_cannot_be_done_is_not_offered() {
        let bare = Snapshot { offers: Offers::default(), ..samples::everything() };
        assert_eq!((Page::Update.action(&bare), Page::ConfirmPowerOff.action(&bare)), (None, None));
        assert_eq!(Page::Update.action(&samples::everything()), Some(Command::ApplyUpdate));
    }
}
