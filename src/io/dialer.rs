//! What all connections of a producer share: where brokers are reached, and what is known of the
//! addresses there.

use std::sync::{Arc, Mutex, MutexGuard};

use super::address_book::{AddressBook, BookSettings, Route};
use super::resolver::Resolver;
use super::security::Security;
use super::socket_options::SocketOptions;
use crate::config::Socks5;
use crate::engine::cluster::BrokerAddress;
use crate::engine::policy::{AddressMap, BrokerPlace};
use crate::locking::lock;
use crate::problem::{Problem, ProblemKind};
use crate::user_code;

/// See the module.
pub(super) struct Dialer {
    pub(super) resolver: Resolver,
    pub(super) options: SocketOptions,
    pub(super) security: Security,
    address_map: Option<Arc<dyn AddressMap>>,
    pub(super) proxy: Option<Socks5>,
    book: Mutex<AddressBook>,
}

impl Dialer {
    pub(super) fn new(options: SocketOptions, security: Security, random: u64) -> Self {
        let book = Mutex::new(AddressBook::new(BookSettings::from(&options), random));
        let (resolver, address_map) = (Resolver::default(), None);
        Dialer { resolver, options, security, address_map, proxy: None, book }
    }

    /// Brokers are reached where this says.
    pub(super) fn with_map(self, address_map: Option<Arc<dyn AddressMap>>) -> Self {
        Dialer { address_map, ..self }
    }

    /// Brokers are reached through this proxy.
    pub(super) fn through(self, proxy: Option<Socks5>) -> Self {
        Dialer { proxy, ..self }
    }

    /// Whom to connect to for a broker: the broker where the application's own map says, or the
    /// proxy to it.
    ///
    /// # Errors
    ///
    /// If the map panicked.
    pub(super) fn route(&self, id: Option<i32>, broker: BrokerAddress) -> Result<Route, Problem> {
        let broker = self.mapped(id, broker)?;
        let Some(proxy) = &self.proxy else { return Ok((broker, None)) };
        let address = proxy.address();
        Ok((BrokerAddress { host: address.host.as_str().into(), port: address.port }, Some(broker)))
    }

    fn mapped(&self, id: Option<i32>, broker: BrokerAddress) -> Result<BrokerAddress, Problem> {
        let Some(map) = &self.address_map else { return Ok(broker) };
        let place = BrokerPlace::new(id, &broker.host, broker.port);
        let _inside = user_code::enter();
        match user_code::call(|| map.map(&place)) {
            Ok(None) => Ok(broker),
            Ok(Some((host, port))) => Ok(BrokerAddress { host: host.into(), port }),
            Err(_) => Err(Problem::new(ProblemKind::System, "the address map panicked")),
        }
    }

    pub(super) fn book(&self) -> MutexGuard<'_, AddressBook> {
        lock(&self.book)
    }
}
