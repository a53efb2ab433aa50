//! An event loop that panics, which nothing of an application can make it do: its next turn is
//! planted. In a process of its own, because the plant is for the whole process.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tidegate::embedded::EmbeddedCluster;
use tidegate::internals::planted;
use tidegate::{Delivery, DeliveryErrorCause, EventLoops, Producer};

const LONG: Duration = Duration::from_secs(60);

fn cause(mut delivery: Delivery) -> DeliveryErrorCause {
    let outcome = delivery.wait_timeout(LONG).expect("every delivery resolves");
    outcome.unwrap_err().cause().clone()
}

/// On a thread of its own: with a loop that is not replaced producers hang, their drop included.
#[test]
fn a_loop_that_panicked_fails_what_it_has_and_is_replaced() {
    let (done, is_done) = channel();
    let thread = std::thread::spawn(move || {
        let _done: Sender<()> = done;
        panic_and_replace();
    });
    // The end of the channel, that is, of the test: it has panicked, or all is well.
    let outcome = is_done.recv_timeout(3 * LONG);
    assert_eq!(outcome, Err(RecvTimeoutError::Disconnected), "a deadlock");
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn panic_and_replace() {
    let ((here, is_here), (leave, may_leave)) = (channel(), channel());
    let cluster = EmbeddedCluster::builder().topic("t", 1).start().unwrap();
    let loops = EventLoops::shared(1).unpinned();
    let build = || {
        let builder = Producer::builder(&cluster.bootstrap_servers()).event_loops(loops.clone());
        builder.request_timeout(10 * LONG).delivery_timeout(20 * LONG).build().unwrap()
    };
    let first = build();
    let topic = first.topic("t").unwrap();
    drop(topic.send((), "known").unwrap().wait().unwrap());
    planted::at_next_turn(move || {
        here.send(()).unwrap();
        may_leave.recv().unwrap();
        panic!("a loop that panics");
    });
    let held = topic.send((), "held").unwrap();
    is_here.recv_timeout(LONG).unwrap();
    // The loop has not heard of this producer when it panics.
    let second = build();
    let unheard = second.topic("t").unwrap().send((), "unheard").unwrap();
    leave.send(()).unwrap();
    assert_eq!(cause(held), DeliveryErrorCause::LoopPanicked);
    assert_eq!(cause(unheard), DeliveryErrorCause::LoopPanicked);
    // Those two have lost their loop for good, and refuse; whoever comes now gets a new one.
    topic.send((), "late").unwrap_err();
    let third = build();
    let mut delivery = third.topic("t").unwrap().send((), "fresh").unwrap();
    delivery.wait_timeout(LONG).expect("every delivery resolves").unwrap();
    for producer in [first, second, third] {
        producer.close(LONG).wait().unwrap();
    }
    assert_eq!(cluster.records("t", 0).len(), 2);
}
