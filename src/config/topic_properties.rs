//! Properties of one topic: `tidegate.topic.NAME.SETTING`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::{Given, Spelling};
use super::producer_config::ProducerConfig;
use super::properties::{nearest, read};
use super::property::{self, Property, all_properties};
use super::topic::{TopicConfig, of_topic};
use crate::engine::policy::BuiltInPartitioners;
use crate::error::BuildError;

/// How the names of topics' properties begin.
pub(super) const PREFIX: &str = "tidegate.topic.";

/// What a topic may have of its own, by the fields that the properties set.
const SETTINGS: &[&str] = &[
    "acks",
    "linger",
    "batch_size",
    "delivery_timeout",
    "compression",
    "partitioner",
    "partitioner (by its class)",
    "partitioner_ignore_keys",
    "backoff",
];

/// A property of a topic, as it was given.
pub(super) struct TopicProperty<'a> {
    topic: &'a str,
    given: Given<'a>,
}

/// Splits a name behind [`PREFIX`] into the topic and its setting. Topics' names have dots, as
/// settings have: the longest setting that is known counts.
///
/// # Errors
///
/// [`BuildError::UnknownProperty`] where it ends in no setting, and [`BuildError::InvalidSetting`]
/// where it ends in one that is the producer's alone.
pub(super) fn split<'a>(name: &'a str, value: &'a str) -> Result<TopicProperty<'a>, BuildError> {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let dots = || rest.char_indices().filter(|&(at, c)| c == '.' && at > 0).map(|(at, _)| at);
    // The first dot leaves the longest end.
    for at in dots() {
        let Some(property) = property::property(&rest[at + 1..]) else { continue };
        if !is_of_topic(property) {
            let reason = format!(
                "{} is the producer's and cannot differ from topic to topic; what can is {}",
                property.name,
                names().join(", ")
            );
            let (name, value) = (name.to_owned(), value.to_owned());
            return Err(BuildError::InvalidSetting { name, value, reason });
        }
        let given = Given { name, property, value };
        return Ok(TopicProperty { topic: &rest[..at], given });
    }
    let near = dots().find_map(|at| {
        let known = nearest(&rest[at + 1..])?;
        let is_of_topic = property::property(known).is_some_and(is_of_topic);
        is_of_topic.then(|| format!("{PREFIX}{}.{known}", &rest[..at]))
    });
    Err(BuildError::UnknownProperty { name: name.to_owned(), nearest: near })
}

/// The settings of all topics. `given` is what the producer was given, whose levels and codecs
/// count for a topic that sets only the one or the other.
///
/// # Errors
///
/// As [`ProducerConfig::from_properties`], naming the topic.
pub(super) fn read_topics(
    properties: &[TopicProperty<'_>],
    given: &[Given<'_>],
    config: &ProducerConfig,
) -> Result<BTreeMap<String, TopicConfig>, BuildError> {
    let mut by_topic: BTreeMap<&str, Vec<Given<'_>>> = BTreeMap::new();
    for property in properties {
        by_topic.entry(property.topic).or_default().push(property.given);
    }
    let topics = by_topic.into_iter().map(|(topic, own)| {
        let settings = read_topic(own, given, config).map_err(|error| of_topic(topic, error))?;
        Ok((topic.to_owned(), settings))
    });
    topics.collect()
}

fn read_topic(
    own: Vec<Given<'_>>,
    given: &[Given<'_>],
    config: &ProducerConfig,
) -> Result<TopicConfig, BuildError> {
    let own: Vec<_> = own.into_iter().filter(|one| !one.value.is_empty()).collect();
    let has = |sets: &str| own.iter().any(|one| sets_of(one.property) == Some(sets));
    let compresses = own.iter().any(|one| is_of_compression(one.property));
    let mut all = own.clone();
    if compresses {
        let others = given.iter().filter(|one| is_of_compression(one.property));
        all.extend(others.filter(|one| !sets_of(one.property).is_some_and(has)));
    }
    let read = read(all, Spelling::Properties)?;
    let mut topic = TopicConfig::new();
    if has("acks") {
        topic = topic.acks(read.acks);
    }
    if has("linger") {
        topic = topic.linger(read.linger);
    }
    if has("batch_size") {
        topic = topic.batch_size(read.batch_size);
    }
    if has("delivery_timeout") {
        topic = topic.delivery_timeout(read.delivery_timeout);
    }
    if compresses {
        topic = topic.compressions(read.compressions().collect::<Vec<_>>());
    }
    if SETTINGS.iter().any(|sets| sets.starts_with("partitioner") && has(sets)) {
        let adaptive = config.partitioner_adaptive;
        let default = || BuiltInPartitioners::default_partitioner().adaptive(adaptive);
        let chosen = read.partitioner_in_effect();
        topic = topic.shared_partitioner(chosen.unwrap_or_else(|| Arc::new(default())));
    }
    if has("backoff") {
        let max_block = config.max_block;
        topic = topic.shared_backoff(ProducerConfig { max_block, ..read }.backoff_in_effect());
    }
    Ok(topic)
}

fn sets_of(property: &Property) -> Option<&'static str> {
    property.reading().map(|reading| reading.sets)
}

fn is_of_compression(property: &Property) -> bool {
    property.reading().is_some() && property.name.contains("compression.")
}

fn is_of_topic(property: &Property) -> bool {
    sets_of(property).is_some_and(|sets| SETTINGS.contains(&sets)) || is_of_compression(property)
}

/// The names of the settings that a topic may have of its own, Kafka's before others'.
pub(super) fn names() -> Vec<&'static str> {
    let all = all_properties().filter(|property| is_of_topic(property));
    let main = all.filter(|property| {
        sets_of(property).and_then(property::main_property).map(|main| main.name)
            == Some(property.name)
    });
    main.map(|property| property.name).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Acks, Backoff, Compression, Pressure, PressureScope};

    fn config(properties: &[(&str, &str)]) -> Result<ProducerConfig, BuildError> {
        let servers = [("bootstrap.servers", "kafka:9092")];
        ProducerConfig::from_properties(servers.iter().chain(properties).copied())
    }

    #[test]
    fn a_name_with_dots_ends_where_the_longest_setting_begins() {
        let config = config(&[
            ("acks", "all"),
            ("tidegate.topic.app.linger.ms", "7"),
            ("tidegate.topic.eu.audit.acks", "1"),
            ("tidegate.topic.eu.audit.delivery.timeout.ms", "40000"),
            ("tidegate.topic.a.batch.size", "4096"),
            ("tidegate.topic.a.queue.buffering.max.ms", "3"),
        ])
        .expect("they are all known");
        let names: Vec<_> = config.topics.keys().map(String::as_str).collect();
        assert_eq!(names, ["a", "app", "eu.audit"]);
        assert_eq!(config.for_topic("app").linger, Duration::from_millis(7));
        let audit = config.for_topic("eu.audit");
        assert_eq!((audit.acks, audit.linger), (Acks::Leader, Duration::ZERO));
        assert_eq!(audit.delivery_timeout, Duration::from_secs(40));
        let a = config.for_topic("a");
        assert_eq!((a.batch_size, a.linger), (4_096, Duration::from_millis(3)));
        assert_eq!(config.for_topic("other").acks, Acks::All);
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn a_level_alone_is_that_of_the_producers_codec() {
        let config = config(&[
            ("compression.type", "gzip"),
            ("compression.gzip.level", "2"),
            ("tidegate.topic.logs.compression.gzip.level", "9"),
            ("tidegate.topic.plain.compression.type", "none"),
            ("tidegate.topic.same.compression.type", "gzip"),
        ])
        .expect("they are all known");
        let compression = |topic| config.for_topic(topic).compression;
        assert_eq!(compression("logs"), Compression::Gzip { level: 9 });
        assert_eq!(compression("plain"), Compression::None);
        assert_eq!(compression("same"), Compression::Gzip { level: 2 });
        assert_eq!(compression("other"), Compression::Gzip { level: 2 });
    }

    #[test]
    fn a_strategy_and_a_partitioner_are_the_topics_own() {
        let config = config(&[
            ("max.block.ms", "5"),
            ("tidegate.backoff.strategy", "drop"),
            ("tidegate.topic.orders.tidegate.backoff.strategy", "park"),
            ("tidegate.topic.orders.partitioner", "random"),
        ])
        .expect("they are all known");
        let pressure = Pressure::new(PressureScope::Pool, 10);
        let decide = |topic| config.for_topic(topic).backoff_in_effect().decide(&pressure);
        let at_most = Duration::from_millis(5);
        assert_eq!((decide("orders"), decide("x")), (Backoff::Park { at_most }, Backoff::Drop));
        assert!(config.for_topic("orders").partitioner.is_some());
        assert!(config.for_topic("x").partitioner.is_none());
    }

    #[test]
    fn what_is_no_setting_of_a_topic_is_refused() {
        let error = |name| config(&[(name, "1")]).unwrap_err().to_string();
        let text = error("tidegate.topic.orders.buffer.memory");
        assert!(text.contains("buffer.memory is the producer's"), "{text}");
        assert!(text.contains("linger.ms"), "{text}");
        let text = error("tidegate.topic.orders.linger.mss");
        assert!(text.contains("tidegate.topic.orders.linger.ms"), "{text}");
        let text = error("tidegate.topic.orders");
        assert!(text.contains("unknown property"), "{text}");
        let text = error("tidegate.topic.orders.acks.x");
        assert!(text.contains("unknown property"), "{text}");
        let text = config(&[("tidegate.topic.orders.acks", "2")]).unwrap_err().to_string();
        assert!(text.contains("tidegate.topic.orders.acks"), "{text}");
    }
}
