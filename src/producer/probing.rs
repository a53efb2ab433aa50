//! A probe with the settings that a producer would have.

use super::builder::{connection_config, security, socket_options};
use crate::config::ProducerConfig;
use crate::engine::cluster::BrokerAddress;
use crate::engine::policy::random_seed;
use crate::error::BuildError;
use crate::io::{Probe, ProbeParts};

impl Probe {
    /// A probe of the cluster that a producer with these settings would use. Nothing is contacted
    /// before [`Probe::run`].
    ///
    /// # Errors
    /// [`BuildError`] if the settings cannot work, as building the producer would say.
    pub fn new(config: ProducerConfig) -> Result<Probe, BuildError> {
        config.validate()?;
        let bootstrap = config.bootstrap_addresses()?.into_iter();
        let address =
            |it: crate::config::HostPort| BrokerAddress { host: it.host.into(), port: it.port };
        Ok(Probe::from_parts(ProbeParts {
            bootstrap: bootstrap.map(address).collect(),
            connection: connection_config(&config).into(),
            sockets: socket_options(&config),
            security: security(&config)?,
            address_map: config.address_map.clone(),
            socks5: config.socks5.clone(),
            random: random_seed(),
        }))
    }
}
