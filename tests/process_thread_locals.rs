//! Sends from destructors of thread-locals and from `atexit`, where the crate's own thread-locals
//! may be destroyed already: a panic there aborts the process. In processes of their own, as the
//! last of them end.

#![cfg(unix)]
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use tidegate::embedded::EmbeddedCluster;
use tidegate::{Producer, ProducerBuilder, SendErrorKind, Topic};

const LONG: Duration = Duration::from_secs(60);

/// Set in the process that a test began.
const CHILD: &str = "TIDEGATE_TEST_THREAD_LOCALS_CHILD";

/// What the application does when its thread ends.
struct AtEnd(RefCell<Option<Box<dyn FnOnce()>>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

thread_local! {
    static AT_END: AtEnd = const { AtEnd(RefCell::new(None)) };
}

fn at_end(act: impl FnOnce() + 'static) {
    AT_END.with(|end| *end.0.borrow_mut() = Some(Box::new(act)));
}

fn builder(cluster: &EmbeddedCluster) -> ProducerBuilder {
    Producer::builder(&cluster.bootstrap_servers()).configure(|config| {
        config.pinning = false;
        config.max_block = Duration::from_millis(50);
    })
}

/// Uses every thread-local that the crate has for senders: sending, parking for room, waiting.
fn use_all(topic: &Topic, full: &Topic) {
    topic.send((), "a batch's first, for which segments are taken").unwrap().wait().unwrap();
    let error = full.send((), "x").unwrap_err();
    assert!(matches!(error.kind(), SendErrorKind::ParkTimedOut { .. }), "{error}");
}

/// A producer whose one broker is over its watermark and takes nothing.
fn full(cluster: &EmbeddedCluster) -> (Producer, Topic) {
    let producer = builder(cluster).watermarks(8 << 10, 16 << 10).build().unwrap();
    let topic = producer.topic("t").unwrap();
    topic.send((), "known").unwrap().wait().unwrap();
    cluster.pause_broker(1);
    let value = "x".repeat(1_000);
    while topic.send((), &value).is_ok() {}
    (producer, topic)
}

/// Sends from a destructor that runs after those of the crate's thread-locals (`first`: destroyed
/// last), or before them.
fn from_a_destructor(first: bool, topic: Topic, full: Topic, done: Sender<()>) {
    let thread = std::thread::spawn(move || {
        let (early, late) = (topic.clone(), full.clone());
        let act = move || {
            use_all(&topic, &full);
            done.send(()).unwrap();
        };
        if first {
            at_end(act);
            use_all(&early, &late);
        } else {
            use_all(&early, &late);
            at_end(act);
        }
    });
    thread.join().unwrap();
}

/// Runs `test` of this program in a process of its own, which must end with 0.
fn in_a_process_of_its_own(test: &str, act: impl FnOnce()) {
    if std::env::var(CHILD).as_deref() == Ok(test) {
        return act();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, test)
        .output()
        .unwrap();
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (shown(&output.stdout), shown(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    assert!(stdout.contains("running 1 test"), "it did not run:\n{stdout}");
}

#[test]
fn c57_a_send_in_a_thread_locals_destructor_works_whatever_was_destroyed_before() {
    let test = "c57_a_send_in_a_thread_locals_destructor_works_whatever_was_destroyed_before";
    in_a_process_of_its_own(test, || {
        let clusters = [1, 2].map(|_| EmbeddedCluster::builder().topic("t", 1).start().unwrap());
        let producer = builder(&clusters[0]).build().unwrap();
        let topic = producer.topic("t").unwrap();
        let (stuck, no_room) = full(&clusters[1]);
        let (done, is_done) = channel();
        for first in [true, false] {
            from_a_destructor(first, topic.clone(), no_room.clone(), done.clone());
            is_done.recv_timeout(LONG).unwrap();
        }
        // The last handle of a producer goes in a destructor, which closes it.
        let dropped = builder(&clusters[0]).build().unwrap();
        let sent = dropped.topic("t").unwrap();
        let thread = std::thread::spawn(move || {
            let act = move || drop(dropped);
            at_end(act);
            sent.send((), "with the producer").unwrap()
        });
        let delivery = thread.join().unwrap();
        delivery.wait().unwrap();
        clusters[1].resume_broker(1);
        for producer in [producer, stuck] {
            producer.close(LONG).wait().unwrap();
        }
    });
}

/// What `atexit` uses: statics are what is left.
static LEFT: Mutex<Option<(Topic, Topic)>> = Mutex::new(None);

extern "C" fn at_exit() {
    let (topic, full) = LEFT.lock().unwrap().take().expect("the test put it here");
    use_all(&topic, &full);
    // SAFETY: ends the process at once; only a process that came so far ends with 0.
    unsafe { libc::_exit(0) };
}

#[test]
fn c57_a_send_at_exit_works() {
    in_a_process_of_its_own("c57_a_send_at_exit_works", || {
        let clusters = [1, 2].map(|_| EmbeddedCluster::builder().topic("t", 1).start().unwrap());
        let producer = builder(&clusters[0]).build().unwrap();
        let topic = producer.topic("t").unwrap();
        let (_stuck, no_room) = full(&clusters[1]);
        // SAFETY: the handler is a function of this program.
        assert_eq!(unsafe { libc::atexit(at_exit) }, 0);
        *LEFT.lock().unwrap() = Some((topic.clone(), no_room.clone()));
        let (early, late) = (topic.clone(), no_room.clone());
        at_end(move || use_all(&early, &late));
        use_all(&topic, &no_room);
        // On this thread: first its thread-locals are destroyed, then the handler runs.
        std::process::exit(3);
    });
}
