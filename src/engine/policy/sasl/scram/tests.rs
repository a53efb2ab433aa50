//! SCRAM against the vectors of the RFCs, and against a server that can break every rule.

use std::time::SystemTime;

use proptest::prelude::*;

use super::messages::{ITERATIONS_MAX, ITERATIONS_MIN, MESSAGE_BYTES_MAX};
use super::*;
use crate::engine::policy::sasl::ReplaceableCredentials;

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const PASSWORD: &str = "pencil";

fn begin(mechanism: &Scram) -> Exchange {
    mechanism.begin_with(NONCE.to_owned()).expect("the credentials are good")
}

fn text(sent: Result<Option<Vec<u8>>, SaslError>) -> String {
    let sent = sent.expect("the step succeeds").expect("it sends something");
    String::from_utf8(sent).expect("SCRAM is text")
}

/// An exchange that has sent its first message.
fn begun(mechanism: &Scram) -> Exchange {
    let mut exchange = begin(mechanism);
    text(exchange.next(None));
    exchange
}

fn refused(exchange: &mut dyn SaslExchange, challenge: &str) -> SaslError {
    let error = exchange.next(Some(challenge.as_bytes())).expect_err(challenge);
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
    let again = exchange.next(Some(challenge.as_bytes()));
    assert!(again.is_err(), "nothing continues after an error");
    error
}

/// The test's own broker: one user, and its answers as the RFC wants them.
struct Server {
    hash: Hash,
    password: Secret,
    salt: Vec<u8>,
    iterations: u32,
    said: String,
}

impl Server {
    fn new(hash: Hash, password: &str, salt: &[u8]) -> Server {
        let (password, salt) = (Secret::from(password), salt.to_vec());
        Server { hash, password, salt, iterations: ITERATIONS_MIN, said: String::new() }
    }

    fn first(&mut self, client_first: &str) -> String {
        let bare = client_first.strip_prefix("n,,").expect("there is no channel binding");
        let nonce = bare.split(",r=").nth(1).expect("there is a nonce");
        let nonce = nonce.split(',').next().expect("it is there");
        let salt = BASE64.encode(&self.salt);
        let first = format!("r={nonce}server,s={salt},i={}", self.iterations);
        self.said = format!("{bare},{first}");
        first
    }

    fn last(&mut self, client_final: &str) -> String {
        let (without_proof, proof) = client_final.split_once(",p=").expect("there is a proof");
        let said = format!("{},{without_proof}", self.said);
        let proof = BASE64.decode(proof).expect("it is base64");
        let salted = self.hash.salted_password(&self.password, &self.salt, self.iterations);
        let stored = self.hash.digest(self.hash.mac(salted.expose(), b"Client Key").expose());
        let signature = self.hash.mac(stored.expose(), said.as_bytes());
        let key: Vec<u8> = proof.iter().zip(signature.expose()).map(|(a, b)| a ^ b).collect();
        if self.hash.digest(&key) != stored {
            return "e=invalid-proof".to_owned();
        }
        let server_key = self.hash.mac(salted.expose(), b"Server Key");
        let signature = self.hash.mac(server_key.expose(), said.as_bytes());
        format!("v={}", BASE64.encode(signature.expose()))
    }
}

fn log_in(mechanism: &Scram, server: &mut Server) -> Result<(), SaslError> {
    let peer = SaslPeer::new("kafka", 9093, SystemTime::UNIX_EPOCH);
    let mut exchange = mechanism.begin(&peer)?;
    let first = server.first(&text(exchange.next(None)));
    let last = server.last(&text(exchange.next(Some(first.as_bytes()))));
    let end = exchange.next(Some(last.as_bytes()))?;
    assert_eq!(end, None);
    Ok(())
}

/// RFC 7677 section 3.
#[test]
fn sha_256_says_what_rfc_7677_shows() {
    let mechanism = Scram::sha_256("user", PASSWORD);
    assert_eq!(mechanism.name(), "SCRAM-SHA-256");
    let mut exchange = begin(&mechanism);
    assert_eq!(text(exchange.next(None)), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    assert_eq!(text(exchange.next(Some(first.as_bytes()))), last);
    let signature = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    assert_eq!(exchange.next(Some(signature)).expect("the signature is right"), None);
}

/// Computed with Python's hashlib and hmac; the last two lines of each are the answers.
#[test]
fn sha_512_says_what_another_implementation_computes() {
    let plain = (
        ("user", PASSWORD),
        "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "jDITxvuWfhmi2HbAojqzqnBp7x1Gvs+9p/2CcncDigLSaYcch6C5TK/SJdY99mzUfDgbjm++GuaQZtD5l9DVPQ==",
        "mDZBQKmxJYvj36BIlNhXe17Ycr3mxEnRkDs/vQ22FOUFjb/6Q3Q3PD+6WrnvNX9/JP4NNuwylU3979ui7Z25Hw==",
    );
    let not_ascii = (
        ("ünï", "pä,ss=wörd"),
        "s=c2FsdC1vZi0xMi1i,i=10000",
        "/67bObmyfAvwiT5X8i0LuR+yO7VDvTp6KVEuiL3f1ciF03kBcuUJqSftFSCxV903cnNGUgMCdKOy1pIzu3gbpg==",
        "Mi0l8PnwwfiOSFxuluw38+61igO09tUoeXxWoE4u2hGVs0Ric8wJJzuGoiu3ClnLknkiXClcLT857RuEhB9LPg==",
    );
    for ((user, password), parameters, proof, signature) in [plain, not_ascii] {
        let mechanism = Scram::sha_512(user, password);
        assert_eq!(mechanism.name(), "SCRAM-SHA-512");
        let mut exchange = begun(&mechanism);
        let nonce = format!("{NONCE}02431b08-2f0a-4bad");
        let first = format!("r={nonce},{parameters}");
        let last = text(exchange.next(Some(first.as_bytes())));
        assert_eq!(last, format!("c=biws,r={nonce},p={proof}"));
        let signature = format!("v={signature}");
        let end = exchange.next(Some(signature.as_bytes()));
        assert_eq!(end.expect("the signature is right"), None);
    }
}

#[test]
fn a_login_succeeds_with_the_right_password_only() {
    for hash in [Hash::Sha256, Hash::Sha512] {
        let mut server = Server::new(hash, PASSWORD, b"salt");
        let right = Scram::new(hash, Credentials::new("a=b,c", PASSWORD));
        log_in(&right, &mut server).expect("the password is right");
        let wrong = Scram::new(hash, Credentials::new("a=b,c", "pen"));
        let error = log_in(&wrong, &mut server).expect_err("the password is wrong");
        assert_eq!(error.kind(), SaslErrorKind::Refused);
        assert!(error.to_string().contains("invalid-proof"), "{error}");
    }
}

#[test]
fn user_names_are_escaped_and_tokens_say_that_they_are_tokens() {
    let mechanism = Scram::sha_256("a=b,c=2C", PASSWORD);
    assert_eq!(text(begin(&mechanism).next(None)), format!("n,,n=a=3Db=2Cc=3D2C,r={NONCE}"));
    let token = Scram::sha_256("token-id", "hmac").delegation_token();
    let first = text(begin(&token).next(Some(b"")));
    assert_eq!(first, format!("n,,n=token-id,r={NONCE},tokenauth=true"));
    log_in(&token, &mut Server::new(Hash::Sha256, "hmac", b"salt")).expect("the token is right");
}

#[test]
fn nonces_are_random_and_printable() {
    let mechanism = Scram::sha_256("user", PASSWORD);
    let peer = SaslPeer::new("kafka", 9093, SystemTime::UNIX_EPOCH);
    let nonce = || {
        let mut exchange = mechanism.begin(&peer).expect("there are random numbers");
        text(exchange.next(None)).strip_prefix("n,,n=user,r=").expect("it is there").to_owned()
    };
    let nonces: std::collections::BTreeSet<String> = (0..100).map(|_| nonce()).collect();
    assert_eq!(nonces.len(), 100);
    let fit = |c: char| c.is_ascii_graphic() && c != ',' && c != '=';
    assert!(nonces.iter().all(|nonce| nonce.len() == 32 && nonce.chars().all(fit)));
}

#[test]
fn the_brokers_first_message_must_keep_the_rules() {
    let nonce = format!("r={NONCE}x");
    let malformed = [
        String::new(),
        "hello".to_owned(),
        "r=".to_owned(),
        format!("m=must,{nonce},s=c2FsdA==,i=4096"),
        format!("r=another{NONCE},s=c2FsdA==,i=4096"),
        format!("r={NONCE},s=c2FsdA==,i=4096"),
        format!("{nonce} y,s=c2FsdA==,i=4096"),
        format!("{nonce},i=4096"),
        format!("{nonce},s=,i=4096"),
        format!("{nonce},s=c2FsdA,i=4096"),
        format!("{nonce},s=c2F*dA==,i=4096"),
        format!("{nonce},s=c2FsdA=="),
        format!("{nonce},s=c2FsdA==,i="),
        format!("{nonce},s=c2FsdA==,i=+4096"),
        format!("{nonce},s=c2FsdA==,i=-4096"),
        format!("{nonce},s=c2FsdA==,i=4096.0"),
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_owned(),
    ];
    let mechanism = Scram::sha_256("user", PASSWORD);
    for message in malformed {
        let error = refused(&mut begun(&mechanism), &message);
        assert_eq!(error.kind(), SaslErrorKind::Protocol, "{message}: {error}");
    }
    let not_text = begun(&mechanism).next(Some(b"r=\xff")).expect_err("it is not UTF-8");
    assert_eq!(not_text.kind(), SaslErrorKind::Protocol);
}

#[test]
fn f29_few_iterations_are_refused_as_weak_and_many_by_a_limit() {
    let mechanism = Scram::sha_256("user", PASSWORD);
    let ask = |iterations: &str| {
        let message = format!("r={NONCE}x,s=c2FsdA==,i={iterations}");
        begun(&mechanism).next(Some(message.as_bytes()))
    };
    let kind = |iterations: &str| ask(iterations).expect_err(iterations).kind();
    assert_eq!(kind("0"), SaslErrorKind::Protocol);
    assert_eq!(kind(&(ITERATIONS_MIN - 1).to_string()), SaslErrorKind::Protocol);
    assert_eq!(kind(&(ITERATIONS_MAX + 1).to_string()), SaslErrorKind::Limit);
    assert_eq!(kind(&"9".repeat(500)), SaslErrorKind::Limit);
    ask(&ITERATIONS_MIN.to_string()).expect("Kafka's minimum is taken");
    let extended = format!("{ITERATIONS_MIN},x=later");
    ask(&extended).expect("optional extensions are ignored");
}

#[test]
fn a_long_message_is_refused_by_a_limit() {
    let message = format!("r={NONCE}{}", "x".repeat(MESSAGE_BYTES_MAX));
    let error = refused(&mut begun(&Scram::sha_256("user", PASSWORD)), &message);
    assert_eq!(error.kind(), SaslErrorKind::Limit);
}

/// An exchange that has sent its proof.
fn proven() -> Exchange {
    let mut exchange = begun(&Scram::sha_256("user", PASSWORD));
    let first = format!("r={NONCE}x,s=c2FsdA==,i=4096");
    text(exchange.next(Some(first.as_bytes())));
    exchange
}

#[test]
fn f29_a_broker_that_cannot_prove_itself_is_not_verified() {
    let wrong = [
        String::new(),
        format!("v={}", BASE64.encode([7; 32])),
        format!("v={}", BASE64.encode([7; 31])),
        "v=".to_owned(),
    ];
    for message in wrong {
        let error = refused(&mut proven(), &message);
        assert_eq!(error.kind(), SaslErrorKind::ServerNotVerified, "{message}: {error}");
        assert!(error.to_string().contains("impostor"), "{error}");
    }
}

#[test]
fn the_brokers_errors_are_told_at_either_step() {
    for mut exchange in [begun(&Scram::sha_256("user", PASSWORD)), proven()] {
        let error = refused(&mut exchange, "e=unknown-user,x=y");
        assert_eq!(error.kind(), SaslErrorKind::Refused);
        assert!(error.to_string().contains("\"unknown-user\""), "{error}");
    }
}

#[test]
fn a_malformed_or_second_last_message_is_refused() {
    for message in ["v=*", "x=y", "r=again"] {
        let error = refused(&mut proven(), message);
        assert_eq!(error.kind(), SaslErrorKind::Protocol, "{message}: {error}");
    }
    let mechanism = Scram::sha_256("user", PASSWORD);
    let mut server = Server::new(Hash::Sha256, PASSWORD, b"salt");
    let mut exchange = begin(&mechanism);
    let first = server.first(&text(exchange.next(None)));
    let last = server.last(&text(exchange.next(Some(first.as_bytes()))));
    assert_eq!(exchange.next(Some(last.as_bytes())).expect("it is right"), None);
    let error = refused(&mut exchange, &last);
    assert_eq!(error.kind(), SaslErrorKind::Protocol);
    // The client cannot be made to begin twice, nor by a broker that begins.
    assert!(begun(&mechanism).next(None).is_err());
    assert!(begin(&mechanism).next(Some(first.as_bytes())).is_err());
}

#[test]
fn salted_passwords_are_kept_for_verified_brokers_up_to_a_limit() {
    let credentials = ReplaceableCredentials::new("user", PASSWORD);
    let mechanism = Scram::sha_256_from_provider(credentials.clone());
    let kept = || mechanism.shared.salted.lock().expect("nobody panics with it").len();
    let mut server = Server::new(Hash::Sha256, PASSWORD, b"salt");
    for _ in 0..2 {
        log_in(&mechanism, &mut server).expect("the password is right");
        assert_eq!(kept(), 1);
    }
    // What is kept belongs to its password: another password with the same salt does not use it.
    credentials.replace("user", "eraser");
    log_in(&mechanism, &mut server).expect_err("the broker has the old password");
    server.password = Secret::from("eraser");
    log_in(&mechanism, &mut server).expect("the broker has the new password");
    assert_eq!(kept(), 1);
    for n in 0..2 * SALTED_PASSWORDS_MAX {
        let mut server = Server::new(Hash::Sha256, "eraser", format!("salt {n}").as_bytes());
        log_in(&mechanism, &mut server).expect("the password is right");
        server.password = Secret::from("other");
        log_in(&mechanism, &mut server).expect_err("the broker has another password");
    }
    assert_eq!(kept(), SALTED_PASSWORDS_MAX);
    let shown = format!("{mechanism:?} {mechanism:#?}");
    assert!(shown.contains("SCRAM-SHA-256") && !shown.contains("eraser"), "{shown}");
}

#[test]
fn a_kept_salted_password_is_used_by_the_next_login() {
    let mechanism = Scram::sha_256("user", PASSWORD);
    let mut server = Server::new(Hash::Sha256, PASSWORD, b"salt");
    log_in(&mechanism, &mut server).expect("the password is right");
    let falsify = |salted: &mut Salted| salted.salted = Secret::from("another");
    mechanism.shared.salted.lock().expect("nobody panics with it").iter_mut().for_each(falsify);
    log_in(&mechanism, &mut server).expect_err("what was kept is wrong now");
    server.iterations += 1;
    log_in(&mechanism, &mut server).expect("another number of iterations is computed anew");
}

#[test]
fn a_failing_provider_fails_the_login() {
    let mechanism = Scram::sha_512_from_provider(|| Err("the vault is sealed".into()));
    let peer = SaslPeer::new("kafka", 9093, SystemTime::UNIX_EPOCH);
    let error = mechanism.begin(&peer).err().expect("there are no credentials");
    assert_eq!(error.kind(), SaslErrorKind::Credentials);
    assert!(error.to_string().contains("the vault is sealed"), "{error}");
}

proptest! {
    /// Whatever a broker sends, an exchange answers or fails, and does not panic.
    #[test]
    fn no_bytes_of_a_broker_make_it_panic(
        first in prop::collection::vec(any::<u8>(), 0..200),
        last in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mechanism = Scram::sha_256("user", PASSWORD);
        let _ = begun(&mechanism).next(Some(&first));
        prop_assert!(proven().next(Some(&last)).is_err());
    }

    /// Nearly right messages, which reach deeper.
    #[test]
    fn no_nearly_right_message_makes_it_panic(
        nonce in "[ -~]{0,20}",
        salt in "[A-Za-z0-9+/=]{0,12}",
        iterations in "[0-9]{0,4}|[0-9]{8,30}|[^,]{0,3}",
        rest in "(,[a-z]=[ -~]{0,5}){0,2}",
        last in "(v|e|m)=[A-Za-z0-9+/=,]{0,50}",
    ) {
        let mechanism = Scram::sha_256("user", PASSWORD);
        let mut exchange = begun(&mechanism);
        let first = format!("r={NONCE}{nonce},s={salt},i={iterations}{rest}");
        if exchange.next(Some(first.as_bytes())).is_ok() {
            prop_assert!(exchange.next(Some(last.as_bytes())).is_err());
        }
        prop_assert!(proven().next(Some(last.as_bytes())).is_err());
    }
}
