//! The hash functions of SCRAM, and what is computed with them (RFC 5802 section 2.2).

use hmac::{EagerHash, Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac;
use sha2::{Digest, Sha256, Sha512};

use crate::engine::policy::sasl::secret::Secret;

/// Which hash function: brokers have separate credentials for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    /// The name of the mechanism.
    pub(super) fn mechanism(self) -> &'static str {
        match self {
            Hash::Sha256 => "SCRAM-SHA-256",
            Hash::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// `Hi(password, salt, iterations)`, which is PBKDF2 with one block of output.
    pub(super) fn salted_password(self, password: &Secret, salt: &[u8], iterations: u32) -> Secret {
        let mut salted = vec![0; self.bytes()];
        match self {
            Hash::Sha256 => {
                pbkdf2_hmac::<Sha256>(password.expose(), salt, iterations, &mut salted);
            }
            Hash::Sha512 => {
                pbkdf2_hmac::<Sha512>(password.expose(), salt, iterations, &mut salted);
            }
        }
        Secret::from(salted)
    }

    pub(super) fn digest(self, bytes: &[u8]) -> Secret {
        Secret::from(match self {
            Hash::Sha256 => Sha256::digest(bytes).to_vec(),
            Hash::Sha512 => Sha512::digest(bytes).to_vec(),
        })
    }

    pub(super) fn mac(self, key: &[u8], message: &[u8]) -> Secret {
        Secret::from(match self {
            Hash::Sha256 => keyed::<Sha256>(key, message).finalize().as_bytes().to_vec(),
            Hash::Sha512 => keyed::<Sha512>(key, message).finalize().as_bytes().to_vec(),
        })
    }

    /// Whether `mac` is that of the message, in a time that does not tell how much of it is right.
    pub(super) fn is_mac(self, key: &[u8], message: &[u8], mac: &[u8]) -> bool {
        match self {
            Hash::Sha256 => keyed::<Sha256>(key, message).verify_slice(mac).is_ok(),
            Hash::Sha512 => keyed::<Sha512>(key, message).verify_slice(mac).is_ok(),
        }
    }

    /// Bytes of output.
    fn bytes(self) -> usize {
        match self {
            Hash::Sha256 => 32,
            Hash::Sha512 => 64,
        }
    }
}

fn keyed<D: EagerHash>(key: &[u8], message: &[u8]) -> Hmac<D> {
    let mac = Hmac::<D>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(message)
}
