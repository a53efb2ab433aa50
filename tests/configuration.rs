//! The names of settings: those of Kafka, librdkafka and Krackle each have an answer, and the
//! manual and the README tell what the code does.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use tidegate::config::{Answer, Entry, Origin, reference};
use tidegate::{BuildError, ProducerConfig};

const KAFKA: &str = include_str!("golden/kafka_properties.txt");
const LIBRDKAFKA: &str = include_str!("golden/librdkafka_properties.txt");
const KRACKLE: &str = include_str!("golden/krackle_properties.txt");

/// Set to 1, it writes the table into the manual instead of comparing them.
const REWRITE: &str = "TIDEGATE_TEST_REWRITE_MANUAL";

/// Names with their defaults, which may be empty.
fn golden(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once('=').unwrap_or((line, "")))
}

fn entry(name: &str) -> Option<Entry> {
    reference().into_iter().find(|entry| entry.name() == name)
}

thread_local! {
    /// Warnings of this thread, on which properties are read.
    static WARNINGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Warnings;

impl Log for Warnings {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() == Level::Warn {
            WARNINGS.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// What `read` warns of.
fn warnings(read: impl FnOnce()) -> Vec<String> {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&Warnings).expect("no other logger is set in this process");
        log::set_max_level(LevelFilter::Warn);
    });
    WARNINGS.with_borrow_mut(Vec::clear);
    read();
    WARNINGS.take()
}

fn one(name: &str, value: &str) -> Result<ProducerConfig, BuildError> {
    ProducerConfig::from_properties([(name, value)])
}

/// Checks that a name is read, has no effect with one warning that says why, is refused with a
/// reason, or is unknown with a hint to another one.
fn is_answered(name: &str) {
    let Some(entry) = entry(name) else {
        let words = one(name, "x").expect_err(name).to_string();
        let is_hint = words.contains("did you mean");
        assert!(is_hint || words.contains("cannot be used: "), "{name}: {words}");
        return;
    };
    match entry.answer() {
        Answer::Read => {
            assert!(!entry.meaning().is_empty() && entry.sets().is_some(), "{name}");
        }
        Answer::NoEffect => {
            let lines = warnings(|| assert!(one(name, "x").is_ok(), "{name}"));
            let [line] = lines.as_slice() else { panic!("{name}: {lines:?}") };
            let expected = format!("{name} has no effect: {}", entry.meaning());
            assert_eq!(*line, expected);
        }
        Answer::Refused => {
            let words = one(name, "x").expect_err(name).to_string();
            assert!(words.starts_with(name) && words.ends_with(entry.meaning()), "{words}");
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn every_name_of_kafkas_producer_config_has_an_answer() {
    let names: Vec<&str> = golden(KAFKA).map(|(name, _)| name).collect();
    assert!(names.len() > 100, "{}", names.len());
    names.into_iter().for_each(is_answered);
}

/// A file that says what Kafka does anyway must not fail.
#[test]
fn every_default_of_kafkas_producer_config_can_be_read_or_is_refused_with_a_reason() {
    for (name, default) in golden(KAFKA) {
        // What TLS and logins say has no effect then, which is no error.
        let properties = [("security.protocol", "PLAINTEXT"), (name, default)];
        let is_given = !default.is_empty() && name != "security.protocol";
        if is_given && entry(name).is_some_and(|entry| entry.answer() != Answer::Refused) {
            let config = ProducerConfig::from_properties(properties);
            assert!(config.is_ok(), "{name}={default}: {:?}", config.err());
        }
    }
}

#[test]
fn every_name_of_librdkafkas_producer_has_an_answer() {
    let names: Vec<&str> = golden(LIBRDKAFKA).map(|(name, _)| name).collect();
    assert!(names.len() > 150, "{}", names.len());
    names.into_iter().for_each(is_answered);
}

#[test]
fn every_name_of_krackle_has_an_answer() {
    golden(KRACKLE).for_each(|(name, _)| is_answered(name));
    let words = one("source.orders.queue.buffering.max.ms", "5").expect_err("of one topic");
    assert!(words.to_string().contains("a single topic"), "{words}");
}

#[test]
fn no_name_is_invented() {
    let known = |text| golden(text).map(|(name, _)| name).collect::<BTreeSet<_>>();
    let (kafka, librdkafka, krackle) = (known(KAFKA), known(LIBRDKAFKA), known(KRACKLE));
    for entry in reference() {
        let name = entry.name();
        let origin = match name {
            _ if kafka.contains(name) => Origin::Kafka,
            _ if librdkafka.contains(name) => Origin::Librdkafka,
            _ if krackle.contains(name) => Origin::Krackle,
            _ => Origin::Tidegate,
        };
        assert_eq!(entry.origin(), origin, "{name}");
        assert_eq!(name.starts_with("tidegate."), origin == Origin::Tidegate, "{name}");
    }
}

#[test]
fn what_this_client_does_anyway_is_not_warned_of() {
    for (name, value) in [
        ("metadata.recovery.strategy", "rebootstrap"),
        ("client.dns.lookup", "use_all_dns_ips"),
        ("enable.metrics.push", "false"),
        ("socket.nagle.disable", "true"),
        ("statistics.interval.ms", "0"),
        ("broker.address.family", "any"),
        ("partitioner.class", ""),
        ("ssl.keymanager.algorithm", "PKIX"),
        ("debug", ""),
    ] {
        let lines = warnings(|| assert!(one(name, value).is_ok(), "{name}"));
        assert_eq!(lines, [""; 0], "{name}");
    }
}

/// The fields that no property sets on its own.
const OTHER_FIELDS: [&str; 7] = [
    // The list of `compression.type`, and what comes of `ssl.…`.
    "compression_fallback",
    "tls",
    // `tidegate.topic.NAME.…`
    "topics",
    // In code only.
    "fallback",
    "address_map",
    "interceptors",
    "retry_policy",
];

#[test]
fn no_secret_is_in_an_error_or_a_warning() {
    let mut seen = 0;
    for entry in reference() {
        let name = entry.name();
        let last = name.rsplit(['.', '_']).next().unwrap_or_default();
        let is_key = matches!(last, "password" | "passphrase" | "secret" | "pem");
        assert!(entry.is_secret() || !is_key, "{name}");
        if !entry.is_secret() {
            continue;
        }
        seen += 1;
        for more in [("client.id", "x"), ("security.protocol", "SASL_SSL")] {
            let mut words = String::new();
            let lines = warnings(|| {
                let config = ProducerConfig::from_properties([(name, "hunter2"), more]);
                words = match config {
                    Ok(config) => format!("{config:?} {:?}", config.validate()),
                    Err(error) => format!("{error} {error:?}"),
                };
            });
            assert!(!format!("{words} {lines:?}").contains("hunter"), "{name}: {words} {lines:?}");
        }
    }
    assert!(seen > 15, "{seen}");
}

/// Set in the process that [`the_environment_is_read_only_where_that_is_asked_for`] starts.
const CHILD: &str = "TIDEGATE_TEST_ENVIRONMENT_CHILD";

#[test]
fn the_environment_is_read_only_where_that_is_asked_for() {
    if std::env::var(CHILD).is_ok() {
        let config = ProducerConfig::from_env().expect("the variables are good");
        assert_eq!(config.linger, Duration::from_millis(7));
        assert_eq!(config.bootstrap_servers, ["a:1"]);
        assert_eq!(ProducerConfig::new("b:1").linger, Duration::ZERO);
        let read = ProducerConfig::from_properties([("client.id", "x")]).expect("they are good");
        assert_eq!(read.linger, Duration::ZERO);
        let shop = ProducerConfig::from_env_prefixed("SHOP_KAFKA_").expect("it is good");
        assert_eq!((shop.client_id.as_str(), shop.linger), ("shop", Duration::ZERO));
        return;
    }
    let this = std::env::current_exe().expect("a test knows its own file");
    let output = Command::new(this)
        .args(["--exact", "the_environment_is_read_only_where_that_is_asked_for"])
        .env(CHILD, "1")
        .env("TIDEGATE_BOOTSTRAP_SERVERS", "a:1")
        .env("TIDEGATE_LINGER_MS", "7")
        .env("TIDEGATE_REQUIRE_KAFKA", "1")
        .env("SHOP_KAFKA_CLIENT_ID", "shop")
        .output()
        .expect("it can be started again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[test]
fn every_field_is_set_by_a_property() {
    let source = include_str!("../src/config/producer_config.rs");
    let fields = source.split("pub struct ProducerConfig {").nth(1).expect("it is there");
    let fields = fields.split("\n}").next().unwrap_or_default().lines();
    let field = |line: &'static str| line.trim().strip_prefix("pub ")?.split_once(':');
    let fields: Vec<&str> = fields.filter_map(field).map(|(name, _)| name).collect();
    assert!(fields.len() > 40, "{fields:?}");
    // `sasl (user)` sets a part of the field `sasl`.
    let sets: BTreeSet<&str> = reference()
        .into_iter()
        .filter_map(|entry| entry.sets())
        .map(|sets| sets.split(' ').next().unwrap_or(sets))
        .collect();
    assert!(OTHER_FIELDS.iter().all(|field| fields.contains(field)), "{fields:?}");
    for field in fields {
        let is_known = sets.contains(field) || OTHER_FIELDS.contains(&field);
        assert!(is_known, "{field} has no property");
    }
}

#[test]
fn the_manual_has_the_table_that_the_code_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/manual/configuration.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let begin = page.find("| property").expect("the page has a table");
    let len = page[begin..].find("\n\n").map_or(page.len() - begin, |len| len + 1);
    let table = reference().to_string();
    if std::env::var(REWRITE).is_ok_and(|set| set == "1") {
        let page = format!("{}{table}{}", &page[..begin], &page[begin + len..]);
        std::fs::write(path, page).expect("the page is writable");
        return;
    }
    assert!(
        page[begin..begin + len] == table,
        "the table in {path} is another one: run this test with {REWRITE}=1, or write\n{table}"
    );
}

#[test]
fn the_readme_tells_the_fields_and_defaults_of_the_table() {
    let readme = include_str!("../README.md");
    let table = readme.split("| field | Kafka's name | default |").nth(1).expect("it has a table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut seen = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [fields, names, default] = cells.as_slice() else { panic!("{row}") };
        let code = |cell: &'static str| cell.split('`').skip(1).step_by(2);
        for (field, name) in code(fields).zip(code(names)) {
            let Some(entry) = entry(name) else { continue };
            assert_eq!(entry.sets(), Some(field), "{row}");
            let shown = in_words(entry.default(), entry.unit());
            assert!(default.contains(&shown), "{row}: {shown}");
            seen += 1;
        }
    }
    assert!(seen > 25, "{seen}");
}

/// A default as a person would write it.
fn in_words(default: &str, unit: &str) -> String {
    let Ok(number) = default.parse::<u64>() else {
        return match default {
            "true" => "on".to_owned(),
            "false" => "no".to_owned(),
            other => other.to_owned(),
        };
    };
    match (unit, number) {
        (_, 0) => "0".to_owned(),
        ("ms", 0..1_000) => format!("{number} ms"),
        ("ms", 1_000..300_000) => format!("{} s", number / 1_000),
        ("ms", _) => format!("{} min", number / 60_000),
        ("bytes", 0..1_048_576) => format!("{} KiB", number / 1_024),
        ("bytes", _) => format!("{} MiB", number / 1_048_576),
        ("", _) => {
            let digits = number.to_string();
            let first = digits.len() % 3;
            let rest = digits.as_bytes()[first..].chunks(3);
            let groups = rest.map(|group| String::from_utf8_lossy(group).into_owned());
            let head = (first > 0).then(|| digits[..first].to_owned());
            head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
        }
        (unit, _) => format!("{number} {unit}"),
    }
}
