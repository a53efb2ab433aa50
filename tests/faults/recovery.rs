//! Errors that brokers answer with, brokers that move, and what the client does on its own
//! connections.

use std::sync::mpsc;

use tidegate::Acks;
use tidegate::embedded::{EmbeddedRecord, Fault};

use super::*;

/// Sends 50 records, five requests of them on their way at once, through these faults. Returns what
/// the log holds in the end.
fn through(faults: impl IntoIterator<Item = Fault>) -> Vec<EmbeddedRecord> {
    let stage = Stage::new(1, 1);
    let producer = stage.producer();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    stage.cluster.pause_broker(1);
    stage.cluster.script(faults);
    let sent: Vec<_> = (0..50).map(|n| send(&topic, 0, n.to_string())).collect();
    stage.cluster.resume_broker(1);
    stage.judge_all_acked(sent);
    assert_eq!(stage.cluster.faults_left(), 0, "the faults happened");
    stage.cluster.records("t", 0)
}

/// Every record was sent with the sequence that it got at first.
fn kept_their_sequences(records: &[EmbeddedRecord]) -> bool {
    records.iter().all(|r| r.producer_epoch == 0 && i64::from(r.sequence) == r.offset)
}

#[test]
fn f06_too_few_replicas_are_waited_for_with_the_same_sequence() {
    let before = Fault::produce_error("t", 0, 19).times(3);
    assert!(kept_their_sequences(&through(before)));
    let after = Fault::produce_error("t", 0, 20).after_append().times(3);
    assert!(kept_their_sequences(&through(after)));
}

#[test]
fn f13_out_of_order_behind_a_refused_batch_is_no_gap() {
    // The four behind it are truly out of order, and the broker says so.
    assert!(kept_their_sequences(&through(Fault::produce_error("t", 0, 19))));
}

#[test]
fn f13_out_of_order_at_the_head_is_a_gap_and_begins_a_new_epoch() {
    let records = through(Fault::produce_error("t", 0, 45));
    assert_eq!(records.last().map(|r| r.producer_epoch), Some(1));
}

#[test]
fn f13_a_producer_that_the_broker_forgot_goes_on() {
    // What it is told besides decides whether in a new epoch: nothing is lost or doubled.
    through(Fault::produce_error("t", 0, 59));
    through(Fault::produce_error("t", 0, 47));
}

#[test]
fn f10_brokers_that_move_to_other_ports_are_found_again() {
    let mut stage = Stage::new(3, 3);
    // The bootstrap list has a name, so to speak, that leads to whoever is there.
    let entry = Proxy::to(stage.cluster.address(1));
    let producer = quick(Producer::builder(&entry.address().to_string())).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 3);
    let mut sent = Vec::new();
    for round in 0..3 {
        let moved: Vec<_> = (1..=3).map(|id| Proxy::to(stage.cluster.address(id))).collect();
        for (id, proxy) in (1..).zip(&moved) {
            stage.cluster.advertise(id, proxy.address());
        }
        let old = std::mem::replace(&mut stage.proxies, moved);
        sent.extend((0..60).map(|n| send(&topic, n % 3, format!("{round} {n}"))));
        // Closed and refused from now on: every address that was known is wrong.
        drop(old);
        sent.extend((60..120).map(|n| send(&topic, n % 3, format!("{round} {n}"))));
    }
    stage.judge_all_acked(sent);
}

#[test]
fn c54_f47_a_broker_that_moves_is_followed_though_its_old_address_answers() {
    let stage = Stage::new(1, 2);
    let producer = stage.builder().configure(|c| c.metadata_max_age = millis(50)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    let old = stage.proxy(1);
    // What is in flight there when the broker moves is answered late, and nothing joins it.
    old.script(|frame| match frame.answers(api::PRODUCE) {
        true => Act::Delay(millis(300)),
        false => Act::Pass,
    });
    let mut sent: Vec<_> = (0..10).map(|n| send(&topic, n % 2, format!("before {n}"))).collect();
    let new = Proxy::to(stage.cluster.address(1));
    stage.cluster.advertise(1, new.address());
    let moved = Instant::now();
    let mut round = 0;
    while new.seen().requests_of(api::PRODUCE) == 0 {
        assert!(moved.elapsed() < secs(10), "the new address is not used");
        round += 1;
        sent.push(send(&topic, round % 2, format!("meanwhile {round}")));
        std::thread::sleep(millis(5));
    }
    let requests = old.seen().requests_of(api::PRODUCE);
    sent.extend((0..50).map(|n| send(&topic, n % 2, format!("after {n}"))));
    stage.judge_all_acked(sent);
    assert_eq!(old.seen().requests_of(api::PRODUCE), requests, "nothing goes to the old address");
    // Dropped while the producer is there.
    drop(new);
}

#[test]
fn c23_with_all_brokers_down_the_bootstrap_list_is_tried_again() {
    let stage = Stage::new(2, 2);
    let entry = Proxy::to(stage.cluster.address(2));
    let producer = quick(Producer::builder(&entry.address().to_string())).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    let doors = stage.proxies.iter().chain([&entry]);
    doors.clone().for_each(|proxy| {
        proxy.refuse();
        proxy.cut_all();
    });
    let sent: Vec<_> = (0..20).map(|n| send(&topic, n % 2, n.to_string())).collect();
    // They come back elsewhere; only the bootstrap list is right.
    let moved: Vec<_> = (1..=2).map(|id| Proxy::to(stage.cluster.address(id))).collect();
    for (id, proxy) in (1..).zip(&moved) {
        stage.cluster.advertise(id, proxy.address());
    }
    entry.listen();
    stage.judge_all_acked(sent);
    // Dropped while the producer and the brokers are there.
    drop(moved);
}

#[test]
fn f12_a_throttle_is_no_timeout() {
    let stage = Stage::new(1, 1);
    let producer = stage.builder().request_timeout(millis(1_500)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let accepted = stage.proxy(1).seen().accepted;
    // Like a real broker it tells of three seconds, and reads nothing for as long: the answer to a
    // request that was on its way by then comes late.
    let (mut asked, mut answered, mut late) = (0, 0, None);
    let (tells, told) = mpsc::channel();
    stage.proxy(1).script(move |frame| {
        asked += usize::from(frame.asks(api::PRODUCE));
        if !frame.answers(api::PRODUCE) {
            return Act::Pass;
        }
        answered += 1;
        if late.is_none() && asked > answered {
            late = Some(answered + 1);
            return rewrite::produce(frame, |response| {
                response.throttle_time_ms = 3_000;
                tells.send(response.responses[0].partition_responses[0].base_offset).unwrap();
            });
        }
        if late == Some(answered) { Act::Delay(millis(2_500)) } else { Act::Pass }
    });
    let start = Instant::now();
    let mut sent = Vec::new();
    let offset = loop {
        assert!(start.elapsed() < LONG, "two requests are never in flight together");
        sent.push(send(&topic, 0, sent.len().to_string()));
        if let Ok(offset) = told.try_recv() {
            break offset;
        }
    };
    // Each has a request of its own, behind that of `warm`.
    assert_eq!(acked(sent.remove(offset as usize - 1).delivery).offset(), Some(offset));
    sent.push(send(&topic, 0, "when the client knows".to_owned()));
    stage.judge_all_acked(sent);
    assert!(start.elapsed() >= secs(3), "nothing was sent meanwhile: {:?}", start.elapsed());
    assert_eq!(stage.proxy(1).seen().accepted, accepted, "no connection was given up");
}

#[test]
fn c29_an_answer_to_a_request_without_acks_is_dropped() {
    let stage = Stage::new(1, 1);
    let producer = stage.builder().acks(Acks::None).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let accepted = stage.proxy(1).seen().accepted;
    stage.proxy(1).script(|frame| {
        if !frame.asks(api::PRODUCE) {
            return Act::Pass;
        }
        let answer = [&8_i32.to_be_bytes()[..], &frame.correlation.to_be_bytes(), &[0; 4]].concat();
        Act::Answer(answer)
    });
    for n in 0..200 {
        let before = stage.proxy(1).seen().requests_of(api::PRODUCE);
        assert_eq!(acked(topic.send_record(to(0, &n.to_string())).unwrap()).offset(), None);
        // The connection remembers a limited number of requests that were not to be answered.
        let came = |seen: &Seen| seen.requests_of(api::PRODUCE) > before;
        assert!(stage.proxy(1).wait_until(LONG, came));
    }
    assert!(stage.cluster.wait_until(LONG, |stats| stats.records() == 201), "all arrived");
    assert_eq!(stage.proxy(1).seen().accepted, accepted, "the connection is none the worse");
}

#[cfg(target_os = "linux")]
#[test]
fn c25_connections_are_probed_by_the_kernel() {
    let stage = Stage::new(1, 1);
    let builder = stage.builder().configure(|c| c.tcp_keepalive = Some(secs(1_000)));
    let producer = builder.build().unwrap();
    warm(&producer.topic("t").unwrap(), 1);
    // A line: number, local and remote address, state, queues, timer and when it is due, ….
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{:04X}", stage.proxy(1).address().port());
    let timers = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ours = fields.get(2)?.ends_with(&remote) && fields[3] == "01";
        ours.then(|| fields[5].to_owned())
    });
    let timers: Vec<String> = timers.collect();
    assert_eq!(timers.len(), 2, "one for metadata, one for records: {table}");
    for timer in timers {
        // Timer 2 is keepalive; it is due in hundredths of a second.
        let due = timer.strip_prefix("02:").map(|due| u64::from_str_radix(due, 16).unwrap());
        assert!(due.is_some_and(|due| (50_000..=100_000).contains(&due)), "{timer}");
    }
}
