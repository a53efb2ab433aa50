//! What brokers send in a login, and what users write to log in.

use std::time::SystemTime;

use tidegate::internals::protocol::{
    ApiKey, SaslAuthenticateResponse, SaslHandshakeResponse, split_response,
};
use tidegate::{JaasConfig, OAuthBearer, OAuthToken, SaslMechanism, SaslPeer, Scram};

/// It must not be in any error.
const PASSWORD: &str = "pencil-of-the-test";
const MECHANISMS: [&str; 5] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "X"];
/// No login takes so many messages.
const MESSAGES_MAX: usize = 6;

/// The first byte says the version, the rest is a response without its size.
fn body(api: ApiKey, bytes: &[u8]) -> Option<(i16, &[u8])> {
    let (&first, frame) = bytes.split_first()?;
    let range = api.versions();
    let version = range.min + i16::from(first) % (range.max - range.min + 1);
    split_response(frame, api, version).ok().map(|(_, body)| (version, body))
}

pub fn sasl_handshake(bytes: &[u8]) {
    if let Some((version, body)) = body(ApiKey::SaslHandshake, bytes)
        && let Ok(response) = SaslHandshakeResponse::decode(version, body)
    {
        assert!(response.mechanisms.len() <= 32);
    }
}

pub fn sasl_authenticate(bytes: &[u8]) {
    if let Some((version, body)) = body(ApiKey::SaslAuthenticate, bytes)
        && let Ok(response) = SaslAuthenticateResponse::decode(version, body)
    {
        assert!(response.token.len() <= body.len());
    }
}

/// A text of `sasl.jaas.config`: nothing of it is in an error, since it may hold a password.
pub fn jaas(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(config) = JaasConfig::parse(text) else { return };
    for mechanism in MECHANISMS {
        if let Ok(mechanism) = config.mechanism(mechanism) {
            let peer = SaslPeer::new("kafka", 9092, SystemTime::UNIX_EPOCH);
            // Credentials may be unusable; that is an error, and no panic.
            let _ = mechanism.begin(&peer);
        }
    }
}

/// The broker's messages, each with its length in front.
fn converse(mechanism: &dyn SaslMechanism, mut bytes: &[u8]) {
    let peer = SaslPeer::new("kafka", 9092, SystemTime::UNIX_EPOCH);
    let mut exchange = mechanism.begin(&peer).expect("the credentials are good");
    let mut said = exchange.next(None);
    for _ in 0..MESSAGES_MAX {
        match &said {
            Ok(Some(_)) => {}
            // Only a broker that knows the password can prove that.
            Ok(None) => assert_eq!(mechanism.name(), "OAUTHBEARER", "an impostor got in"),
            Err(error) => {
                assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error}");
                return;
            }
        }
        let Some((&length, rest)) = bytes.split_first() else { return };
        let (message, rest) = rest.split_at(usize::from(length).min(rest.len()));
        bytes = rest;
        said = exchange.next(Some(message));
    }
}

/// The first byte chooses the hash.
pub fn scram(bytes: &[u8]) {
    let Some((&first, messages)) = bytes.split_first() else { return };
    match first % 2 {
        0 => converse(&Scram::sha_256("user", PASSWORD), messages),
        _ => converse(&Scram::sha_512("user", PASSWORD), messages),
    }
}

pub fn oauthbearer(bytes: &[u8]) {
    converse(&OAuthBearer::new(|| Ok(OAuthToken::new(PASSWORD))), bytes);
}
