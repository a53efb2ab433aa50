//! Brokers that lose what they acknowledged, or forget which batches of a producer they have.

use std::time::{Duration, Instant};

use tidegate::{Certainty, Delivery, Producer, RecordMetadata, Topic};

use crate::kafka::{Cluster, ClusterConfig, Kafka, unique_topic, wait_until};
use crate::proxy::{Act, Proxy, api};

const LIMIT: Duration = Duration::from_secs(120);
/// Ten times what it may take until records flow again, less a lot than `delivery_timeout`.
const RECOVERY_MAX: Duration = Duration::from_secs(50);

/// From here on no answer to Produce reaches the client.
fn hold_answers(proxy: &Proxy) {
    proxy.script(|frame| match frame.answers(api::PRODUCE) {
        true => Act::Swallow,
        false => Act::Pass,
    });
}

fn send(topic: &Topic, value: &str) -> Delivery {
    topic.send((), value).expect("there is room")
}

#[track_caller]
fn acked(mut delivery: Delivery) -> RecordMetadata {
    let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
    outcome.expect("acknowledged")
}

/// Sends, and waits until the broker has answered what the client does not get to see.
#[track_caller]
fn send_unanswered(topic: &Topic, value: &str, proxy: &Proxy) -> Delivery {
    let before = proxy.seen().responses_of(api::PRODUCE);
    let delivery = send(topic, value);
    let answered = proxy.wait_until(LIMIT, |seen| seen.responses_of(api::PRODUCE) > before);
    assert!(answered, "the broker has not answered {value}");
    delivery
}

fn values(cluster: &Cluster, topic: &str) -> Vec<String> {
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.expect("each has a value"));
    let records = cluster.read_back(topic).into_iter();
    records.map(|record| text(record.value).expect("each was text")).collect()
}

/// An unclean election cuts off an acknowledged batch while the one behind it is unanswered.
pub fn f43_unclean_election(kafka: &Kafka) {
    let proxies = [Proxy::start(), Proxy::start(), Proxy::start()];
    let ports = proxies.each_ref().map(|proxy| proxy.address().port());
    let cluster = kafka.start(&ClusterConfig::three().behind(&ports));
    for (id, proxy) in (1..).zip(&proxies) {
        proxy.forward_to(cluster.proxied_address(id));
    }
    let name = unique_topic("unclean");
    let configs = [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
    cluster.create_topic(&name, 1, 2, &configs);
    let leader = cluster.leader(&name, 0).expect("a created topic has leaders");
    let replicas = cluster.partition(&name, 0).replicas;
    let behind = replicas.into_iter().find(|&id| id != leader).expect("there are two");
    let addresses = proxies.each_ref().map(|proxy| proxy.address().to_string());
    let producer = Producer::builder(&addresses.join(",")).build().expect("the settings work");
    let topic = producer.topic(&name).expect("a legal name");
    assert_eq!(acked(send(&topic, "b1")).offset(), Some(0));
    cluster.terminate(behind);
    assert_eq!(acked(send(&topic, "b2")).offset(), Some(1));
    let proxy = &proxies[leader as usize - 1];
    hold_answers(proxy);
    let mut uncertain = send_unanswered(&topic, "b3", proxy);
    cluster.kill(leader);
    cluster.restart(behind);
    cluster.elect_unclean(&name, 0);
    cluster.wait_for_leader(&name, 0, |leader| leader == behind);

    let start = Instant::now();
    let mut next = send(&topic, "b4");
    let outcome = uncertain.wait_timeout(RECOVERY_MAX).expect("it does not wait for ever");
    let later = next.wait_timeout(RECOVERY_MAX).expect("records flow again");
    let took = start.elapsed();
    println!("f43: b3 {outcome:?}, b4 {later:?}, {took:.2?} after the election");
    later.expect("nothing is wrong with it");
    let log = values(&cluster, &name);
    println!("f43: {log:?}");
    match outcome {
        Ok(_) => assert_eq!(log, ["b1", "b3", "b4"]),
        Err(error) => {
            assert_eq!(error.certainty(), Certainty::Unknown, "{error}");
            assert_eq!(log, ["b1", "b4"]);
        }
    }
    assert!(took < RECOVERY_MAX, "{took:?}");
}

/// A broker that restarts in order remembers each producer's last batch alone: several that are
/// logged and unanswered must not be doubled.
pub fn f55_clean_restart(kafka: &Kafka) {
    let proxy = Proxy::start();
    let config = ClusterConfig::single().behind(&[proxy.address().port()]);
    let cluster = kafka.start(&config);
    proxy.forward_to(cluster.proxied_address(1));
    let name = unique_topic("restarted");
    cluster.create_topic(&name, 1, 1, &[]);
    let address = proxy.address().to_string();
    let producer = Producer::builder(&address).build().expect("the settings work");
    let topic = producer.topic(&name).expect("a legal name");
    acked(send(&topic, "b1"));
    hold_answers(&proxy);
    let unanswered: Vec<Delivery> = ["b2", "b3", "b4", "b5"]
        .iter()
        .map(|value| send_unanswered(&topic, value, &proxy))
        .collect();
    cluster.terminate(1);
    proxy.clear();
    cluster.restart(1);
    let start = Instant::now();
    let later = send(&topic, "b6");
    for delivery in unanswered {
        acked(delivery);
    }
    acked(later);
    let took = start.elapsed();
    let log = values(&cluster, &name);
    println!("f55: {log:?}, acknowledged {took:.2?} after the restart");
    assert_eq!(log, ["b1", "b2", "b3", "b4", "b5", "b6"]);
    assert!(took < RECOVERY_MAX, "{took:?}");
    assert!(wait_until(LIMIT, || producer.memory().free == producer.memory().capacity));
}
