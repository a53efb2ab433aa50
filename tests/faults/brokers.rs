//! Brokers that are none, that are silent, and that lie.

use std::sync::{Arc, Mutex};

use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{BrokerId, MetadataResponse, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tidegate::DeliveryErrorCause;
use tidegate::embedded::EmbeddedCluster;

use super::*;

/// Two brokers, of which the first advertises what `first` is: partition 0 cannot be written, with
/// an error that has these words in it, while partition 1 goes on as if nothing were wrong.
fn unusable(first: &Proxy, words: &[&str]) {
    let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 2).start().unwrap();
    cluster.advertise(1, first.address());
    let bootstrap = cluster.address(2).to_string();
    let producer = quick(Producer::builder(&bootstrap))
        .request_timeout(millis(300))
        .delivery_timeout(secs(2))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send_record(to(1, "warm")).unwrap());
    let lost: Vec<_> = (0..50).map(|n| topic.send_record(to(0, &n.to_string())).unwrap()).collect();
    for n in 0..500_u32 {
        acked(topic.send_record(to(1, &n.to_string())).unwrap());
    }
    for delivery in lost {
        let error = failed(delivery);
        assert_eq!((error.topic(), error.partition()), ("t", Some(0)));
        assert!(matches!(error.cause(), DeliveryErrorCause::TimedOut { .. }), "{error}");
        let text = error.to_string();
        let named = format!("broker 1 at {}", first.address());
        assert!(text.contains(&named), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
        assert_eq!(error.certainty(), Certainty::NotWritten, "{text}");
    }
    assert_eq!(producer.memory().free, producer.memory().capacity);
    assert!(cluster.records("t", 0).is_empty());
    assert_eq!(cluster.high_watermark("t", 1), 501);
    // Tried again and again, but not in a storm: 10 ms apart in these tests.
    assert!(first.seen().accepted < 1_000, "{:?}", first.seen());
}

/// The same for a bootstrap list that has only that.
fn unusable_to_start_from(only: &Proxy, words: &[&str]) {
    let producer = quick(Producer::builder(&only.address().to_string()))
        .request_timeout(millis(300))
        .delivery_timeout(millis(800))
        .build()
        .unwrap();
    let error = failed(producer.topic("t").unwrap().send((), "v").unwrap());
    assert_eq!(error.certainty(), Certainty::NotWritten, "{error}");
    let text = error.to_string();
    assert!(text.contains(&only.address().to_string()), "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

/// [`unusable`] and [`unusable_to_start_from`], at once: mostly they wait.
fn unusable_anywhere(peer: &Proxy, words: &[&str]) {
    std::thread::scope(|scope| {
        scope.spawn(|| unusable(peer, words));
        unusable_to_start_from(peer, words);
    });
}

fn server_that_says(bytes: &[u8]) -> Proxy {
    let server = Proxy::start();
    server.welcome(Welcome::Say(bytes.to_vec()));
    server
}

#[test]
fn f11_a_web_server_in_place_of_a_broker() {
    let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 22\r\n\
        Connection: close\r\n\r\n<h1>400 Bad Request</h1>";
    let words = ["looks like HTTP", "not one of a Kafka broker"];
    unusable_anywhere(&server_that_says(answer), &words);
}

#[test]
fn f11_a_tls_port_in_place_of_a_plaintext_one() {
    // A fatal alert of TLS 1.2: unexpected message.
    let alert = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a];
    let words = ["looks like TLS", "TLS listener"];
    unusable_anywhere(&server_that_says(&alert), &words);
}

#[test]
fn f11_nothing_at_all_in_place_of_a_broker() {
    let nobody = Proxy::start();
    nobody.refuse();
    unusable_anywhere(&nobody, &["refused"]);
}

#[test]
fn f11_a_peer_that_hangs_up_in_place_of_a_broker() {
    let rude = Proxy::start();
    rude.welcome(Welcome::Reset);
    unusable_anywhere(&rude, &[]);
}

#[test]
fn f11_a_peer_that_closes_without_a_word_in_place_of_a_broker() {
    unusable_anywhere(&server_that_says(&[]), &["closed the connection"]);
}

#[test]
fn f19_a_peer_that_accepts_and_says_nothing() {
    let silent = Proxy::start();
    silent.welcome(Welcome::Silent);
    let words = ["ApiVersions was not answered within request_timeout = 300ms"];
    unusable_anywhere(&silent, &words);
}

#[test]
fn f19_a_silent_one_of_three_to_start_from_is_passed_over() {
    let silent = Proxy::start();
    silent.welcome(Welcome::Silent);
    let stage = Stage::new(1, 1);
    let both = format!("{},{}", silent.address(), stage.bootstrap_servers());
    for _ in 0..4 {
        let builder = quick(Producer::builder(&both)).request_timeout(millis(300));
        let producer = builder.build().unwrap();
        acked(producer.topic("t").unwrap().send((), "v").unwrap());
    }
}

/// While metadata lies, nothing that it says does harm; afterwards all is delivered.
fn lying(lie: impl FnMut(&mut MetadataResponse) + Send + 'static) {
    let stage = Stage::new(2, 2);
    let builder = quick(Producer::builder(&stage.bootstrap_servers()));
    let producer = builder.configure(|c| c.metadata_max_age = millis(10)).build().unwrap();
    let lie = Arc::new(Mutex::new(lie));
    let (told, times) = std::sync::mpsc::channel();
    // Whoever is asked lies: a client that cannot read what one says asks the other.
    for id in 1..=2 {
        let (lie, told) = (lie.clone(), told.clone());
        rewrite::metadata(stage.proxy(id), move |response| {
            if response.topics.is_empty() {
                // It was asked for before any topic was wanted.
                return;
            }
            (lie.lock().unwrap())(response);
            // The test may have heard enough.
            let _ = told.send(());
        });
    }
    let topic = producer.topic("t").unwrap();
    let mut sent: Vec<_> = (0..50).map(|n| send(&topic, n % 2, format!("told {n}"))).collect();
    for _ in 0..2 {
        times.recv_timeout(LONG).expect("metadata is asked for again");
    }
    (1..=2).for_each(|id| stage.proxy(id).clear());
    sent.extend((0..50).map(|n| send(&topic, n % 2, format!("true {n}"))));
    stage.judge_all_acked(sent);
    producer.close(LONG).wait().unwrap();
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[test]
fn f26_a_leader_that_is_no_broker() {
    lying(|response| {
        for partition in &mut response.topics[0].partitions {
            partition.leader_id = BrokerId(99);
        }
    });
}

#[test]
fn f26_no_broker_at_all() {
    lying(|response| response.brokers.clear());
}

#[test]
fn f26_a_broker_twice_at_two_addresses() {
    let nobody = Proxy::start();
    nobody.refuse();
    let port = i32::from(nobody.address().port());
    lying(move |response| {
        let mut double = response.brokers[0].clone();
        double.port = port;
        response.brokers.push(double);
    });
}

#[test]
fn f26_ports_and_hosts_that_cannot_be() {
    for port in [0, -1, 65_536, i32::MIN, i32::MAX] {
        lying(move |response| response.brokers[1].port = port);
        lying(move |response| response.brokers.iter_mut().for_each(|broker| broker.port = port));
    }
    for host in ["", "no such host", "..", "\u{0}"] {
        lying(move |response| response.brokers[1].host = text(host));
    }
}

#[test]
fn f26_a_broker_at_an_impossible_port_costs_its_own_partitions_only() {
    let stage = Stage::new(2, 2);
    let bootstrap = stage.proxy(1).address().to_string();
    rewrite::metadata(stage.proxy(1), |response| response.brokers[1].port = -1);
    let producer = quick(Producer::builder(&bootstrap)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let mut late = topic.send_record(Record::new().value("v").partition(1)).unwrap();
    acked(topic.send_record(Record::new().value("v").partition(0)).unwrap());
    assert!(late.try_take().is_none());
    stage.proxy(1).clear();
    acked(late);
}

#[test]
fn f26_brokers_with_impossible_ids() {
    for id in [-1, i32::MIN] {
        lying(move |response| {
            let mut broker = response.brokers[0].clone();
            broker.node_id = BrokerId(id);
            response.brokers.push(broker);
            response.topics[0].partitions[0].leader_id = BrokerId(id);
        });
    }
}

#[test]
fn f26_partitions_that_cannot_be() {
    for index in [-1, i32::MIN, i32::MAX, 1_000_000] {
        lying(move |response| {
            let mut partition = response.topics[0].partitions[0].clone();
            partition.partition_index = index;
            response.topics[0].partitions.push(partition);
        });
    }
    // Twice, with another leader.
    lying(|response| {
        let mut partition = response.topics[0].partitions[0].clone();
        partition.leader_id = BrokerId(2);
        partition.leader_epoch -= 1;
        response.topics[0].partitions.push(partition);
    });
}

#[test]
fn f26_a_topic_without_partitions() {
    lying(|response| response.topics[0].partitions.clear());
}

#[test]
fn f26_other_topics_than_were_asked_for() {
    lying(|response| response.topics[0].name = Some(TopicName(text("other"))));
    lying(|response| response.topics.clear());
    lying(|response| {
        let topic = response.topics[0].clone();
        response.topics.extend([topic.clone(), topic]);
    });
}

#[test]
fn f26_a_million_topics_and_brokers() {
    // As many as a response of the allowed size holds, and more.
    for count in [200_000, 1_000_000] {
        lying(move |response| {
            let topic = |n: usize| {
                MetadataResponseTopic::default().with_name(Some(TopicName(text(&n.to_string()))))
            };
            response.topics.extend((0..count).map(topic));
        });
    }
    lying(|response| {
        let address = response.brokers[0].clone();
        let broker = |id| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(id))
                .with_host(address.host.clone())
                .with_port(address.port)
        };
        response.brokers.extend((1_000..21_000).map(broker));
    });
}

#[test]
fn f26_negative_counts() {
    let stage = Stage::new(1, 1);
    let producer = stage.producer();
    let mut lies = 0;
    stage.proxy(1).script(move |frame| {
        if !frame.answers(api::METADATA) || lies == 20 {
            return Act::Pass;
        }
        lies += 1;
        // Behind size, correlation id, tags and throttle time: how many brokers, plus one.
        let count =
            [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff, 0xff, 0xff, 0xff, 0x07]][lies % 2];
        let mut bytes = [&frame.bytes[..13], count, &frame.bytes[14..]].concat();
        let size = (bytes.len() - 4) as i32;
        bytes[..4].copy_from_slice(&size.to_be_bytes());
        Act::Replace(bytes)
    });
    acked(producer.topic("t").unwrap().send((), "v").unwrap());
}

/// One Produce response says something else; each record is there once nevertheless, and no
/// delivery is told what is not so.
fn lying_about_produce(lie: impl FnMut(&mut ProduceResponse) + Send + 'static) {
    let stage = Stage::new(1, 2);
    let producer = stage.producer();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    rewrite::one_produce(stage.proxy(1), lie);
    let sent: Vec<_> = (0..40).map(|n| send(&topic, n % 2, n.to_string())).collect();
    stage.judge_all_acked(sent);
}

fn elsewhere(index: i32) -> PartitionProduceResponse {
    PartitionProduceResponse::default().with_index(index).with_base_offset(1_000_000)
}

#[test]
fn f27_partitions_left_out() {
    lying_about_produce(|response| response.responses.clear());
    lying_about_produce(|response| response.responses[0].partition_responses.clear());
}

#[test]
fn f27_partitions_invented() {
    for index in [-1, 7, i32::MAX] {
        lying_about_produce(move |response| {
            response.responses[0].partition_responses.insert(0, elsewhere(index));
        });
        // In place of the true one.
        lying_about_produce(move |response| {
            response.responses[0].partition_responses = vec![elsewhere(index)];
        });
    }
}

/// Makes it another topic's, by name or, in versions that have them, by id.
fn rename(topic: &mut TopicProduceResponse) {
    topic.name = TopicName(text("other"));
    let mut id = topic.topic_id.into_bytes();
    if id != [0; 16] {
        id[15] ^= 1;
        topic.topic_id = id.to_vec().try_into().expect("an id has 16 bytes");
    }
}

#[test]
fn f27_topics_invented() {
    lying_about_produce(|response| {
        let mut other = response.responses[0].clone();
        rename(&mut other);
        other.partition_responses.iter_mut().for_each(|p| p.base_offset = 1_000_000);
        response.responses.insert(0, other);
    });
    lying_about_produce(|response| rename(&mut response.responses[0]));
}

#[test]
fn f27_partitions_answered_twice() {
    lying_about_produce(|response| {
        let again = response.responses[0].partition_responses.clone();
        response.responses[0].partition_responses.extend(again);
    });
    lying_about_produce(|response| {
        let again = response.responses[0].clone();
        response.responses.push(again);
    });
}

#[test]
fn f29_an_endless_throttle_is_clamped() {
    // Of one connection of one broker, for a minute at the most; the test does not wait for it.
    let stage = Stage::new(2, 2);
    let producer = stage.builder().delivery_timeout(LONG).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    rewrite::one_produce(stage.proxy(1), |response| response.throttle_time_ms = i32::MAX);
    acked(topic.send_record(to(0, "throttled")).unwrap());
    let held = topic.send_record(to(0, "held")).unwrap();
    for n in 0..200_u32 {
        acked(topic.send_record(to(1, &n.to_string())).unwrap());
    }
    // A new connection is not throttled by what the old one was told.
    stage.proxy(1).cut_all();
    acked(held);
}
