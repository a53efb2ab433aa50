//! Logins (SASL) on the embedded broker: who gets in, what those see who do not, and how a session
//! goes on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate::embedded::EmbeddedClusterBuilder;
use tidegate::{
    Certainty, Login, OAuthBearer, OAuthToken, Plain, ProblemKind, ReplaceableCredentials,
    SaslError, SaslErrorKind, SaslExchange, SaslMechanism, SaslPeer, Scram,
};

use super::*;

const SASL_HANDSHAKE: i16 = 17;
const SASL_AUTHENTICATE: i16 = 36;

fn guarded(brokers: usize) -> EmbeddedClusterBuilder {
    EmbeddedCluster::builder().brokers(brokers).topic("t", 3).user("alice", "alice-secret")
}

pub(super) fn logs_in(cluster: &EmbeddedCluster, login: impl Into<Login>) {
    let producer = builder(cluster).sasl(login).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 3);
    close(&producer);
}

/// What a record meets whose producer is not let in.
pub(super) fn refused(builder: ProducerBuilder) -> DeliveryError {
    let producer = builder.request_timeout(secs(1)).delivery_timeout(secs(2)).build().unwrap();
    let error = failed(producer.topic("t").unwrap().send("k", "v").unwrap());
    assert_eq!(error.certainty(), Certainty::NotWritten);
    error
}

fn assert_is_about(error: &DeliveryError, kind: ProblemKind, words: &[&str]) {
    let told = error.to_string();
    assert_eq!(error.problem().map(|problem| problem.kind()), Some(kind), "{told}");
    for words in words {
        assert!(told.contains(words), "{words:?} is not in {told:?}");
    }
    assert!(!told.contains("secret"), "a secret is told: {told}");
}

#[test]
fn every_mechanism_gets_in_at_two_brokers() {
    let cluster =
        guarded(2).check_tokens(|token| (token == "open").then_some(FAR)).start().unwrap();
    logs_in(&cluster, Plain::new("alice", "alice-secret"));
    logs_in(&cluster, Scram::sha_256("alice", "alice-secret"));
    logs_in(&cluster, Scram::sha_512("alice", "alice-secret"));
    logs_in(&cluster, OAuthBearer::new(|| Ok(OAuthToken::new("open"))));
    assert_eq!(cluster.records("t", 1).len(), 4);
}

#[test]
fn names_and_passwords_may_hold_any_character() {
    let (user, password) = ("al,i=ce ü\"", "p,a=ss;wörd \\ '");
    let cluster = EmbeddedCluster::builder().topic("t", 3).user(user, password).start().unwrap();
    logs_in(&cluster, Plain::new(user, password));
    logs_in(&cluster, Scram::sha_256(user, password));
    logs_in(&cluster, Scram::sha_512(user, password));
}

#[test]
fn f31_a_wrong_password_is_told_with_the_brokers_words_and_no_secret() {
    let cluster = guarded(1).start().unwrap();
    let wrong: [Box<dyn Fn() -> ProducerBuilder>; 3] = [
        Box::new(|| builder(&cluster).sasl(Plain::new("alice", "secret-but-wrong"))),
        Box::new(|| builder(&cluster).sasl(Scram::sha_256("alice", "secret-but-wrong"))),
        Box::new(|| builder(&cluster).sasl(Scram::sha_512("bob", "alice-secret"))),
    ];
    for builder in wrong {
        let words = ["the broker refused the login", "invalid credentials"];
        assert_is_about(&refused(builder()), ProblemKind::Authentication, &words);
    }
}

#[test]
fn f31_a_refused_login_is_tried_again_slowly() {
    let cluster = guarded(1).start().unwrap();
    let wrong = Plain::new("alice", "secret-but-wrong");
    let producer = builder(&cluster).sasl(wrong).delivery_timeout(FAR).build().unwrap();
    let delivery = producer.topic("t").unwrap().send("k", "v").unwrap();
    let begun = Instant::now();
    assert!(cluster.wait_until(LONG, |stats| stats.requests_of(SASL_AUTHENTICATE) >= 3));
    // The second came 1 s after the first, the third 2 s later, each a fifth sooner at the most.
    assert!(begun.elapsed() >= millis(2_400), "three logins within {:?}", begun.elapsed());
    drop((delivery, producer));
}

#[test]
fn a_mechanism_that_the_broker_does_not_have_is_told_with_those_that_it_has() {
    let cluster = guarded(1).login_mechanisms(&["SCRAM-SHA-512"]).start().unwrap();
    let error = refused(builder(&cluster).sasl(Plain::new("alice", "alice-secret")));
    let words = ["does not take the login mechanism PLAIN, but SCRAM-SHA-512", "sasl.mechanism"];
    assert_is_about(&error, ProblemKind::Authentication, &words);
}

#[test]
fn a_listener_without_logins_says_so() {
    let cluster = cluster(1, 3);
    let error = refused(builder(&cluster).sasl(Plain::new("alice", "alice-secret")));
    let words = ["takes no login", "security.protocol"];
    assert_is_about(&error, ProblemKind::Authentication, &words);
}

#[test]
fn a_listener_that_wants_a_login_is_recognised_without_one() {
    let cluster = guarded(1).start().unwrap();
    let error = refused(builder(&cluster));
    assert!(error.to_string().contains("does this listener want a login (SASL)?"), "{error}");
}

#[test]
fn a_refused_token_is_told_with_its_status() {
    let cluster = guarded(1).check_tokens(|_| None).start().unwrap();
    let error =
        refused(builder(&cluster).sasl(OAuthBearer::new(|| Ok(OAuthToken::new("a-secret")))));
    let words = ["invalid_token", "clocks of both sides (SASL_AUTHENTICATION_FAILED"];
    assert_is_about(&error, ProblemKind::Authentication, &words);
}

#[test]
fn a_provider_that_fails_or_panics_is_told_and_asked_again() {
    let cluster = guarded(1).check_tokens(|_| Some(FAR)).start().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let provider = move || match count.fetch_add(1, Ordering::SeqCst) {
        0 => Err("the token server is away".into()),
        1 => panic!("a panic that belongs to the test"),
        _ => Ok(OAuthToken::new("open")),
    };
    let producer = patient(&cluster).sasl(OAuthBearer::new(provider)).build().unwrap();
    acked(producer.topic("t").unwrap().send("k", "v").unwrap());
    close(&producer);
    let error = refused(
        builder(&cluster).sasl(OAuthBearer::new(|| Err("the token server is away".into()))),
    );
    assert_is_about(&error, ProblemKind::Authentication, &["the token server is away"]);
}

#[test]
fn credentials_that_are_replaced_are_used_by_the_next_login() {
    let cluster = guarded(1).start().unwrap();
    let credentials = ReplaceableCredentials::new("alice", "old and wrong");
    let login = Scram::sha_256_from_provider(credentials.clone());
    let producer = patient(&cluster).sasl(login).build().unwrap();
    let delivery = producer.topic("t").unwrap().send("k", "v").unwrap();
    eventually("a login was refused", || cluster.stats().requests_of(SASL_AUTHENTICATE) > 0);
    credentials.replace("alice", "alice-secret");
    acked(delivery);
    close(&producer);
}

/// Everything of a session's end, KIP-368: new logins on the same connections, nothing lost or
/// doubled, and the order kept.
#[test]
fn c32_f31_sessions_are_renewed_on_the_same_connection_while_records_flow() {
    let cluster = guarded(2).session_lifetime(millis(400)).start().unwrap();
    let login = Scram::sha_512("alice", "alice-secret");
    let producer = patient(&cluster).sasl(login).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 3);
    let (before, mut sent) = (cluster.stats().brokers, 0);
    let opened = |brokers: &[tidegate::embedded::BrokerStats]| {
        brokers.iter().map(|broker| broker.connections_accepted).sum::<u64>()
    };
    let handshakes = cluster.stats().requests_of(SASL_HANDSHAKE);
    let mut deliveries = Vec::new();
    // Each of both connections logs in again twice at least.
    while cluster.stats().requests_of(SASL_HANDSHAKE) < handshakes + 6 {
        for partition in 0..2 {
            deliveries.push(topic.send_record(to(partition, &sent.to_string())).unwrap());
        }
        sent += 1;
        std::thread::sleep(millis(1));
    }
    for delivery in deliveries {
        acked(delivery);
    }
    assert_eq!(opened(&cluster.stats().brokers), opened(&before), "no connection was lost");
    close(&producer);
    for partition in 0..2 {
        let expected: Vec<String> = (0..sent).map(|n: i32| n.to_string()).collect();
        assert_eq!(values(&cluster.records("t", partition))[1..], expected);
    }
}

/// A connection that sends nothing is left alone, and logs in again before its next request.
#[test]
fn c32_an_idle_session_that_is_over_costs_no_connection() {
    let cluster = guarded(1).session_lifetime(millis(200)).start().unwrap();
    let login = Plain::new("alice", "alice-secret");
    let producer = patient(&cluster).sasl(login).build().unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send("k", "v").unwrap());
    let accepted = |cluster: &EmbeddedCluster| cluster.stats().brokers[0].connections_accepted;
    let connections = accepted(&cluster);
    // The broker's sessions end by the wall clock: three times their length is over afterwards.
    std::thread::sleep(millis(600));
    acked(topic.send("k", "again").unwrap());
    assert_eq!(accepted(&cluster), connections);
    close(&producer);
}

#[test]
fn a_user_who_is_removed_is_out_when_the_session_ends() {
    let cluster = guarded(1).session_lifetime(millis(300)).start().unwrap();
    let login = Plain::new("alice", "alice-secret");
    let producer = builder(&cluster)
        .sasl(login)
        .request_timeout(secs(1))
        .delivery_timeout(secs(3))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send("k", "v").unwrap());
    assert!(cluster.remove_user("alice"));
    let error = loop {
        if let Err(error) = outcome(topic.send("k", "v").unwrap()) {
            break error;
        }
    };
    assert_is_about(&error, ProblemKind::Authentication, &["invalid credentials"]);
}

/// Kafka before 1.0: tokens without headers, and a refusal without a word.
#[test]
fn c64_brokers_before_1_0_take_bare_tokens() {
    let cluster = guarded(1).start().unwrap();
    cluster.limit_api(SASL_AUTHENTICATE, 1, 0);
    cluster.limit_api(SASL_HANDSHAKE, 0, 0);
    logs_in(&cluster, Plain::new("alice", "alice-secret"));
    logs_in(&cluster, Scram::sha_256("alice", "alice-secret"));
    let error = refused(builder(&cluster).sasl(Plain::new("alice", "secret-but-wrong")));
    let words = ["refuses a login", "wrong credentials?"];
    assert_is_about(&error, ProblemKind::Authentication, &words);
}

/// A mechanism of the application's own: what the broker is told are its tokens.
#[derive(Debug)]
struct Own(Mutex<Vec<String>>);

struct OwnExchange;

impl SaslMechanism for Own {
    fn name(&self) -> &str {
        "PLAIN"
    }

    fn begin(&self, peer: &SaslPeer<'_>) -> Result<Box<dyn SaslExchange>, SaslError> {
        self.0.lock().unwrap().push(format!("{}:{}", peer.host, peer.port));
        Ok(Box::new(OwnExchange))
    }
}

impl SaslExchange for OwnExchange {
    fn next(&mut self, challenge: Option<&[u8]>) -> Result<Option<Vec<u8>>, SaslError> {
        match challenge {
            None => Ok(Some(b"\0alice\0alice-secret".to_vec())),
            Some(b"") => Ok(None),
            Some(_) => Err(SaslError::new(SaslErrorKind::Protocol, "an answer to nothing")),
        }
    }
}

#[test]
fn a_mechanism_of_ones_own_logs_in_and_is_told_where() {
    let cluster = guarded(1).start().unwrap();
    let own = Arc::new(Own(Mutex::default()));
    logs_in(&cluster, own.clone());
    let told = own.0.lock().unwrap();
    assert!(!told.is_empty() && told.iter().all(|at| *at == cluster.address(1).to_string()));
}
