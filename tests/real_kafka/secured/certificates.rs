//! Authorities, and certificates of theirs, made on the fly.

use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The name of every authority: those that were made anew have it again.
pub const AUTHORITY: &str = "tidegate tests";

/// Signs certificates of brokers and clients.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A key and the certificate for it.
pub struct Identity {
    key: KeyPair,
    certificate: rcgen::Certificate,
}

impl Authority {
    /// A new one, under the name of all.
    pub fn new() -> Self {
        let mut params = params(AUTHORITY, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("the system has random bytes");
        let certificate = params.self_signed(&key).expect("the parameters are complete");
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// What clients and brokers have to trust.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A broker's certificate, for these names and addresses.
    pub fn broker(&self, names: &[&str]) -> Identity {
        self.sign(params("broker", names), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate.
    pub fn client(&self, name: &str) -> Identity {
        self.sign(params(name, &[]), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A broker's key store for releases that read no PEM.
    pub fn key_store_pkcs12(&self, identity: &Identity, password: &str) -> Vec<u8> {
        let certificate = |der: &[u8]| Certificate::from_der(der).expect("it was just made");
        let chain = [&identity.certificate, &self.certificate].map(|c| certificate(c.der()));
        let key = PrivateKey::from_der(identity.key.serialized_der()).expect("it was just made");
        let mut store = KeyStore::new();
        let entry = PrivateKeyChain::new("broker", key, chain);
        store.add_entry("broker", KeyStoreEntry::PrivateKeyChain(entry));
        store.writer(password).write().expect("the store is complete")
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Identity {
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("the system has random bytes");
        let certificate = params.signed_by(&key, &self.issuer).expect("the key signs");
        Identity { key, certificate }
    }
}

impl Identity {
    /// The private key (PKCS#8).
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The certificate alone: the authority's is at the peer already.
    pub fn chain_pem(&self) -> String {
        self.certificate.pem()
    }

    /// Both in one, as a broker's `ssl.keystore.location` wants it.
    pub fn key_store_pem(&self) -> String {
        self.key_pem() + &self.chain_pem()
    }
}

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names are ASCII");
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params
}
