//! What a user says about TLS: whom to trust, what to present, and what may be negotiated.

use std::fmt;
use std::path::{Path, PathBuf};
#[cfg(feature = "tls")]
use std::sync::Arc;

use super::cipher_suites::{self, SuiteChoice};
use crate::engine::policy::Secret;
use crate::error::BuildError;

/// A version of TLS. Older ones have known holes, and the TLS library has none of them (RFC 8996).
///
/// ```
/// # #[cfg(all(feature = "embedded", feature = "tls"))] {
/// # use tidegate::embedded::{EmbeddedCluster, EmbeddedTls};
/// # use tidegate::probe::{Probe, ProbeFinding};
/// # use tidegate::{ProducerConfig, TlsConfig, TlsVersion};
/// # let cluster = EmbeddedCluster::builder().tls(EmbeddedTls::new()).start()?;
/// # let mut config = ProducerConfig::new(&cluster.bootstrap_servers());
/// let tls = TlsConfig::new().truststore_pem(cluster.authority_pem());
/// config.tls = Some(tls.protocols(&[TlsVersion::Tls12]));
/// Probe::new(config)?.run(|step| {
///     if let Ok(ProbeFinding::Encrypted(tls)) = &step.outcome {
///         assert_eq!(tls.version, "TLSv1_2");
///     }
/// })?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246): `TLSv1.2`.
    Tls12,
    /// TLS 1.3 (RFC 8446): `TLSv1.3`.
    Tls13,
}

impl TlsVersion {
    /// Java's name of it.
    pub(super) fn name(self) -> &'static str {
        match self {
            TlsVersion::Tls12 => "TLSv1.2",
            TlsVersion::Tls13 => "TLSv1.3",
        }
    }
}

/// The format of a truststore or keystore.
///
/// ```
/// # #[cfg(all(feature = "embedded", feature = "tls"))] {
/// # use tidegate::embedded::{EmbeddedCluster, EmbeddedTls};
/// # use tidegate::{Producer, StoreType, TlsConfig};
/// # let cluster = EmbeddedCluster::builder().tls(EmbeddedTls::new()).start()?;
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("ca.p12");
/// std::fs::write(&file, cluster.authority_pem())?;
/// let tls = TlsConfig::new().truststore_file(&file).truststore_type(StoreType::Pkcs12);
/// let producer = Producer::builder(&cluster.bootstrap_servers()).tls(tls).build();
/// assert!(producer.is_err()); // It is PEM, whatever its name says.
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreType {
    /// Text with `-----BEGIN ...-----` lines (RFC 7468).
    Pem,
    /// PKCS#12 (RFC 7292), as `keytool` and `openssl pkcs12` write it. Needs the feature `pkcs12`.
    Pkcs12,
}

impl fmt::Display for StoreType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreType::Pem => "PEM",
            StoreType::Pkcs12 => "PKCS12",
        })
    }
}

/// How connections to brokers are encrypted, how brokers prove who they are, and how this client
/// does.
///
/// By default a broker needs a certificate for the host name under which it is connected to, from
/// an authority that this machine trusts, TLS 1.3 or 1.2 is spoken, and this client presents no
/// certificate. Needs the feature `tls`, which is on by default; without it
/// [`ProducerBuilder::build`](crate::ProducerBuilder::build) refuses the configuration.
///
/// Files are read when the producer is built, and again once they have changed. A file that cannot
/// be read or used is a [`BuildError`] that names the property of Kafka's which sets it. Passwords
/// and PEM texts are in no error and in no `Debug` output, and are overwritten when dropped.
///
/// ```
/// use tidegate::{Producer, TlsConfig};
///
/// let tls = TlsConfig::new()
///     .truststore_file("/etc/kafka/ca.pem")
///     .keystore_file("/etc/kafka/client.pem")
///     .key_password("secret");
/// let builder = Producer::builder("broker-1:9093").tls(tls);
/// # let _ = builder;
/// ```
#[derive(Clone)]
pub struct TlsConfig {
    truststore: Sources,
    truststore_type: Option<StoreType>,
    truststore_password: Option<Secret>,
    keystore: Option<PathBuf>,
    keystore_type: Option<StoreType>,
    keystore_password: Option<Secret>,
    key: Sources,
    chain: Sources,
    key_password: Option<Secret>,
    verify_host_name: bool,
    verify_certificates: bool,
    protocols: Vec<TlsVersion>,
    cipher_suites: Option<Vec<String>>,
    /// What the user calls each method's setting, where properties set them.
    names: Vec<(&'static str, String)>,
    #[cfg(feature = "tls")]
    client_config: Option<Arc<rustls::ClientConfig>>,
}

/// The two places that one thing may come from.
#[derive(Clone, Default)]
struct Sources {
    file: Option<PathBuf>,
    text: Option<Secret>,
}

/// Where something is read from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A file.
    File(&'a Path),
    /// PEM text, in the configuration itself.
    Text(&'a Secret),
}

/// Something to be read, with what is needed to read it and to tell of errors.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// What the user calls the setting: a property, or the method.
    pub property: &'a str,
    /// Where it is.
    pub source: Source<'a>,
    /// Its format, if it was given; else the content tells.
    pub store_type: Option<StoreType>,
    /// The password of the store as a whole.
    pub store_password: Option<&'a Secret>,
    /// The password of the private key in it.
    pub key_password: Option<&'a Secret>,
}

/// What this client presents.
#[derive(Clone, Copy, Debug)]
pub enum IdentitySource<'a> {
    /// The private key and its certificates in one file.
    Keystore(Material<'a>),
    /// Each on its own.
    Apart {
        /// The private key.
        key: Material<'a>,
        /// Its certificate, and those up to the authority.
        chain: Material<'a>,
    },
}

impl Default for TlsConfig {
    fn default() -> Self {
        TlsConfig {
            truststore: Sources::default(),
            truststore_type: None,
            truststore_password: None,
            keystore: None,
            keystore_type: None,
            keystore_password: None,
            key: Sources::default(),
            chain: Sources::default(),
            key_password: None,
            verify_host_name: true,
            verify_certificates: true,
            protocols: vec![TlsVersion::Tls12, TlsVersion::Tls13],
            cipher_suites: None,
            names: Vec::new(),
            #[cfg(feature = "tls")]
            client_config: None,
        }
    }
}

/// What the user says. Of repeated calls the last one counts.
impl TlsConfig {
    /// The authorities of this machine, TLS 1.2 and 1.3, host names verified, no client
    /// certificate.
    pub fn new() -> Self {
        TlsConfig::default()
    }

    /// Trusts the authorities in this file instead of those of this machine: certificates in PEM,
    /// or a PKCS#12 truststore. At most 16 MiB. Default: none.
    /// `ssl.truststore.location`, librdkafka's `ssl.ca.location`.
    #[must_use]
    pub fn truststore_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.truststore.file = Some(path.into());
        self
    }

    /// Trusts the authorities in this text, certificates in PEM, instead of those of this machine.
    /// Default: none. `ssl.truststore.certificates`, librdkafka's `ssl.ca.pem`.
    #[must_use]
    pub fn truststore_pem(mut self, certificates: impl Into<String>) -> Self {
        self.truststore.text = Some(Secret::from(certificates.into() as String));
        self
    }

    /// The format that the truststore must have. Default: whichever its content shows.
    /// `ssl.truststore.type`.
    #[must_use]
    pub fn truststore_type(mut self, store_type: StoreType) -> Self {
        self.truststore_type = Some(store_type);
        self
    }

    /// The password of a PKCS#12 truststore. Default: none. `ssl.truststore.password`.
    #[must_use]
    pub fn truststore_password(mut self, password: impl Into<String>) -> Self {
        self.truststore_password = Some(Secret::from(password.into() as String));
        self
    }

    /// Presents the certificate in this file to brokers that ask for one (mutual TLS): private key
    /// and certificates in PEM, in any order, or a PKCS#12 keystore. At most 16 MiB. Default: none.
    /// `ssl.keystore.location`.
    #[must_use]
    pub fn keystore_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.keystore = Some(path.into());
        self
    }

    /// As [`TlsConfig::keystore_file`], from texts in PEM: the private key, and its certificate
    /// followed by those up to the authority. Default: none. `ssl.keystore.key` and
    /// `ssl.keystore.certificate.chain`, librdkafka's `ssl.key.pem` and `ssl.certificate.pem`.
    #[must_use]
    pub fn keystore_pem(self, key: impl Into<String>, certificates: impl Into<String>) -> Self {
        self.key_pem(key).certificate_pem(certificates)
    }

    /// As [`TlsConfig::keystore_file`], from two files in PEM. Default: none. librdkafka's
    /// `ssl.key.location` and `ssl.certificate.location`.
    #[must_use]
    pub fn keystore_pem_files(
        self,
        key: impl Into<PathBuf>,
        certificates: impl Into<PathBuf>,
    ) -> Self {
        self.key_file(key).certificate_file(certificates)
    }

    /// The format that the keystore must have. Default: whichever its content shows.
    /// `ssl.keystore.type`.
    #[must_use]
    pub fn keystore_type(mut self, store_type: StoreType) -> Self {
        self.keystore_type = Some(store_type);
        self
    }

    /// The password of a PKCS#12 keystore. Default: none. `ssl.keystore.password`.
    #[must_use]
    pub fn keystore_password(mut self, password: impl Into<String>) -> Self {
        self.keystore_password = Some(Secret::from(password.into() as String));
        self
    }

    /// The password of an encrypted private key in PEM (`BEGIN ENCRYPTED PRIVATE KEY`). Default:
    /// that of the keystore. `ssl.key.password`.
    #[must_use]
    pub fn key_password(mut self, password: impl Into<String>) -> Self {
        self.key_password = Some(Secret::from(password.into() as String));
        self
    }

    /// Whether a broker's certificate must be for the host name, or the address, under which it is
    /// connected to (RFC 9525). Default: yes. Without, whoever has any certificate of a trusted
    /// authority can pose as a broker: turn it off only where an authority issues to brokers alone.
    /// `ssl.endpoint.identification.algorithm`: `https`, or empty for no.
    #[must_use]
    pub fn verify_host_name(mut self, verify: bool) -> Self {
        self.verify_host_name = verify;
        self
    }

    /// Whether a broker's certificate must come from a trusted authority. Default: yes. Without,
    /// anyone between can read and change what is sent: for trials only, and a warning says so.
    /// librdkafka's `enable.ssl.certificate.verification`.
    #[must_use]
    pub fn verify_certificates(mut self, verify: bool) -> Self {
        self.verify_certificates = verify;
        self
    }

    /// The versions that may be spoken, at least one; the newest that both sides have is. Default:
    /// both. `ssl.enabled.protocols`.
    #[must_use]
    pub fn protocols(mut self, versions: &[TlsVersion]) -> Self {
        self.protocols = versions.to_vec();
        self
    }

    /// The cipher suites that may be spoken, in order of preference, by their IANA names, which are
    /// Java's (`TLS_AES_128_GCM_SHA256`), or OpenSSL's (`ECDHE-RSA-AES256-GCM-SHA384`). Those that
    /// the TLS library lacks are dropped with a warning if at least one is left. Default: all nine
    /// of the library, of which each is sound. `ssl.cipher.suites`.
    #[must_use]
    pub fn cipher_suites<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.cipher_suites = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// A configuration of rustls, for what the other settings do not offer: a key in a hardware
    /// module, revocation lists, another source of trust. It replaces all the others, none of which
    /// may be set beside it; its version of `rustls` must be the one that this crate uses (0.23).
    /// What it holds of the application's own code, a verifier or a signing key, runs on the event
    /// loops: it must not wait, and a panic in it costs the connection. Default: none. In code
    /// only.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn client_config(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.client_config = Some(config);
        self
    }

    pub(super) fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key.file = Some(path.into());
        self
    }

    pub(super) fn key_pem(mut self, text: impl Into<String>) -> Self {
        self.key.text = Some(Secret::from(text.into() as String));
        self
    }

    pub(super) fn certificate_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.chain.file = Some(path.into());
        self
    }

    pub(super) fn certificate_pem(mut self, text: impl Into<String>) -> Self {
        self.chain.text = Some(Secret::from(text.into() as String));
        self
    }
}

/// What the drivers read.
impl TlsConfig {
    /// Checks what can be checked without opening a file.
    ///
    /// # Errors
    ///
    /// [`BuildError::FeatureNotBuilt`] without the feature `tls`, [`BuildError::Conflict`] for
    /// settings that exclude each other, [`BuildError::InvalidSetting`] for versions or suites of
    /// which none can be had.
    pub(crate) fn validate(&self) -> Result<(), BuildError> {
        if !cfg!(feature = "tls") {
            return Err(BuildError::FeatureNotBuilt { what: "TLS", feature: "tls" });
        }
        #[cfg(feature = "tls")]
        if self.client_config.is_some() && !self.is_otherwise_default() {
            return Err(BuildError::Conflict(
                "a TLS configuration has a client_config, which replaces all its other settings, \
                 and some of those too: leave either out"
                    .to_owned(),
            ));
        }
        self.truststore()?;
        self.identity()?;
        if self.protocols.is_empty() {
            return Err(BuildError::InvalidSetting {
                name: self.name("protocols").to_owned(),
                value: String::new(),
                reason: "it must name TLSv1.2, TLSv1.3 or both".to_owned(),
            });
        }
        self.suites().map(drop)
    }

    /// The authorities to trust; `None`: those of this machine.
    pub(crate) fn truststore(&self) -> Result<Option<Material<'_>>, BuildError> {
        let names = (self.name("truststore_file"), self.name("truststore_pem"));
        Ok(self.truststore.one(names)?.map(|(property, source)| Material {
            property,
            source,
            store_type: self.truststore_type,
            store_password: self.truststore_password.as_ref(),
            key_password: None,
        }))
    }

    /// What this client presents, if anything.
    pub(crate) fn identity(&self) -> Result<Option<IdentitySource<'_>>, BuildError> {
        let key = self
            .key
            .one((self.name("keystore_pem_files (key)"), self.name("keystore_pem (key)")))?;
        let names = (
            self.name("keystore_pem_files (certificate)"),
            self.name("keystore_pem (certificate)"),
        );
        let chain = self.chain.one(names)?;
        let keystore = self.name("keystore_file");
        let material = |(property, source)| Material {
            property,
            source,
            store_type: self.keystore_type,
            store_password: self.keystore_password.as_ref(),
            key_password: self.key_password.as_ref(),
        };
        let conflict = |text: String| Err(BuildError::Conflict(text));
        match (self.keystore.as_deref(), key, chain) {
            (None, None, None) => Ok(None),
            (Some(path), None, None) => {
                let parts = (keystore, Source::File(path));
                Ok(Some(IdentitySource::Keystore(material(parts))))
            }
            (None, Some(key), Some(chain)) => {
                Ok(Some(IdentitySource::Apart { key: material(key), chain: material(chain) }))
            }
            (Some(_), Some((other, _)), _) | (Some(_), None, Some((other, _))) => {
                conflict(format!(
                    "{keystore} and {other} both give this client's certificate: leave either out"
                ))
            }
            (None, Some((key, _)), None) => conflict(format!(
                "{key} gives a private key without its certificate: set {} or {}, or put both into \
                 one file and name it in {keystore}",
                names.0, names.1
            )),
            (None, None, Some((chain, _))) => conflict(format!(
                "{chain} gives a certificate without its private key: set {} or {}, or put both \
                 into one file and name it in {keystore}",
                self.name("keystore_pem_files (key)"),
                self.name("keystore_pem (key)"),
            )),
        }
    }

    /// Says what the user calls the settings of these methods.
    pub(super) fn named(mut self, names: Vec<(&'static str, String)>) -> Self {
        self.names = names;
        self
    }

    /// What the user calls the setting of `method`: a property, or the method itself. Of one that
    /// sets two things the part stands behind it, in parentheses.
    pub(crate) fn name<'a>(&'a self, method: &'static str) -> &'a str {
        let named = self.names.iter().find(|(other, _)| *other == method);
        let bare = || method.split(' ').next().unwrap_or(method);
        named.map_or_else(bare, |(_, name)| name)
    }

    /// The suites to offer; `None`: all.
    pub(crate) fn suites(&self) -> Result<Option<SuiteChoice>, BuildError> {
        let choose = |names: &[String]| cipher_suites::choose(self.name("cipher_suites"), names);
        self.cipher_suites.as_deref().map(choose).transpose()
    }

    /// Whether the host name is compared with the broker's certificate.
    pub(crate) fn verifies_host_name(&self) -> bool {
        self.verify_host_name
    }

    /// Whether the broker's certificate is verified at all.
    pub(crate) fn verifies_certificates(&self) -> bool {
        self.verify_certificates
    }

    /// The versions to offer.
    pub(crate) fn versions(&self) -> &[TlsVersion] {
        &self.protocols
    }

    #[cfg(feature = "tls")]
    fn is_otherwise_default(&self) -> bool {
        let default = TlsConfig::default();
        self.truststore.is_empty()
            && self.key.is_empty()
            && self.chain.is_empty()
            && self.keystore.is_none()
            && self.truststore_type.is_none()
            && self.truststore_password.is_none()
            && self.keystore_type.is_none()
            && self.keystore_password.is_none()
            && self.key_password.is_none()
            && self.verify_host_name
            && self.verify_certificates
            && self.protocols == default.protocols
            && self.cipher_suites.is_none()
    }
}

#[cfg(feature = "tls")]
impl TlsConfig {
    /// Every file that is read.
    pub(crate) fn files(&self) -> Vec<&Path> {
        let sources = [&self.truststore, &self.key, &self.chain];
        let files = sources.into_iter().filter_map(|source| source.file.as_deref());
        files.chain(self.keystore.as_deref()).collect()
    }

    /// The user's own configuration, if there is one.
    pub(crate) fn given_client_config(&self) -> Option<&Arc<rustls::ClientConfig>> {
        self.client_config.as_ref()
    }
}

impl Sources {
    fn is_empty(&self) -> bool {
        self.file.is_none() && self.text.is_none()
    }

    /// The one that is given, with its property: the first name is the file's.
    fn one<'a>(
        &'a self,
        (file, text): (&'a str, &'a str),
    ) -> Result<Option<(&'a str, Source<'a>)>, BuildError> {
        match (&self.file, &self.text) {
            (None, None) => Ok(None),
            (Some(path), None) => Ok(Some((file, Source::File(path)))),
            (None, Some(pem)) => Ok(Some((text, Source::Text(pem)))),
            (Some(_), Some(_)) => Err(BuildError::Conflict(format!(
                "{file} and {text} give the same thing twice: leave either out"
            ))),
        }
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, &self.text) {
            (Some(path), _) => path.fmt(f),
            (None, Some(_)) => f.write_str("(PEM text)"),
            (None, None) => f.write_str("None"),
        }
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TlsConfig");
        #[cfg(feature = "tls")]
        if self.client_config.is_some() {
            return shown.field("client_config", &"(given)").finish();
        }
        shown
            .field("truststore", &self.truststore)
            .field("keystore", &self.keystore)
            .field("key", &self.key)
            .field("certificates", &self.chain)
            .field("verify_host_name", &self.verify_host_name)
            .field("verify_certificates", &self.verify_certificates)
            .field("protocols", &self.protocols)
            .field("cipher_suites", &self.cipher_suites)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: &TlsConfig) -> String {
        config.validate().expect_err("it cannot work").to_string()
    }

    #[test]
    #[cfg(feature = "tls")]
    fn settings_that_exclude_each_other_are_named() {
        let new = TlsConfig::new;
        assert_eq!(new().validate(), Ok(()));
        assert_eq!(new().keystore_pem("k", "c").truststore_file("ca").validate(), Ok(()));
        for (config, part) in [
            (new().truststore_file("a").truststore_pem("b"), "truststore_file and truststore_pem"),
            (
                new().keystore_file("a").keystore_pem("b", "c"),
                "keystore_file and keystore_pem both",
            ),
            (new().keystore_file("a").certificate_file("c"), "keystore_pem_files"),
            (new().key_pem("k"), "without its certificate"),
            (new().certificate_pem("c"), "without its private key"),
            (new().key_pem("k").key_file("k"), "keystore_pem_files and keystore_pem"),
            (new().protocols(&[]), "protocols = "),
            (new().cipher_suites(["RC4-MD5"]), "cipher_suites = RC4-MD5"),
        ] {
            let text = refused(&config);
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn no_password_or_key_is_seen_in_debug_output() {
        let config = TlsConfig::new()
            .truststore_pem("hunter1")
            .truststore_password("hunter2")
            .keystore_pem("hunter3", "hunter4")
            .keystore_password("hunter5")
            .key_password("hunter6");
        let text = format!("{config:?} {:?} {:?}", config.truststore(), config.identity());
        assert!(!text.contains("hunter"), "{text}");
        assert!(text.contains("(PEM text)") && text.contains("verify_host_name: true"), "{text}");
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn without_the_feature_tls_is_refused() {
        assert!(refused(&TlsConfig::new()).contains("needs the feature \"tls\""));
    }
}
