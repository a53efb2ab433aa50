//! A SOCKS5 proxy between the client and the brokers.

use std::fmt;
use std::sync::Arc;

use super::HostPort;
use crate::engine::policy::Secret;

/// The longest user name and password that RFC 1929 can carry, in bytes.
pub(super) const LOGIN_BYTES_MAX: usize = 255;

/// A SOCKS5 proxy (RFC 1928) through which every broker is reached, such as `ssh -D` opens. The
/// brokers' names are not looked up here but by the proxy.
///
/// ```
/// use tidegate::{HostPort, Producer, Socks5};
///
/// let proxy = HostPort { host: "bastion".to_owned(), port: 1080 };
/// let builder = Producer::builder("kafka-1:9092").socks5(Socks5::new(proxy));
/// ```
#[derive(Clone)]
pub struct Socks5 {
    address: HostPort,
    login: Option<Arc<(String, Secret)>>,
}

impl Socks5 {
    /// A proxy at this address, which wants no login.
    pub fn new(address: HostPort) -> Self {
        Socks5 { address, login: None }
    }

    /// The proxy wants a user's name and password (RFC 1929), each of 1 to 255 bytes. They travel
    /// in the clear. Default: none.
    #[must_use]
    pub fn login(self, user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Socks5 { login: Some(Arc::new((user.into(), password.into()))), ..self }
    }

    /// Where the proxy listens.
    pub fn address(&self) -> &HostPort {
        &self.address
    }

    /// The user's name and password, if the proxy wants them.
    pub(crate) fn credentials(&self) -> Option<(&str, &Secret)> {
        self.login.as_ref().map(|login| (login.0.as_str(), &login.1))
    }
}

impl fmt::Debug for Socks5 {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.login.as_ref().map(|login| &login.0);
        f.debug_struct("Socks5").field("address", &self.address).field("user", &user).finish()
    }
}
