//! The properties that choose a partitioner, in the names of librdkafka and of the Java client.

use std::sync::Arc;

use super::names::GivenNames;
use super::producer_config::ProducerConfig;
use super::property::{Origin, Property, Show, Unit, field};
use crate::engine::policy::BuiltInPartitioners;
use crate::error::BuildError;

/// The partitioners of the Java client, by the names of their classes. The last two are there no
/// longer since Kafka 4.0.
const CLASSES: &[(&str, BuiltInPartitioners)] = &[
    ("org.apache.kafka.clients.producer.RoundRobinPartitioner", BuiltInPartitioners::round_robin()),
    (
        "org.apache.kafka.clients.producer.internals.DefaultPartitioner",
        BuiltInPartitioners::default_partitioner(),
    ),
    ("org.apache.kafka.clients.producer.UniformStickyPartitioner", BuiltInPartitioners::sticky()),
];

/// What was said about the partitioner, put together at the end.
#[derive(Default)]
pub(super) struct PartitionerDraft {
    /// Of `partitioner`.
    named: Option<BuiltInPartitioners>,
    /// Of `partitioner.class`.
    class: Option<BuiltInPartitioners>,
    /// Of `partitions.rotate`.
    rotates: bool,
}

impl PartitionerDraft {
    /// As Krackle does by default. A partitioner that is named goes before it.
    pub(super) fn rotate_on_refresh(&mut self) {
        self.rotates = true;
    }

    /// Sets what was asked for, and is not the default.
    ///
    /// # Errors
    ///
    /// [`BuildError::Conflict`] where two properties ask for different things.
    pub(super) fn finish(
        self,
        config: &mut ProducerConfig,
        names: &GivenNames<'_>,
    ) -> Result<(), BuildError> {
        let asked = match (self.named, self.class) {
            (Some(named), Some(class)) if named != class => {
                return Err(BuildError::Conflict(format!(
                    "{}={named:?} and {} name two partitioners: leave one of them out",
                    names.of("partitioner"),
                    names.of("partitioner.class"),
                )));
            }
            (named, class) => named.or(class),
        };
        let rotating = || self.rotates.then(BuiltInPartitioners::rotate_on_refresh);
        let asked = asked.or_else(rotating);
        let asked = asked.filter(|asked| *asked != BuiltInPartitioners::default_partitioner());
        let Some(asked) = asked else { return Ok(()) };
        if config.partitioner_ignore_keys && asked.hashes_keys() {
            return Err(BuildError::Conflict(format!(
                "{}=true and the partitioner {asked:?}, which places records by their keys, \
                 exclude each other: leave one of them out",
                names.of("partitioner.ignore.keys"),
            )));
        }
        config.partitioner = Some(Arc::new(asked.adaptive(config.partitioner_adaptive)));
        Ok(())
    }
}

pub(super) const PARTITIONER: &[Property] = &[
    Property::read(
        "partitioner.class",
        Origin::Kafka,
        "partitioner (by its class)",
        Unit::None,
        Show::Unset,
        "A partitioner of the Java client's, by the name of its class; not given: the default.",
        |draft, setting| {
            draft.partitioner.class = match setting.value {
                // As the Java client has it from 3.3 on.
                "" | "null" => None,
                class => Some(of_class(class).ok_or_else(|| {
                    setting.refuse(
                        "it names a Java class that is not built in: name one with the property \
                         partitioner, set one in code with ProducerBuilder::partitioner, or leave \
                         it out",
                    )
                })?),
            };
            Ok(())
        },
    ),
    field!(
        "partitioner.ignore.keys",
        Kafka,
        partitioner_ignore_keys,
        None,
        boolean,
        "Whether records with a key are spread as those without."
    ),
    field!(
        "partitioner.adaptive.partitioning.enable",
        Kafka,
        partitioner_adaptive,
        None,
        boolean,
        "Whether records without key go less to brokers that are slow (KIP-794)."
    ),
    field!(
        "partitioner.availability.timeout.ms",
        Kafka,
        partitioner_availability_timeout,
        Milliseconds,
        milliseconds,
        "A broker that took no batch for so long gets no records without key; `0`: never."
    ),
    Property::read(
        "partitioner",
        Origin::Librdkafka,
        "partitioner",
        Unit::None,
        Show::Draft(|_| "murmur2_random".to_owned()),
        "A partitioner by librdkafka's name for it, or this client's for those that it adds.",
        |draft, setting| {
            let named = BuiltInPartitioners::named(setting.value).ok_or_else(|| {
                let names: Vec<_> = BuiltInPartitioners::names().collect();
                setting.refuse(format!("it must be one of {}", names.join(", ")))
            })?;
            draft.partitioner.named = Some(named);
            Ok(())
        },
    ),
];

fn of_class(class: &str) -> Option<BuiltInPartitioners> {
    CLASSES.iter().find(|(known, _)| *known == class).map(|(_, partitioner)| *partitioner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::policy::{PartitionRequest, PartitionView, Partitions};

    struct Seventeen;

    impl PartitionView for Seventeen {
        fn count(&self) -> i32 {
            17
        }

        fn is_available(&self, partition: i32) -> bool {
            (0..17).contains(&partition)
        }
    }

    fn read(properties: &[(&str, &str)]) -> Result<ProducerConfig, BuildError> {
        ProducerConfig::from_properties(properties.iter().copied())
    }

    /// Where the configuration puts records with these keys; `None` if its partitioner is the
    /// producer's default.
    fn places(properties: &[(&str, &str)], keys: [&str; 3]) -> Option<[i32; 3]> {
        let config = read(properties).expect("the properties are good");
        let partitioner = config.partitioner_in_effect()?.for_topic("t");
        Some(keys.map(|key| {
            let (key, partitions) = (Some(key.as_bytes()), Partitions::new(&Seventeen));
            partitioner.partition(&PartitionRequest::new("t", key, None, partitions))
        }))
    }

    #[test]
    fn librdkafkas_names_place_keys_as_librdkafka_does() {
        // Its test 0048-partitioner has these keys and hashes.
        let keys = ["", "23456", "hejsan"];
        let by = |hashes: [i64; 3]| Some(hashes.map(|hash| (hash % 17) as i32));
        let named = |name| places(&[("partitioner", name)], keys);
        assert_eq!(named("consistent"), by([0, 0xb1b4_51d7, 0xd077_037e]));
        assert_eq!(named("murmur2"), by([0x106e_08d9, 0x058d_780f, 0x5ec1_9395]));
        for name in ["fnv1a", "fnv1a_random"] {
            assert_eq!(named(name), by([0x7ee3_623b, 0x27e6_f469, 0x17b1_e27a]));
        }
        let with_key = |places: Option<[i32; 3]>| places.map(|[_, rest @ ..]| rest);
        let expected = by([0, 0xb1b4_51d7, 0xd077_037e]);
        assert_eq!(with_key(named("consistent_random")), with_key(expected));
        // The producer's own default, which it calls directly.
        assert_eq!(named("murmur2_random"), None);
    }

    #[test]
    fn java_classes_are_what_they_are_there() {
        let keys = ["k"; 3];
        let class = |name| places(&[("partitioner.class", name)], keys);
        let round_robin = "org.apache.kafka.clients.producer.RoundRobinPartitioner";
        assert_eq!(class(round_robin), Some([0, 1, 2]));
        let sticky = class("org.apache.kafka.clients.producer.UniformStickyPartitioner");
        let [first, second, third] = sticky.expect("it is not the default");
        assert_eq!((first, first), (second, third));
        for default in
            ["", "null", "org.apache.kafka.clients.producer.internals.DefaultPartitioner"]
        {
            assert_eq!(class(default), None);
        }
    }

    #[test]
    fn the_settings_of_kip_794_are_read() {
        let default = read(&[]).unwrap();
        assert!(default.partitioner_adaptive && !default.partitioner_ignore_keys);
        assert_eq!(default.partitioner_availability_timeout, Duration::ZERO);
        let config = read(&[
            ("partitioner.adaptive.partitioning.enable", "false"),
            ("partitioner.availability.timeout.ms", "250"),
            ("partitioner.ignore.keys", "true"),
            ("partitioner", "murmur2_random"),
        ])
        .unwrap();
        assert!(!config.partitioner_adaptive && config.partitioner_ignore_keys);
        assert_eq!(config.partitioner_availability_timeout, Duration::from_millis(250));
        let ignoring = places(&[("partitioner.ignore.keys", "true")], ["a", "b", "c"]);
        let [first, second, third] = ignoring.expect("it is not the default");
        assert_eq!((first, first), (second, third), "sticky whatever the keys are");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let conflict = |properties: &[(&str, &str)]| match read(properties) {
            Err(BuildError::Conflict(text)) => text,
            other => panic!("{other:?}"),
        };
        let round_robin = "org.apache.kafka.clients.producer.RoundRobinPartitioner";
        let two = [("partitioner", "random"), ("partitioner.class", round_robin)];
        assert!(conflict(&two).contains("partitioner=random and partitioner.class"));
        let same = [("partitioner", "round_robin"), ("partitioner.class", round_robin)];
        assert!(read(&same).is_ok());
        let keys = [("partitioner.ignore.keys", "true"), ("partitioner", "fnv1a_random")];
        assert!(conflict(&keys).contains("partitioner.ignore.keys=true and the partitioner fnv1a"));
    }

    #[test]
    fn a_name_that_is_not_known_is_refused_with_those_that_are() {
        let text = read(&[("partitioner", "md5")]).unwrap_err().to_string();
        assert!(text.contains("md5") && text.contains("murmur2_random, fnv1a"), "{text}");
        let text = read(&[("partitioner.class", "org.example.Mine")]).unwrap_err().to_string();
        assert!(text.contains("org.example.Mine") && text.contains("in code"), "{text}");
    }
}
