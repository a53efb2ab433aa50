//! Services that give credentials of AWS: STS for a web identity, the agent of a container, and the
//! metadata of an instance (IMDSv2).

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use zeroize::Zeroizing;

use super::aws::{Looked, Miss, Surroundings, absent, failed, url_of};
use super::aws_files::read_secret;
use super::http::{Request, Response};
use super::json::{self, Secrets};
use super::url::{Url, push_encoded};
use crate::engine::policy::{AwsCredentials, MskIam};
use crate::logging as log;

/// Characters of a service's words about an error that are told.
const WORDS_MAX: usize = 200;

/// The name that STS puts into the identity, if none is set. It is the same for every process and
/// every fetch, because a connection that logs in again must do so with the same identity.
const SESSION_NAME: &str = "tidegate";

/// Hosts beside this machine that AWS's SDKs ask without encryption: the agents of ECS and of EKS.
const AGENT_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// For how many seconds a token of the metadata is good. It is used at once.
const METADATA_TOKEN_SECONDS: &str = "60";

/// A token of an identity provider, and the role of AWS that it is for.
pub(super) struct WebIdentity {
    pub token_file: String,
    pub role_arn: String,
    pub session_name: Option<String>,
}

/// `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`, as EKS sets them for a service account.
pub(super) fn web_identity(around: &Surroundings, region: Option<&str>) -> Looked {
    let Some(token_file) = around.variable("AWS_WEB_IDENTITY_TOKEN_FILE") else {
        return absent("AWS_WEB_IDENTITY_TOKEN_FILE is not set");
    };
    let Some(role_arn) = around.variable("AWS_ROLE_ARN") else {
        return failed("AWS_WEB_IDENTITY_TOKEN_FILE is set, but not AWS_ROLE_ARN: set both");
    };
    let session_name = around.variable("AWS_ROLE_SESSION_NAME");
    assume_role(around, &WebIdentity { token_file, role_arn, session_name }, region)
}

/// AssumeRoleWithWebIdentity of STS, the one of its actions that needs no signature.
pub(super) fn assume_role(
    around: &Surroundings,
    identity: &WebIdentity,
    region: Option<&str>,
) -> Looked {
    let url = sts(around, region)?;
    let token = read_secret(&identity.token_file)
        .map_err(|why| Miss::Failed(format!("the token file {} {why}", identity.token_file)))?;
    let token = token.trim();
    if token.is_empty() {
        return failed(format!("the token file {} is empty", identity.token_file));
    }
    let parameters = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", identity.role_arn.as_str()),
        ("RoleSessionName", identity.session_name.as_deref().unwrap_or(SESSION_NAME)),
        ("WebIdentityToken", token),
    ];
    // Three bytes for each is the most that encoding makes of it.
    let bytes = parameters.iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum();
    let mut body = Zeroizing::new(String::with_capacity(bytes));
    for (name, value) in parameters {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        push_encoded(&mut body, value);
    }
    let plain = |text: &str| Zeroizing::new(text.to_owned());
    let headers = vec![
        ("Content-Type", plain("application/x-www-form-urlencoded")),
        ("Accept", plain("application/json")),
    ];
    let request = Request { method: "POST", url: &url, headers, body };
    let told = |why: String| Miss::Failed(format!("STS {why}"));
    let response = around.send(&request, around.far).map_err(told)?;
    let place = url.authority();
    if response.status != 200 {
        let words = refusal(&response, token);
        let status = response.status;
        return Err(told(format!(
            "({place}) answered with status {status}{words}: check the role {} and whom it trusts",
            identity.role_arn
        )));
    }
    let credentials = of_sts(&response.body);
    credentials.map_err(|why| told(format!("({place}) gave no credentials: {why}")))
}

/// Where STS is: that of the region, else the one for all.
fn sts(around: &Surroundings, region: Option<&str>) -> Result<Url, Miss> {
    for name in ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"] {
        if let Some(text) = around.variable(name) {
            let url = url_of(&text, name)?;
            if !url.is_https() {
                log::warn!(
                    "STS at {} is asked without encryption, as {name} says: whoever is on the way \
                     can read the token and the credentials",
                    url.authority()
                );
            }
            return Ok(url);
        }
    }
    let region = around.region().or_else(|| region.map(str::to_owned));
    let text = match region {
        Some(region) if !MskIam::is_region(&region) => {
            let words = "AWS_REGION or AWS_DEFAULT_REGION is no region: it must be like eu-west-1";
            return Err(Miss::Failed(words.to_owned()));
        }
        Some(region) if region.starts_with("cn-") => {
            format!("https://sts.{region}.amazonaws.com.cn/")
        }
        Some(region) if region.starts_with("eusc-") => {
            format!("https://sts.{region}.amazonaws.eu/")
        }
        Some(region) => format!("https://sts.{region}.amazonaws.com/"),
        None => "https://sts.amazonaws.com/".to_owned(),
    };
    url_of(&text, "the address of STS")
}

/// The credentials in an answer of STS: in JSON, or in XML, which emulators of AWS may prefer.
fn of_sts(body: &[u8]) -> Result<AwsCredentials, String> {
    if let Some(answer) = Secrets::read(body) {
        let path = ["AssumeRoleWithWebIdentityResponse", "AssumeRoleWithWebIdentityResult"];
        let result = path.iter().try_fold(&*answer, |object, name| object.get(name));
        let inner = result.and_then(|result| result.get("Credentials"));
        return of_object(inner.ok_or("the answer has none")?, "SessionToken");
    }
    let text = std::str::from_utf8(body).map_err(|_| "the answer is no text")?;
    let part = |name: &str| element(text, name).ok_or_else(|| format!("the answer has no {name}"));
    let expires = part("Expiration")?;
    let expires = time(expires).ok_or("its Expiration is no time")?;
    let credentials = AwsCredentials::new(part("AccessKeyId")?, part("SecretAccessKey")?);
    Ok(credentials.session_token(part("SessionToken")?).expires_at(expires))
}

/// The text of the first element of this name, which has no attributes.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// What a service says of its error, without the token that it was given.
fn refusal(response: &Response, token: &str) -> String {
    let answer = json::object(&response.body);
    let text = String::from_utf8_lossy(&response.body);
    let mut told = String::new();
    for name in ["Code", "Message"] {
        let part = match &answer {
            Some(answer) => json::text(answer.get("Error").unwrap_or(answer), name),
            None => element(&text, name),
        };
        let part = part.filter(|part| token.is_empty() || !part.contains(token));
        if let Some(part) = part {
            told.push_str(": ");
            told.extend(part.chars().filter(|c| !c.is_control()).take(WORDS_MAX));
        }
    }
    told
}

/// The agent that a container has: ECS, and EKS's Pod Identity.
pub(super) fn container(around: &Surroundings) -> Looked {
    let relative = around.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let full = around.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let url = match (relative, full) {
        (Some(path), _) if path.starts_with('/') => {
            let text = format!("{}{path}", around.container);
            url_of(&text, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")?
        }
        (Some(_), _) => {
            return failed("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must begin with a slash");
        }
        (None, Some(text)) => {
            let url = url_of(&text, "AWS_CONTAINER_CREDENTIALS_FULL_URI")?;
            if !url.is_https() && !is_near(url.host()) {
                return failed(
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI must be of https, or its host this machine \
                     or an agent of ECS or EKS: anything else would send secrets in the open",
                );
            }
            url
        }
        (None, None) => {
            return absent(
                "neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor \
                 AWS_CONTAINER_CREDENTIALS_FULL_URI is set",
            );
        }
    };
    let mut headers = vec![("Accept", Zeroizing::new("application/json".to_owned()))];
    if let Some(path) = around.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        let token = read_secret(&path);
        let token = token.map_err(|why| Miss::Failed(format!("the token file {path} {why}")))?;
        headers.push(("Authorization", Zeroizing::new(token.trim().to_owned())));
    } else if let Some(token) = around.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN") {
        headers.push(("Authorization", Zeroizing::new(token)));
    }
    let request = Request { method: "GET", url: &url, headers, body: Zeroizing::default() };
    let timeouts = if url.is_https() { around.far } else { around.near };
    let response = around.send(&request, timeouts).map_err(Miss::Failed)?;
    let told = |why: String| Miss::Failed(format!("{} {why}", url.authority()));
    if response.status != 200 {
        return Err(told(format!("answered with status {}", response.status)));
    }
    let answer = Secrets::read(&response.body);
    let answer = answer.ok_or_else(|| told("gave no JSON object".to_owned()))?;
    of_object(&answer, "Token").map_err(|why| told(format!("gave no credentials: {why}")))
}

/// Whether what is sent to this host stays on the machine, or goes to an agent beside it.
fn is_near(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    let is_agent = |it: &str| it.parse::<IpAddr>().is_ok_and(|it| address == Ok(it));
    host.eq_ignore_ascii_case("localhost")
        || address.as_ref().is_ok_and(IpAddr::is_loopback)
        || AGENT_HOSTS.iter().any(|it| is_agent(it))
}

/// The role of the instance, by version 2 of its metadata. That nobody answers is the usual case on
/// a machine that is none of EC2.
pub(super) fn instance(around: &Surroundings) -> Looked {
    let is_true = |text: String| text.eq_ignore_ascii_case("true");
    if around.variable("AWS_EC2_METADATA_DISABLED").is_some_and(is_true) {
        return absent("AWS_EC2_METADATA_DISABLED is set");
    }
    let (base, name) = match around.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        Some(base) => (base, "AWS_EC2_METADATA_SERVICE_ENDPOINT"),
        None => {
            let mode = around.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
            let is_ipv6 = mode.is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
            let base = if is_ipv6 { around.instance_over_ipv6 } else { around.instance };
            (base.to_owned(), "the address of the metadata")
        }
    };
    let base = base.trim_end_matches('/');
    let ask = |method: &'static str, path: &str, header: (&'static str, &str)| {
        let url = url_of(&format!("{base}/latest/{path}"), name)?;
        let headers = vec![(header.0, Zeroizing::new(header.1.to_owned()))];
        let request = Request { method, url: &url, headers, body: Zeroizing::default() };
        let response = around.send(&request, around.near).map_err(Miss::Absent)?;
        match response.status {
            200 => Ok(response.body),
            404 if method == "GET" => {
                Err(Miss::Absent(format!("{}: the instance has no role", url.authority())))
            }
            status => {
                let place = url.authority();
                Err(Miss::Absent(format!("{place} answered {method} with status {status}")))
            }
        }
    };
    let asks_token = ("X-aws-ec2-metadata-token-ttl-seconds", METADATA_TOKEN_SECONDS);
    let token = ask("PUT", "api/token", asks_token)?;
    let token = std::str::from_utf8(&token).unwrap_or_default().trim();
    let header = ("X-aws-ec2-metadata-token", token);
    let path = "meta-data/iam/security-credentials/";
    let roles = ask("GET", path, header)?;
    let role = std::str::from_utf8(&roles).unwrap_or_default().lines().next();
    let Some(role) = role.map(str::trim).filter(|role| is_role(role)) else {
        return absent("the metadata names no role");
    };
    let answer = ask("GET", &format!("{path}{role}"), header)?;
    let answer = Secrets::read(&answer);
    let answer = answer.ok_or_else(|| Miss::Failed("it gave no JSON object".to_owned()))?;
    match json::text(&answer, "Code") {
        None | Some("Success") => {}
        Some(code) => {
            let code: String = code.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
            return failed(format!("it has no credentials for the role {role}: {code}"));
        }
    }
    of_object(&answer, "Token").map_err(|why| Miss::Failed(format!("it gave none: {why}")))
}

/// The characters of IAM's names. What else an answer holds does not go into a URL.
fn is_role(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    !name.is_empty() && name.bytes().all(fits)
}

/// Credentials as services and programs write them. The session token's name differs.
pub(super) fn of_object(object: &Value, token: &str) -> Result<AwsCredentials, String> {
    let part = |name| json::text(object, name).ok_or_else(|| format!("{name} is missing"));
    let mut credentials = AwsCredentials::new(part("AccessKeyId")?, part("SecretAccessKey")?);
    if let Some(token) = json::text(object, token) {
        credentials = credentials.session_token(token);
    }
    let expires = object.get("Expiration").filter(|value| !value.is_null());
    if expires.is_none() {
        return Ok(credentials);
    }
    // STS writes seconds since 1970 into JSON.
    let seconds = json::seconds(object, "Expiration").map(Duration::from_secs);
    let expires = match seconds {
        Some(seconds) => UNIX_EPOCH.checked_add(seconds),
        None => json::text(object, "Expiration").and_then(time),
    };
    let expires = expires.ok_or("its Expiration is no time")?;
    Ok(credentials.expires_at(expires))
}

/// A time as RFC 3339 has it: `2026-11-29T17:23:59Z`, also with parts of a second, which are
/// dropped, and with an offset from UTC.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to).filter(|it| it.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse().ok()
    };
    let between = |at: usize, marks: &[u8]| text.as_bytes().get(at).filter(|b| marks.contains(b));
    let marks = [(4, &b"-"[..]), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")];
    for (at, marks) in marks {
        between(at, marks)?;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    if let Some(parts) = rest.strip_prefix('.') {
        rest = parts.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let offset_minutes = match rest {
        "Z" | "z" => 0,
        _ => {
            let (sign, digits) = rest.split_at_checked(1)?;
            let sign = if sign == "+" { 1 } else { Some(-1).filter(|_| sign == "-")? };
            let digits: String = digits.split(':').collect();
            let of = |part: Option<&str>| part?.parse::<u16>().ok().map(i64::from);
            if digits.len() != 4 {
                return None;
            }
            sign * (of(digits.get(..2))? * 60 + of(digits.get(2..))?)
        }
    };
    // Days since 1970, counted in years that begin in March, so that a leap day ends its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468;
    let minutes = (days * 24 + hour) * 60 + minute - offset_minutes;
    let seconds = u64::try_from(minutes * 60 + second).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
