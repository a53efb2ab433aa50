//! Versions of Apache Kafka that tests run against: the current one, and old ones whose brokers
//! behave differently. Each is a value that says what Maven must bring and how it is run.

/// A version of Apache Kafka.
#[derive(Debug)]
pub struct Release {
    /// As Maven knows it.
    pub version: &'static str,
    /// The highest version of Metadata that it and the support's codec both speak.
    pub metadata: i16,
    /// Where its brokers keep the cluster's state.
    pub quorum: Quorum,
    /// What Maven copies, as `group:artifact:version`, with all that it depends on.
    pub(super) jars: &'static [&'static str],
    /// The Java programs that are compiled against its jars, by file name.
    pub(super) programs: &'static [(&'static str, &'static str)],
    pub(super) logging: Logging,
    /// Whose consumer reads back from its brokers, if not its own.
    pub(super) reader: Option<&'static Release>,
}

/// Where brokers keep the cluster's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quorum {
    /// In a controller of their own (KRaft).
    Controller,
    /// In ZooKeeper, a process of its own.
    ZooKeeper,
}

/// The library that writes a release's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logging {
    Log4j1,
    Log4j2,
}

/// Brokers before 1.0 use a part of it that left Java with version 11.
const JAXB: &str = "javax.xml.bind:jaxb-api:2.3.1";

/// Those that came between it and 3.5 take apart how Java prints an address, which has changed.
const ZOOKEEPER: &str = "org.apache.zookeeper:zookeeper:3.4.10";

const FORMAT_NODES: (&str, &str) = ("FormatNodes.java", include_str!("../java/FormatNodes.java"));
const KEYED_PRODUCER: (&str, &str) =
    ("KeyedProducer.java", include_str!("../java/KeyedProducer.java"));
const READ_BACK: (&str, &str) = ("ReadBack.java", include_str!("../java/ReadBack.java"));

/// The release that tests run against unless they ask for another.
pub static V4_3: Release = Release {
    version: "4.3.0",
    metadata: 9,
    quorum: Quorum::Controller,
    jars: &[
        "org.apache.kafka:kafka_2.13:4.3.0",
        "org.apache.kafka:kafka-tools:4.3.0",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    ],
    programs: &[FORMAT_NODES, KEYED_PRODUCER, READ_BACK],
    logging: Logging::Log4j2,
    reader: None,
};

/// The last release before topic ids, with ZooKeeper.
pub static V2_7: Release = Release {
    version: "2.7.2",
    metadata: 9,
    jars: &["org.apache.kafka:kafka_2.13:2.7.2", "org.slf4j:slf4j-log4j12:1.7.30"],
    ..zookeeper_era(&V4_3)
};

/// The last release in which a record without a key damages a batch for a compacted topic.
pub static V2_3: Release = Release {
    version: "2.3.1",
    metadata: 8,
    jars: &["org.apache.kafka:kafka_2.12:2.3.1", "org.slf4j:slf4j-log4j12:1.7.26", ZOOKEEPER],
    ..zookeeper_era(&V4_3)
};

/// The last release without zstd, and the first to answer before it throttles.
pub static V2_0: Release = Release {
    version: "2.0.1",
    metadata: 6,
    jars: &["org.apache.kafka:kafka_2.12:2.0.1", "org.slf4j:slf4j-log4j12:1.7.25", ZOOKEEPER],
    ..zookeeper_era(&CLIENT_3_9)
};

/// The first release with idempotence: its brokers remember one batch of a producer.
pub static V0_11: Release = Release {
    version: "0.11.0.3",
    metadata: 4,
    jars: &["org.apache.kafka:kafka_2.12:0.11.0.3", "org.slf4j:slf4j-log4j12:1.7.25", JAXB],
    ..zookeeper_era(&CLIENT_3_9)
};

/// The last release without record batches: no InitProducerId, Produce up to version 2.
pub static V0_10: Release = Release {
    version: "0.10.2.2",
    metadata: 2,
    jars: &["org.apache.kafka:kafka_2.12:0.10.2.2", JAXB],
    ..zookeeper_era(&CLIENT_3_9)
};

/// Its brokers never answer ApiVersions, and leave the connection open.
pub static V0_9: Release = Release {
    version: "0.9.0.1",
    metadata: 0,
    jars: &["org.apache.kafka:kafka_2.11:0.9.0.1"],
    ..zookeeper_era(&CLIENT_3_9)
};

/// The last client that talks to brokers before 2.1. It has no brokers.
static CLIENT_3_9: Release = Release {
    version: "3.9.1",
    jars: &["org.apache.kafka:kafka-clients:3.9.1", "org.slf4j:slf4j-reload4j:1.7.36"],
    programs: &[KEYED_PRODUCER, READ_BACK],
    reader: None,
    ..zookeeper_era(&V4_3)
};

/// Parts of the dependencies that nothing here needs, half of the size; the last four are in no
/// public repository any more.
pub(super) const EXCLUDED: [&str; 7] = [
    "org.apache.kafka:connect-runtime",
    "org.apache.kafka:connect-api",
    "org.apache.kafka:connect-json",
    "com.sun.jmx:jmxri",
    "com.sun.jdmk:jmxtools",
    "javax.jms:jms",
    "junit:junit",
];

/// What the releases with ZooKeeper have in common.
const fn zookeeper_era(reader: &'static Release) -> Release {
    Release {
        version: "",
        metadata: 0,
        quorum: Quorum::ZooKeeper,
        jars: &[],
        programs: &[],
        logging: Logging::Log4j1,
        reader: Some(reader),
    }
}

impl Release {
    /// Whose jars have the programs that read back from this release's brokers.
    pub(super) fn reader(&'static self) -> &'static Release {
        self.reader.unwrap_or(self)
    }

    /// The name of the file of a jar, given its coordinates.
    pub(super) fn file_of(coordinates: &str) -> String {
        let mut parts = coordinates.split(':').skip(1);
        let mut part = || parts.next().expect("group, artifact and version");
        format!("{}-{}.jar", part(), part())
    }
}
