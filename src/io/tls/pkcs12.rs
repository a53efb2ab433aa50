//! Truststores and keystores in PKCS#12 (RFC 7292).

use p12_keystore::error::Error;
use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12Archive, Pkcs12ImportPolicy};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::material::Identity;

/// The certificates to trust: those that Java marked so, or, in a store without private keys, all.
pub(super) fn trusted(
    bytes: &[u8],
    password: &str,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let archive = Pkcs12Archive::from_pkcs12(bytes, password).map_err(|error| words(&error))?;
    let marked = archive.certs.iter().any(|bag| bag.trusted);
    if !marked && !archive.keys.is_empty() {
        return Err(
            "it holds a private key and no trusted certificate: it is a keystore".to_owned()
        );
    }
    let trusted = archive.certs.iter().filter(|bag| bag.trusted || !marked);
    let certificates: Vec<_> =
        trusted.map(|bag| CertificateDer::from(bag.cert.as_der().to_vec())).collect();
    if certificates.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    Ok(certificates)
}

/// The one private key, and its certificates.
pub(super) fn identity(bytes: &[u8], password: &str) -> Result<Identity, String> {
    let store = KeyStore::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Strict)
        .map_err(|error| words(&error))?;
    let mut chains = store.entries().filter_map(|(_, entry)| match entry {
        KeyStoreEntry::PrivateKeyChain(chain) => Some(chain),
        _ => None,
    });
    let Some(chain) = chains.next() else {
        return Err("it holds no private key with its certificate".to_owned());
    };
    let others = chains.count();
    if others > 0 {
        let keys = others + 1;
        return Err(format!("it holds {keys} private keys: leave only the one to present"));
    }
    let der = |certificate: &p12_keystore::Certificate| certificate.as_der().to_vec().into();
    Ok(Identity {
        chain: chain.certs().iter().map(der).collect(),
        key: PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec()).into(),
    })
}

/// In words of this client's: the library's are for programmers.
fn words(error: &Error) -> String {
    match error {
        Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) => {
            "its password is missing or wrong, or it is damaged".to_owned()
        }
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => {
            "it is encrypted in a way that this client does not know: write it again with \
             keytool -importkeystore, or with openssl pkcs12 -export"
                .to_owned()
        }
        _ => "it is damaged, or no PKCS#12 store".to_owned(),
    }
}
