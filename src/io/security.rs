//! How a producer's connections are encrypted, and how it logs in.

use std::sync::Arc;

#[cfg(feature = "tls")]
use super::helper_threads::HelperThreads;
use super::logins::Logins;
#[cfg(feature = "tls")]
use super::tls::TlsClient;
use crate::engine::policy::SaslMechanism;

/// See the module. The default: neither.
#[derive(Clone, Default)]
pub struct Security {
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Arc<TlsClient>>,
    pub(super) logins: Option<Logins>,
    /// For what reads files. Logins have threads of their own: those may hang.
    #[cfg(feature = "tls")]
    pub(super) files: Arc<HelperThreads>,
}

impl Security {
    /// Logs in with this mechanism.
    pub fn with_login(mut self, mechanism: Arc<dyn SaslMechanism>) -> Self {
        self.logins = Some(Logins::new(mechanism, Arc::default()));
        self
    }

    /// Encrypts with this.
    #[cfg(feature = "tls")]
    pub fn with_tls(mut self, tls: Arc<TlsClient>) -> Self {
        self.tls = Some(tls);
        self
    }
}
