//! The brokers behind a name turn out to be of another cluster.

use tidegate::embedded::{EmbeddedCluster, EmbeddedRecord, Fault};
use tidegate::{ClusterChange, DeliveryErrorCause};

use super::*;
use stage::text;

/// Two clusters with the topic `t`, and one address that leads to the first of them.
struct Two {
    // Dropped first: a broker that ends waits for what is at work on its connections.
    proxy: Proxy,
    one: EmbeddedCluster,
    other: EmbeddedCluster,
}

/// Producer ids count from the same number at both. At the other cluster somebody else has used the
/// first one, and has as many sequences in the log there as this producer will have.
fn two() -> Two {
    let cluster = |id: &str| {
        EmbeddedCluster::builder().cluster_id(id).topic("t", 1).start().expect("a cluster")
    };
    let (one, other) = (cluster("one"), cluster("other"));
    let stranger = quick(Producer::builder(&other.bootstrap_servers())).build().unwrap();
    let topic = stranger.topic("t").unwrap();
    for n in 0..40 {
        acked(topic.send((), format!("stranger {n}")).unwrap());
    }
    stranger.close(LONG).wait().unwrap();
    let proxy = Proxy::to(one.address(1));
    one.advertise(1, proxy.address());
    other.advertise(1, proxy.address());
    Two { proxy, one, other }
}

impl Two {
    fn producer(&self, change: ClusterChange) -> Producer {
        let builder = quick(Producer::builder(&self.proxy.address().to_string()));
        builder.configure(|config| config.on_cluster_change = change).build().unwrap()
    }

    /// From now on the address leads to the other cluster.
    fn turn(&self) {
        self.proxy.forward_to(self.other.address(1));
        self.proxy.cut_all();
    }

    fn values(cluster: &EmbeddedCluster) -> Vec<String> {
        cluster.records("t", 0).iter().map(text).filter(|it| !it.starts_with("stranger")).collect()
    }
}

/// What may have been written to the old cluster is not sent to the other.
fn assert_is_in_doubt(error: &DeliveryError) {
    assert_eq!(error.certainty(), Certainty::Unknown, "{error}");
    let changed = DeliveryErrorCause::ClusterChanged { found: "other".into() };
    assert_eq!(*error.cause(), changed, "{error}");
}

#[test]
fn f41_the_bootstrap_name_turns_to_another_cluster_and_records_go_there() {
    let two = two();
    let producer = two.producer(ClusterChange::Follow);
    let topic = producer.topic("t").unwrap();
    for n in 0..5 {
        acked(topic.send((), format!("one {n}")).unwrap());
    }
    // One is on its way when the name turns: nobody will ever know of it.
    two.one.script(Fault::silence().api(0).after_append());
    let in_doubt = topic.send((), "in doubt").unwrap();
    let logged = |stats: &tidegate::embedded::ClusterStats| stats.records() == 6;
    assert!(two.one.wait_until(LONG, logged));
    two.turn();
    let send = |n: u32| (format!("other {n}"), topic.send((), format!("other {n}")).unwrap());
    let mut sent: Vec<_> = (0..9).map(send).collect();

    let error = failed(in_doubt);
    assert_is_in_doubt(&error);
    // By now the old connection is known to be gone.
    sent.push(send(9));
    let mut expected = Vec::new();
    for (value, delivery) in sent {
        match outcome(delivery) {
            Ok(at) => {
                let offset = at.offset().expect("no duplicate of somebody else's record");
                let log = two.other.records("t", 0);
                let is_it =
                    |record: &EmbeddedRecord| record.offset == offset && text(record) == value;
                assert!(log.iter().any(is_it), "{value} is acknowledged and not there");
                expected.push(value);
            }
            // Written to a connection of which nobody had heard yet that it was gone.
            Err(error) => assert_is_in_doubt(&error),
        }
    }
    assert_eq!(expected.last().map(String::as_str), Some("other 9"));
    assert_eq!(Two::values(&two.other), expected, "once, in order, and nothing else");
    assert_eq!(Two::values(&two.one).len(), 6);
    producer.close(LONG).wait().unwrap();
}

#[test]
fn f41_by_setting_what_waits_fails_where_another_cluster_answers() {
    let two = two();
    let producer = two.producer(ClusterChange::Fail);
    let topic = producer.topic("t").unwrap();
    acked(topic.send((), "one").unwrap());
    two.turn();
    // The first may be written to a connection of which nobody has heard yet that it is gone.
    let mut error = failed(topic.send((), "nowhere").unwrap());
    if error.certainty() == Certainty::Unknown {
        assert_is_in_doubt(&error);
        error = failed(topic.send((), "nowhere").unwrap());
    }
    let changed = DeliveryErrorCause::ClusterChanged { found: "other".into() };
    assert_eq!(*error.cause(), changed, "{error}");
    assert_eq!(error.certainty(), Certainty::NotWritten);
    assert_eq!(Two::values(&two.other), [""; 0]);
    // Back at the old one all is well.
    two.proxy.forward_to(two.one.address(1));
    two.proxy.cut_all();
    let start = Instant::now();
    while outcome(topic.send((), "back").unwrap()).is_err() {
        assert!(start.elapsed() < LONG, "the old cluster is back");
        std::thread::sleep(millis(10));
    }
    assert_eq!(Two::values(&two.one), ["one", "back"]);
    assert_eq!(Two::values(&two.other), [""; 0]);
    producer.close(LONG).wait().unwrap();
}
