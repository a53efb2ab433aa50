//! Sessions that end after some seconds (KIP-368), under load.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use tidegate::Producer;

use super::stage::{SASL, SASL_TLS, SESSION, Stage};
use crate::extent;
use crate::kafka::{Kafka, unique_topic};
use crate::streams::{Pace, Streams, patient};

const LIMIT: Duration = Duration::from_secs(120);
/// How much longer than without logins a stream may be without an acknowledgement.
const GAP_FACTOR: u32 = 10;
/// What was measured on two busy cores, with logins and without.
const GAP: Duration = Duration::from_millis(60);
/// A broker that stands still for half a second reads requests of a session that has ended since,
/// and closes the connection, as it may. It does not do so every time.
const SPANS_MAX: usize = 3;
/// Ends before a session does, so that tokens are fetched again as well.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3);

/// All mechanisms log in again on the connections that they have. A broker closes a connection
/// whose session is over with the next request, so that one which stays has logged in again.
pub fn are_renewed_under_load(kafka: &Kafka) {
    let stage = Stage::start(kafka);
    let topic = unique_topic("sessions");
    let plain = Producer::builder(&stage.cluster.bootstrap_servers());
    let mut ways = stage.logins(TOKEN_LIFETIME);
    let logins = ways.len();
    ways.push(("no login".to_owned(), plain));
    stage.cluster.create_topic(&topic, ways.len() as i32, 1, &[]);
    let mut streams = Streams::new(&topic, Pace::per_second(100));
    let mut producers = Vec::new();
    for (partition, (name, builder)) in ways.into_iter().enumerate() {
        let producer = patient(builder).build().expect("the settings work");
        streams.add(&producer, Some(partition as i32));
        producers.push((name, producer));
    }
    streams.all_go_on(100, LIMIT, "at the start");
    let listeners = [SASL, SASL_TLS].map(|name| stage.cluster.listener_address(name));
    let span = extent::pick(3 * SESSION, 15 * SESSION);
    let all_stayed = (0..SPANS_MAX).any(|_| {
        let before = connections(&listeners);
        assert!(before.len() >= logins, "{before:?}");
        streams.reset_gaps();
        thread::sleep(span);
        let after = connections(&listeners);
        let stayed = after.intersection(&before).count();
        println!("{stayed} of {} connections stayed for {span:?}", before.len());
        after == before
    });
    for (stream, (name, _)) in producers.iter().enumerate() {
        println!("{name}: longest time without an acknowledgement {:.2?}", streams.gap(stream));
    }
    let (gap, without) = (streams.longest_gap(), streams.gap(logins));
    let summary = streams.finish(&stage.cluster);
    println!("sessions of {SESSION:?}: {summary:?}");
    assert_eq!((summary.failed(), summary.acked), (0, summary.offered));
    assert!(all_stayed, "connections were closed or opened {SPANS_MAX} times in a row");
    assert!(gap < GAP_FACTOR * GAP.max(without), "{gap:?}, and {without:?} without logins");
}

/// The local ends of the established connections to these addresses: the same end is the same
/// connection.
fn connections(to: &[SocketAddr]) -> BTreeSet<String> {
    /// The kernel's number of an established connection.
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux has a table of connections");
    let is_to = |remote: &str| {
        let port = remote.split(':').nth(1).and_then(|port| u16::from_str_radix(port, 16).ok());
        to.iter().any(|address| port == Some(address.port()))
    };
    let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = fields.filter(|fields| is_to(fields[2]) && fields[3] == ESTABLISHED);
    ours.map(|fields| fields[1].to_owned()).collect()
}
