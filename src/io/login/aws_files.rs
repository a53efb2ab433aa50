//! The files in which AWS's tools keep credentials, and programs that they name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::aws::{Looked, Miss, Surroundings, absent, failed};
use super::aws_services::{WebIdentity, assume_role, of_object};
use super::json::{self, Secrets};
use crate::engine::policy::AwsCredentials;

/// Bytes of a file, and of what a program writes, that are read.
const BYTES_MAX: usize = 1024 * 1024;
/// How often a program is looked at that has written all, but not ended.
const PROCESS_LOOK: Duration = Duration::from_millis(5);

/// The profile that is meant if none is named.
const DEFAULT_PROFILE: &str = "default";

/// What a profile says: by name, later files last.
type Properties = BTreeMap<String, Zeroizing<String>>;

/// Credentials of a profile: `AWS_PROFILE`, if none is asked for, or else `default`.
pub(super) fn look(around: &Surroundings, asked: Option<&str>, region: Option<&str>) -> Looked {
    let named = asked.map(str::to_owned).or_else(|| around.variable("AWS_PROFILE"));
    let name = named.as_deref().unwrap_or(DEFAULT_PROFILE);
    let mut properties = Properties::new();
    let mut places = Vec::new();
    let mut is_there = false;
    // What the file of credentials says counts more than what the other one says.
    for (variable, usual, kind) in [
        ("AWS_CONFIG_FILE", "config", Kind::Config),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", Kind::Credentials),
    ] {
        let Some(path) = path_of(around, variable, usual) else { continue };
        match read(&path) {
            Ok(None) => places.push(format!("{path} is not there")),
            Ok(Some(text)) => {
                let found = profile(&text, kind, name, &mut properties);
                is_there |= found;
                places.push(format!("{path} {} it", if found { "has" } else { "does not have" }));
            }
            Err(why) => return failed(format!("{path} {why}")),
        }
    }
    if places.is_empty() {
        places.push("HOME is not set".to_owned());
    }
    let places = places.join(", ");
    if !is_there {
        let words = format!("there is no profile \"{name}\": {places}");
        return if named.is_some() { failed(words) } else { absent(words) };
    }
    match of_profile(around, name, &properties, region) {
        Some(Err(Miss::Absent(why) | Miss::Failed(why))) => {
            failed(format!("the profile \"{name}\": {why}"))
        }
        Some(Ok(credentials)) => Ok(credentials),
        None => {
            let words = format!("the profile \"{name}\" has no credentials: {places}");
            if named.is_some() { failed(words) } else { absent(words) }
        }
    }
}

/// Where a file is. `None` if it is in a home directory that is not known.
fn path_of(around: &Surroundings, variable: &str, usual: &str) -> Option<String> {
    let home = || around.variable("HOME").or_else(|| around.variable("USERPROFILE"));
    match around.variable(variable) {
        Some(path) => match path.strip_prefix("~/") {
            Some(rest) => Some(format!("{}/{rest}", home()?)),
            None => Some(path),
        },
        None => Some(format!("{}/.aws/{usual}", home()?)),
    }
}

/// A file's text; `None` for one that does not exist.
fn read(path: &str) -> Result<Option<Zeroizing<String>>, String> {
    let told = |error: std::io::Error| match error.kind() {
        ErrorKind::InvalidData => "is no text in UTF-8".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(error)),
    };
    let bytes = file.metadata().map_err(told)?.len();
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let too_long = || format!("has more than {BYTES_MAX} bytes, which is too many for its kind");
    if bytes > BYTES_MAX {
        return Err(too_long());
    }
    // Its size and a byte to see the end, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(bytes + 1));
    file.take(BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(told)?;
    if text.len() > BYTES_MAX { Err(too_long()) } else { Ok(Some(text)) }
}

/// A file that holds one token.
pub(super) fn read_secret(path: &str) -> Result<Zeroizing<String>, String> {
    read(path)?.ok_or_else(|| "does not exist".to_owned())
}

/// Which file it is: their sections are named differently.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Config,
    Credentials,
}

/// Adds what the sections of a profile say. False if there is none.
fn profile(text: &str, kind: Kind, name: &str, properties: &mut Properties) -> bool {
    let (mut is_inside, mut is_there, mut may_go_on) = (false, false, false);
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = trimmed.strip_prefix('[') {
            let section = rest.split(']').next().unwrap_or_default().trim();
            is_inside = is_section_of(section, kind, name);
            (is_there, may_go_on) = (is_there || is_inside, false);
            continue;
        }
        // A line with blanks before it belongs to the property above, such as `s3`.
        let goes_on = may_go_on && line.starts_with([' ', '\t']);
        if !is_inside || goes_on {
            continue;
        }
        may_go_on = true;
        let Some((key, value)) = trimmed.split_once('=') else { continue };
        let ends = [" #", " ;", "\t#", "\t;"];
        let end = ends.iter().filter_map(|mark| value.find(mark)).min().unwrap_or(value.len());
        let value = Zeroizing::new(value[..end].trim().to_owned());
        if !value.is_empty() {
            properties.insert(key.trim().to_ascii_lowercase(), value);
        }
    }
    is_there
}

/// `[profile NAME]` in the one file, `[NAME]` in the other, and in both `[default]`.
fn is_section_of(section: &str, kind: Kind, name: &str) -> bool {
    let after_word = section
        .strip_prefix("profile")
        .filter(|rest| rest.starts_with([' ', '\t']))
        .map(|rest| rest.trim().trim_matches(['"', '\'']));
    match (kind, after_word) {
        (Kind::Config, Some(named)) => named == name,
        (Kind::Config, None) => section == DEFAULT_PROFILE && name == DEFAULT_PROFILE,
        (Kind::Credentials, _) => section == name,
    }
}

/// What a profile gives. `None` if it is about other things, such as a region.
fn of_profile(
    around: &Surroundings,
    name: &str,
    properties: &Properties,
    region: Option<&str>,
) -> Option<Looked> {
    let property = |key: &str| properties.get(key).map(|value| value.as_str());
    let by_the_tool = |what: &str| {
        failed(format!(
            "it has {what}, which tidegate does not do itself. AWS's command line does: use \
             another profile, with the line \"credential_process = aws configure \
             export-credentials --profile {name}\""
        ))
    };
    if let Some(role_arn) = property("role_arn") {
        let Some(token_file) = property("web_identity_token_file") else {
            return Some(by_the_tool("role_arn, a role to assume with other credentials"));
        };
        let identity = WebIdentity {
            token_file: token_file.to_owned(),
            role_arn: role_arn.to_owned(),
            session_name: property("role_session_name").map(str::to_owned),
        };
        return Some(assume_role(around, &identity, property("region").or(region)));
    }
    if let Some(key) = ["sso_session", "sso_start_url", "sso_account_id", "login_session"]
        .into_iter()
        .find(|key| properties.contains_key(*key))
    {
        return Some(by_the_tool(&format!("{key}, a login of a person")));
    }
    match (property("aws_access_key_id"), property("aws_secret_access_key")) {
        (Some(id), Some(secret)) => {
            let credentials = AwsCredentials::new(id, secret);
            return Some(Ok(match property("aws_session_token") {
                Some(token) => credentials.session_token(token),
                None => credentials,
            }));
        }
        (None, None) => {}
        (Some(_), None) => {
            return Some(failed("it has aws_access_key_id, but no aws_secret_access_key"));
        }
        (None, Some(_)) => {
            return Some(failed("it has aws_secret_access_key, but no aws_access_key_id"));
        }
    }
    let command = property("credential_process")?;
    let told = |why| Miss::Failed(format!("its credential_process {why}"));
    Some(process(command, around.process_timeout).map_err(told))
}

/// Runs a program that writes credentials, as AWS's SDK for Java does: through the shell.
fn process(command: &str, timeout: Duration) -> Result<AwsCredentials, String> {
    let deadline = Instant::now() + timeout;
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What it says may hold secrets, so that it is neither shown nor told.
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let written = written(&mut child, deadline);
    let ended = written.and_then(|written| Ok((written, end_of(&mut child, deadline)?)));
    if ended.is_err() {
        // It may have ended by itself meanwhile.
        let _ = child.kill();
        let _ = child.wait();
    }
    let (written, is_success) = ended?;
    if !is_success {
        return Err("ended with an error: run its command by hand to see what it says".to_owned());
    }
    let answer = Secrets::read(&written).ok_or("wrote no JSON object")?;
    if json::seconds(&answer, "Version") != Some(1) {
        return Err("wrote a Version other than 1, which is not known".to_owned());
    }
    of_object(&answer, "SessionToken").map_err(|why| format!("wrote no credentials: {why}"))
}

/// All that a program writes. It is read on a thread of its own, as there is no other way to stop
/// waiting for it; the thread ends with what it reads.
fn written(child: &mut Child, deadline: Instant) -> Result<Zeroizing<Vec<u8>>, String> {
    let stdout = child.stdout.take().ok_or("has no output")?;
    let (sender, receiver) = mpsc::channel();
    let reading = move || {
        // The most that is read, so that growing leaves no copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX + 1));
        let read = stdout.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
        // Nobody waits any more when it was too late.
        let _ = sender.send(read.map(|_| bytes));
    };
    let spawned = thread::Builder::new().name("tidegate-aws".to_owned()).spawn(reading);
    spawned.map_err(|error| format!("cannot be read, as there is no thread for it: {error}"))?;
    let left = deadline.saturating_duration_since(Instant::now());
    let read = receiver.recv_timeout(left).map_err(|_| "did not end in time".to_owned())?;
    let bytes = read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > BYTES_MAX { Err("writes too much".to_owned()) } else { Ok(bytes) }
}

/// Waits for the end of a program; whether it was without error.
fn end_of(child: &mut Child, deadline: Instant) -> Result<bool, String> {
    loop {
        let ended = child.try_wait().map_err(|error| format!("cannot be waited for: {error}"))?;
        if let Some(status) = ended {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            return Err("did not end in time".to_owned());
        }
        thread::sleep(PROCESS_LOOK);
    }
}

#[cfg(test)]
mod tests;
