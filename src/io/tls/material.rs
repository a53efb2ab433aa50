//! Reads truststores and keystores: the authorities to trust, and what this client presents.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::pem;
use crate::config::{IdentitySource, Material, Source, StoreType, TlsConfig};
use crate::engine::policy::Secret;
use crate::error::BuildError;
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};

/// A store of all public authorities is a quarter of a megabyte; more than this is another file.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How files of Java's own format begin.
const JKS_MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
/// And those of its successor, which only Java's own cryptography wrote.
const JCEKS_MAGIC: [u8; 4] = [0xce, 0xce, 0xce, 0xce];
/// How DER begins.
const DER_SEQUENCE: u8 = 0x30;

/// What this client presents: a private key, and its certificate with those up to the authority.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// A store's content, by its format.
enum Content<'a> {
    Pem(&'a str),
    Pkcs12(&'a [u8]),
}

/// The authorities that brokers' certificates must come from.
pub(super) fn roots(config: &TlsConfig) -> Result<RootCertStore, BuildError> {
    match config.truststore()? {
        None => system_roots(),
        Some(material) => {
            let certificates = load(&material, |content| match content {
                Content::Pem(text) => pem::certificates(text),
                Content::Pkcs12(bytes) => trusted(bytes, &material),
            })?;
            let mut roots = RootCertStore::empty();
            for (index, certificate) in certificates.into_iter().enumerate() {
                roots.add(certificate).map_err(|error| {
                    let number = index + 1;
                    refuse(&material, format!("its certificate {number} cannot be read: {error}"))
                })?;
            }
            Ok(roots)
        }
    }
}

/// The authorities that the machine's administrator trusts.
fn system_roots() -> Result<RootCertStore, BuildError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some machines have old certificates among them that no library reads any more.
    let (_, ignored) = roots.add_parsable_certificates(found.certs);
    if ignored > 0 {
        log::debug!("{ignored} of this machine's trusted certificates cannot be read");
    }
    if roots.is_empty() {
        let first = found.errors.first();
        let reason = first.map(|error| format!(" ({error})")).unwrap_or_default();
        let words = format!(
            "none could be found{reason}: install the package ca-certificates, or set \
             TlsConfig::truststore_file (ssl.truststore.location) to the file of the \
             brokers' authority"
        );
        return Err(BuildError::System {
            what: "this machine's trusted certificates",
            problem: Problem::new(ProblemKind::System, words),
        });
    }
    Ok(roots)
}

/// What this client presents to brokers that ask, if anything.
pub(super) fn identity(config: &TlsConfig) -> Result<Option<Identity>, BuildError> {
    match config.identity()? {
        None => Ok(None),
        Some(IdentitySource::Keystore(material)) => load(&material, |content| match content {
            Content::Pem(text) => Ok(Identity {
                chain: pem::certificates(text)?,
                key: pem::private_key(text, password_of_key(&material))?,
            }),
            Content::Pkcs12(bytes) => own(bytes, &material),
        })
        .map(Some),
        Some(IdentitySource::Apart { key, chain }) => {
            let only_pem = "it must be PEM; name a PKCS#12 store in TlsConfig::keystore_file \
                            (ssl.keystore.location)";
            let chain = load(&chain, |content| match content {
                Content::Pem(text) => pem::certificates(text),
                Content::Pkcs12(_) => Err(only_pem.to_owned()),
            })?;
            let key = load(&key, |content| match content {
                Content::Pem(text) => pem::private_key(text, password_of_key(&key)),
                Content::Pkcs12(_) => Err(only_pem.to_owned()),
            })?;
            Ok(Some(Identity { chain, key }))
        }
    }
}

/// The error that names what `material` was given as, and says what is wrong with it.
pub(super) fn refuse(material: &Material<'_>, reason: String) -> BuildError {
    let value = match material.source {
        Source::File(path) => path.display().to_string(),
        Source::Text(_) => "(PEM text)".to_owned(),
    };
    BuildError::InvalidSetting { name: material.property.to_owned(), value, reason }
}

/// Java's `ssl.key.password`; where only the store has one, it is meant for the key too.
fn password_of_key<'a>(material: &Material<'a>) -> Option<&'a Secret> {
    material.key_password.or(material.store_password)
}

/// Reads `material`, finds its format out and hands the content to `parse`.
fn load<T>(
    material: &Material<'_>,
    parse: impl FnOnce(Content<'_>) -> Result<T, String>,
) -> Result<T, BuildError> {
    let bytes = match material.source {
        Source::Text(text) => {
            // Properties files and environment variables often carry line ends as two characters.
            let text = Zeroizing::new(text.as_text().replace("\\n", "\n"));
            let flat = !text.contains('\n');
            let lines = if flat { pem::with_lines(&text) } else { text };
            Zeroizing::new(lines.as_bytes().to_vec())
        }
        Source::File(path) => read(path).map_err(|problem| BuildError::System {
            what: "a file of the TLS configuration",
            problem: problem.at(format_args!("{} = {}", material.property, path.display())),
        })?,
    };
    let content = content(&bytes, material).map_err(|reason| refuse(material, reason))?;
    parse(content).map_err(|reason| refuse(material, reason))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let file = File::open(path)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let words = format!("it has more than {FILE_BYTES_MAX} bytes: is it the right file?");
        return Err(Problem::new(ProblemKind::Limit, words));
    }
    Ok(bytes)
}

/// Tells the format by the content: a file's name says nothing, and Kafka's default type is JKS,
/// under which Java reads PKCS#12 too.
fn content<'a>(bytes: &'a [u8], material: &Material<'_>) -> Result<Content<'a>, String> {
    let (found, content) = if bytes.is_empty() {
        return Err("it is empty".to_owned());
    } else if bytes.starts_with(&JKS_MAGIC) || bytes.starts_with(&JCEKS_MAGIC) {
        let old = match material.source {
            Source::File(path) => path.display().to_string(),
            Source::Text(_) => "OLD.jks".to_owned(),
        };
        return Err(format!(
            "it is a JKS store, which only Java reads: convert it with keytool -importkeystore \
             -srckeystore {old} -destkeystore {old}.p12 -deststoretype PKCS12"
        ));
    } else if pem::is_pem(bytes) {
        let text = std::str::from_utf8(bytes);
        let text =
            text.map_err(|_| "it is PEM with text around it that is not UTF-8".to_owned())?;
        (StoreType::Pem, Content::Pem(text))
    } else if bytes[0] == DER_SEQUENCE {
        (StoreType::Pkcs12, Content::Pkcs12(bytes))
    } else {
        return Err("it is neither PEM nor PKCS#12".to_owned());
    };
    match material.store_type {
        Some(wanted) if wanted != found => {
            Err(format!("its type is given as {wanted}, and it is {found}: change the type"))
        }
        _ => Ok(content),
    }
}

#[cfg(feature = "pkcs12")]
fn trusted(bytes: &[u8], material: &Material<'_>) -> Result<Vec<CertificateDer<'static>>, String> {
    super::pkcs12::trusted(bytes, material.store_password.map_or("", Secret::as_text))
}

#[cfg(feature = "pkcs12")]
fn own(bytes: &[u8], material: &Material<'_>) -> Result<Identity, String> {
    let (store, key) = (material.store_password, material.key_password);
    if let (Some(store), Some(key)) = (store, key)
        && store.as_text() != key.as_text()
    {
        return Err("in a PKCS#12 store the private key has the store's password: \
                    ssl.key.password must be ssl.keystore.password, or be left out"
            .to_owned());
    }
    super::pkcs12::identity(bytes, store.or(key).map_or("", Secret::as_text))
}

/// What a user of a build without the feature is told: two ways out.
#[cfg(not(feature = "pkcs12"))]
const NO_PKCS12: &str = "it is a PKCS#12 store, which needs the feature \"pkcs12\" of the tidegate \
     crate; or convert it to PEM with openssl pkcs12 -in OLD.p12 -out NEW.pem -nodes";

#[cfg(not(feature = "pkcs12"))]
fn trusted(_: &[u8], _: &Material<'_>) -> Result<Vec<CertificateDer<'static>>, String> {
    Err(NO_PKCS12.to_owned())
}

#[cfg(not(feature = "pkcs12"))]
fn own(_: &[u8], _: &Material<'_>) -> Result<Identity, String> {
    Err(NO_PKCS12.to_owned())
}
