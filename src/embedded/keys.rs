//! Keys of the certificates (ECDSA on P-256), and the cryptography that TLS runs on.

#[cfg(not(feature = "tls-ring"))]
pub(super) use graviola_key::{Key, provider};
#[cfg(feature = "tls-ring")]
pub(super) use ring_key::{Key, provider};

#[cfg(all(not(feature = "tls-ring"), any(target_arch = "x86_64", target_arch = "aarch64")))]
mod graviola_key {
    use std::io;

    use graviola::hashing::Sha256;
    use graviola::signing::ecdsa::{P256, SigningKey};
    use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
    use rustls::crypto::CryptoProvider;

    /// Bytes that hold any of the encodings below.
    const ROOM: usize = 256;
    /// Bytes of a public key in a SubjectPublicKeyInfo, which ends with it: two coordinates of 32
    /// bytes, and a byte that says so.
    const PUBLIC_KEY_BYTES: usize = 65;

    /// See the module.
    pub(crate) struct Key {
        key: SigningKey<P256>,
        public: Vec<u8>,
    }

    impl Key {
        pub(crate) fn generate() -> io::Result<Key> {
            let key = SigningKey::<P256>::generate().map_err(told)?;
            let mut room = [0; ROOM];
            let info = key.to_spki_der(&mut room).map_err(told)?;
            let public = info[info.len() - PUBLIC_KEY_BYTES..].to_vec();
            Ok(Key { key, public })
        }

        pub(crate) fn to_pkcs8(&self) -> io::Result<Vec<u8>> {
            let mut room = [0; ROOM];
            Ok(self.key.to_pkcs8_der(&mut room).map_err(told)?.to_vec())
        }
    }

    impl PublicKeyData for Key {
        fn der_bytes(&self) -> &[u8] {
            &self.public
        }

        fn algorithm(&self) -> &'static SignatureAlgorithm {
            &PKCS_ECDSA_P256_SHA256
        }
    }

    impl rcgen::SigningKey for Key {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            let mut room = [0; ROOM];
            let signed = self.key.sign_asn1::<Sha256>(&[message], &mut room);
            Ok(signed.map_err(|_| rcgen::Error::RemoteKeyError)?.to_vec())
        }
    }

    pub(crate) fn provider() -> io::Result<CryptoProvider> {
        Ok(rustls_graviola::default_provider())
    }

    fn told(error: graviola::Error) -> io::Error {
        io::Error::other(format!("{error:?}"))
    }
}

#[cfg(feature = "tls-ring")]
mod ring_key {
    use std::io;

    use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm};
    use rustls::crypto::CryptoProvider;

    /// See the module.
    pub(crate) struct Key(KeyPair);

    impl Key {
        pub(crate) fn generate() -> io::Result<Key> {
            Ok(Key(KeyPair::generate().map_err(io::Error::other)?))
        }

        pub(crate) fn to_pkcs8(&self) -> io::Result<Vec<u8>> {
            Ok(self.0.serialize_der())
        }
    }

    impl PublicKeyData for Key {
        fn der_bytes(&self) -> &[u8] {
            self.0.der_bytes()
        }

        fn algorithm(&self) -> &'static SignatureAlgorithm {
            self.0.algorithm()
        }
    }

    impl rcgen::SigningKey for Key {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            self.0.sign(message)
        }
    }

    pub(crate) fn provider() -> io::Result<CryptoProvider> {
        Ok(rustls::crypto::ring::default_provider())
    }
}
