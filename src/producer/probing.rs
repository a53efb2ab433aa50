//! A probe with the settings that a producer would have.

use crate::config::ProducerConfig;
use crate::error::BuildError;
use crate::io::{ClientParts, Probe};

impl Probe {
    /// A probe of the cluster that a producer with these settings would use. Nothing is contacted
    /// before [`Probe::run`].
    ///
    /// # Errors
    /// [`BuildError`] if the settings cannot work, as building the producer would say.
    pub fn new(config: ProducerConfig) -> Result<Probe, BuildError> {
        config.validate()?;
        Ok(Probe::from_parts(ClientParts::of(&config)?))
    }
}
