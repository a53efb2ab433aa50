//! A fork's child has none of the producer's threads: it gets errors, and the parent goes on.

#![cfg(unix)]
#![allow(unsafe_code)]

use std::time::Duration;

use tidegate::embedded::EmbeddedCluster;
use tidegate::{CloseError, Delivery, DeliveryErrorCause, FlushError, Producer, SendErrorKind};

const LONG: Duration = Duration::from_secs(30);

/// What the child found: 0 if all is as it should be, else the number of what is not.
fn in_the_child(producer: Producer, topic: tidegate::Topic, pending: Delivery) -> i32 {
    let forked = |error: tidegate::SendError| *error.kind() == SendErrorKind::Forked;
    if !topic.send("k", "from the child").is_err_and(forked) {
        return 1;
    }
    if !producer.topic("t").is_err_and(forked) {
        return 2;
    }
    if producer.flush().wait() != Err(FlushError::Forked) {
        return 3;
    }
    if producer.close(LONG).wait() != Err(CloseError::Forked) {
        return 4;
    }
    if !pending.wait().is_err_and(|error| *error.cause() == DeliveryErrorCause::Forked) {
        return 5;
    }
    // Neither waits for threads that are not there.
    drop(topic);
    drop(producer);
    0
}

#[test]
fn c44_f33_a_forks_child_gets_errors_and_the_parent_goes_on() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).start().unwrap();
    let producer = Producer::builder(&cluster.bootstrap_servers()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    topic.send("k", "before").unwrap().wait().unwrap();
    cluster.pause_broker(1);
    let pending: Vec<_> = (0..3).map(|_| topic.send("k", "pending").unwrap()).collect();
    // SAFETY: the child calls only what this test is about, and then _exit; it touches no lock that
    // another thread of the parent may have held, which is what the test would find out.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let last = pending.into_iter().next_back().expect("three were sent");
        let found = in_the_child(producer, topic, last);
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(found) };
    }
    let start = std::time::Instant::now();
    let mut status = 0;
    // SAFETY: `status` is writable, `child` is a child of this process.
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        if start.elapsed() > LONG {
            // SAFETY: it is still our child, which hangs.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(libc::WIFEXITED(status), "the child hung or crashed: {status}");
    assert_eq!(libc::WEXITSTATUS(status), 0);
    // And here nothing has changed.
    cluster.resume_broker(1);
    pending.into_iter().for_each(|delivery| drop(delivery.wait().unwrap()));
    for n in 4..104 {
        assert_eq!(topic.send("k", "after").unwrap().wait().unwrap().offset(), Some(n));
    }
    producer.close(LONG).wait().unwrap();
    assert_eq!(cluster.records("t", 0).len(), 104);
}
