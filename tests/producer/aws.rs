//! AWS_MSK_IAM on the embedded broker, which verifies signatures with code of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tidegate::embedded::EmbeddedClusterBuilder;
use tidegate::{AwsCredentials, AwsMskIam, ProblemKind};

use super::logins::{logs_in, refused};
use super::*;

const KEY_ID: &str = "AKIDEXAMPLE";

fn for_aws(brokers: usize) -> EmbeddedClusterBuilder {
    let cluster = EmbeddedCluster::builder().brokers(brokers).topic("t", 3);
    cluster.aws_credentials(KEY_ID, "aws-secret")
}

/// Signs with these credentials. The brokers' names here have no region.
fn signed_with(credentials: AwsCredentials) -> AwsMskIam {
    AwsMskIam::with_credentials(credentials).region("eu-west-1")
}

#[test]
fn signatures_of_aws_get_in_with_and_without_a_session_token() {
    let cluster = for_aws(2).start().unwrap();
    let key = AwsCredentials::new(KEY_ID, "aws-secret");
    logs_in(&cluster, signed_with(key.clone()));
    let expires = SystemTime::now() + FAR;
    logs_in(&cluster, signed_with(key.session_token("a/session+token==").expires_at(expires)));
    assert_eq!(cluster.records("t", 1).len(), 2);
}

#[test]
fn a_wrong_access_key_is_told_with_what_to_check() {
    let cluster = for_aws(1).start().unwrap();
    for (id, secret) in [(KEY_ID, "another-secret"), ("AKIDOTHER", "aws-secret")] {
        let error = refused(builder(&cluster).sasl(signed_with(AwsCredentials::new(id, secret))));
        let words = error.to_string();
        for part in ["AWS_MSK_IAM", "Access denied", "check the access key", "clock"] {
            assert!(words.contains(part), "{part:?} is not in {words:?}");
        }
        assert_eq!(error.problem().unwrap().kind(), ProblemKind::Authentication);
        assert!(!words.contains("another-secret") && !words.contains("aws-secret"), "{words}");
    }
}

#[test]
fn credentials_of_aws_that_cannot_be_signed_with_are_told() {
    let cluster = for_aws(1).start().unwrap();
    let key = AwsCredentials::new(KEY_ID, "aws-secret");
    let expired = key.clone().expires_at(SystemTime::now() - secs(1));
    let failing = || Err("the vault is sealed".into());
    for (login, words) in [
        (signed_with(expired), "have expired: get new ones"),
        (AwsMskIam::with_credentials(failing).region("eu-west-1"), "the vault is sealed"),
        (signed_with(AwsCredentials::new("", "aws-secret")), "the access key's id is empty"),
    ] {
        let told = refused(builder(&cluster).sasl(login));
        assert_eq!(told.problem().unwrap().kind(), ProblemKind::Authentication);
        let told = told.to_string();
        assert!(told.contains(words) && !told.contains("aws-secret"), "{told}");
    }
}

#[test]
fn sessions_of_aws_are_renewed_with_other_credentials() {
    let cluster = for_aws(1).aws_credentials("AKIDNEXT", "next-secret");
    let cluster = cluster.session_lifetime(millis(400)).start().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let provider = move || {
        Ok(match count.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => AwsCredentials::new(KEY_ID, "aws-secret"),
            _ => AwsCredentials::new("AKIDNEXT", "next-secret").session_token("token"),
        })
    };
    let login = AwsMskIam::with_credentials(provider).region("eu-west-1");
    let producer = patient(&cluster).sasl(login).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 3);
    let accepted = |cluster: &EmbeddedCluster| cluster.stats().brokers[0].connections_accepted;
    let (connections, begun) = (accepted(&cluster), asked.load(Ordering::SeqCst));
    let mut sent = 0;
    while asked.load(Ordering::SeqCst) < begun + 4 {
        acked(topic.send_record(to(0, &sent.to_string())).unwrap());
        sent += 1;
        std::thread::sleep(millis(1));
    }
    assert_eq!(accepted(&cluster), connections, "no connection was lost");
    close(&producer);
    let expected: Vec<String> = (0..sent).map(|n: i32| n.to_string()).collect();
    assert_eq!(values(&cluster.records("t", 0))[1..], expected);
}
