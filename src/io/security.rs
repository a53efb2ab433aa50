//! How a producer's connections are encrypted, and how it logs in.

use std::sync::Arc;

use super::helper_threads::HelperThreads;
use super::logins::Logins;
#[cfg(feature = "tls")]
use super::tls::TlsClient;
use crate::engine::policy::SaslMechanism;

/// How threads for logins, and those for files, are called in a debugger.
const THREAD: &str = "tidegate-help";
/// Of each kind for a producer. A provider of credentials that hangs keeps one.
const THREADS_MAX: usize = 4;

/// See the module. The default: neither.
#[derive(Clone, Default)]
pub struct Security {
    #[cfg(feature = "tls")]
    pub(super) encryption: Option<Encryption>,
    pub(super) logins: Option<Logins>,
}

/// How connections are encrypted, and what reads the files for it.
#[cfg(feature = "tls")]
#[derive(Clone)]
pub(super) struct Encryption {
    pub(super) client: Arc<TlsClient>,
    /// Logins have threads of their own: those may hang.
    pub(super) files: Arc<HelperThreads>,
}

impl Security {
    /// Logs in with this mechanism.
    pub fn with_login(mut self, mechanism: Arc<dyn SaslMechanism>) -> Self {
        self.logins =
            Some(Logins::new(mechanism, Arc::new(HelperThreads::new(THREAD, THREADS_MAX))));
        self
    }

    /// Encrypts with this.
    #[cfg(feature = "tls")]
    pub fn with_tls(mut self, tls: Arc<TlsClient>) -> Self {
        let files = Arc::new(HelperThreads::new(THREAD, THREADS_MAX));
        self.encryption = Some(Encryption { client: tls, files });
        self
    }
}
