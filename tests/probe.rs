//! `tidegate::probe`: what it tells of a cluster, step by step.

use std::net::TcpListener;
use std::time::Duration;

use tidegate::embedded::{EmbeddedCluster, EmbeddedTls};
use tidegate::probe::{Probe, ProbeFinding, ProbeStage, ProbeStep};
use tidegate::{ProblemKind, ProducerConfig};

fn config(properties: &[(&str, &str)]) -> ProducerConfig {
    ProducerConfig::from_properties(properties.iter().copied()).expect("they can be used")
}

fn stages(steps: &[ProbeStep]) -> Vec<ProbeStage> {
    steps.iter().map(|step| step.stage).collect()
}

#[test]
fn every_step_is_told_once_and_in_order() {
    let cluster = EmbeddedCluster::builder()
        .tls(EmbeddedTls::new())
        .user("alice", "alice-secret")
        .topic("orders", 2)
        .start()
        .expect("brokers start");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, cluster.authority_pem()).expect("it is written");
    let servers = format!("localhost:{}", cluster.address(1).port());
    let probe = Probe::new(config(&[
        ("bootstrap.servers", &servers),
        ("security.protocol", "SASL_SSL"),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", file.to_str().expect("UTF-8")),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "alice"),
        ("sasl.password", "alice-secret"),
    ]))
    .expect("it can work");
    assert!(!format!("{probe:?}").contains("alice-secret"));
    let mut steps = Vec::new();
    let described = probe.run(|step| steps.push(step.clone())).expect("all is well");
    use ProbeStage::{Connect, Login, Metadata, Resolve, Tls, Versions};
    assert_eq!(stages(&steps), [Resolve, Connect, Tls, Versions, Login, Metadata]);
    assert!(steps.iter().all(|step| step.outcome.is_ok() && step.took < Duration::from_secs(60)));
    let Ok(ProbeFinding::Encrypted(tls)) = &steps[2].outcome else { panic!("{:?}", steps[2]) };
    assert!(tls.names.iter().any(|name| name == "localhost"), "{tls:?}");
    let topic = &described.topics[0];
    assert_eq!((topic.name.as_str(), topic.partitions.len()), ("orders", 2));
    assert_eq!(topic.partitions[1].leader, Some(1));
    assert!(steps.iter().all(|step| !format!("{step} {step:?}").contains("alice-secret")));
}

#[test]
fn without_a_server_of_use_the_error_tells_of_each() {
    let closed = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it has one").to_string()
    };
    let (first, second) = (closed(), closed());
    let probe = Probe::new(config(&[("bootstrap.servers", &format!("{first},{second}"))]));
    let error = probe.expect("it can work").run(|_| {}).expect_err("nothing listens");
    assert_eq!(error.failures.len(), 2);
    for (failure, server) in error.failures.iter().zip([first, second]) {
        assert_eq!((failure.stage, &failure.server), (ProbeStage::Connect, &server));
        assert_eq!(failure.problem.kind(), ProblemKind::Refused);
        assert!(error.to_string().contains(&server), "{error}");
    }
}

/// As when an address was given to a broker of another cluster.
#[test]
fn a_broker_of_another_cluster_will_not_do() {
    let ours = EmbeddedCluster::builder().brokers(2).start().expect("brokers start");
    let other = EmbeddedCluster::builder().cluster_id("other").start().expect("brokers start");
    ours.advertise(2, other.address(1));
    let first = ours.address(1).to_string();
    let probe = Probe::new(config(&[("bootstrap.servers", &first)])).expect("it can work");
    let cluster = probe.run(|_| {}).expect("the first broker describes the cluster");
    probe.reach(&cluster, &cluster.brokers[0], |_| {}).expect("it is one of ours");
    let error = probe.reach(&cluster, &cluster.brokers[1], |_| {}).expect_err("it is not");
    assert_eq!(error.failures[0].problem.kind(), ProblemKind::OtherCluster, "{error}");
}
