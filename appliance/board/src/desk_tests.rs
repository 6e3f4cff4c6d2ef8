//! Tables of presses and moments for `desk`.

use proptest::prelude::*;

use super::*;
use crate::{samples, snapshot::Offers};

const FIRST: Press = Press::Short(Button::First);
const SECOND: Press = Press::Short(Button::Second);
const LONG: Press = Press::Long(Button::First);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn desk_at(snapshot: &Snapshot) -> Desk {
    let mut desk = Desk::new(Rest::default(), Duration::ZERO);
    look(&mut desk, snapshot, Duration::ZERO);
    desk
}

/// The board shows what there is to see.
fn look(desk: &mut Desk, snapshot: &Snapshot, at: Duration) {
    desk.notice(snapshot, at);
    desk.saw(desk.view(snapshot, at), snapshot, true, at);
}

/// A press by somebody who has seen what there is to see.
fn press(desk: &mut Desk, press: Press, snapshot: &Snapshot, at: Duration) -> Option<Command> {
    look(desk, snapshot, at);
    desk.press(press, at, snapshot, at)
}

fn page_after(presses: &[Press], snapshot: &Snapshot) -> Page {
    let mut desk = desk_at(snapshot);
    for &one in presses {
        press(&mut desk, one, snapshot, secs(2));
    }
    desk.view(snapshot, secs(2)).page
}

#[test]
fn each_stage_has_its_page() {
    let at = |stage| page_after(&[], &Snapshot { stage, ..samples::idle() });
    assert_eq!(at(Stage::Starting), Page::Splash);
    assert_eq!(at(Stage::Ready), Page::Status);
    assert_eq!((at(Stage::Draining), at(Stage::Stopped)), (Page::Shutdown, Page::Shutdown));
}

#[test]
fn the_appliance_shows_what_matters_most() {
    assert_eq!(page_after(&[], &samples::busy()), Page::Request);
    assert_eq!(page_after(&[], &samples::everything()), Page::Pairing);
    assert_eq!(
        page_after(&[], &Snapshot { pairing: None, ..samples::everything() }),
        Page::Error,
        "an update that waits can wait"
    );
}

#[test]
fn presses_turn_the_pages_both_ways() {
    assert_eq!(page_after(&[FIRST], &samples::idle()), Page::Network, "the empty request page is left out");
    assert_eq!(page_after(&[FIRST, FIRST, SECOND], &samples::idle()), Page::Network);
    assert_eq!(page_after(&[SECOND], &samples::idle()), Page::Savings);
}

#[test]
fn a_chosen_page_goes_after_a_while() {
    let snapshot = samples::busy();
    let mut desk = desk_at(&snapshot);
    press(&mut desk, FIRST, &snapshot, secs(5));
    assert_eq!(desk.view(&snapshot, secs(64)).page, Page::Network);
    assert_eq!(desk.view(&snapshot, secs(65)).page, Page::Request);
}

#[test]
fn powering_off_takes_two_long_presses() {
    let snapshot = samples::idle();
    let mut desk = desk_at(&snapshot);
    assert_eq!(press(&mut desk, LONG, &snapshot, secs(1)), None);
    assert_eq!(desk.view(&snapshot, secs(1)).page, Page::ConfirmPowerOff);
    assert_eq!(press(&mut desk, LONG, &snapshot, secs(2)), Some(Command::PowerOff));

    press(&mut desk, LONG, &snapshot, secs(20));
    assert_eq!(press(&mut desk, FIRST, &snapshot, secs(21)), None);
    assert_eq!(desk.view(&snapshot, secs(21)).page, Page::Status);

    press(&mut desk, LONG, &snapshot, secs(30));
    assert_eq!(press(&mut desk, LONG, &snapshot, secs(41)), None, "the question was withdrawn");
}

#[test]
fn what_cannot_be_done_is_not_asked() {
    let snapshot = Snapshot { offers: Offers::default(), ..samples::idle() };
    let mut desk = desk_at(&snapshot);
    press(&mut desk, LONG, &snapshot, secs(1));
    assert_eq!(desk.view(&snapshot, secs(1)).page, Page::Status);
    press(&mut desk, Press::Countdown { seconds_left: 3 }, &snapshot, secs(2));
    assert_eq!(desk.view(&snapshot, secs(2)).page, Page::Status);
    assert_eq!(press(&mut desk, Press::BothHeld, &snapshot, secs(3)), None);
}

#[test]
fn a_long_press_stops_the_request_that_is_shown() {
    let snapshot = samples::busy();
    assert_eq!(press(&mut desk_at(&snapshot), LONG, &snapshot, secs(1)), Some(Command::StopRequest { id: 7 }));
}

#[test]
fn a_press_grants_and_a_long_press_refuses() {
    let snapshot = samples::everything();
    assert_eq!(press(&mut desk_at(&snapshot), FIRST, &snapshot, secs(2)), Some(Command::GrantPairing { id: 1 }));
    assert_eq!(press(&mut desk_at(&snapshot), SECOND, &snapshot, secs(2)), Some(Command::GrantPairing { id: 1 }));
    assert_eq!(press(&mut desk_at(&snapshot), LONG, &snapshot, secs(2)), Some(Command::RefusePairing { id: 1 }));
}

#[test]
fn only_what_was_on_the_panel_for_a_while_is_granted() {
    let (idle, asked) = (samples::idle(), samples::everything());
    let mut desk = desk_at(&idle);
    let ms = Duration::from_millis;
    desk.notice(&asked, secs(100));
    let view = desk.view(&asked, secs(100));
    desk.saw(view, &asked, false, secs(100)); // the panel does not answer
    assert_eq!(desk.press(FIRST, secs(150), &asked, secs(151)), None);
    desk.saw(view, &asked, true, secs(200)); // now it does
    assert_eq!(
        desk.press(FIRST, ms(201_900), &asked, secs(205)),
        None,
        "it went down too soon, however late that is known"
    );
    assert_eq!(desk.press(LONG, ms(201_900), &asked, secs(205)), None);
    assert_eq!(desk.press(FIRST, secs(202), &asked, secs(203)), Some(Command::GrantPairing { id: 1 }));
    assert_eq!(desk.press(LONG, secs(202), &asked, secs(203)), Some(Command::RefusePairing { id: 1 }));
    let mut another = asked.clone();
    another.pairing.as_mut().expect("one").id = 2;
    look(&mut desk, &another, secs(210));
    assert_eq!(desk.press(FIRST, ms(211_900), &another, secs(212)), None, "the second one has not been read");
}

#[test]
fn a_page_that_comes_under_the_finger_is_not_what_was_meant() {
    let (idle, busy) = (samples::idle(), samples::busy());
    let mut desk = desk_at(&idle);
    look(&mut desk, &busy, secs(10));
    assert_eq!(
        desk.press(LONG, Duration::from_millis(9_500), &busy, secs(11)),
        None,
        "the button went down on the status"
    );
    let mut next = busy.clone();
    next.request.as_mut().expect("one").id = 8;
    look(&mut desk, &next, secs(20));
    let stopped = desk.press(LONG, Duration::from_millis(19_500), &next, secs(21));
    assert_eq!(stopped, Some(Command::StopRequest { id: 7 }), "the one that was seen");
}

#[test]
fn an_update_comes_by_itself() {
    let in_state = |state| {
        let update = Some(crate::Update { version: "0.2.0".to_owned(), state });
        Snapshot { update, ..samples::idle() }
    };
    let (available, fetching) = (in_state(UpdateState::Available), in_state(UpdateState::Fetching(0.1)));
    let mut desk = desk_at(&samples::idle());
    look(&mut desk, &available, secs(10));
    let page = |desk: &Desk, snapshot: &Snapshot, at| desk.view(snapshot, secs(at)).page;
    assert_eq!(page(&desk, &available, 1_000), Page::Update, "until somebody has seen it");
    press(&mut desk, FIRST, &available, secs(1_000));
    assert_ne!(page(&desk, &available, 1_001), Page::Update);
    assert_eq!(page(&desk, &available, 2_000), Page::Status, "once");
    look(&mut desk, &fetching, secs(9_000));
    assert_eq!((page(&desk, &fetching, 9_001), desk.light(&fetching, secs(9_001))), (Page::Update, Light::Bright));
    let restart = in_state(UpdateState::RestartNeeded);
    look(&mut desk, &restart, secs(9_100));
    assert_eq!(page(&desk, &restart, 9_200), Page::Update);
}

#[test]
fn without_settings_there_is_only_the_problem_and_the_way_out() {
    let snapshot = Snapshot { stage: Stage::Halted, ..samples::everything() };
    let mut desk = desk_at(&snapshot);
    press(&mut desk, FIRST, &snapshot, secs(1));
    assert_eq!(desk.view(&snapshot, secs(1)).page, Page::Error);
    assert_eq!(press(&mut desk, LONG, &snapshot, secs(2)), None);
    assert_eq!(desk.view(&snapshot, secs(2)).page, Page::ConfirmPowerOff);
    assert_eq!(press(&mut desk, LONG, &snapshot, secs(3)), Some(Command::PowerOff));
    assert_eq!(press(&mut desk, Press::BothHeld, &snapshot, secs(4)), Some(Command::FactoryReset));
}

#[test]
fn a_countdown_whose_buttons_are_lost_is_over() {
    let snapshot = samples::idle();
    let mut desk = desk_at(&snapshot);
    press(&mut desk, Press::Countdown { seconds_left: 3 }, &snapshot, secs(1));
    desk.buttons_lost();
    assert_eq!(desk.view(&snapshot, secs(2)).page, Page::Status);
}

#[test]
fn the_countdown_is_shown_and_ends_in_a_reset_or_not() {
    let snapshot = samples::idle();
    let mut desk = desk_at(&snapshot);
    assert_eq!(press(&mut desk, Press::Countdown { seconds_left: 3 }, &snapshot, secs(1)), None);
    assert_eq!(desk.view(&snapshot, secs(1)).page, Page::Reset { seconds_left: 3 });
    assert_eq!(press(&mut desk, Press::Cancelled, &snapshot, secs(2)), None);
    assert_eq!(desk.view(&snapshot, secs(2)).page, Page::Status);
    assert_eq!(press(&mut desk, Press::BothHeld, &snapshot, secs(3)), Some(Command::FactoryReset));
}

#[test]
fn it_dims_goes_dark_and_wakes_without_acting() {
    let snapshot = Snapshot { error: None, ..samples::idle() };
    let mut desk = desk_at(&snapshot);
    let light = |desk: &Desk, at| desk.view(&snapshot, secs(at)).light;
    assert_eq!([59, 60, 1_799, 1_800].map(|at| light(&desk, at)), [Light::Bright, Light::Dim, Light::Dim, Light::Off]);
    assert_eq!(press(&mut desk, LONG, &snapshot, secs(2_000)), None);
    let view = desk.view(&snapshot, secs(2_000));
    assert_eq!((view.page, view.light), (Page::Status, Light::Bright), "the press only woke it");
    press(&mut desk, FIRST, &snapshot, secs(2_100));
    assert_eq!(desk.view(&snapshot, secs(2_100)).page, Page::Network, "a dim page can be read, so the press counts");
}

#[test]
fn news_wake_it_and_work_keeps_it_from_going_dark() {
    let mut desk = desk_at(&samples::idle());
    assert_eq!(desk.view(&samples::busy(), secs(9_000)).light, Light::Dim);
    desk.notice(&samples::everything(), secs(9_000));
    assert_eq!(desk.view(&samples::everything(), secs(9_000)).light, Light::Bright);
}

proptest! {
    #[test]
    fn the_picture_never_jumps_by_more_than_a_pixel(minute in 0u64..100_000) {
        let (desk, snapshot) = (desk_at(&samples::idle()), samples::idle());
        let at = |minute: u64| desk.view(&snapshot, secs(minute * 60)).shift;
        let (before, after) = (at(minute), at(minute + 1));
        prop_assert!((before.0 - after.0).abs() <= 1 && (before.1 - after.1).abs() <= 1);
        prop_assert!(before.0.abs() <= 1 && before.1.abs() <= 1);
    }
}
