//! Certificates made for a test.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub(in super::super) struct Authority {
    pub(in super::super) certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

pub(in super::super) struct Issued {
    pub(in super::super) certificate: Certificate,
    key: KeyPair,
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names for a test");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    pub(in super::super) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).expect("it can be signed");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    pub(in super::super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(in super::super) fn issue(&self, name: &str, hosts: &[&str]) -> Issued {
        self.issue_with(name, hosts, |_| {})
    }

    pub(in super::super) fn issue_with(
        &self,
        name: &str,
        hosts: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = params(name, hosts);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        Issued { certificate, key }
    }
}

impl Issued {
    /// One that no authority has signed.
    pub(in super::super) fn by_itself(name: &str, hosts: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params(name, hosts).self_signed(&key).expect("it can be signed");
        Issued { certificate, key }
    }

    pub(in super::super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    pub(in super::super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key that was just made")
    }

    pub(in super::super) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(in super::super) fn chain_pem(&self) -> String {
        self.certificate.pem()
    }
}
