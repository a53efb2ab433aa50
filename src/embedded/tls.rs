//! TLS of the embedded brokers: an authority of the cluster's own, and certificates made for it.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::keys::Key;

/// Characters of a line of PEM.
const PEM_LINE: usize = 64;

/// How the brokers of an embedded cluster encrypt. Their certificates are made when it starts,
/// under an authority of its own, which clients have to trust
/// ([`authority_pem`](super::EmbeddedCluster::authority_pem)).
///
/// ```
/// # use tidegate::{Producer, TlsConfig};
/// use tidegate::embedded::{EmbeddedCluster, EmbeddedTls};
///
/// let tls = EmbeddedTls::new().client_certificates();
/// let cluster = EmbeddedCluster::builder().topic("orders", 1).tls(tls).start()?;
///
/// let (key, certificate) = cluster.client_identity_pem("shop")?;
/// let tls = TlsConfig::new()
///     .truststore_pem(cluster.authority_pem())
///     .keystore_pem(key, certificate);
/// let producer = Producer::builder(&cluster.bootstrap_servers()).tls(tls).build()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(cluster.high_watermark("orders", 0), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct EmbeddedTls {
    names: Vec<String>,
    years: (i32, i32),
    wants_client_certificate: bool,
    only_1_2: bool,
}

impl Default for EmbeddedTls {
    fn default() -> Self {
        EmbeddedTls::new()
    }
}

impl EmbeddedTls {
    /// TLS 1.2 and 1.3, certificates for 127.0.0.1 and `localhost` that are valid, and no client
    /// certificates asked for.
    pub fn new() -> Self {
        EmbeddedTls {
            names: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            years: (2000, 2100),
            wants_client_certificate: false,
            only_1_2: false,
        }
    }

    /// The names and addresses that the brokers' certificates are for.
    pub fn names(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// The brokers' certificates are valid from the beginning of one year to that of another.
    pub fn valid(mut self, from: i32, to: i32) -> Self {
        self.years = (from, to);
        self
    }

    /// Clients need a certificate of the cluster's authority (`ssl.client.auth=required`):
    /// [`client_identity_pem`](super::EmbeddedCluster::client_identity_pem) makes one.
    pub fn client_certificates(mut self) -> Self {
        self.wants_client_certificate = true;
        self
    }

    /// No TLS 1.3.
    pub fn only_1_2(mut self) -> Self {
        self.only_1_2 = true;
        self
    }
}

/// What a running cluster encrypts with.
pub(super) struct ServerTls {
    settings: EmbeddedTls,
    current: RwLock<Current>,
}

/// An authority, and what the brokers show of it.
struct Current {
    authority: Issuer<'static, Key>,
    authority_der: CertificateDer<'static>,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ServerTls {
    pub(super) fn new(settings: EmbeddedTls) -> io::Result<ServerTls> {
        let current = RwLock::new(Current::new(&settings)?);
        Ok(ServerTls { settings, current })
    }

    /// A new authority, and new certificates of it, for connections from now on.
    pub(super) fn renew(&self) -> io::Result<()> {
        let new = Current::new(&self.settings)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    pub(super) fn accept(&self) -> io::Result<ServerConnection> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        ServerConnection::new(current.config.clone()).map_err(io::Error::other)
    }

    pub(super) fn authority_pem(&self) -> String {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        pem("CERTIFICATE", &current.authority_der)
    }

    /// A key, and a certificate of the present authority for it.
    pub(super) fn client_identity_pem(&self, name: &str) -> io::Result<(String, String)> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let key = Key::generate()?;
        let mut params = params(name, Vec::new(), self.settings.years)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &current.authority).map_err(io::Error::other)?;
        Ok((pem("PRIVATE KEY", &key.to_pkcs8()?), pem("CERTIFICATE", certificate.der())))
    }
}

impl Current {
    fn new(settings: &EmbeddedTls) -> io::Result<Current> {
        let mut authority = params("tidegate embedded authority", Vec::new(), (2000, 2100))?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = Key::generate()?;
        let signed = authority.self_signed(&authority_key).map_err(io::Error::other)?;
        let authority_der = signed.der().clone();
        let authority = Issuer::new(authority, authority_key);
        let key = Key::generate()?;
        let mut broker = params("broker", settings.names.clone(), settings.years)?;
        broker.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let broker = broker.signed_by(&key, &authority).map_err(io::Error::other)?;
        let provider = Arc::new(super::keys::provider()?);
        let versions: &[_] = match settings.only_1_2 {
            true => &[&rustls::version::TLS12],
            false => rustls::ALL_VERSIONS,
        };
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(io::Error::other)?;
        let config = if settings.wants_client_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(authority_der.clone()).map_err(io::Error::other)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            config.with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
        } else {
            config.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8()?));
        let chain = vec![broker.der().clone()];
        let config = config.with_single_cert(chain, key).map_err(io::Error::other)?;
        Ok(Current { authority, authority_der, config: Arc::new(config) })
    }
}

fn params(name: &str, names: Vec<String>, years: (i32, i32)) -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from(random()?.to_vec()));
    params.key_identifier_method = KeyIdMethod::PreSpecified(random()?.to_vec());
    Ok(params)
}

/// A number that no other certificate has.
fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    // A serial number is positive (RFC 5280, section 4.1.2.2).
    bytes[0] &= 0x7f;
    Ok(bytes)
}

/// Text in the form of RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(PEM_LINE) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
