//! Topics that the producer has created.

use tidegate::embedded::{Fault, KafkaVersion};
use tidegate::{
    BuildError, CreateTopicErrorKind, DeliveryErrorCause, ErrorCode, NewTopic, ProblemKind,
    ProducerConfig, TopicConfig, TopicCreation,
};

use super::*;

const CREATE_TOPICS: i16 = 19;
const REQUEST_TIMED_OUT: i16 = 7;
const NOT_CONTROLLER: i16 = 41;
const POLICY_VIOLATION: i16 = 44;

fn empty(brokers: usize) -> EmbeddedCluster {
    EmbeddedCluster::builder().brokers(brokers).start().unwrap()
}

/// What came of it, which must be known by now.
fn ended(creation: TopicCreation) -> Result<(), CreateTopicErrorKind> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(creation.wait()));
    let outcome = receiver.recv_timeout(LONG).expect("it ends");
    outcome.map_err(|error| error.kind().clone())
}

#[test]
fn a_topic_is_created_when_asked_for() {
    let cluster = empty(3);
    let producer = producer(&cluster);
    let new = NewTopic::new().partitions(5).replication_factor(3).setting("retention.ms", "1000");
    assert_eq!(ended(producer.create_topic("new", new.clone())), Ok(()));
    let topic = producer.topic("new").unwrap();
    acked(topic.send("k", "v").unwrap());
    assert_eq!(topic.partitions(), 5);
    // A second time it is there.
    let exists = CreateTopicErrorKind::AlreadyExists;
    assert_eq!(ended(producer.create_topic("new", new)), Err(exists));
    // With the brokers' defaults.
    assert_eq!(block_on(producer.create_topic("plain", NewTopic::new())), Ok(()));
    assert!(cluster.leader("plain", 0).is_some());
}

#[test]
fn what_is_wrong_with_a_topic_is_said() {
    let cluster = empty(1);
    let producer = producer(&cluster);
    let text = |name: &str, topic| producer.create_topic(name, topic).wait().unwrap_err();
    let error = text("a b", NewTopic::new());
    assert!(matches!(error.kind(), CreateTopicErrorKind::InvalidTopic(_)), "{error}");
    let error = text("t", NewTopic::new().partitions(0));
    assert!(error.to_string().contains("NewTopic::partitions = 0 cannot be used"), "{error}");
    // One broker cannot hold two replicas, and says so in its own words.
    let error = text("t", NewTopic::new().replication_factor(2));
    let CreateTopicErrorKind::Refused { code, message } = error.kind() else { panic!("{error}") };
    assert_eq!(*code, ErrorCode(38));
    assert!(message.as_deref().is_some_and(|words| words.contains("there are 1")), "{error}");
    assert!(error.to_string().starts_with("topic \"t\" was not created: "), "{error}");
    let error = text("t", NewTopic::new().setting("retention.mss", "1"));
    assert!(error.to_string().contains("INVALID_CONFIG"), "{error}");
    close(&producer);
    assert_eq!(*text("t", NewTopic::new()).kind(), CreateTopicErrorKind::Closed);
}

#[test]
fn another_attempt_is_made_where_that_helps() {
    let cluster = empty(2);
    let producer = producer(&cluster);
    // The controller has moved; then it is late.
    cluster.script([NOT_CONTROLLER, REQUEST_TIMED_OUT].map(Fault::create_topics_error));
    assert_eq!(ended(producer.create_topic("t", NewTopic::new().partitions(2))), Ok(()));
    assert_eq!(cluster.faults_left(), 0);
    assert!(cluster.leader("t", 1).is_some());
    // It has created the topic, and its answer is lost.
    cluster.script([Fault::close_after_append().api(CREATE_TOPICS)]);
    assert_eq!(ended(producer.create_topic("unanswered", NewTopic::new())), Ok(()));
    assert_eq!(cluster.faults_left(), 0);
    // The first of the bootstrap servers is gone.
    let bootstrap = format!("{},{}", cluster.address(1), cluster.address(2));
    cluster.kill_broker(1);
    let producer = Producer::builder(&bootstrap).configure(|c| c.pinning = false).build().unwrap();
    assert_eq!(ended(producer.create_topic("other", NewTopic::new())), Ok(()));
}

#[test]
fn it_ends_with_its_time_and_with_the_producer() {
    let cluster = empty(1);
    let producer = producer(&cluster);
    cluster.stop_broker(1);
    let late = NewTopic::new().timeout(millis(300));
    let start = Instant::now();
    let error = ended(producer.create_topic("t", late)).unwrap_err();
    let CreateTopicErrorKind::TimedOut { after, last: Some(last) } = error else {
        panic!("{error}")
    };
    assert!(start.elapsed() >= millis(300) && after == millis(300));
    assert_eq!(last.kind(), ProblemKind::Refused, "{last}");
    assert!(last.to_string().contains(&cluster.address(1).to_string()), "{last}");
    let creation = producer.create_topic("t", NewTopic::new().timeout(FAR));
    close(&producer);
    assert_eq!(ended(creation), Err(CreateTopicErrorKind::Closed));
}

#[test]
fn old_brokers_are_too_old_or_need_to_be_told_more() {
    let start = |version| EmbeddedCluster::builder().kafka_version(version).start().unwrap();
    let cluster = start(KafkaVersion::V0_10_2);
    let new = || NewTopic::new().partitions(1).replication_factor(1);
    let outcome = ended(producer(&cluster).create_topic("t", new()));
    let Err(CreateTopicErrorKind::Failed(problem)) = outcome else { panic!("{outcome:?}") };
    assert!(problem.to_string().contains("from Kafka 0.11 on"), "{problem}");
    let outcome = ended(producer(&cluster).create_topic("t", NewTopic::new()));
    let Err(CreateTopicErrorKind::Failed(problem)) = outcome else { panic!("{outcome:?}") };
    assert!(problem.to_string().contains("from Kafka 0.11 on"), "{problem}");
    for version in [KafkaVersion::V0_11, KafkaVersion::V2_0] {
        let cluster = start(version);
        let producer = producer(&cluster);
        let outcome = ended(producer.create_topic("t", NewTopic::new().partitions(1)));
        let Err(CreateTopicErrorKind::Failed(problem)) = outcome else { panic!("{outcome:?}") };
        assert!(problem.to_string().contains("the replication factor"), "{problem}");
        assert_eq!(ended(producer.create_topic("t", new())), Ok(()));
    }
}

#[test]
fn topics_are_created_with_their_first_record() {
    let cluster = empty(2);
    let producer = builder(&cluster)
        .create_topics(NewTopic::new().partitions(3))
        .topic_config("own", TopicConfig::new().create(NewTopic::new().partitions(7)))
        .build()
        .unwrap();
    // A handle alone creates nothing.
    let idle = producer.topic("idle").unwrap();
    for (name, partitions) in [("one", 3), ("own", 7)] {
        let topic = producer.topic(name).unwrap();
        acked(topic.send("k", "v").unwrap());
        assert_eq!(topic.partitions(), partitions, "{name}");
    }
    assert_eq!((idle.partitions(), cluster.leader("idle", 0)), (0, None));
    // Many at once take one request after the other, not one each.
    let topics: Vec<_> = (0..200).map(|n| producer.topic(&format!("many-{n}")).unwrap()).collect();
    let sent: Vec<_> = topics.iter().map(|topic| topic.send("k", "v").unwrap()).collect();
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    let requests = cluster.stats().requests_of(CREATE_TOPICS);
    assert!((3..=60).contains(&requests), "{requests} requests for 202 topics");
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

#[test]
fn records_of_a_topic_that_the_cluster_refuses_fail_at_once_and_say_why() {
    let cluster = empty(1);
    let producer = builder(&cluster).create_topics(NewTopic::new()).build().unwrap();
    let refused = || {
        let words = "no such names here";
        Fault::create_topics_error(POLICY_VIOLATION).message(words).times(usize::MAX)
    };
    cluster.script([refused()]);
    let topic = producer.topic("t").unwrap();
    let start = Instant::now();
    let error = failed(topic.send("k", "v").unwrap());
    assert!(matches!(error.cause(), DeliveryErrorCause::TopicNotCreated(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("does not exist, and it was not created: the broker"), "{text}");
    assert!(text.contains("POLICY_VIOLATION") && text.contains("no such names here"), "{text}");
    // A program that goes on trying does not keep the controller busy.
    let before = cluster.stats().requests_of(CREATE_TOPICS);
    for _ in 0..2 {
        failed(topic.send("k", "v").unwrap());
    }
    let requests = cluster.stats().requests_of(CREATE_TOPICS) - before;
    assert!(start.elapsed() >= Duration::from_secs(2), "after {:?}", start.elapsed());
    assert_eq!(requests, 2);
    // Once it is allowed it works.
    cluster.clear_faults();
    acked(topic.send("k", "v").unwrap());
}

#[test]
fn a_topic_that_was_deleted_is_created_for_new_records_only() {
    let cluster = empty(1);
    let unknown_max = |c: &mut ProducerConfig| c.topic_unknown_max = millis(200);
    let new = NewTopic::new().partitions(2);
    let producer = builder(&cluster).create_topics(new).configure(unknown_max).build().unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send("k", "v").unwrap());
    cluster.delete_topic("t");
    // What was sent to the old one fails, or goes to the new one once that is there.
    eventually("it is there again", || outcome(topic.send("k", "v").unwrap()).is_ok());
    assert_eq!(topic.partitions(), 2);
    close(&producer);
}

#[test]
fn properties_have_topics_created() {
    let cluster = empty(1);
    let servers = cluster.bootstrap_servers();
    let config = |more: &[(&str, &str)]| {
        let all = [("bootstrap.servers", servers.as_str()), ("tidegate.pinning", "false")];
        ProducerConfig::from_properties(all.into_iter().chain(more.iter().copied()))
    };
    let on = ("tidegate.create.topics", "true");
    let partitions = ("tidegate.create.topics.partitions", "4");
    let producer = Producer::from_config(config(&[on, partitions]).unwrap()).unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send("k", "v").unwrap());
    assert_eq!(topic.partitions(), 4);
    let error = config(&[partitions]).unwrap_err();
    assert!(matches!(error, BuildError::Conflict(_)), "{error}");
    assert!(error.to_string().contains("needs tidegate.create.topics=true"), "{error}");
    let error = config(&[on, ("tidegate.create.topics.replication.factor", "0")]).unwrap_err();
    assert!(error.to_string().contains("replication.factor = 0"), "{error}");
}

/// Until the broker has read so many requests for new topics.
fn await_requests(cluster: &EmbeddedCluster, count: u64) {
    eventually("it was asked", || cluster.stats().requests_of(CREATE_TOPICS) >= count);
}

#[test]
fn what_the_application_is_refused_fails_no_record() {
    let cluster = empty(1);
    let producer = builder(&cluster).create_topics(NewTopic::new()).build().unwrap();
    cluster.script([Fault::delay(millis(500)).api(CREATE_TOPICS)]);
    let sent = producer.topic("t").unwrap().send("k", "v").unwrap();
    await_requests(&cluster, 1);
    let refused = ended(producer.create_topic("t", NewTopic::new().replication_factor(5)));
    assert!(matches!(refused, Err(CreateTopicErrorKind::Refused { .. })), "{refused:?}");
    acked(sent);
}

#[test]
fn a_server_that_is_of_no_use_leaves_it_to_the_others() {
    let start = |id| EmbeddedCluster::builder().cluster_id(id).topic("t", 1).start().unwrap();
    let (own, foreign) = (start("own"), start("foreign"));
    foreign.stop_broker(1);
    let servers = format!("{},{}", own.address(1), foreign.address(1));
    let producer = Producer::builder(&servers).configure(|c| c.pinning = false).build().unwrap();
    warm(&producer.topic("t").unwrap(), 1);
    foreign.restart_broker(1).unwrap();
    own.stop_broker(1);
    let creation = producer.create_topic("new", NewTopic::new());
    eventually("the foreign one was asked", || foreign.stats().requests() > 2);
    own.restart_broker(1).unwrap();
    assert_eq!(ended(creation), Ok(()));
    assert_eq!((own.leader("new", 0), foreign.leader("new", 0)), (Some(1), None));
}

#[test]
fn a_topic_that_old_brokers_cannot_create_spoils_no_other() {
    let cluster = EmbeddedCluster::builder().kafka_version(KafkaVersion::V2_0).start().unwrap();
    let whole = || TopicConfig::new().create(NewTopic::new().partitions(1).replication_factor(1));
    let names = ["a", "b", "c", "d", "whole"];
    let mut builder = builder(&cluster).create_topics(NewTopic::new());
    for name in names {
        builder = builder.topic_config(name, whole());
    }
    let producer = builder.build().unwrap();
    // Four requests are under way: what comes meanwhile goes together.
    cluster.script([Fault::delay(millis(500)).api(CREATE_TOPICS).times(4)]);
    let topics = names.map(|name| producer.topic(name).unwrap());
    let mut sent: Vec<_> = (0..4)
        .map(|n| {
            let delivery = topics[n].send("k", "v").unwrap();
            await_requests(&cluster, n as u64 + 1);
            delivery
        })
        .collect();
    let open = producer.topic("open").unwrap().send("k", "v").unwrap();
    sent.push(topics[4].send("k", "v").unwrap());
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    let text = failed(open).to_string();
    assert!(text.contains("before Kafka 2.4"), "{text}");
}

#[test]
fn a_request_that_nobody_answers_holds_up_no_other_topic() {
    let cluster = empty(1);
    let producer = patient(&cluster).create_topics(NewTopic::new()).build().unwrap();
    cluster.script([Fault::silence().api(CREATE_TOPICS)]);
    let _first = producer.topic("first").unwrap().send("k", "v").unwrap();
    await_requests(&cluster, 1);
    acked(producer.topic("second").unwrap().send("k", "v").unwrap());
    assert_eq!(ended(producer.create_topic("third", NewTopic::new())), Ok(()));
    let _ = producer.close(Duration::ZERO).wait();
}

#[test]
fn a_broker_that_hangs_leaves_time_for_the_others() {
    let cluster = EmbeddedCluster::builder().brokers(3).topic("t", 3).start().unwrap();
    let producer = producer(&cluster);
    warm(&producer.topic("t").unwrap(), 1);
    cluster.pause_broker(1);
    cluster.fail_over(1);
    let new = NewTopic::new().timeout(Duration::from_secs(20));
    assert_eq!(ended(producer.create_topic("new", new)), Ok(()));
    cluster.resume_broker(1);
}

#[test]
fn each_topic_has_its_own_time() {
    let cluster = empty(1);
    let short = TopicConfig::new().create(NewTopic::new().timeout(millis(300)));
    let producer = patient(&cluster)
        .create_topics(NewTopic::new().timeout(FAR))
        .topic_config("short", short)
        .build()
        .unwrap();
    cluster.script([Fault::create_topics_error(NOT_CONTROLLER).times(usize::MAX)]);
    let topics = ["other", "short"].map(|name| producer.topic(name).unwrap());
    let [other, short] = topics.map(|topic| topic.send("k", "v").unwrap());
    let text = failed(short).to_string();
    assert!(text.contains("not within 300ms") && text.contains("NOT_CONTROLLER"), "{text}");
    cluster.clear_faults();
    acked(other);
}

#[test]
fn more_topics_than_a_request_may_have_go_in_several() {
    let cluster = empty(1);
    let new = NewTopic::new().partitions(60);
    let producer =
        builder(&cluster).create_topics(new).configure(|c| c.lanes_max = 60_000).build().unwrap();
    let topics: Vec<_> = (0..300).map(|n| producer.topic(&format!("many-{n}")).unwrap()).collect();
    let sent: Vec<_> = topics.iter().map(|topic| topic.send("k", "v").unwrap()).collect();
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert!(topics.iter().all(|topic| topic.partitions() == 60));
}
