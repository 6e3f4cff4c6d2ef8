use std::future::poll_fn;

use proptest::prelude::*;
use tokio::time::{advance, timeout};

use super::*;

const MOST: usize = 100;

fn event(number: u64) -> Bytes {
    format!("<{number}>").into()
}

/// Everything that is ready.
fn drain(reader: &mut Reader) -> String {
    let mut cx = Context::from_waker(Waker::noop());
    let mut out = String::new();
    while let Poll::Ready(Some(bytes)) = reader.poll_next(&mut cx, MOST) {
        out.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    out
}

#[tokio::test]
async fn a_reader_goes_on_where_another_was_cut_off() {
    let (log, writer) = EventLog::new(1000);
    let mut first = log.read(0).unwrap();
    (0..3).for_each(|number| writer.push(event(number)));
    assert_eq!(drain(&mut first), "<0><1><2>");
    drop(first);
    writer.push(event(3));
    // Two had arrived when the connection broke.
    let mut second = log.read(2).unwrap();
    assert_eq!(drain(&mut second), "<2><3>");
    assert!(!second.is_through());
    drop(writer);
    assert!(second.is_through());
    assert_eq!(poll_fn(|cx| second.poll_next(cx, MOST)).await, None);
    assert_eq!(drain(&mut log.read(0).unwrap()), "<0><1><2><3>");
    assert_eq!(log.read(5).unwrap_err(), Missed { asked: 5, first: 0, end: 4 });
}

#[tokio::test]
async fn what_only_counts_now_reaches_who_reads_now() {
    let (log, writer) = EventLog::new(1000);
    let mut reader = log.read(0).unwrap();
    writer.pass("half".into());
    assert_eq!(drain(&mut reader), "half");
    writer.pass("old news".into());
    writer.push(event(0));
    assert_eq!(drain(&mut reader), "<0>");
    assert_eq!(drain(&mut log.read(0).unwrap()), "<0>");
}

#[tokio::test(start_paused = true)]
async fn nobody_reading_is_waited_for_as_long_as_told_and_no_longer() {
    let (log, _writer) = EventLog::new(1000);
    let hold = Duration::from_secs(60);
    let reader = log.read(0).unwrap();
    let waited = timeout(Duration::from_secs(3600), log.abandoned(hold)).await;
    assert!(waited.is_err(), "somebody reads");
    drop(reader);
    advance(Duration::from_secs(59)).await;
    let _back = log.read(0).unwrap();
    assert!(timeout(Duration::from_secs(3600), log.abandoned(hold)).await.is_err(), "somebody reads again");
    drop(_back);
    let since = Instant::now();
    log.abandoned(hold).await;
    assert_eq!(since.elapsed().as_secs(), 60);
}

#[tokio::test]
async fn cancelling_waits_for_nobody() {
    let (log, _writer) = EventLog::new(1000);
    let _reader = log.read(0).unwrap();
    log.cancel();
    log.abandoned(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_log_makes_its_writer_wait_until_somebody_reads() {
    let (log, writer) = EventLog::new(10);
    for number in 0..4 {
        writer.room().await;
        writer.push(event(number));
    }
    assert!(timeout(Duration::from_secs(1), writer.room()).await.is_err());
    let mut reader = log.read(0).unwrap();
    assert_eq!(drain(&mut reader), "<0><1><2><3>");
    writer.room().await;
    drop(reader);
    assert!(log.read(0).is_err(), "forgotten, since it had been read");
    assert_eq!(drain(&mut log.read(3).unwrap()), "<3>");
}

struct Item(Arc<EventLog>, #[expect(dead_code, reason = "dropped, the log has ended")] Option<Writer>);

impl Kept for Item {
    fn log(&self) -> &EventLog {
        &self.0
    }
}

#[tokio::test]
async fn a_full_shelf_forgets_what_has_ended_the_oldest_first() {
    let shelf = Shelf::new(2);
    let item = |ended: bool| {
        let (log, writer) = EventLog::new(10);
        Item(log, (!ended).then_some(writer))
    };
    assert!(matches!(shelf.enter("a", || item(false)), Entered::New(_)));
    assert!(matches!(shelf.enter("b", || item(true)), Entered::New(_)));
    assert!(matches!(shelf.enter("b", || item(true)), Entered::Found(_)));
    assert!(matches!(shelf.enter("c", || item(false)), Entered::New(_)));
    assert!(shelf.find(&"b").is_none() && shelf.find(&"a").is_some());
    assert!(matches!(shelf.enter("d", || item(true)), Entered::Full));
    shelf.remove(&shelf.find(&"a").unwrap());
    assert!(matches!(shelf.enter("d", || item(true)), Entered::New(_)));
    assert_eq!(shelf.len(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Read(usize),
    Leave(usize),
    Join(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_usize..40).prop_map(Step::Write),
        4 => (0_usize..3).prop_map(Step::Read),
        1 => (0_usize..3).prop_map(Step::Leave),
        1 => (0_u64..60).prop_map(Step::Join),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Whoever reads, leaves and comes back: no more bytes than allowed and one event, and nobody misses or repeats any.
    #[test]
    fn memory_is_bounded_and_no_event_is_lost_or_doubled(steps in steps()) {
        const ROOM: usize = 200;
        const LARGEST: usize = 40;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (log, writer) = EventLog::new(ROOM);
            let mut readers: Vec<(Reader, usize)> = Vec::new();
            let mut written: Vec<Bytes> = Vec::new();
            for step in steps {
                match step {
                    Step::Write(length) => {
                        // A writer without room waits; here it leaves the event out.
                        if log.bytes() < ROOM {
                            let event = Bytes::from(vec![written.len() as u8; length]);
                            written.push(event.clone());
                            writer.push(event);
                        }
                    }
                    Step::Read(which) => {
                        if let Some((reader, seen)) = readers.get_mut(which) {
                            let mut cx = Context::from_waker(Waker::noop());
                            if let Poll::Ready(Some(bytes)) = reader.poll_next(&mut cx, 64) {
                                let mut expected = Vec::new();
                                while expected.len() < bytes.len() {
                                    expected.extend_from_slice(&written[*seen]);
                                    *seen += 1;
                                }
                                assert_eq!(&bytes[..], &expected[..]);
                            }
                        }
                    }
                    Step::Leave(which) if which < readers.len() => drop(readers.remove(which)),
                    Step::Join(from) if readers.len() < 3 => {
                        if let Ok(reader) = log.read(from) {
                            readers.push((reader, from as usize));
                        }
                    }
                    Step::Leave(_) | Step::Join(_) => {}
                }
                assert!(log.bytes() < ROOM + LARGEST, "{}", log.bytes());
            }
        });
    }
}
