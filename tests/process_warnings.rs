//! What a producer tells the log. Alone in its process: there is one logger.

#[path = "support/proxy/mod.rs"]
mod proxy;

use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use proxy::{Act, Proxy};
use tidegate::embedded::{EmbeddedCluster, Fault};
use tidegate::{
    Acks, ClusterChange, DeliveryErrorCause, OnDrop, Plain, Producer, ProducerBuilder,
    ProducerConfig, Topic, TopicConfig,
};

/// Nothing listens there.
const AWAY: &str = "127.0.0.1:1";

/// Longer than anything that works takes, also on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Every line, and how loud it was. Tests run side by side: each looks for words of its own.
struct Lines(Mutex<Vec<(Level, String)>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&LINES).expect("no other logger is set in this process");
        log::set_max_level(LevelFilter::Debug);
    });
}

impl Log for Lines {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = (record.level(), record.args().to_string());
        self.0.lock().expect("nobody panics here").push(line);
    }

    fn flush(&self) {}
}

/// The lines of a level that have all the words, in order.
fn lines(level: Level, words: &[&str]) -> Vec<String> {
    let lines = LINES.0.lock().expect("nobody panics there");
    let found = lines
        .iter()
        .filter(|line| line.0 == level && words.iter().all(|word| line.1.contains(word)));
    found.map(|line| line.1.clone()).collect()
}

/// Waits for such a line.
fn awaited(level: Level, words: &[&str]) -> String {
    let begun = Instant::now();
    loop {
        if let Some(line) = lines(level, words).into_iter().next() {
            return line;
        }
        assert!(begun.elapsed() < LONG, "the log never said {words:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn builder(bootstrap_servers: &str) -> ProducerBuilder {
    Producer::builder(bootstrap_servers).configure(|config| config.pinning = false)
}

#[test]
fn a_cluster_that_is_away_is_not_a_warning_each_time() {
    install();
    let begun = Instant::now();
    let producer = builder(AWAY)
        .configure(|config| {
            config.reconnect_backoff = Duration::from_millis(1);
            config.reconnect_backoff_max = Duration::from_millis(1);
        })
        .build()
        .expect("no broker is needed for that");
    while lines(Level::Debug, &[AWAY]).len() < 10 {
        assert!(begun.elapsed() < LONG, "attempts go on, and can be seen");
        std::thread::sleep(Duration::from_millis(1));
    }
    let warnings = lines(Level::Warn, &[AWAY]);
    // One, and one more for each 10 s that a slow machine takes.
    let most = 1 + begun.elapsed().as_secs() as usize / 10;
    assert!((1..=most).contains(&warnings.len()), "{warnings:?}");
    let _ = producer.close(Duration::ZERO).wait();
}

#[test]
fn properties_without_effect_are_named() {
    const WITHOUT: [(&str, &str); 1] = [("compression.lz4.level", "9")];
    install();
    ProducerConfig::from_properties([("linger.ms", "5"), ("compression.gzip.level", "1")])
        .expect("good properties");
    assert_eq!(lines(Level::Warn, &["no effect"]), [""; 0]);
    ProducerConfig::from_properties(WITHOUT).expect("good properties");
    let warned = lines(Level::Warn, &["no effect"]);
    let names: Vec<&str> = warned.iter().filter_map(|text| text.split(' ').next()).collect();
    assert_eq!(names, WITHOUT.map(|(name, _)| name), "{warned:?}");
}

#[test]
fn c68_records_that_fail_unread_leave_a_count_and_a_warning() {
    const RECORD_LIST_TOO_LARGE: i16 = 18;
    install();
    let cluster = EmbeddedCluster::builder().topic("unread", 2).start().expect("it starts");
    let producer = builder(&cluster.bootstrap_servers()).build().expect("good settings");
    let topic = producer.topic("unread").expect("a good name");
    let to = |partition| tidegate::Record::new().value("v").partition(partition);
    topic.send_record(to(0)).expect("accepted").wait().expect("written");
    cluster.script(Fault::produce_error("unread", 1, RECORD_LIST_TOO_LARGE));
    drop(topic.send_record(to(1)).expect("accepted"));
    producer.flush().wait().expect("flush tells of no failure");
    let line = awaited(Level::Warn, &["unread-1: 1 record failed", "nobody looked"]);
    assert!(line.contains("RECORD_LIST_TOO_LARGE") && line.contains("not written"), "{line}");
    let failed = producer.failed_records();
    assert_eq!((failed.total, failed.refused, failed.unread), (1, 1, 1));
    // One whose error is taken is counted, and is nobody else's business.
    cluster.script(Fault::produce_error("unread", 0, RECORD_LIST_TOO_LARGE));
    topic.send_record(to(0)).expect("accepted").wait().expect_err("refused");
    let failed = producer.failed_records();
    assert_eq!((failed.total, failed.refused, failed.unread), (2, 2, 1));
    producer.close(LONG).wait().expect("closed");
    assert_eq!(lines(Level::Warn, &["unread-", "nobody looked"]).len(), 1);
}

#[test]
fn c68_what_a_close_fails_unread_is_told_before_it_ends() {
    install();
    let producer = builder(AWAY).build().expect("no broker is needed for that");
    let topic = producer.topic("given-up").expect("a good name");
    (0..3).for_each(|_| drop(topic.send("k", "v").expect("accepted")));
    producer.close(Duration::ZERO).wait().expect_err("nobody takes them");
    let told = lines(Level::Warn, &["given-up: 3 records failed", "the producer was closed"]);
    assert_eq!(told.len(), 1);
    assert_eq!(producer.failed_records().closed, 3);
}

#[test]
fn f40_a_leader_that_moved_is_found_without_acknowledgements_and_a_warning_says_what_is_lost() {
    install();
    let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 1).start().expect("a cluster");
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .acks(Acks::None)
        .configure(|config| config.pinning = false)
        .build()
        .expect("a producer");
    let topic = producer.topic("t").expect("a topic");
    let send = |count: usize| {
        for _ in 0..count {
            let delivery = topic.send((), "v").expect("there is room");
            delivery.wait().expect("written is delivered");
            // The load: 20 records a second.
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    send(5);
    assert!(cluster.move_leader("t", 0, 2));
    send(20);
    let there = cluster.records("t", 0).len();
    // On the way when the leader moved: one, and a few more on a machine that is busy.
    assert!((15..=24).contains(&there), "{there} of 25 are there");
    let left = format!("broker 1 at {}", cluster.address(1));
    let warned = lines(Level::Warn, &["acks=0 may be lost", &left]);
    assert_eq!(warned.len(), 1, "{warned:?}");
    let _ = producer.close(LONG).wait();
}

/// As above, while another topic's records are on their way over the same connection.
#[test]
fn f40_the_loss_is_told_also_where_acknowledged_records_share_the_connection() {
    install();
    let cluster = EmbeddedCluster::builder().brokers(2).topic("none", 1).topic("all", 1);
    let cluster = cluster.start().expect("a cluster");
    assert_eq!(cluster.leader("none", 0), cluster.leader("all", 0));
    let leader = cluster.leader("none", 0).expect("it has one");
    let producer = builder(&cluster.bootstrap_servers())
        .topic_config("none", TopicConfig::new().acks(Acks::None))
        .build()
        .expect("good settings");
    let (none, all) =
        (producer.topic("none").expect("a name"), producer.topic("all").expect("a name"));
    let sent = |topic: &Topic| topic.send((), "v").expect("there is room").wait();
    sent(&none).expect("written is delivered");
    sent(&all).expect("acknowledged");
    // On its way when the connection is lost.
    let begun = cluster.stats().requests_of(0);
    cluster.script(Fault::silence().topic("all"));
    let on_its_way = all.send((), "v").expect("there is room");
    assert!(cluster.wait_until(LONG, |stats| stats.requests_of(0) > begun));
    assert!(cluster.move_leader("none", 0, 3 - leader));
    sent(&none).expect("written is delivered, and nobody takes it");
    on_its_way.wait().expect("sent again");
    let warned = lines(Level::Warn, &["acks=0 may be lost", &cluster.address(leader).to_string()]);
    assert_eq!(
        warned.len(),
        1,
        "{warned:?} {:?}",
        lines(Level::Warn, &[&cluster.address(leader).to_string()])
    );
    producer.close(LONG).wait().expect("closed");
}

#[test]
fn a_misspelt_topic_is_a_warning_within_seconds() {
    install();
    let cluster = EmbeddedCluster::builder().topic("orders", 1).start().expect("it starts");
    let producer = builder(&cluster.bootstrap_servers()).build().expect("good settings");
    let begun = Instant::now();
    let names = ["odrers-1", "odrers-2"];
    let waiting = names.map(|name| {
        let topic = producer.topic(name).expect("a good name");
        topic.send("k", "v").expect("it waits")
    });
    let line = awaited(Level::Warn, &["odrers-1", "unknown to the cluster"]);
    assert!(begun.elapsed() >= Duration::from_secs(1), "topics that were just made come later");
    assert!(line.contains("(tidegate.allow.auto.create.topics) is false"), "{line}");
    let line = awaited(Level::Warn, &["odrers-2", "unknown to the cluster"]);
    assert!(line.contains("check"), "{line}");
    // Once for each, however often brokers are asked.
    for name in names {
        assert!(cluster.create_topic(name, 1));
    }
    for delivery in waiting {
        delivery.wait().expect("it has come");
    }
    assert_eq!(lines(Level::Warn, &["odrers-1", "unknown to the cluster"]).len(), 1);
    producer.close(LONG).wait().expect("closed");
}

#[test]
fn idempotence_does_not_go_off_without_a_word() {
    install();
    let acks_one =
        || builder(AWAY).acks(Acks::Leader).configure(|c| c.on_drop = OnDrop::Wait(Duration::ZERO));
    drop(acks_one().enable_idempotence(false).build().expect("good settings"));
    assert_eq!(lines(Level::Warn, &["idempotence is off", "acks=all (it is 1)"]), [""; 0]);
    drop(acks_one().build().expect("good settings"));
    let line = &lines(Level::Warn, &["idempotence is off", "acks=all (it is 1)"])[0];
    assert!(line.contains("double or reorder") && line.contains("enable_idempotence"), "{line}");
}

#[test]
fn where_no_broker_knows_idempotence_that_is_told_once_and_not_where_nobody_wants_it() {
    const INIT_PRODUCER_ID: i16 = 22;
    install();
    let words = ["no broker knows idempotence", "may double records", "enable.idempotence"];
    let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 2).start().expect("it starts");
    cluster.limit_api(INIT_PRODUCER_ID, 1, 0);
    let send = |builder: ProducerBuilder| {
        let producer = builder.build().expect("good settings");
        let topic = producer.topic("t").expect("a good name");
        for partition in 0..2 {
            let record = tidegate::Record::new().value("v").partition(partition);
            topic.send_record(record).expect("accepted").wait().expect("written");
        }
        producer.close(LONG).wait().expect("closed");
    };
    let servers = cluster.bootstrap_servers();
    send(builder(&servers).enable_idempotence(false));
    assert_eq!(lines(Level::Warn, &words), [""; 0]);
    send(builder(&servers));
    let warned = lines(Level::Warn, &words);
    assert_eq!(warned.len(), 1, "{warned:?}");
}

/// Two clusters, and an address that leads to the first of them.
///
/// The line that a broker is not connected has both ids as well, once for each broker: it comes
/// before the change is believed, and is not the one that these tests count.
struct TwoClusters {
    // Dropped first: a broker that ends waits for what is at work on its connections.
    proxy: Proxy,
    one: EmbeddedCluster,
    other: EmbeddedCluster,
}

impl TwoClusters {
    /// Their ids are in the lines, and lines are all that tells tests from each other.
    fn new(one: &str, other: &str) -> TwoClusters {
        let cluster = |id: &str| {
            EmbeddedCluster::builder().cluster_id(id).topic("t", 1).start().expect("it starts")
        };
        let (one, other) = (cluster(one), cluster(other));
        let proxy = Proxy::to(one.address(1));
        one.advertise(1, proxy.address());
        other.advertise(1, proxy.address());
        TwoClusters { proxy, one, other }
    }

    fn producer(&self, change: ClusterChange) -> Producer {
        let builder = builder(&self.proxy.address().to_string());
        let builder = builder.configure(|config| {
            config.on_cluster_change = change;
            config.reconnect_backoff = Duration::from_millis(1);
            config.reconnect_backoff_max = Duration::from_millis(10);
        });
        builder.build().expect("good settings")
    }

    /// The address leads to the other cluster, and does so again.
    fn turn(&self) {
        self.proxy.forward_to(self.other.address(1));
        self.proxy.cut_all();
    }
}

/// Sends one record after the other until one ends as is wanted: the first ones may be written to a
/// connection of which nobody has heard yet that it is gone.
fn send_until(topic: &Topic, is_wanted: impl Fn(Option<&DeliveryErrorCause>) -> bool) {
    let begun = Instant::now();
    loop {
        let mut delivery = topic.send((), "v").expect("accepted");
        let outcome = delivery.wait_timeout(LONG).expect("every delivery resolves");
        if is_wanted(outcome.as_ref().err().map(|error| error.cause())) {
            return;
        }
        assert!(begun.elapsed() < LONG, "{outcome:?}");
    }
}

#[test]
fn c26_bytes_that_a_peer_adds_to_its_answers_are_one_warning() {
    const PRODUCE: i16 = 0;
    install();
    let cluster = EmbeddedCluster::builder().topic("t", 1).start().expect("it starts");
    let proxy = Proxy::to(cluster.address(1));
    cluster.advertise(1, proxy.address());
    proxy.script(|frame| {
        if !frame.answers(PRODUCE) {
            return Act::Pass;
        }
        // One byte more, within what the frame says of its length.
        let length = frame.bytes.len() as u32 - 4 + 1;
        let mut bytes = frame.patched(0, &length.to_be_bytes());
        bytes.push(7);
        Act::Replace(bytes)
    });
    let address = proxy.address().to_string();
    let producer = builder(&address).build().expect("good settings");
    let topic = producer.topic("t").expect("a good name");
    for _ in 0..20 {
        topic.send((), "v").expect("accepted").wait().expect("written");
    }
    // A connection more to the same peer is none the wiser.
    proxy.cut_all();
    topic.send((), "v").expect("accepted").wait().expect("written");
    producer.close(LONG).wait().expect("closed");
    let warned = lines(Level::Warn, &[&address, "too many"]);
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("Produce"), "{warned:?}");
    assert!(!warned[0].contains("acks"), "{warned:?}");
}

#[test]
fn c48_f41_that_records_go_to_another_cluster_is_one_warning_with_both_ids() {
    install();
    let two = TwoClusters::new("follow-one", "follow-other");
    let producer = two.producer(ClusterChange::Follow);
    let topic = producer.topic("t").expect("a good name");
    topic.send((), "v").expect("accepted").wait().expect("written");
    let both = ["the brokers are of another cluster", "follow-one", "follow-other"];
    assert_eq!(lines(Level::Warn, &both), [""; 0]);
    // The second time the other cluster is the known one.
    for _ in 0..2 {
        two.turn();
        send_until(&topic, |failed_by| failed_by.is_none());
    }
    producer.close(LONG).wait().expect("closed");
    assert_eq!(two.one.high_watermark("t", 0), 1);
    let warned = lines(Level::Warn, &both);
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("follow-other instead of follow-one"), "{warned:?}");
    assert!(warned[0].contains("records go there from now on"), "{warned:?}");
}

#[test]
fn c48_f41_that_another_cluster_is_not_followed_is_one_warning_with_both_ids() {
    install();
    let two = TwoClusters::new("fail-one", "fail-other");
    let producer = two.producer(ClusterChange::Fail);
    let topic = producer.topic("t").expect("a good name");
    topic.send((), "v").expect("accepted").wait().expect("written");
    // The second time nothing has changed, as the user sees it.
    for _ in 0..2 {
        two.turn();
        let changed = DeliveryErrorCause::ClusterChanged { found: "fail-other".into() };
        (0..3).for_each(|_| send_until(&topic, |failed_by| failed_by == Some(&changed)));
    }
    producer.close(LONG).wait().expect("closed");
    assert_eq!(two.other.high_watermark("t", 0), 0);
    let both = ["the brokers are of another cluster", "fail-one", "fail-other"];
    let warned = lines(Level::Warn, &both);
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("fail-other instead of fail-one"), "{warned:?}");
    assert!(warned[0].contains("on_cluster_change, tidegate.cluster.change"), "{warned:?}");
}

#[test]
fn the_end_of_an_outage_is_told_with_how_long_it_was() {
    install();
    let cluster = EmbeddedCluster::builder().topic("outage", 1).start().expect("it starts");
    let address = cluster.bootstrap_servers();
    let producer = builder(&address).build().expect("good settings");
    let topic = producer.topic("outage").expect("a good name");
    topic.send("k", "v").expect("accepted").wait().expect("written");
    cluster.stop_broker(1);
    let late = topic.send("k", "v").expect("accepted");
    awaited(Level::Warn, &["not connected: broker 1 at", &address]);
    awaited(Level::Warn, &["metadata channel", &address]);
    assert_eq!(lines(Level::Info, &["connected again", &address]), [""; 0]);
    cluster.restart_broker(1).expect("its port is free");
    late.wait().expect("written in the end");
    let shard = awaited(Level::Info, &["connected again, after", "broker 1 at", &address]);
    assert!(shard.contains("ms") || shard.contains('s'), "{shard}");
    awaited(Level::Info, &["metadata channel", "connected again, after", &address]);
    producer.close(LONG).wait().expect("closed");
    // What was said once is not said again.
    assert_eq!(lines(Level::Info, &["connected again", "broker 1 at", &address]).len(), 1);
}

#[test]
fn an_explicit_close_is_not_called_a_drop() {
    install();
    let given_up = |name: &str| {
        let producer =
            builder(AWAY).configure(|c| c.on_drop = OnDrop::Wait(Duration::ZERO)).build();
        let producer = producer.expect("no broker is needed for that");
        let topic = producer.topic(name).expect("a good name");
        drop(topic.send("k", "v").expect("accepted"));
        producer
    };
    let said = |words: &str| lines(Level::Warn, &[words]).len();
    let closed = given_up("closed");
    closed.close(Duration::ZERO).wait().expect_err("nobody takes it");
    drop(closed);
    assert_eq!(said("the producer was closed, and nobody waited"), 0, "its caller was told");
    let unheard = given_up("unheard");
    drop(unheard.close(Duration::ZERO));
    drop(unheard);
    assert_eq!(said("the producer was closed, and nobody waited"), 1);
}

#[test]
fn batches_that_expire_are_told_with_their_cause() {
    install();
    let cluster = EmbeddedCluster::builder().topic("expired", 1).start().expect("it starts");
    let producer = builder(&cluster.bootstrap_servers())
        .request_timeout(Duration::from_millis(100))
        .delivery_timeout(Duration::from_millis(300))
        .build()
        .expect("good settings");
    let topic = producer.topic("expired").expect("a good name");
    let begun = Instant::now();
    while topic.send("k", "v").expect("accepted").wait().is_err() {
        assert!(begun.elapsed() < LONG, "a busy machine is quick enough at some time");
    }
    cluster.stop_broker(1);
    let error = topic.send("k", "v").expect("accepted").wait().expect_err("it expires");
    let line = awaited(Level::Warn, &["expired-0: 1 batch failed:", "delivery_timeout"]);
    assert!(line.contains("last cause: broker 1 at"), "{line} {error}");
    producer.close(LONG).wait().expect("closed");
}

/// A login that is refused is tried again and again, and told once; and nothing tells the password.
#[test]
fn a_refused_login_is_one_warning_and_no_line_has_the_password() {
    install();
    let cluster = EmbeddedCluster::builder().topic("t", 1).user("u", "other").start().unwrap();
    let password = "a-password-that-no-line-may-have";
    let producer = builder(&cluster.bootstrap_servers())
        .sasl(Plain::new("u", password))
        .delivery_timeout(LONG)
        .build()
        .unwrap();
    let address = cluster.address(1).to_string();
    awaited(Level::Warn, &[&address, "the broker refused the login (PLAIN)"]);
    const SASL_AUTHENTICATE: i16 = 36;
    assert!(cluster.wait_until(LONG, |stats| stats.requests_of(SASL_AUTHENTICATE) >= 3));
    awaited(Level::Debug, &[&address, "again", "the broker refused the login (PLAIN)"]);
    assert_eq!(lines(Level::Warn, &[&address]).len(), 1);
    let clear = lines(Level::Warn, &["PLAIN without TLS", "can be read"]);
    assert_eq!(clear.len(), 1, "{clear:?}");
    drop(producer);
    for level in [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace] {
        assert_eq!(lines(level, &[password]), [""; 0]);
    }
}

/// Of an operator who has nothing but the log.
#[test]
fn metrics_go_to_the_log_when_that_is_set() {
    install();
    let cluster = EmbeddedCluster::builder().topic("counted", 1).start().unwrap();
    let config = ProducerConfig::from_properties([
        ("bootstrap.servers", cluster.bootstrap_servers().as_str()),
        ("tidegate.metrics.log.interval.ms", "1000"),
        ("tidegate.pinning", "false"),
    ]);
    let producer = Producer::from_config(config.unwrap()).unwrap();
    let topic = producer.topic("counted").unwrap();
    for _ in 0..4_321 {
        drop(topic.send("k", "v").unwrap());
    }
    awaited(Level::Info, &["metrics: records: 4321 acknowledged, 0 failed, 0 dropped"]);
    awaited(Level::Info, &["metrics: broker 1: connected, 0 requests in flight"]);
    producer.close(LONG).wait().unwrap();
}
