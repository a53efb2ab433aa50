//! Makes TLS connections as the configuration says, and reads its files again when they change.

use std::fmt;
use std::sync::{Arc, Mutex, TryLockError};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Error, InconsistentKeys};

use super::material::{self, Identity};
use super::problems::{explain, explain_end};
use super::provider::{protocol, provider};
use super::verifier::{BrokerVerifier, Trust};
use super::watch::Watch;
use crate::config::{IdentitySource, TlsConfig};
use crate::error::BuildError;
use crate::locking::lock;
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};
use crate::user_code;

/// Sessions that can be resumed, over all brokers: as many as a producer knows brokers by default.
/// Each takes a few KiB.
const SESSIONS_MAX: usize = 1_024;

/// Makes TLS connections to brokers. One serves all threads of a producer; sessions are resumed
/// across all of its connections.
pub struct TlsClient {
    config: TlsConfig,
    /// Held only to copy or replace the pointer.
    current: Mutex<Arc<ClientConfig>>,
    /// Held while files are read, so that two threads do not read them at once. Never taken while
    /// `current` is held.
    watch: Mutex<Watch>,
}

impl TlsClient {
    /// Reads the files and prepares what connections share. May wait for the file system.
    ///
    /// # Errors
    ///
    /// [`BuildError`] for a file that cannot be read or used, for settings that exclude each other
    /// and for a processor that cannot run the cryptography.
    pub fn new(config: &TlsConfig) -> Result<Arc<TlsClient>, BuildError> {
        config.validate()?;
        let config = config.clone();
        let watch = Watch::new(&config.files());
        let current = client_config(&config)?;
        if config.given_client_config().is_none() {
            warn_of_trust(&config);
        }
        Ok(Arc::new(TlsClient { config, current: Mutex::new(current), watch: Mutex::new(watch) }))
    }

    /// A connection to a broker, before its first byte. The host is a name, with or without a dot
    /// at its end, or an address; it is what the broker's certificate must be for, and a name is
    /// told to the broker (SNI, RFC 6066 section 3). Does not wait.
    ///
    /// # Errors
    ///
    /// [`ProblemKind::Tls`] for a host that no certificate can be for.
    pub fn connect(&self, host: &str) -> Result<ClientConnection, Problem> {
        let name = server_name(host)?;
        let config = lock(&self.current).clone();
        // A session store of the application's own is asked.
        let _inside = user_code::enter();
        match user_code::call(|| ClientConnection::new(config, name)) {
            Ok(connection) => connection.map_err(|error| self.explain(&error, host)),
            Err(_) => {
                let text = "the TLS configuration that the application gave panicked";
                Err(Problem::new(ProblemKind::Tls, text))
            }
        }
    }

    /// What an error of a connection to this host means, and what to change. It may come from any
    /// read until the broker's first answer: with TLS 1.3 a broker refuses this client's
    /// certificate after the handshake is complete on this side.
    pub fn explain(&self, error: &Error, host: &str) -> Problem {
        explain(error, host, self.has_certificate())
    }

    /// What it means that the peer closed a connection before its handshake was complete, without
    /// an alert.
    pub fn explain_end(&self) -> Problem {
        explain_end(self.has_certificate())
    }

    /// Whether this client has a certificate to present.
    pub fn has_certificate(&self) -> bool {
        lock(&self.current).client_auth_cert_resolver.has_certs()
    }

    /// Whether a file has changed since it was last read. Asks the file system and reads no file.
    /// Also true while they are being read.
    pub fn has_changed(&self) -> bool {
        match self.watch.try_lock() {
            Ok(watch) => watch.has_changed(),
            Err(TryLockError::Poisoned(watch)) => watch.into_inner().has_changed(),
            Err(TryLockError::WouldBlock) => true,
        }
    }

    /// Reads the files again if one has changed; connections from then on use what is in them. If
    /// that cannot be used, what was read before stays in use, and a warning says so, once for each
    /// change. May wait for the file system. Returns whether something new is in use.
    pub fn refresh(&self) -> bool {
        let mut watch = lock(&self.watch);
        if !watch.has_changed() {
            return false;
        }
        watch.look();
        match client_config(&self.config) {
            Ok(config) => {
                *lock(&self.current) = config;
                log::info!("the files of the TLS configuration have changed and were read again");
                true
            }
            Err(error) => {
                log::warn!(
                    "the files of the TLS configuration have changed and cannot be used, those \
                     read before stay in use: {error}"
                );
                false
            }
        }
    }
}

fn warn_of_trust(config: &TlsConfig) {
    if !config.verifies_certificates() {
        log::warn!(
            "{} is off: whoever is on the way to a broker can read and change all records",
            config.name("verify_certificates")
        );
    } else if !config.verifies_host_name() {
        log::warn!(
            "{} is off: whoever has any certificate of the trusted authorities can read and change \
             all records",
            config.name("verify_host_name")
        );
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The host as certificates and SNI have it.
fn server_name(host: &str) -> Result<ServerName<'static>, Problem> {
    // A zone says on which network an address is: nothing to the broker.
    let bare = match host.split_once('%') {
        Some((address, _)) if address.contains(':') => address,
        _ => host.strip_suffix('.').unwrap_or(host),
    };
    ServerName::try_from(bare.to_owned()).map_err(|_| {
        let words = format!(
            "\"{host}\" is a name that no certificate can be for: use letters, digits, dashes and \
             dots, and write other characters in their IDNA form (xn--...)"
        );
        Problem::new(ProblemKind::Tls, words)
    })
}

/// What all connections share, made from what the files hold now.
fn client_config(config: &TlsConfig) -> Result<Arc<ClientConfig>, BuildError> {
    if let Some(given) = config.given_client_config() {
        return Ok(given.clone());
    }
    let provider = provider(config)?;
    let trust = if config.verifies_certificates() {
        let host_name = config.verifies_host_name();
        Trust::Authorities { roots: Arc::new(material::roots(config)?), host_name }
    } else {
        Trust::Anyone
    };
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Arc::new(BrokerVerifier { algorithms, trust });
    let versions: Vec<_> = config.versions().iter().map(|version| protocol(*version)).collect();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| BuildError::Conflict(format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut made = match material::identity(config)? {
        None => builder.with_no_client_auth(),
        Some(Identity { chain, key }) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable_identity(config, &error))?,
    };
    made.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(Arc::new(made))
}

/// The private key, or its certificate, cannot be used though it could be read.
fn unusable_identity(config: &TlsConfig, error: &Error) -> BuildError {
    let reason = match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the private key does not belong to the first certificate: put the certificate of \
             this client first, and those of authorities behind it"
                .to_owned()
        }
        other => format!(
            "the private key or its certificate cannot be used: {other}; keys are RSA with 2048 \
             bits or more, ECDSA with P-256 or P-384, or Ed25519"
        ),
    };
    match config.identity() {
        Ok(Some(
            IdentitySource::Keystore(material) | IdentitySource::Apart { key: material, .. },
        )) => material::refuse(&material, reason),
        Ok(None) => BuildError::Conflict(reason),
        Err(error) => error,
    }
}
