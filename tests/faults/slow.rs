//! Connections that are slow, that stand still, or lose one direction.

use std::collections::HashSet;

use tidegate::embedded::EmbeddedCluster;
use tidegate::{DeliveryErrorCause, RejectRecords};

use super::*;

#[test]
fn f20_one_byte_at_a_time_holds_up_nobody_else() {
    let stage = Stage::new(2, 2);
    let producer = stage.producer();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    // Some 180 bytes there and 60 back, for each of them: a tenth of a second at the least.
    stage.proxy(1).script(|_| Act::Trickle(Duration::from_micros(400)));
    let mut sent: Vec<_> = (0..100).map(|n| send(&topic, 0, n.to_string())).collect();
    for round in 0..20 {
        let quick: Vec<_> = (0..100).map(|n| send(&topic, 1, format!("{round} {n}"))).collect();
        stage.judge_all_acked(quick);
    }
    let written = stage.cluster.high_watermark("t", 0);
    assert!(written < 100, "2,000 records did not wait for {written}");
    stage.proxy(1).clear();
    sent.extend((100..120).map(|n| send(&topic, 0, n.to_string())));
    stage.judge_all_acked(sent);
}

#[test]
fn f20_a_broker_that_never_reads_takes_a_share_of_memory_only() {
    const POOL: usize = 8 << 20;
    let stage = Stage::new(2, 2);
    let builder = stage.builder().buffer_memory(POOL).backoff(RejectRecords);
    let producer = builder.batch_size(16 << 10).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    stage.proxy(1).script(|frame| match frame.asks(api::PRODUCE) {
        true => Act::Stall,
        false => Act::Pass,
    });
    let padding = "x".repeat(4_000);
    let (mut held, mut refused) = (Vec::new(), 0);
    for n in 0..4_000_u32 {
        let value = format!("{n} {padding}");
        match topic.send_record(to(0, &value)) {
            Ok(delivery) => {
                held.push(Sent { topic: "t".to_owned(), partition: 0, value, delivery })
            }
            Err(error) => {
                assert!(error.is_retriable(), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 1_000, "16 MB did not fit: {refused}");
    let free = producer.memory().free;
    assert!(free > POOL / 5, "{free} bytes are left for the other broker");
    for n in 0..20 {
        let quick: Vec<_> = (0..50).map(|m| send(&topic, 1, format!("{n} {m}"))).collect();
        stage.judge_all_acked(quick);
    }
    stage.proxy(1).clear();
    stage.proxy(1).cut_all();
    stage.judge_all_acked(held);
    producer.close(LONG).wait().unwrap();
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

/// On the present connections nothing passes in this direction any more.
fn lose(proxy: &Proxy, direction: Direction) {
    let connections = proxy.seen().accepted;
    proxy.script(move |frame| {
        match frame.direction == direction && frame.connection <= connections {
            true => Act::Mute,
            false => Act::Pass,
        }
    });
}

#[test]
fn f17_a_direction_that_is_lost_is_noticed() {
    for direction in [Direction::Request, Direction::Response] {
        let stage = Stage::new(1, 1);
        let producer = stage.builder().request_timeout(millis(300)).build().unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, 1);
        lose(stage.proxy(1), direction);
        let sent: Vec<_> = (0..50).map(|n| send(&topic, 0, n.to_string())).collect();
        stage.judge_all_acked(sent);
    }
}

#[test]
fn f17_a_connection_that_is_half_open_is_noticed() {
    let stage = Stage::new(1, 1);
    let producer = stage.builder().request_timeout(millis(300)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    // The other end is gone, and nobody said so: neither a byte nor a close comes through.
    let connections = stage.proxy(1).seen().accepted;
    stage.proxy(1).script(move |frame| match frame.connection <= connections {
        true => Act::Stall,
        false => Act::Pass,
    });
    let sent: Vec<_> = (0..50).map(|n| send(&topic, 0, n.to_string())).collect();
    stage.judge_all_acked(sent);
}

#[test]
fn f17_a_megabit_a_second_is_used_and_memory_holds() {
    let stage = Stage::new(1, 1);
    let builder = stage.builder().buffer_memory(4 << 20).batch_size(16 << 10);
    let producer = builder.configure(|c| c.send_buffer = Some(16 << 10)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    stage.proxy(1).bandwidth(Some(1_000_000 / 8));
    let start = Instant::now();
    let padding = "x".repeat(1_000);
    let sent: Vec<_> = (0..200).map(|n| send(&topic, 0, format!("{n} {padding}"))).collect();
    stage.judge_all_acked(sent);
    let took = start.elapsed();
    // 1.6 s for 200 kB.
    assert!(took > secs(1) && took < secs(16), "{took:?}");
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

/// A value whose every byte follows from its topic and number.
fn patterned(topic: &str, n: u32, length: usize) -> String {
    let unit = format!("{topic}/{n};");
    unit.repeat(length / unit.len() + 1)
}

/// Whether it is one, of this topic.
fn is_patterned(topic: &str, value: &str) -> bool {
    let Some((unit, _)) = value.split_once(';') else { return false };
    unit.split_once('/').is_some_and(|(of, _)| of == topic)
        && value.split_terminator(';').all(|part| part == unit)
}

#[test]
fn f15_batches_that_expire_in_flight_spoil_no_other() {
    const TOPICS: u64 = 12;
    let names: Vec<String> = (0..TOPICS).map(|n| format!("topic-{n}")).collect();
    let builder = names
        .iter()
        .fold(EmbeddedCluster::builder().brokers(2), |builder, name| builder.topic(name, 2));
    let stage = Stage::of(builder);
    let (told, corrupt) = std::sync::mpsc::channel();
    for (seed, proxy) in (1..).zip(&stage.proxies) {
        let (mut random, told) = (Random(seed), told.clone());
        // A third of the requests arrive, and a third of the answers come, when the batches in them
        // have expired, or when the connection was given up.
        proxy.script(move |frame| {
            if frame.answers(api::PRODUCE)
                && let Some(code) = rewrite::refusal(frame)
            {
                // The test may be over.
                let _ = told.send(code);
            }
            match frame.api_key == api::PRODUCE && random.below(3) == 0 {
                true => Act::Delay(millis(random.below(400))),
                false => Act::Pass,
            }
        });
    }
    let producer = stage
        .builder()
        .buffer_memory(4 << 20)
        .batch_size(64 << 10)
        .request_timeout(millis(150))
        .delivery_timeout(millis(250))
        .configure(|config| config.send_buffer = Some(8 << 10))
        .build()
        .unwrap();
    let topics: Vec<Topic> = names.iter().map(|name| producer.topic(name).unwrap()).collect();
    let mut random = Random(15);
    let mut sent = Vec::new();
    for n in 0..2_500 {
        let at = random.below(TOPICS) as usize;
        let (topic, partition) = (names[at].clone(), random.below(2) as i32);
        let value = patterned(&topic, n, random.below(20_000) as usize);
        let delivery = topics[at].send_record(to(partition, &value)).unwrap();
        sent.push(Sent { topic, partition, value, delivery });
    }
    let tally = stage.judge(sent);
    println!("{tally:?}, {} repeated", stage.cluster.stats().duplicates());
    assert!(tally.acked > 100 && tally.unknown > 100, "{tally:?}");
    for name in &names {
        let records = [0, 1].map(|partition| stage.cluster.records(name, partition)).concat();
        assert!(records.iter().map(stage::text).all(|value| is_patterned(name, &value)), "{name}");
    }
    stage.proxies.iter().for_each(Proxy::clear);
    producer.close(LONG).wait().unwrap();
    assert_eq!(producer.memory().free, producer.memory().capacity);
    drop((stage, told));
    let refusals: HashSet<i16> = corrupt.iter().collect();
    // CORRUPT_MESSAGE and INVALID_RECORD: what came was not what had been encoded.
    assert!(!refusals.contains(&2) && !refusals.contains(&87), "{refusals:?}");
}

#[test]
fn c28_a_request_that_was_not_written_whole_was_not_sent() {
    let stage = Stage::new(1, 1);
    // Without retries, so that the first loss of a connection tells.
    let builder = stage.builder().configure(|config| {
        config.retries = 0;
        config.send_buffer = Some(8 << 10);
    });
    let producer = builder.build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    stage.proxy(1).script(|frame| match frame.asks(api::PRODUCE) {
        true => Act::Stall,
        false => Act::Pass,
    });
    let requests = stage.proxy(1).seen().requests_of(api::PRODUCE);
    let whole = topic.send((), "small").unwrap();
    let is_read = |seen: &Seen| seen.requests_of(api::PRODUCE) > requests;
    assert!(stage.proxy(1).wait_until(LONG, is_read), "it is read, and goes no further");
    // More than the kernel takes while nobody reads.
    let part = topic.send((), "x".repeat(1_000_000)).unwrap();
    assert!(stage.proxy(1).wait_until(LONG, |seen| seen.unread > 0), "its first bytes came");
    stage.proxy(1).cut_all();
    for (delivery, certainty) in [(whole, Certainty::Unknown), (part, Certainty::NotWritten)] {
        let error = failed(delivery);
        assert_eq!(error.certainty(), certainty, "{error}");
        assert!(matches!(error.cause(), DeliveryErrorCause::Disconnected(_)), "{error}");
    }
    assert_eq!(stage.cluster.high_watermark("t", 0), 1);
}

/// A link that carries so many bytes a second towards a broker, and whose far end has room for half
/// a second's bytes: what it did not take stays in the client's kernel.
struct SlowLink {
    listener: socket2::Socket,
    address: std::net::SocketAddr,
}

impl SlowLink {
    fn to(broker: std::net::SocketAddr, bytes_per_second: usize) -> SlowLink {
        use socket2::{Domain, Socket, Type};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.set_recv_buffer_size(4 << 10).unwrap();
        listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(16).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let accepts = std::net::TcpListener::from(listener.try_clone().unwrap());
        std::thread::spawn(move || {
            while let Ok((client, _)) = accepts.accept() {
                let broker = std::net::TcpStream::connect(broker).unwrap();
                let (back, there) = (broker.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pour(&back, &there, usize::MAX));
                std::thread::spawn(move || pour(&client, &broker, bytes_per_second));
            }
        });
        SlowLink { listener, address }
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        // This wakes the accepting thread, with an error; the others end with their connections.
        let _ = self.listener.shutdown(std::net::Shutdown::Both);
    }
}

fn pour(mut from: &std::net::TcpStream, mut to: &std::net::TcpStream, bytes_per_second: usize) {
    use std::io::{Read, Write};
    let mut buffer = vec![0; (bytes_per_second / 100).clamp(1, 4 << 10)];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
        if bytes_per_second < usize::MAX {
            std::thread::sleep(Duration::from_secs(1) * bytes as u32 / bytes_per_second as u32);
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[cfg(target_os = "linux")]
#[test]
fn c67_f53_a_request_that_takes_longer_than_its_timeout_gets_through_a_slow_link() {
    // Side by side: what takes the time is the link.
    std::thread::scope(|scope| {
        for send_buffer in [8 << 10, 4 << 20] {
            scope.spawn(move || gets_through_a_slow_link(send_buffer));
        }
    });
}

/// Over a link of 64 kbit/s a request of 64 KiB takes eight seconds, twice its timeout and more.
#[cfg(target_os = "linux")]
fn gets_through_a_slow_link(send_buffer: usize) {
    let cluster = EmbeddedCluster::builder().brokers(1).topic("t", 1).start().unwrap();
    let link = SlowLink::to(cluster.address(1), 8 << 10);
    cluster.advertise(1, link.address);
    let producer = quick(Producer::builder(&cluster.bootstrap_servers()))
        .request_timeout(millis(3_600))
        .delivery_timeout(2 * LONG)
        .configure(|c| (c.send_buffer, c.batch_size) = (Some(send_buffer), 64 << 10))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let padding = "x".repeat(10_000);
    // Two requests that take longer than the timeout, one behind the other.
    let sent: Vec<_> = (0..11).map(|n| topic.send((), format!("{n} {padding}")).unwrap()).collect();
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    // Nothing was sent again that had gone all the way.
    let stats = cluster.stats();
    assert_eq!((stats.duplicates(), stats.records()), (0, 12), "{send_buffer}");
    assert!(stats.requests_of(api::PRODUCE) <= 12, "{send_buffer}: {stats:?}");
    producer.close(LONG).wait().unwrap();
}
