//! Signature Version 4 of AWS: a request for `/` that carries its signature among its parameters
//! (a presigned URL), in the form that brokers take it.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The version of the message.
const VERSION: &str = "2020_10_22";
const USER_AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
const ACTION: &str = "kafka-cluster:Connect";
const SERVICE: &str = "kafka-cluster";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// For how many seconds the signature is good.
const EXPIRES: &str = "900";
/// What ends the scope of a signature, and the derivation of its key.
const TERMINATOR: &str = "aws4_request";

/// What the value of a parameter adds to its length in JSON: quotes, a colon and a comma.
const JSON_BYTES_EACH: usize = 6;

/// A moment, as signatures write it: `20261129T172359Z`.
pub(super) struct Stamp(String);

impl Stamp {
    /// `None` before 1970, and after 9999, which has no such form.
    pub(super) fn of(time: SystemTime) -> Option<Stamp> {
        let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let (year, month, day) = civil(seconds / 86_400)?;
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        Some(Stamp(format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn date(&self) -> &str {
        &self.0[..8]
    }
}

/// Year, month and day of a number of days after 1970-01-01.
fn civil(days: u64) -> Option<(u64, u64, u64)> {
    // Counted from 0000-03-01, so that a leap day is the last day of its year; 400 years are one
    // period of the calendar.
    let days = days.checked_add(719_468)?;
    let (period, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = period * 400 + year + u64::from(month <= 2);
    (year <= 9_999).then_some((year, month, day))
}

/// All that a signature is made of. The texts hold nothing that JSON would escape.
pub(super) struct Request<'a> {
    pub host: &'a str,
    pub region: &'a str,
    pub access_key_id: &'a str,
    pub secret_access_key: &'a [u8],
    pub session_token: Option<&'a [u8]>,
    pub stamp: Stamp,
}

impl Request<'_> {
    /// The client's message: a JSON object.
    pub(super) fn message(&self) -> Zeroizing<Vec<u8>> {
        let scope = self.scope();
        let credential = format!("{}/{scope}", self.access_key_id);
        let parameters = self.parameters(&credential);
        let signature = hex(&self.signature(&scope, &parameters));
        let named = parameters.map(|(name, value)| (name.to_ascii_lowercase(), value));
        let others = [
            ("version", VERSION),
            ("host", self.host),
            ("user-agent", USER_AGENT),
            ("x-amz-signature", &signature),
        ];
        let others = others.map(|(name, value)| (name.to_owned(), value.as_bytes()));
        let all: Vec<_> =
            others.into_iter().chain(named).filter(|(_, value)| !value.is_empty()).collect();
        let bytes: usize =
            all.iter().map(|(name, value)| name.len() + value.len() + JSON_BYTES_EACH).sum();
        // The exact size, so that growing leaves no copy of the token behind.
        let mut message = Zeroizing::new(Vec::with_capacity(bytes + 1));
        for (index, (name, value)) in all.iter().enumerate() {
            message.extend_from_slice(if index == 0 { b"{\"" } else { b",\"" });
            for part in [name.as_bytes(), b"\":\"", value, b"\""] {
                message.extend_from_slice(part);
            }
        }
        message.push(b'}');
        debug_assert_eq!(message.len(), bytes + 1);
        message
    }

    /// Where and for what the signature is good.
    fn scope(&self) -> String {
        format!("{}/{}/{SERVICE}/{TERMINATOR}", self.stamp.date(), self.region)
    }

    /// The parameters of the request but its signature, in the order in which they are signed. One
    /// without value is left out.
    fn parameters<'a>(&'a self, credential: &'a str) -> [(&'static str, &'a [u8]); 7] {
        [
            ("Action", ACTION.as_bytes()),
            ("X-Amz-Algorithm", ALGORITHM.as_bytes()),
            ("X-Amz-Credential", credential.as_bytes()),
            ("X-Amz-Date", self.stamp.as_str().as_bytes()),
            ("X-Amz-Expires", EXPIRES.as_bytes()),
            ("X-Amz-Security-Token", self.session_token.unwrap_or_default()),
            ("X-Amz-SignedHeaders", b"host"),
        ]
    }

    /// The signature of the text that names the algorithm, the time, the scope and the hash of the
    /// canonical request.
    fn signature(&self, scope: &str, parameters: &[(&str, &[u8])]) -> [u8; 32] {
        let hash = hex(&self.canonical_hash(parameters));
        let text = format!("{ALGORITHM}\n{}\n{scope}\n{hash}", self.stamp.as_str());
        let prefix = b"AWS4";
        let mut key =
            Zeroizing::new(Vec::with_capacity(prefix.len() + self.secret_access_key.len()));
        key.extend_from_slice(prefix);
        key.extend_from_slice(self.secret_access_key);
        let mut key = mac(&key, self.stamp.date().as_bytes());
        for part in [self.region, SERVICE, TERMINATOR] {
            key = mac(&*key, part.as_bytes());
        }
        *mac(&*key, text.as_bytes())
    }

    /// The hash of the canonical request: method, path, parameters, headers, the names of those
    /// that are signed, and the hash of the body, which is empty. Made piece by piece, so that no
    /// copy of the token stays behind.
    fn canonical_hash(&self, parameters: &[(&str, &[u8])]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update("GET\n/\n");
        let present = parameters.iter().filter(|(_, value)| !value.is_empty());
        for (index, (name, value)) in present.enumerate() {
            hash.update(if index == 0 { "" } else { "&" });
            hash.update(name);
            hash.update("=");
            update_encoded(&mut hash, value);
        }
        hash.update(format!("\nhost:{}\n\nhost\n", self.host));
        hash.update(hex(&Sha256::digest(b"").into()));
        hash.finalize().into()
    }
}

/// As URLs encode what is not unreserved (RFC 3986 section 2.3).
fn update_encoded(hash: &mut Sha256, value: &[u8]) {
    for byte in value {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                hash.update([*byte]);
            }
            byte => hash.update(format!("%{byte:02X}")),
        }
    }
}

fn mac(key: &[u8], message: &[u8]) -> Zeroizing<[u8; 32]> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    Zeroizing::new(mac.chain_update(message).finalize().into_bytes().into())
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_become_dates() {
        for (seconds, stamp) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (1_077_926_400, "20040228T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
            (253_402_300_799, "99991231T235959Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(Stamp::of(time).expect("it is in range").as_str(), stamp);
        }
        assert!(Stamp::of(UNIX_EPOCH + Duration::from_secs(253_402_300_800)).is_none());
        assert!(Stamp::of(UNIX_EPOCH - Duration::from_secs(1)).is_none());
    }
}
