//! AWS_MSK_IAM against Amazon's own client (golden messages, `golden/msk_iam.txt`, made by
//! `MskIamGolden.java`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tidegate::internals::policy::MskIam;
use tidegate::{AwsCredentials, SaslMechanism, SaslPeer};

/// A login's host, region, id, secret and token, and the message of Amazon's client for it.
fn golden() -> Vec<([&'static str; 5], Value)> {
    let mut lines = include_str!("golden/msk_iam.txt").lines();
    let mut all = Vec::new();
    while let Some(login) = lines.next() {
        let login = login.strip_prefix("login ").expect("a login");
        let login: Vec<_> = login.split(' ').collect();
        let message = lines.next().and_then(|line| line.strip_prefix("message "));
        let message = serde_json::from_str(message.expect("its message")).expect("JSON");
        all.push((login.try_into().expect("five parts"), message));
    }
    assert!(!all.is_empty());
    all
}

/// The time of a message: `20261129T172359Z`.
fn time_of(message: &Value) -> SystemTime {
    let text = message["x-amz-date"].as_str().expect("a date");
    let number = |from: usize, to: usize| text[from..to].parse::<u64>().expect("digits");
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let years = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum::<u64>();
    let months = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30];
    let days = years + months.iter().take(month as usize - 1).sum::<u64>() + day - 1;
    let seconds = days * 86_400 + number(9, 11) * 3_600 + number(11, 13) * 60 + number(13, 15);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn messages_and_signatures_are_those_of_amazons_own_client() {
    for ([host, region, id, secret, token], mut expected) in golden() {
        let mut credentials = AwsCredentials::new(id, secret);
        if token != "-" {
            credentials = credentials.session_token(token);
        }
        let peer = SaslPeer::new(host, 9098, time_of(&expected));
        let mechanism = MskIam::new(Arc::new(credentials));
        for mechanism in [mechanism.clone(), mechanism.region(Some(region.to_owned()))] {
            let first = mechanism.begin(&peer).unwrap().next(None).unwrap().expect("a message");
            let mut message: Value = serde_json::from_slice(&first).unwrap();
            // Each client has its own name, which is not signed.
            let agent = message["user-agent"].take();
            expected["user-agent"].take();
            assert!(agent.as_str().is_some_and(|agent| agent.starts_with("tidegate/")), "{agent}");
            assert_eq!(message, expected, "{host}");
        }
    }
}
