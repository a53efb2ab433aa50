//! Versions of Apache Kafka that tests run against: the current one, and old ones whose brokers
//! behave differently. Each is a value that says what Maven must bring and how it is run.

/// A version of Apache Kafka.
#[derive(Debug)]
pub struct Release {
    /// As Maven knows it.
    pub version: &'static str,
    /// The highest version of Metadata that it and the support's codec both speak.
    pub metadata: i16,
    /// Whether its brokers have listeners. Before 0.9 they have one port, and they list no broker
    /// until there is a topic.
    pub has_listeners: bool,
    /// Where its brokers keep the cluster's state.
    pub quorum: Quorum,
    /// What Maven copies, as `group:artifact:version`, with all that it depends on.
    pub(super) jars: &'static [&'static str],
    /// The Java programs that are compiled against its jars, by file name. One of them reads back
    /// with its own consumer.
    pub(super) programs: &'static [(&'static str, &'static str)],
    pub(super) logging: Logging,
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
const TRANSACTIONS: (&str, &str) = ("Transactions.java", include_str!("../java/Transactions.java"));
const OFFSETS: (&str, &str) = ("Offsets.java", include_str!("../java/Offsets.java"));
const FRAMES: (&str, &str) = ("Frames.java", include_str!("../java/Frames.java"));

const READ_BACK: (&str, &str) = ("ReadBack.java", include_str!("../java/ReadBack.java"));
const READ_BACK_SINCE_0_9: (&str, &str) =
    ("ReadBack.java", include_str!("../java/since_0_9/ReadBack.java"));
const READ_BACK_SINCE_0_8: (&str, &str) =
    ("ReadBack.java", include_str!("../java/since_0_8/ReadBack.java"));

/// The release that tests run against unless they ask for another.
pub static V4_3: Release = Release {
    version: "4.3.0",
    metadata: 9,
    has_listeners: true,
    quorum: Quorum::Controller,
    jars: &[
        "org.apache.kafka:kafka_2.13:4.3.0",
        "org.apache.kafka:kafka-tools:4.3.0",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    ],
    programs: &[FORMAT_NODES, KEYED_PRODUCER, TRANSACTIONS, OFFSETS, FRAMES, READ_BACK],
    logging: Logging::Log4j2,
};

/// The last release that still knows ZooKeeper; here it runs without.
pub static V3_9: Release = Release {
    version: "3.9.1",
    jars: &[
        "org.apache.kafka:kafka_2.13:3.9.1",
        "org.apache.kafka:kafka-tools:3.9.1",
        "org.slf4j:slf4j-reload4j:1.7.36",
    ],
    programs: &[FORMAT_NODES, FRAMES, READ_BACK],
    logging: Logging::Log4j1,
    ..V4_3
};

/// The first release with TLS 1.3 and with topic ids, with ZooKeeper.
pub static V2_8: Release = Release {
    version: "2.8.2",
    metadata: 9,
    jars: &["org.apache.kafka:kafka_2.13:2.8.2", "org.slf4j:slf4j-log4j12:1.7.30"],
    ..ZOOKEEPER_ERA
};

/// The last release before topic ids, with ZooKeeper.
pub static V2_7: Release = Release {
    version: "2.7.2",
    metadata: 9,
    jars: &["org.apache.kafka:kafka_2.13:2.7.2", "org.slf4j:slf4j-log4j12:1.7.30"],
    ..ZOOKEEPER_ERA
};

/// The last release in which a record without a key damages a batch for a compacted topic.
pub static V2_3: Release = Release {
    version: "2.3.1",
    metadata: 8,
    jars: &["org.apache.kafka:kafka_2.12:2.3.1", "org.slf4j:slf4j-log4j12:1.7.26", ZOOKEEPER],
    ..ZOOKEEPER_ERA
};

/// The last release without zstd, and the first to answer before it throttles.
pub static V2_0: Release = Release {
    version: "2.0.1",
    metadata: 6,
    jars: &["org.apache.kafka:kafka_2.12:2.0.1", "org.slf4j:slf4j-log4j12:1.7.25", ZOOKEEPER],
    ..ZOOKEEPER_ERA
};

/// A release of the first line with SaslAuthenticate.
pub static V1_1: Release = Release {
    version: "1.1.1",
    metadata: 5,
    jars: &["org.apache.kafka:kafka_2.12:1.1.1", "org.slf4j:slf4j-log4j12:1.7.25"],
    programs: &[FRAMES, READ_BACK_SINCE_0_9],
    ..ZOOKEEPER_ERA
};

/// The first release with idempotence: its brokers remember one batch of a producer.
pub static V0_11: Release = Release {
    version: "0.11.0.3",
    metadata: 4,
    jars: &["org.apache.kafka:kafka_2.12:0.11.0.3", "org.slf4j:slf4j-log4j12:1.7.25", JAXB],
    programs: &[FRAMES, READ_BACK_SINCE_0_9],
    ..ZOOKEEPER_ERA
};

/// The last release without record batches: no InitProducerId, Produce up to version 2.
pub static V0_10: Release = Release {
    version: "0.10.2.2",
    metadata: 2,
    jars: &["org.apache.kafka:kafka_2.12:0.10.2.2", JAXB],
    programs: &[FRAMES, READ_BACK_SINCE_0_9],
    ..ZOOKEEPER_ERA
};

/// The first release with ApiVersions and with timestamps.
pub static V0_10_0: Release = Release {
    version: "0.10.0.1",
    metadata: 1,
    jars: &["org.apache.kafka:kafka_2.11:0.10.0.1"],
    ..V0_10
};

/// Its brokers never answer ApiVersions, and leave the connection open.
pub static V0_9: Release = Release {
    version: "0.9.0.1",
    metadata: 0,
    jars: &["org.apache.kafka:kafka_2.11:0.9.0.1"],
    ..V0_10
};

/// Its brokers close the connection on ApiVersions.
pub static V0_8: Release = Release {
    version: "0.8.2.2",
    metadata: 0,
    has_listeners: false,
    jars: &["org.apache.kafka:kafka_2.11:0.8.2.2"],
    programs: &[FRAMES, READ_BACK_SINCE_0_8],
    ..ZOOKEEPER_ERA
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
const ZOOKEEPER_ERA: Release = Release {
    version: "",
    metadata: 0,
    has_listeners: true,
    quorum: Quorum::ZooKeeper,
    jars: &[],
    programs: &[FRAMES, READ_BACK],
    logging: Logging::Log4j1,
};

impl Release {
    /// Whether its controller creates topics for whoever asks over the wire, in a version that the
    /// support's codec speaks. Before that a tool writes them to ZooKeeper.
    pub(super) fn creates_topics(&self) -> bool {
        // Both versions came with 0.11.
        self.metadata >= 4
    }

    /// The name of the file of a jar, given its coordinates.
    pub(super) fn file_of(coordinates: &str) -> String {
        let mut parts = coordinates.split(':').skip(1);
        let mut part = || parts.next().expect("group, artifact and version");
        format!("{}-{}.jar", part(), part())
    }
}
