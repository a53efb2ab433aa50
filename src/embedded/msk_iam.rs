//! The server's side of AWS_MSK_IAM: judges a request that is signed with an access key of AWS
//! (Signature Version 4), as the brokers of Amazon MSK do.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What a broker says of every request that it does not take.
pub(super) const REFUSED: &str = "Access denied";

/// The version of both messages.
const VERSION: &str = "2020_10_22";
/// How far the time of a request may be from the broker's, and for how long it may be good.
const AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// The members of a client's message that are parameters of the signed request, with their names
/// in it.
const PARAMETERS: [(&str, &str); 7] = [
    ("action", "Action"),
    ("x-amz-algorithm", "X-Amz-Algorithm"),
    ("x-amz-credential", "X-Amz-Credential"),
    ("x-amz-date", "X-Amz-Date"),
    ("x-amz-expires", "X-Amz-Expires"),
    ("x-amz-security-token", "X-Amz-Security-Token"),
    ("x-amz-signedheaders", "X-Amz-SignedHeaders"),
];
/// Its other members.
const OTHERS: [&str; 4] = ["host", "user-agent", "version", "x-amz-signature"];

/// The answer to a message that was signed with one of these access keys, secrets by their ids.
/// `None` for any other.
pub(super) fn judge(
    keys: &BTreeMap<String, String>,
    message: &[u8],
    now: SystemTime,
) -> Option<Vec<u8>> {
    let members = flat_object(std::str::from_utf8(message).ok()?)?;
    let is_known =
        |name: &str| OTHERS.contains(&name) || PARAMETERS.iter().any(|(member, _)| *member == name);
    let member = |name: &str| members.get(name).map(String::as_str).filter(|it| !it.is_empty());
    let is_well_formed = members.keys().all(|name| is_known(name))
        && member("version") == Some(VERSION)
        && member("user-agent").is_some()
        && member("action") == Some("kafka-cluster:Connect")
        && member("x-amz-algorithm") == Some("AWS4-HMAC-SHA256")
        && member("x-amz-signedheaders") == Some("host");
    let date = member("x-amz-date")?;
    let expires = Duration::from_secs(member("x-amz-expires")?.parse().ok()?);
    let signed_at = time(date)?;
    let is_timely = signed_at <= now + AGE_MAX && now <= signed_at + expires.min(AGE_MAX);
    if !is_well_formed || !is_timely || expires.is_zero() || expires > AGE_MAX {
        return None;
    }
    let (id, scope) = member("x-amz-credential")?.split_once('/')?;
    let parts: Vec<&str> = scope.split('/').collect();
    let [day, region, "kafka-cluster", "aws4_request"] = parts[..] else { return None };
    if day != &date[..8] || region.is_empty() {
        return None;
    }
    let request = canonical_request(&members, member("host")?);
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let first = format!("AWS4{}", keys.get(id)?).into_bytes();
    let key = parts.iter().fold(first, |key, part| mac(&key, part));
    if member("x-amz-signature")? != hex(&mac(&key, &text)) {
        return None;
    }
    let number = signed_at.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    Some(format!(r#"{{"version":"{VERSION}","request-id":"embedded-{number}"}}"#).into_bytes())
}

/// The request as it is signed: its parameters by name, and the one header.
fn canonical_request(members: &BTreeMap<String, String>, host: &str) -> String {
    let pair = |(member, name): &(&str, &str)| {
        members.get(*member).map(|value| format!("{name}={}", encoded(value)))
    };
    let mut pairs: Vec<String> = PARAMETERS.iter().filter_map(pair).collect();
    pairs.sort();
    let nothing = hex(&Sha256::digest([]));
    ["GET", "/", &pairs.join("&"), &format!("host:{host}"), "", "host", &nothing].join("\n")
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match char::from(byte) {
        letter if letter.is_ascii_alphanumeric() || "-._~".contains(letter) => letter.to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `20261129T172359Z`, from 1970 to 9999.
fn time(text: &str) -> Option<SystemTime> {
    let digits = text.strip_suffix('Z')?.replacen('T', "", 1);
    let is_one = text.len() == 16
        && text.as_bytes()[8] == b'T'
        && digits.len() == 14
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_one {
        return None;
    }
    let number = |from: usize, to: usize| digits[from..to].parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let february = if is_leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months = lengths.get(..usize::try_from(month.checked_sub(1)?).ok()?)?;
    let is_day = (1..=*lengths.get(months.len())?).contains(&day);
    if year < 1970 || !is_day || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let days = years + months.iter().sum::<u64>() + day - 1;
    Some(UNIX_EPOCH + Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

/// A JSON object whose members are all text, each once. `None` for anything else.
fn flat_object(text: &str) -> Option<BTreeMap<String, String>> {
    let mut rest = text.trim_start().strip_prefix('{')?.trim_start();
    let mut members = BTreeMap::new();
    loop {
        let (name, after) = string(rest)?;
        let (value, after) = string(after.trim_start().strip_prefix(':')?.trim_start())?;
        if members.insert(name, value).is_some() {
            return None;
        }
        let after = after.trim_start();
        match after.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None => return after.strip_prefix('}')?.trim().is_empty().then_some(members),
        }
    }
}

/// A JSON string at the beginning of a text, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let (mut chars, mut value) = (text.strip_prefix('"')?.chars(), String::new());
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(match chars.next()? {
                same @ ('"' | '\\' | '/') => same,
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let (digits, after) = chars.as_str().split_at_checked(4)?;
                    chars = after.chars();
                    char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
                }
                _ => return None,
            }),
            control if control < ' ' => return None,
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Amazon's own client makes it: the first of `tests/golden/msk_iam.txt`.
    const MESSAGE: &str = concat!(
        r#"{"x-amz-date":"20261129T172359Z","x-amz-signedheaders":"host","#,
        r#""x-amz-signature":"SIGNATURE","#,
        r#""host":"b-1.shop.abc123.c2.kafka.eu-west-1.amazonaws.com","#,
        r#""action":"kafka-cluster:Connect","x-amz-expires":"900","#,
        r#""version":"2020_10_22","x-amz-algorithm":"AWS4-HMAC-SHA256","#,
        r#""x-amz-credential":"AKIAIOSFODNN7EXAMPLE/20261129/eu-west-1/kafka-cluster/"#,
        r#"aws4_request","#,
        r#""user-agent":"golden"}"#,
    );
    const SIGNATURE: &str = "5cb856dd1549288e253fcb35b9b2111b37df2d8002bd952a407ff56c549d3130";
    const SIGNED_AT: u64 = 1_795_973_039;

    fn keys(secret: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("AKIAIOSFODNN7EXAMPLE".to_owned(), secret.to_owned())])
    }

    fn judged(message: &str, seconds: u64) -> bool {
        let keys = keys("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        judge(&keys, message.as_bytes(), UNIX_EPOCH + Duration::from_secs(seconds)).is_some()
    }

    fn signed() -> String {
        MESSAGE.replace("SIGNATURE", SIGNATURE)
    }

    #[test]
    fn a_message_of_amazons_own_client_is_taken_for_fifteen_minutes() {
        for seconds in [SIGNED_AT - 900, SIGNED_AT, SIGNED_AT + 900] {
            assert!(judged(&signed(), seconds), "{seconds}");
        }
        for seconds in [SIGNED_AT - 901, SIGNED_AT + 901] {
            assert!(!judged(&signed(), seconds), "{seconds}");
        }
        let other = keys("another secret");
        let now = UNIX_EPOCH + Duration::from_secs(SIGNED_AT);
        assert!(judge(&other, signed().as_bytes(), now).is_none());
        assert!(judge(&BTreeMap::new(), signed().as_bytes(), now).is_none());
    }

    #[test]
    fn whatever_is_changed_in_a_message_is_refused() {
        for (from, to) in [
            ("172359", "172400"),
            ("172359", "176059"),
            ("b-1.shop", "b-2.shop"),
            (r#""host":"b-1.shop.abc123.c2.kafka.eu-west-1.amazonaws.com","#, ""),
            (":Connect", ":WriteData"),
            (r#""900""#, r#""899""#),
            (r#""900""#, r#""90000""#),
            ("2020_10_22", "2020_10_23"),
            ("SHA256", "SHA512"),
            ("20261129/", "20261130/"),
            ("/eu-west-1/", "/us-east-1/"),
            ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7OTHER"),
            (r#""user-agent":"golden""#, r#""user-agent":"golden","x":"y""#),
            (r#""user-agent":"golden""#, r#""user-agent":"golden","x-amz-security-token":"t""#),
            (r#""user-agent":"golden""#, r#""user-agent":"golden","version":"2020_10_22""#),
            (r#","user-agent":"golden""#, ""),
            ("}", "} more"),
            (SIGNATURE, "00"),
        ] {
            let changed = signed().replacen(from, to, 1);
            assert_ne!(changed, signed(), "{from}");
            assert!(!judged(&changed, SIGNED_AT), "{to}");
        }
        for broken in ["", "{}", "[]", "{\"a\":1}", "{\"a\":\"b\"", "{\"a\" \"b\"}", "{\"\\u12\":"]
        {
            assert!(!judged(broken, SIGNED_AT), "{broken}");
        }
        let escaped = signed().replacen("kafka-cluster:", "kafka\\u002dcluster:", 1);
        assert!(judged(&escaped, SIGNED_AT), "the same text in another form");
    }
}
