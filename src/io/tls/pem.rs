//! Certificates and private keys in PEM (RFC 7468).

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::encrypted_key::{self, KeyError};
use crate::engine::policy::Secret;

const BEGIN: &str = "-----BEGIN ";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY-----";
const PLAIN: &str = "PRIVATE KEY-----";
/// What OpenSSL wrote before it knew PKCS#8: the password's hash is a single MD5.
const OLD_ENCRYPTED: &str = "Proc-Type: 4,ENCRYPTED";

/// Whether it looks like PEM: it may have any text in front.
pub(super) fn is_pem(bytes: &[u8]) -> bool {
    let begin = BEGIN.as_bytes();
    bytes.windows(begin.len()).any(|window| window == begin)
}

/// Gives PEM its lines back. In a properties file whose lines end in backslashes the whole of it is
/// one line, as in the examples of KIP-651.
pub(super) fn with_lines(text: &str) -> Zeroizing<String> {
    let mut lines = Zeroizing::new(String::with_capacity(2 * text.len()));
    for (index, part) in text.split("-----").enumerate() {
        // Every other part is a label.
        if index % 2 == 1 {
            lines.extend(["-----", part, "-----\n"]);
        } else {
            lines.extend(part.split_whitespace().flat_map(|word| [word, "\n"]));
        }
    }
    lines
}

/// Every certificate in `text`, in order; at least one.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut certificates = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(text.as_bytes()).enumerate() {
        // The library's error may quote a line, which may be one of a private key.
        let certificate = certificate.map_err(|_| {
            format!("after {index} certificates comes one that is damaged: it is no valid PEM")
        })?;
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        let found = describe(text);
        return Err(format!("it holds no certificate (BEGIN CERTIFICATE), {found}"));
    }
    Ok(certificates)
}

/// The private key in `text`, decrypted with `password` if need be.
pub(super) fn private_key(
    text: &str,
    password: Option<&Secret>,
) -> Result<PrivateKeyDer<'static>, String> {
    if text.contains(OLD_ENCRYPTED) {
        return Err("its private key is encrypted in OpenSSL's old way, which anyone can undo: \
                    convert it with openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD.pem -out NEW.pem"
            .to_owned());
    }
    if text.contains(ENCRYPTED) {
        return encrypted_private_key(text, password);
    }
    let key = PrivateKeyDer::pem_slice_iter(text.as_bytes()).next();
    match key {
        Some(Ok(key)) => Ok(key),
        Some(Err(_)) => Err("its private key is damaged: it is no valid PEM".to_owned()),
        None => {
            let found = describe(text);
            Err(format!("it holds no private key (BEGIN PRIVATE KEY), {found}"))
        }
    }
}

fn encrypted_private_key(
    text: &str,
    password: Option<&Secret>,
) -> Result<PrivateKeyDer<'static>, String> {
    let Some(password) = password else {
        return Err("its private key is encrypted: set ssl.key.password (TlsConfig::key_password)"
            .to_owned());
    };
    // The PEM reader steps over what it does not know, and knows unencrypted keys.
    let renamed = Zeroizing::new(text.replace(ENCRYPTED, PLAIN));
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(renamed.as_bytes());
    let is_key = |section: &(SectionKind, Vec<u8>)| section.0 == SectionKind::PrivateKey;
    let section = sections.filter_map(Result::ok).find(is_key);
    let malformed = "its encrypted private key is damaged: it is no valid PEM";
    let encrypted = section.map(|(_, der)| der).ok_or(malformed)?;
    match encrypted_key::decrypt(&encrypted, password.as_text()) {
        Ok(key) => Ok(PrivatePkcs8KeyDer::from(key.to_vec()).into()),
        Err(KeyError::Malformed) => Err(malformed.to_owned()),
        Err(KeyError::WrongPassword) => {
            Err("ssl.key.password is not the password of its private key".to_owned())
        }
        Err(KeyError::Unsupported) => Err("its private key is encrypted by something else than \
                                           PBES2 with PBKDF2 and AES: convert it with openssl \
                                           pkcs8 -topk8 -v2 aes-256-cbc -in OLD.pem -out NEW.pem"
            .to_owned()),
    }
}

/// What is there instead of what was looked for.
fn describe(text: &str) -> String {
    let labels = text.lines().filter_map(|line| line.trim().strip_prefix(BEGIN));
    let known = |label: &&str| label.bytes().all(|b| b.is_ascii_uppercase() || b" -".contains(&b));
    let labels: Vec<&str> =
        labels.filter(known).map(|label| label.trim_end_matches('-')).take(3).collect();
    match labels.as_slice() {
        [] => "and nothing else in PEM".to_owned(),
        labels => format!("but: {}", labels.join(", ")),
    }
}
