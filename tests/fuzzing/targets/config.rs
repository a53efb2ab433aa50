//! What people write: properties files and lists of brokers.

use tidegate::ProducerConfig;

use super::memory::bounded;

pub fn properties(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    bounded(text.len() * 64 + (64 << 10), || match ProducerConfig::from_properties_text(&text) {
        Ok(config) => drop(config.validate()),
        Err(error) => assert!(!error.to_string().is_empty()),
    });
}

pub fn bootstrap(bytes: &[u8]) {
    let list = String::from_utf8_lossy(bytes);
    bounded(list.len() * 64 + (64 << 10), || {
        match ProducerConfig::from_properties([("bootstrap.servers", &*list)]) {
            Ok(config) => drop(config.validate()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}
