//! A broker with a listener for each way in, and the ways that clients take.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tempfile::TempDir;
use tidegate::{
    OAuthBearer, OAuthToken, Plain, Producer, ProducerBuilder, SaslMechanism, Scram, TlsConfig,
};

use super::certificates::Authority;
use crate::kafka::{Cluster, ClusterConfig, Kafka};

pub const USER: &str = "alice";
pub const PASSWORD: &str = "alice-secret";

/// Logins and no encryption.
pub const SASL: &str = "SASLP";
/// Encryption and no logins.
pub const TLS: &str = "TLS";
/// Encryption, and clients need a certificate.
pub const MUTUAL: &str = "MTLS";
/// Encryption and logins.
pub const SASL_TLS: &str = "SASLT";
/// Encryption with a certificate for [`OTHER_NAME`].
pub const OTHER: &str = "OTHER";
/// Logins with SCRAM-SHA-512 only.
pub const SCRAM_ONLY: &str = "SCRAM";
pub const OTHER_NAME: &str = "kafka.example";

pub const PLAIN: &str = "PLAIN";
pub const SCRAM_256: &str = "SCRAM-SHA-256";
pub const SCRAM_512: &str = "SCRAM-SHA-512";
pub const OAUTHBEARER: &str = "OAUTHBEARER";
pub const MECHANISMS: [&str; 4] = [PLAIN, SCRAM_256, SCRAM_512, OAUTHBEARER];

/// How long a session lasts before the broker wants another login (KIP-368).
pub const SESSION: Duration = Duration::from_secs(4);
/// A token that outlives every test.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

const MODULES: &str = "org.apache.kafka.common.security";
/// The names by which clients of the tests reach a broker.
pub const LOCAL_NAMES: [&str; 2] = ["127.0.0.1", "localhost"];

/// A running broker and its authority. The files go after the broker.
pub struct Stage {
    pub cluster: Cluster,
    pub authority: Authority,
    folder: TempDir,
}

impl Stage {
    /// Starts the broker.
    pub fn start(kafka: &Kafka) -> Stage {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
        write(&key_store(folder.path()), &authority.broker(&LOCAL_NAMES).key_store_pem());
        let other = folder.path().join("other.pem");
        write(&other, &authority.broker(&[OTHER_NAME]).key_store_pem());
        let truststore = truststore(folder.path());
        write(&truststore, &authority.pem());
        let config = ClusterConfig::single()
            .listener(SASL, "SASL_PLAINTEXT")
            .listener(TLS, "SSL")
            .listener(MUTUAL, "SSL")
            .listener(SASL_TLS, "SASL_SSL")
            .listener(OTHER, "SSL")
            .listener(SCRAM_ONLY, "SASL_PLAINTEXT")
            .scram_user(SCRAM_256, USER, PASSWORD)
            .scram_user(SCRAM_512, USER, PASSWORD)
            .property("ssl.keystore.type", "PEM")
            .property("ssl.keystore.location", &text(&key_store(folder.path())))
            .property("ssl.truststore.type", "PEM")
            .property("ssl.truststore.location", &text(&truststore))
            .property("listener.name.mtls.ssl.client.auth", "required")
            .property("listener.name.other.ssl.keystore.type", "PEM")
            .property("listener.name.other.ssl.keystore.location", &text(&other));
        let config = [SASL, SASL_TLS].into_iter().fold(config, |config, listener| {
            let max = format!("listener.name.{}.connections.max.reauth.ms", lower(listener));
            let config = config.property(&max, &SESSION.as_millis().to_string());
            takes_logins(config, listener, &MECHANISMS)
        });
        let config = takes_logins(config, SCRAM_ONLY, &[SCRAM_512]);
        Stage { cluster: kafka.start(&config), authority, folder }
    }

    /// The broker's key and certificate, which it reads again when it is told to.
    pub fn key_store(&self) -> PathBuf {
        key_store(self.folder.path())
    }

    /// Whose certificates the broker takes, which it reads again when it is told to.
    pub fn truststore(&self) -> PathBuf {
        truststore(self.folder.path())
    }

    /// A producer to a listener, with nothing that the listener may want.
    pub fn plainly(&self, listener: &str) -> ProducerBuilder {
        Producer::builder(&self.cluster.listener_address(listener).to_string())
    }

    /// Trusts the broker's authority, and no other.
    pub fn trusting(&self) -> TlsConfig {
        TlsConfig::new().truststore_pem(self.authority.pem())
    }

    /// The same, and shows a certificate of that authority.
    pub fn with_certificate(&self) -> TlsConfig {
        let client = self.authority.client(USER);
        self.trusting().keystore_pem(client.key_pem(), client.chain_pem())
    }

    /// Every way in that works, by name.
    pub fn ways(&self) -> Vec<(String, ProducerBuilder)> {
        let unchecked = self.trusting().verify_host_name(false);
        let mut ways = vec![
            (TLS.to_owned(), self.plainly(TLS).tls(self.trusting())),
            (OTHER.to_owned(), self.plainly(OTHER).tls(unchecked)),
            (MUTUAL.to_owned(), self.plainly(MUTUAL).tls(self.with_certificate())),
        ];
        ways.extend(self.logins(TOKEN_LIFETIME));
        ways
    }

    /// Every mechanism, with and without encryption.
    pub fn logins(&self, token_lifetime: Duration) -> Vec<(String, ProducerBuilder)> {
        let mut ways = Vec::new();
        for mechanism in MECHANISMS {
            let way = |listener| format!("{mechanism} at {listener}");
            let login = || login(mechanism, token_lifetime);
            ways.push((way(SASL), self.plainly(SASL).sasl(login())));
            let builder = self.plainly(SASL_TLS).tls(self.trusting());
            ways.push((way(SASL_TLS), builder.sasl(login())));
        }
        ways
    }
}

/// Has a listener take logins with these mechanisms.
pub fn takes_logins(config: ClusterConfig, listener: &str, mechanisms: &[&str]) -> ClusterConfig {
    let prefix = format!("listener.name.{}", lower(listener));
    let enabled = format!("{prefix}.sasl.enabled.mechanisms");
    let config = config.property(&enabled, &mechanisms.join(","));
    mechanisms.iter().fold(config, |config, &mechanism| {
        let prefix = format!("{prefix}.{}", lower(mechanism));
        let jaas = format!("{prefix}.sasl.jaas.config");
        let config = config.property(&jaas, &login_module(mechanism));
        if mechanism != OAUTHBEARER {
            return config;
        }
        let handler = "internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler";
        let handler = format!("{MODULES}.oauthbearer.{handler}");
        config.property(&format!("{prefix}.sasl.server.callback.handler.class"), &handler)
    })
}

/// What checks a mechanism's logins at the broker.
pub fn login_module(mechanism: &str) -> String {
    match mechanism {
        PLAIN => format!("{MODULES}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";"),
        OAUTHBEARER => format!(
            "{MODULES}.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"broker\";"
        ),
        _ => format!("{MODULES}.scram.ScramLoginModule required;"),
    }
}

/// A login that works; tokens live so long.
pub fn login(mechanism: &str, token_lifetime: Duration) -> Arc<dyn SaslMechanism> {
    match mechanism {
        PLAIN => Arc::new(Plain::new(USER, PASSWORD)),
        SCRAM_256 => Arc::new(Scram::sha_256(USER, PASSWORD)),
        SCRAM_512 => Arc::new(Scram::sha_512(USER, PASSWORD)),
        _ => Arc::new(OAuthBearer::new(move || {
            let end = SystemTime::now() + token_lifetime;
            Ok(OAuthToken::new(token(USER, end)).expires_at(end))
        })),
    }
}

/// A token without a signature, which the tests' brokers take.
pub fn token(user: &str, end: SystemTime) -> String {
    let since_1970 = |time: SystemTime| time.duration_since(UNIX_EPOCH).expect("it is past 1970");
    let (now, end) = (since_1970(SystemTime::now()).as_secs(), since_1970(end).as_secs_f64());
    let claims = format!(r#"{{"sub":"{user}","iat":{},"exp":{end:.3}}}"#, now.min(end as u64));
    let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
    format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims))
}

pub fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

pub fn text(path: &Path) -> String {
    path.display().to_string()
}

fn key_store(folder: &Path) -> PathBuf {
    folder.join("broker.pem")
}

fn truststore(folder: &Path) -> PathBuf {
    folder.join("ca.pem")
}

fn lower(name: &str) -> String {
    name.to_ascii_lowercase()
}
