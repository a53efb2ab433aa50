//! What a user reads when client and broker do not get together.

use std::thread;
use std::time::{Duration, SystemTime};

use tidegate::{
    Certainty, DeliveryError, OAuthBearer, OAuthToken, Plain, ProblemKind, Producer,
    ProducerBuilder, Scram, TlsConfig,
};

use super::certificates::{AUTHORITY, Authority};
use super::stage::{
    MUTUAL, OTHER, OTHER_NAME, PASSWORD, SASL, SASL_TLS, SCRAM_ONLY, Stage, TLS, USER, token,
};
use crate::kafka::{Kafka, unique_topic};

const LIMIT: Duration = Duration::from_secs(120);
/// How long a broker is given to refuse. The last is over ten times what one took on two busy
/// cores for its first handshakes; the first is enough for almost all.
const PATIENCE: [Duration; 3] =
    [Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(30)];
/// In no text, whoever refused it.
const WRONG_PASSWORD: &str = "wrong-secret";

/// What is done wrong, and what is said of it.
pub struct Case {
    pub what: &'static str,
    pub builder: ProducerBuilder,
    pub kind: ProblemKind,
    pub words: &'static [&'static str],
}

/// Each is told by its own words, which hold no secret, and nothing is written.
pub fn say_what_to_do(kafka: &Kafka) {
    let stage = Stage::start(kafka);
    let topic = unique_topic("refused");
    stage.cluster.create_topic(&topic, 1, 1, &[]);
    let mut cases = logins(&stage);
    cases.extend(listeners(&stage));
    cases.extend(certificates(&stage));
    let problems: Vec<String> = thread::scope(|scope| {
        let judge = |case| scope.spawn(|| judge_patiently(case, &topic));
        let judges: Vec<_> = cases.into_iter().map(judge).collect();
        let told = judges.into_iter().map(|judge| judge.join().expect("no judge panics"));
        told.flatten().collect()
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(stage.cluster.read_back(&topic).len(), 0, "nothing was written");
}

fn logins(stage: &Stage) -> Vec<Case> {
    let case = |what, builder: ProducerBuilder, words| Case {
        what,
        builder,
        kind: ProblemKind::Authentication,
        words,
    };
    let sasl = || stage.plainly(SASL);
    let by_plain = &["the broker refused the login (PLAIN)", "Invalid username or password"];
    let by_scram = &["the broker refused the login (SCRAM-SHA-", "invalid credentials"];
    // The broker says it twice, and the error once.
    let by_bearer = &["status \"invalid_token\"", "of both sides (SASL_AUTHENTICATION_FAILED"];
    let bearer = |token: String| OAuthBearer::new(move || Ok(OAuthToken::new(token.clone())));
    let past = SystemTime::now() - Duration::from_secs(60);
    let plain = || Plain::new(USER, PASSWORD);
    let encrypted = stage.plainly(SASL_TLS).tls(stage.trusting());
    let only = &["does not take the login mechanism PLAIN", "SCRAM-SHA-512", "sasl.mechanism"];
    let no_login = stage.cluster.bootstrap_servers();
    vec![
        case("PLAIN, wrong password", sasl().sasl(Plain::new(USER, WRONG_PASSWORD)), by_plain),
        case("PLAIN, unknown user", sasl().sasl(Plain::new("mallory", PASSWORD)), by_plain),
        case("SCRAM, wrong password", sasl().sasl(Scram::sha_256(USER, WRONG_PASSWORD)), by_scram),
        case("SCRAM, unknown user", sasl().sasl(Scram::sha_512("mallory", PASSWORD)), by_scram),
        case(
            "wrong password over TLS",
            encrypted.sasl(Scram::sha_512(USER, WRONG_PASSWORD)),
            by_scram,
        ),
        case("mechanism that is not there", stage.plainly(SCRAM_ONLY).sasl(plain()), only),
        case("token of no form", sasl().sasl(bearer("no-token-secret".into())), by_bearer),
        case("expired token", sasl().sasl(bearer(token(USER, past))), by_bearer),
        case(
            "login at a plain listener",
            Producer::builder(&no_login).sasl(plain()),
            &["takes no login", "security.protocol"],
        ),
    ]
}

/// A broker closes what it cannot read; that it was a listener of another kind is a guess.
fn listeners(stage: &Stage) -> Vec<Case> {
    let plain = &stage.cluster.bootstrap_servers();
    let case = |what, builder, kind, words| Case { what, builder, kind, words };
    vec![
        case(
            "no login where one is wanted",
            stage.plainly(SASL),
            ProblemKind::Closed,
            &["does this listener want a login (SASL)?"],
        ),
        case(
            "no TLS at a port with TLS",
            stage.plainly(TLS),
            ProblemKind::NotKafka,
            &["this looks like TLS"],
        ),
        case(
            "TLS at a port without TLS",
            Producer::builder(plain).tls(stage.trusting()),
            ProblemKind::Closed,
            &["in the middle of the TLS handshake", "PLAINTEXT or SASL_PLAINTEXT"],
        ),
        case(
            "TLS and login at a port with logins only",
            stage.plainly(SASL).tls(stage.trusting()).sasl(Plain::new(USER, PASSWORD)),
            ProblemKind::Closed,
            &["in the middle of the TLS handshake", "PLAINTEXT or SASL_PLAINTEXT"],
        ),
    ]
}

fn certificates(stage: &Stage) -> Vec<Case> {
    let case = |what, builder, words| Case { what, builder, kind: ProblemKind::Tls, words };
    let stranger = Authority::new();
    let of_stranger = TlsConfig::new().truststore_pem(stranger.pem());
    let mallory = stranger.client("mallory");
    let foreign = stage.trusting().keystore_pem(mallory.key_pem(), mallory.chain_pem());
    let mutual = || stage.plainly(MUTUAL);
    let nobody = stage.plainly(TLS).tls(TlsConfig::new());
    vec![
        case("unknown authority", nobody, &[AUTHORITY, "ssl.truststore.location"]),
        case(
            "authority made anew",
            stage.plainly(TLS).tls(of_stranger),
            &["made anew under the same name", "ssl.truststore.location"],
        ),
        case("no client certificate", mutual().tls(stage.trusting()), &["ssl.keystore.location"]),
        case(
            "foreign certificate",
            mutual().tls(foreign),
            &["this client's certificate", "is not in the broker's ssl.truststore.location"],
        ),
        case(
            "certificate for another name",
            stage.plainly(OTHER).tls(stage.trusting()),
            &["is not for \"127.0.0.1\"", OTHER_NAME],
        ),
    ]
}

/// What is wrong with what is said of a case, also when the broker has all the time it may need.
pub fn judge_patiently(case: Case, topic: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for patience in PATIENCE {
        problems = judge(&case, topic, patience);
        if problems.is_empty() {
            break;
        }
    }
    problems
}

fn judge(case: &Case, topic: &str, patience: Duration) -> Vec<String> {
    let Case { what, builder, kind, words } = case;
    let Some(error) = refused(builder.clone(), topic, patience) else {
        return vec![format!("{what}: the record was written")];
    };
    let told = error.to_string();
    let found = error.problem().map(|problem| problem.kind());
    println!("{what} ({found:?}): {told}");
    let mut problems = Vec::new();
    if found != Some(*kind) {
        problems.push(format!("{what}: {found:?} instead of {kind:?}: {told}"));
    }
    for words in words.iter().filter(|words| !told.contains(**words)) {
        problems.push(format!("{what}: {words:?} is not in: {told}"));
    }
    if told.contains("secret") || format!("{error:?}").contains("secret") {
        problems.push(format!("{what}: a secret is told: {told}"));
    }
    if error.certainty() != Certainty::NotWritten {
        problems.push(format!("{what}: perhaps written: {told}"));
    }
    problems
}

/// What a record meets that must not be written, if it is not.
fn refused(builder: ProducerBuilder, topic: &str, patience: Duration) -> Option<DeliveryError> {
    let builder = builder.request_timeout(patience / 2).delivery_timeout(patience);
    let producer = builder.build().expect("the settings work");
    let topic = producer.topic(topic).expect("a legal name");
    let mut delivery = topic.send("k", "v").expect("there is room");
    delivery.wait_timeout(LIMIT).expect("resolved within the limit").err()
}
