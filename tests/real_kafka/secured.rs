//! TLS and logins against real Apache Kafka: every way in, sessions that are renewed, what goes
//! wrong, certificates that are replaced, and brokers of old releases.

#[path = "secured/certificates.rs"]
mod certificates;
#[path = "secured/old_brokers.rs"]
pub mod old_brokers;
#[path = "secured/refusals.rs"]
pub mod refusals;
#[path = "secured/renewal.rs"]
pub mod renewal;
#[path = "secured/sessions.rs"]
pub mod sessions;
#[path = "secured/stage.rs"]
mod stage;
#[path = "secured/ways.rs"]
pub mod ways;
