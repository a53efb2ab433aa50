//! A client and a server that talk to each other without sockets.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConnection, Error, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use super::super::TlsClient;
use super::super::provider::provider;
use super::certificates::{Authority, Issued};
use crate::config::TlsConfig;
use crate::problem::Problem;

/// What a server is.
pub(super) struct Server<'a> {
    pub(super) own: &'a Issued,
    /// Whose certificates it asks clients for.
    pub(super) clients: Option<&'a Authority>,
    pub(super) versions: &'a [&'static SupportedProtocolVersion],
    pub(super) suites: &'a [&'static str],
}

impl<'a> Server<'a> {
    pub(super) fn with(own: &'a Issued) -> Self {
        let versions = rustls::ALL_VERSIONS;
        Server { own, clients: None, versions, suites: &[] }
    }

    pub(super) fn start(&self) -> Arc<ServerConfig> {
        let mut settings = TlsConfig::new();
        if !self.suites.is_empty() {
            settings = settings.cipher_suites(self.suites.iter().copied());
        }
        let provider = provider(&settings).expect("suites that the library has");
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions)
            .expect("suites that fit the versions");
        let builder = match self.clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let roots = roots(authority.certificate.der());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build().expect("an authority"))
            }
        };
        let config = builder.with_single_cert(self.own.chain(), self.own.key());
        Arc::new(config.expect("the key belongs to the certificate"))
    }
}

fn roots(certificate: &CertificateDer<'static>) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate that was just made");
    Arc::new(roots)
}

/// A connection that has been set up, and over which the server has answered.
pub(super) struct Pair {
    pub(super) client: ClientConnection,
    pub(super) server: ServerConnection,
}

/// Connects to `host`, which is `server`, and waits for an answer.
pub(super) fn connect(
    tls: &TlsClient,
    host: &str,
    server: &Arc<ServerConfig>,
) -> Result<Pair, Problem> {
    let client = tls.connect(host)?;
    let server = ServerConnection::new(server.clone()).expect("a server");
    let mut pair = Pair { client, server };
    pair.talk().map_err(|error| tls.explain(&error, host))?;
    Ok(pair)
}

impl Pair {
    fn talk(&mut self) -> Result<(), Error> {
        self.server.writer().write_all(b"answer").expect("it is kept");
        let mut answer = Vec::new();
        // A handshake has at most three turns; tickets follow.
        for _ in 0..6 {
            let mut bytes = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut bytes).expect("memory takes all");
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() && self.server.read_tls(&mut rest).is_ok_and(|read| read > 0) {
                // Its alert says to the client what is wrong.
                let _ = self.server.process_new_packets();
            }
            let mut bytes = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut bytes).expect("memory takes all");
            }
            feed(&mut self.client, &bytes)?;
            let _ = self.client.reader().read_to_end(&mut answer);
        }
        assert_eq!(answer, b"answer");
        Ok(())
    }
}

/// Gives a client what a peer has sent.
pub(super) fn feed(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("memory can be read");
        client.process_new_packets()?;
    }
    Ok(())
}
