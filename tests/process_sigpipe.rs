//! SIGPIPE at its default disposition, as in every process whose `main` is not Rust's. In a process
//! of its own, which the signal would end.

#![cfg(unix)]
#![allow(unsafe_code)]

#[path = "support/proxy/mod.rs"]
mod proxy;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proxy::Proxy;
use tidegate::embedded::{EmbeddedCluster, EmbeddedTls};
use tidegate::{Compression, Delivery, Producer, Record, TlsConfig, Topic};

const LONG: Duration = Duration::from_secs(120);

const SENDERS: u32 = 2;
const PARTITIONS: i32 = 8;
const PADDING: usize = 1_000;
const ENDS: u32 = 150;
const BETWEEN_ENDS: Duration = Duration::from_millis(20);

/// Sends until it is told to stop, as fast as there is room: the loop is always writing.
fn send(topic: &Topic, sender: u32, stop: &AtomicBool) -> Vec<(String, Delivery)> {
    let mut sent = Vec::new();
    let padding = "x".repeat(PADDING);
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let value = format!("{sender} {n} {padding}");
        let record = Record::new().value(&value).partition(n % PARTITIONS);
        sent.push((start_of(&value), topic.send_record(record).unwrap()));
    }
    sent
}

fn start_of(value: &str) -> String {
    value[..value.len() - PADDING].to_owned()
}

#[test]
fn c56_f48_connections_that_end_under_load_do_not_end_a_process_with_sigpipe_at_its_default() {
    lives_through_ends(None);
}

/// Encryption has bytes of its own to write to a connection that ends: alerts, and what is left of
/// records that it has made.
#[test]
fn c56_f48_encrypted_connections_that_end_under_load_do_not_end_such_a_process_either() {
    lives_through_ends(Some(EmbeddedTls::new()));
}

fn lives_through_ends(tls: Option<EmbeddedTls>) {
    // SAFETY: no handler is installed; the default disposition is one of the two constants.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let is_encrypted = tls.is_some();
    let builder = EmbeddedCluster::builder().topic("t", PARTITIONS);
    let builder = tls.into_iter().fold(builder, |builder, tls| builder.tls(tls));
    let cluster = builder.start().unwrap();
    let proxy = Proxy::to(cluster.address(1));
    cluster.advertise(1, proxy.address());
    let mut builder = Producer::builder(&proxy.address().to_string());
    if is_encrypted {
        builder = builder.tls(TlsConfig::new().truststore_pem(cluster.authority_pem()));
    }
    let producer = builder
        .configure(|config| {
            config.pinning = false;
            config.buffer_memory = 8 << 20;
            // A loop that is busy between its look at a socket and its writes meets a connection
            // that was closed and reset meanwhile: the signal's hour.
            config.compression = Compression::Gzip { level: 9 };
            config.reconnect_backoff = Duration::from_millis(1);
            config.reconnect_backoff_max = Duration::from_millis(5);
            config.retry_backoff = Duration::from_millis(1);
            config.retry_backoff_max = Duration::from_millis(5);
        })
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    let stop = AtomicBool::new(false);
    let sent: Vec<_> = std::thread::scope(|scope| {
        let (topic, stop) = (&topic, &stop);
        let senders: Vec<_> =
            (0..SENDERS).map(|sender| scope.spawn(move || send(topic, sender, stop))).collect();
        let start = Instant::now();
        for end in 1..=ENDS {
            // Not before there is something to end.
            assert!(proxy.wait_until(LONG, |seen| seen.open > 0));
            let next = BETWEEN_ENDS * end;
            std::thread::sleep(next.saturating_sub(start.elapsed()));
            // Mostly in good order: only a FIN before the reset makes EPIPE of it.
            if end % 4 == 0 { proxy.cut_all() } else { proxy.end_all() }
        }
        stop.store(true, Ordering::SeqCst);
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });
    let mut delivered = HashSet::new();
    for (value, mut delivery) in sent {
        delivery.wait_timeout(LONG).expect("it resolves").expect("it is delivered");
        assert!(delivered.insert(value));
    }
    producer.close(LONG).wait().unwrap();
    let mut logged = HashSet::new();
    for partition in 0..PARTITIONS {
        for record in cluster.records("t", partition) {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            assert!(logged.insert(start_of(&value)), "{value} is doubled");
        }
    }
    assert!(delivered.is_subset(&logged));
    println!("{} records over {} connections", logged.len(), proxy.seen().accepted);
}
