//! How old a broker is: which versions it speaks, and what it does about those it does not.
//!
//! The tables of 0.8.2 to 1.1, 3.9 and 4.3 were read from real brokers, those of 0.11, 2.0 and 2.7
//! are Kafka's published ones; only what is implemented here is listed.

use std::collections::BTreeMap;
use std::fmt;

use super::handlers::{VERSIONS_IMPLEMENTED, api};

/// A version of Kafka that an embedded broker can be of, as far as its protocol goes.
///
/// For those that write:
///
/// | age | Produce | Metadata | ApiVersions | CreateTopics | InitProducerId | logins |
/// |---|---|---|---|---|---|---|
/// | 0.8.2 | 0 | 0 | closes | – | – | – |
/// | 0.9 | 0–1 | 0 | never answers | – | – | – |
/// | 0.10.0 | 0–2 | 0–1 | 0 | – | – | bare tokens |
/// | 0.10.2 | 0–2 | 0–2 | 0 | 0–1 | – | bare tokens |
/// | 0.11 | 0–3 | 0–4 | 0–1 | 0–2 | 0 | bare tokens |
/// | 1.1 | 0–5 | 0–5 | 0–1 | 0–2 | 0 | SaslAuthenticate 0 |
/// | 2.0 | 0–6 | 0–6 | 0–2 | 0–3 | 0–1 | SaslAuthenticate 0 |
/// | 2.7 | 0–8 | 0–9 | 0–3 | 0–6 | 0–4 | SaslAuthenticate 0–2 |
/// | 3.9 | 0–11 | 0–12 | 0–4 | 0–7 | 0–5 | SaslAuthenticate 0–2 |
/// | 4.3 | 0–13, closes on 0–2 | 0–13 | 0–4 | 2–7 | 0–5 | SaslAuthenticate 0–2 |
///
/// For those that read:
///
/// | age | Fetch | ListOffsets | OffsetForLeaderEpoch |
/// |---|---|---|---|
/// | 0.8.2 to 0.10.2 | – | – | – |
/// | 0.11 | 0–5 | 0–2 | – |
/// | 1.1 | 0–7 | 0–2 | – |
/// | 2.0 | 0–8 | 0–3 | – |
/// | 2.7 | 0–12 | 0–5 | 2–3 |
/// | 3.9 | 0–17 | 0–9 | 2–4 |
/// | 4.3 | 4–18 | 1–10 | 2–4 |
///
/// For those that commit what they have read:
///
/// | age | OffsetCommit | OffsetFetch | FindCoordinator |
/// |---|---|---|---|
/// | 0.8.2 to 0.10.2 | – | – | – |
/// | 0.11 | 0–3 | 0–3 | 0–1 |
/// | 1.1 | 0–3 | 0–3 | 0–1 |
/// | 2.0 | 0–4 | 0–4 | 0–2 |
/// | 2.7 | 0–8 | 0–7 | 0–3 |
/// | 3.9 | 0–9 | 0–9 | 0–6 |
/// | 4.3 | 2–9 | 1–9 | 0–6 |
///
/// What is advertised and not served here is closed on: CreateTopics 0 and 1, Fetch 0 to 3 (message
/// sets), ListOffsets 0, OffsetCommit 0 and 1, OffsetFetch 0. ListOffsets 11 of Kafka 4.3, which
/// asks for remote storage, is left out, and so are OffsetCommit and OffsetFetch 10, which name
/// topics by id.
///
/// Before 0.10 a broker does not look at the version of a request that it can parse: 0.8.2 answers
/// Produce 1 and 2 in version 0, 0.9 answers Produce 2 in version 1, both answer Metadata 1 to 3 in
/// version 0. What it cannot parse, 0.8.2 closes on, and 0.9 never answers while the connection
/// stays open.
///
/// Produce before version 3 carries message sets, of magic 0 and from 0.10 on also of magic 1
/// (KIP-32). They are judged strictly: where Kafka lets a set pass that no good client writes, the
/// answer is CORRUPT_MESSAGE (2).
///
/// ```
/// # use tidegate::Producer;
/// use tidegate::embedded::{EmbeddedCluster, KafkaVersion};
///
/// let old = KafkaVersion::V0_11;
/// let cluster = EmbeddedCluster::builder().kafka_version(old).topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// // Produce is API 0, and 3 is the newest version of it that Kafka 0.11 has.
/// assert!(cluster.stats().broker(1).api_versions.contains_key(&(0, 3)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KafkaVersion {
    /// 0.8.2: no ApiVersions, message sets of magic 0, and no broker in Metadata before there is a
    /// topic.
    V0_8_2,
    /// 0.9: as 0.8.2, but silent where that closes.
    V0_9,
    /// 0.10.0: ApiVersions (KIP-35), message sets of magic 1 (KIP-32).
    V0_10_0,
    /// 0.10.2: Metadata 2.
    V0_10_2,
    /// 0.11: record batches of magic 2, and idempotence (KIP-98).
    V0_11,
    /// 1.1: logins by SaslAuthenticate (KIP-152).
    V1_1,
    /// 2.0: Produce 6, before zstd.
    V2_0,
    /// 2.7: zstd, errors of single records (KIP-467), flexible versions of Metadata.
    V2_7,
    /// 3.9: the last that takes message sets.
    V3_9,
    /// 4.3: advertises Produce 0 to 2 and closes on it.
    V4_3,
}

impl fmt::Display for KafkaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KafkaVersion::V0_8_2 => "0.8.2",
            KafkaVersion::V0_9 => "0.9",
            KafkaVersion::V0_10_0 => "0.10.0",
            KafkaVersion::V0_10_2 => "0.10.2",
            KafkaVersion::V0_11 => "0.11",
            KafkaVersion::V1_1 => "1.1",
            KafkaVersion::V2_0 => "2.0",
            KafkaVersion::V2_7 => "2.7",
            KafkaVersion::V3_9 => "3.9",
            KafkaVersion::V4_3 => "4.3",
        })
    }
}

/// The oldest and the newest version of an API.
pub(super) type Range = (i16, i16);

impl KafkaVersion {
    /// What ApiVersions advertises; nothing before it existed.
    fn table(self) -> BTreeMap<i16, Range> {
        // The newest version of each API in turn, and -1 for one that it does not have.
        let newest = match self {
            KafkaVersion::V0_8_2 | KafkaVersion::V0_9 => [-1; 13],
            KafkaVersion::V0_10_0 => [2, -1, -1, 1, 0, 0, -1, -1, -1, -1, -1, -1, -1],
            KafkaVersion::V0_10_2 => [2, -1, -1, 2, 0, 0, 1, -1, -1, -1, -1, -1, -1],
            KafkaVersion::V0_11 => [3, 5, 2, 4, 0, 1, 2, 0, -1, -1, 3, 3, 1],
            KafkaVersion::V1_1 => [5, 7, 2, 5, 1, 1, 2, 0, -1, 0, 3, 3, 1],
            KafkaVersion::V2_0 => [6, 8, 3, 6, 1, 2, 3, 1, -1, 0, 4, 4, 2],
            KafkaVersion::V2_7 => [8, 12, 5, 9, 1, 3, 6, 4, 3, 2, 8, 7, 3],
            KafkaVersion::V3_9 => [11, 17, 9, 12, 1, 4, 7, 5, 4, 2, 9, 9, 6],
            KafkaVersion::V4_3 => [13, 18, 10, 13, 1, 4, 7, 5, 4, 2, 9, 9, 6],
        };
        let keys = [
            api::PRODUCE,
            api::FETCH,
            api::LIST_OFFSETS,
            api::METADATA,
            api::SASL_HANDSHAKE,
            api::API_VERSIONS,
            api::CREATE_TOPICS,
            api::INIT_PRODUCER_ID,
            api::OFFSET_FOR_LEADER_EPOCH,
            api::SASL_AUTHENTICATE,
            api::OFFSET_COMMIT,
            api::OFFSET_FETCH,
            api::FIND_COORDINATOR,
        ];
        let present = keys.into_iter().zip(newest).filter(|&(_, newest)| newest >= 0);
        let oldest = |key| match (self, key) {
            (KafkaVersion::V4_3, api::CREATE_TOPICS) => 2,
            (KafkaVersion::V4_3, api::FETCH) => 4,
            (KafkaVersion::V4_3, api::LIST_OFFSETS | api::OFFSET_FETCH) => 1,
            (KafkaVersion::V4_3, api::OFFSET_COMMIT) => 2,
            (_, api::OFFSET_FOR_LEADER_EPOCH) => 2,
            _ => 0,
        };
        present.map(|(key, newest)| (key, (oldest(key), newest))).collect()
    }
}

/// A broker's age; without a version it speaks all that is implemented for brokers of today.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Age(pub Option<KafkaVersion>);

/// What a broker does with a request of some API and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reception {
    /// It reads and answers the request as one of this version.
    As(i16),
    Closes,
    /// It reads the request, does not answer, and goes on with the next.
    Silent,
}

impl Age {
    fn is_before(self, version: KafkaVersion) -> bool {
        self.0.is_some_and(|own| own < version)
    }

    /// What it advertises, before [`limit_api`](super::EmbeddedCluster::limit_api).
    pub(super) fn advertised(self) -> BTreeMap<i16, Range> {
        match self.0 {
            Some(version) => version.table(),
            None => VERSIONS_IMPLEMENTED.clone(),
        }
    }

    /// The same for one API.
    pub(super) fn advertised_of(self, api_key: i16) -> Option<Range> {
        match self.0 {
            Some(version) => version.table().get(&api_key).copied(),
            None => VERSIONS_IMPLEMENTED.get(&api_key).copied(),
        }
    }

    /// What it does with a request, where `advertised` is the range of the API's versions, if it
    /// has the API.
    pub(super) fn reception(
        self,
        api_key: i16,
        version: i16,
        advertised: Option<Range>,
    ) -> Reception {
        if self.ignores_versions() {
            return match (api_key, version) {
                (api::PRODUCE, 0..=2) if self.is_before(KafkaVersion::V0_9) => Reception::As(0),
                (api::PRODUCE, 0..=2) => Reception::As(version.min(1)),
                (api::METADATA, 0..=3) => Reception::As(0),
                _ => self.unparsable(),
            };
        }
        // Kafka closes on a version it does not have, except for ApiVersions, which answers.
        let within = |range: Option<Range>| {
            range.is_some_and(|(oldest, newest)| (oldest..=newest).contains(&version))
        };
        let is_spoken = within(advertised) && within(self.implemented(api_key));
        match is_spoken || api_key == api::API_VERSIONS {
            true => Reception::As(version),
            false => Reception::Closes,
        }
    }

    /// What it does with a request that it cannot parse.
    pub(super) fn unparsable(self) -> Reception {
        match self.0 {
            Some(KafkaVersion::V0_9) => Reception::Silent,
            _ => Reception::Closes,
        }
    }

    fn implemented(self, api_key: i16) -> Option<Range> {
        let (oldest, newest) = VERSIONS_IMPLEMENTED.get(&api_key).copied()?;
        match api_key == api::PRODUCE && self.is_before(KafkaVersion::V4_3) {
            true => Some((0, newest)),
            false => Some((oldest, newest)),
        }
    }

    /// Whether it takes the version of a request for granted.
    pub(super) fn ignores_versions(self) -> bool {
        self.is_before(KafkaVersion::V0_10_0)
    }

    /// Whether it tells the range of ApiVersions to a client that speaks a newer one (KIP-511, from
    /// 2.4 on).
    pub(super) fn tells_range_of_api_versions(self) -> bool {
        !self.is_before(KafkaVersion::V2_7)
    }

    /// Whether it names brokers while there is no topic.
    pub(super) fn lists_brokers_without_topics(self) -> bool {
        !self.is_before(KafkaVersion::V0_9)
    }

    /// Whether the first answer about a topic that it creates is LEADER_NOT_AVAILABLE, as of
    /// brokers with ZooKeeper, and not UNKNOWN_TOPIC_OR_PARTITION.
    pub(super) fn creates_topics_leaderless(self) -> bool {
        self.is_before(KafkaVersion::V3_9)
    }

    /// The newest format of message sets that it knows. Timestamps came with 1.
    pub(super) fn magic_max(self) -> i8 {
        i8::from(!self.ignores_versions())
    }
}
