//! Private keys under a password: PKCS#8's `EncryptedPrivateKeyInfo` (RFC 5958) with PBES2 (RFC
//! 8018), as `openssl pkcs8 -topk8` and `openssl genpkey -aes256` write them.

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::der::{Der, OBJECT_ID, OCTET_STRING};

/// OpenSSL writes 2,048 iterations, careful people a million: beyond this, reading takes seconds.
const ITERATIONS_MAX: u32 = 10_000_000;
/// The longest AES key, in bytes.
const KEY_BYTES_MAX: usize = 32;

/// 1.2.840.113549.1.5.13 and 12.
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
/// 1.2.840.113549.2, of which 7, 9, 10 and 11 are HMAC with SHA-1, SHA-256, SHA-384 and SHA-512.
const HMAC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02];
/// 2.16.840.1.101.3.4.1, of which 2, 22 and 42 are AES-128, -192 and -256 in CBC mode.
const AES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01];

/// Why a key cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyError {
    /// It is no `EncryptedPrivateKeyInfo`, or a damaged one.
    Malformed,
    /// It is encrypted by something that this client does not know.
    Unsupported,
    /// What comes out is no private key.
    WrongPassword,
}

#[derive(Clone, Copy)]
enum Digest {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

struct Scheme<'a> {
    salt: &'a [u8],
    iterations: u32,
    digest: Digest,
    /// Bytes of the AES key.
    key_bytes: usize,
    /// The first block's predecessor.
    iv: &'a [u8],
}

/// Decrypts a private key: `encrypted` is `EncryptedPrivateKeyInfo`, the result PKCS#8, in DER.
pub(super) fn decrypt(encrypted: &[u8], password: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut outer = Der::new(encrypted).sequence().ok_or(KeyError::Malformed)?;
    let algorithm = outer.sequence().ok_or(KeyError::Malformed)?;
    let data = outer.expect(OCTET_STRING).ok_or(KeyError::Malformed)?;
    let scheme = scheme(algorithm)?;
    let mut key = Zeroizing::new([0_u8; KEY_BYTES_MAX]);
    let key = &mut key[..scheme.key_bytes];
    derive(&scheme, password, key);
    let mut plain = Zeroizing::new(data.to_vec());
    let length = match scheme.key_bytes {
        16 => decrypt_cbc::<cbc::Decryptor<Aes128>>(key, scheme.iv, &mut plain),
        24 => decrypt_cbc::<cbc::Decryptor<Aes192>>(key, scheme.iv, &mut plain),
        _ => decrypt_cbc::<cbc::Decryptor<Aes256>>(key, scheme.iv, &mut plain),
    };
    plain.truncate(length.ok_or(KeyError::WrongPassword)?);
    // One wrong password in 256 leaves good padding.
    if !is_private_key(&plain) {
        return Err(KeyError::WrongPassword);
    }
    Ok(plain)
}

fn decrypt_cbc<D: KeyIvInit + BlockModeDecrypt>(
    key: &[u8],
    iv: &[u8],
    data: &mut [u8],
) -> Option<usize> {
    let decryptor = D::new_from_slices(key, iv).ok()?;
    decryptor.decrypt_padded::<Pkcs7>(data).ok().map(<[u8]>::len)
}

fn derive(scheme: &Scheme<'_>, password: &str, key: &mut [u8]) {
    let (password, salt, rounds) = (password.as_bytes(), scheme.salt, scheme.iterations);
    match scheme.digest {
        Digest::Sha1 => pbkdf2_hmac::<Sha1>(password, salt, rounds, key),
        Digest::Sha256 => pbkdf2_hmac::<Sha256>(password, salt, rounds, key),
        Digest::Sha384 => pbkdf2_hmac::<Sha384>(password, salt, rounds, key),
        Digest::Sha512 => pbkdf2_hmac::<Sha512>(password, salt, rounds, key),
    }
}

/// Reads how a key is encrypted.
fn scheme(mut algorithm: Der<'_>) -> Result<Scheme<'_>, KeyError> {
    if algorithm.expect(OBJECT_ID).ok_or(KeyError::Malformed)? != PBES2 {
        return Err(KeyError::Unsupported);
    }
    let mut parameters = algorithm.sequence().ok_or(KeyError::Malformed)?;
    let mut derivation = parameters.sequence().ok_or(KeyError::Malformed)?;
    let mut cipher = parameters.sequence().ok_or(KeyError::Malformed)?;
    if derivation.expect(OBJECT_ID).ok_or(KeyError::Malformed)? != PBKDF2 {
        return Err(KeyError::Unsupported);
    }
    let key_bytes = match cipher.expect(OBJECT_ID).and_then(|id| id.strip_prefix(AES)) {
        Some([2]) => 16,
        Some([22]) => 24,
        Some([42]) => 32,
        _ => return Err(KeyError::Unsupported),
    };
    let iv = cipher.expect(OCTET_STRING).ok_or(KeyError::Malformed)?;
    let mut derivation = derivation.sequence().ok_or(KeyError::Malformed)?;
    let salt = derivation.expect(OCTET_STRING).ok_or(KeyError::Malformed)?;
    let iterations = derivation.number().ok_or(KeyError::Malformed)?;
    if !(1..=ITERATIONS_MAX).contains(&iterations) {
        return Err(KeyError::Unsupported);
    }
    // The length of the key may be said, and is that of the cipher.
    let _ = derivation.number();
    let digest = match derivation.sequence() {
        None => Digest::Sha1,
        Some(mut function) => {
            match function.expect(OBJECT_ID).and_then(|id| id.strip_prefix(HMAC)) {
                Some([7]) => Digest::Sha1,
                Some([9]) => Digest::Sha256,
                Some([10]) => Digest::Sha384,
                Some([11]) => Digest::Sha512,
                _ => return Err(KeyError::Unsupported),
            }
        }
    };
    Ok(Scheme { salt, iterations, digest, key_bytes, iv })
}

/// Whether it has the shape of PKCS#8's `PrivateKeyInfo`.
fn is_private_key(bytes: &[u8]) -> bool {
    let mut outer = Der::new(bytes);
    let Some(mut info) = outer.sequence() else { return false };
    outer.is_empty()
        && info.number().is_some_and(|version| version <= 1)
        && info.sequence().is_some()
        && info.expect(OCTET_STRING).is_some()
}
