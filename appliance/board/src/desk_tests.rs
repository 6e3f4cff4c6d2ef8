//! Tables of presses and moments for `desk`.

use proptest::prelude::*;

use super::*;
use crate::samples;

const FIRST: Press = Press::Short(Button::First);
const SECOND: Press = Press::Short(Button::Second);
const LONG: Press = Press::Long(Button::First);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn desk_at(snapshot: &Snapshot) -> Desk {
    let mut desk = Desk::new(Rest::default(), Duration::ZERO);
    desk.notice(snapshot, Duration::ZERO);
    desk
}

fn page_after(presses: &[Press], snapshot: &Snapshot) -> Page {
    let mut desk = desk_at(snapshot);
    for &press in presses {
        desk.press(press, snapshot, secs(2));
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
    assert_eq!(page_after(&[], &Snapshot { pairing: None, ..samples::everything() }), Page::Error);
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
    desk.press(FIRST, &snapshot, secs(5));
    assert_eq!(desk.view(&snapshot, secs(64)).page, Page::Network);
    assert_eq!(desk.view(&snapshot, secs(65)).page, Page::Request);
}

#[test]
fn powering_off_takes_two_long_presses() {
    let snapshot = samples::idle();
    let mut desk = desk_at(&snapshot);
    assert_eq!(desk.press(LONG, &snapshot, secs(1)), None);
    assert_eq!(desk.view(&snapshot, secs(1)).page, Page::ConfirmPowerOff);
    assert_eq!(desk.press(LONG, &snapshot, secs(2)), Some(Command::PowerOff));

    desk.press(LONG, &snapshot, secs(20));
    assert_eq!(desk.press(FIRST, &snapshot, secs(21)), None);
    assert_eq!(desk.view(&snapshot, secs(21)).page, Page::Status);

    desk.press(LONG, &snapshot, secs(30));
    assert_eq!(desk.press(LONG, &snapshot, secs(41)), None, "the question was withdrawn");
}

#[test]
fn a_long_press_stops_the_request_that_is_shown() {
    let snapshot = samples::busy();
    assert_eq!(desk_at(&snapshot).press(LONG, &snapshot, secs(1)), Some(Command::StopRequest { id: 7 }));
}

#[test]
fn a_press_grants_and_a_long_press_refuses() {
    let snapshot = samples::everything();
    assert_eq!(desk_at(&snapshot).press(FIRST, &snapshot, secs(2)), Some(Command::GrantPairing { id: 1 }));
    assert_eq!(desk_at(&snapshot).press(SECOND, &snapshot, secs(2)), Some(Command::GrantPairing { id: 1 }));
    assert_eq!(desk_at(&snapshot).press(LONG, &snapshot, secs(2)), Some(Command::RefusePairing { id: 1 }));
}

#[test]
fn a_press_meant_for_the_page_before_grants_nothing() {
    let mut snapshot = samples::everything();
    let mut desk = desk_at(&snapshot);
    let later = secs(100) + Duration::from_millis(900);
    if let Some(pairing) = &mut snapshot.pairing {
        pairing.id = 2;
    }
    desk.notice(&snapshot, secs(100));
    assert_eq!(desk.press(FIRST, &snapshot, later), None);
    assert_eq!(desk.press(LONG, &snapshot, later), None);
    assert_eq!(desk.press(FIRST, &snapshot, secs(101)), Some(Command::GrantPairing { id: 2 }));
}

#[test]
fn the_countdown_is_shown_and_ends_in_a_reset_or_not() {
    let snapshot = samples::idle();
    let mut desk = desk_at(&snapshot);
    assert_eq!(desk.press(Press::Countdown { seconds_left: 3 }, &snapshot, secs(1)), None);
    assert_eq!(desk.view(&snapshot, secs(1)).page, Page::Reset { seconds_left: 3 });
    assert_eq!(desk.press(Press::Cancelled, &snapshot, secs(2)), None);
    assert_eq!(desk.view(&snapshot, secs(2)).page, Page::Status);
    assert_eq!(desk.press(Press::BothHeld, &snapshot, secs(3)), Some(Command::FactoryReset));
}

#[test]
fn it_dims_goes_dark_and_wakes_without_acting() {
    let snapshot = Snapshot { error: None, ..samples::idle() };
    let mut desk = desk_at(&snapshot);
    let light = |desk: &Desk, at| desk.view(&snapshot, secs(at)).light;
    assert_eq!([59, 60, 1_799, 1_800].map(|at| light(&desk, at)), [Light::Bright, Light::Dim, Light::Dim, Light::Off]);
    assert_eq!(desk.press(LONG, &snapshot, secs(2_000)), None);
    let view = desk.view(&snapshot, secs(2_000));
    assert_eq!((view.page, view.light), (Page::Status, Light::Bright), "the press only woke it");
    desk.press(FIRST, &snapshot, secs(2_100));
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
