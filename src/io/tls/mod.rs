//! TLS, as far as it is neither socket nor event loop: from the user's settings to connections that
//! a driver feeds, and from the errors of rustls to words.
//!
//! * [`TlsClient`]: makes connections; reads its files again once they have changed.
//! * `material`: truststores and keystores; `pem`, `pkcs12`, `encrypted_key`, `der`: their formats.
//! * `provider`: the cryptography, and whether this processor can run it.
//! * `verifier`: whether a broker's certificate is good; `names`, `certificate`: who it is for and
//!   from, and what else it says.
//! * `problems`: what an error means, and which setting to change.
//! * `watch`: whether a file has changed.

mod certificate;
mod client;
mod der;
mod encrypted_key;
mod material;
mod names;
mod pem;
#[cfg(feature = "pkcs12")]
mod pkcs12;
mod problems;
mod provider;
mod verifier;
mod watch;

pub(super) use certificate::certificate_words;
pub use client::TlsClient;

#[cfg(test)]
mod tests;
