//! The APIs that this client speaks, in which versions, and how a version is agreed on.

/// An API of Kafka's protocol that this client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum ApiKey {
    /// Writes record batches.
    Produce = 0,
    /// Reads record batches.
    Fetch = 1,
    /// Asks where logs begin and end, and for the offsets of times.
    ListOffsets = 2,
    /// Asks for brokers, topics, partitions and leaders.
    Metadata = 3,
    /// Keeps offsets for a group.
    OffsetCommit = 8,
    /// Asks for the offsets that are kept for a group.
    OffsetFetch = 9,
    /// Asks which broker keeps a group's offsets.
    FindCoordinator = 10,
    /// Names the mechanism of a login (KIP-43).
    SaslHandshake = 17,
    /// Asks which APIs the broker speaks, in which versions; the first request of a connection.
    ApiVersions = 18,
    /// Creates topics (KIP-4).
    CreateTopics = 19,
    /// Asks for a producer id and its epoch (KIP-98).
    InitProducerId = 22,
    /// Carries a login's tokens (KIP-152).
    SaslAuthenticate = 36,
}

/// Versions of one API, both ends included. A range whose `min` is above its `max` is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VersionRange {
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

impl VersionRange {
    /// The versions from `min` to `max`.
    pub const fn new(min: i16, max: i16) -> Self {
        VersionRange { min, max }
    }

    /// Whether the version is in the range.
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

impl std::fmt::Display for VersionRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

impl ApiKey {
    /// Every API, by ascending key.
    pub const ALL: [ApiKey; 12] = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::Metadata,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::FindCoordinator,
        ApiKey::SaslHandshake,
        ApiKey::ApiVersions,
        ApiKey::CreateTopics,
        ApiKey::InitProducerId,
        ApiKey::SaslAuthenticate,
    ];

    /// The key on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The versions that the codec can encode and decode.
    pub const fn versions(self) -> VersionRange {
        match self {
            // v3 is the first with record batches. Kafka 4 advertises those below and serves none.
            ApiKey::Produce => VersionRange::new(0, 13),
            // v13 names topics by id only.
            ApiKey::Fetch => VersionRange::new(0, 12),
            // From v7 on there are more words in place of a time.
            ApiKey::ListOffsets => VersionRange::new(0, 6),
            ApiKey::Metadata => VersionRange::new(0, 13),
            // Those below keep offsets in ZooKeeper, or as Kafka 0.8.2 did. v10 names topics by id.
            ApiKey::OffsetCommit => VersionRange::new(2, 9),
            // v0 asks ZooKeeper; from v8 on one question is about several groups.
            ApiKey::OffsetFetch => VersionRange::new(1, 7),
            // v5 and v6 are for transactions and share groups.
            ApiKey::FindCoordinator => VersionRange::new(0, 4),
            ApiKey::ApiVersions => VersionRange::new(0, 4),
            // Those below, of Kafka 0.10.1 and 0.10.2, Kafka 4 has no more.
            ApiKey::CreateTopics => VersionRange::new(2, 7),
            // v6 is for two-phase commit (KIP-939) and still unstable in Kafka 4.3.
            ApiKey::InitProducerId => VersionRange::new(0, 5),
            // After v0 the tokens follow without header or correlation id.
            ApiKey::SaslHandshake => VersionRange::new(0, 1),
            // v1 tells how long the session lasts (KIP-368).
            ApiKey::SaslAuthenticate => VersionRange::new(0, 2),
        }
    }

    /// Whether the version uses compact lengths and tagged fields (KIP-482).
    pub const fn is_flexible(self, version: i16) -> bool {
        version
            >= match self {
                ApiKey::Produce => 9,
                ApiKey::Fetch => 12,
                ApiKey::ListOffsets => 6,
                ApiKey::Metadata => 9,
                ApiKey::OffsetCommit => 8,
                ApiKey::OffsetFetch => 6,
                ApiKey::FindCoordinator => 3,
                ApiKey::ApiVersions => 3,
                ApiKey::CreateTopics => 5,
                ApiKey::InitProducerId => 2,
                ApiKey::SaslHandshake => i16::MAX,
                ApiKey::SaslAuthenticate => 2,
            }
    }

    /// Whether the client has to pause for the throttle time of a response in this version. Before
    /// KIP-219 (Kafka 2.0) the broker waited that long itself before it answered, so a client that
    /// pauses as well is throttled twice. The first version whose answer comes at once stands in
    /// each schema of the protocol.
    pub const fn client_pauses(self, version: i16) -> bool {
        version
            >= match self {
                ApiKey::Produce => 6,
                ApiKey::Fetch => 8,
                ApiKey::ListOffsets => 3,
                ApiKey::OffsetCommit | ApiKey::OffsetFetch => 4,
                ApiKey::FindCoordinator => 2,
                ApiKey::Metadata => 6,
                ApiKey::ApiVersions => 2,
                ApiKey::CreateTopics => 3,
                ApiKey::InitProducerId => 1,
                // A login's responses tell no throttle time.
                ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => i16::MAX,
            }
    }

    /// The version of the request's header: 2 (with tagged fields) in flexible versions, else 1.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the response's header: 1 (with tagged fields) in flexible versions, else 0.
    /// ApiVersions always has 0, because the client must be able to read the answer of a broker
    /// that does not know the version asked for (KIP-511).
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ApiVersions => 0,
            _ if self.is_flexible(version) => 1,
            _ => 0,
        }
    }
}

/// The highest version that both sides speak, if there is any.
pub fn negotiate(client: VersionRange, broker: VersionRange) -> Option<i16> {
    let version = client.max.min(broker.max);
    (client.contains(version) && broker.contains(version)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_agreed_on() {
        let range = VersionRange::new;
        assert_eq!(negotiate(range(3, 12), range(0, 13)), Some(12));
        assert_eq!(negotiate(range(3, 12), range(0, 5)), Some(5));
        assert_eq!(negotiate(range(3, 12), range(12, 99)), Some(12));
        assert_eq!(negotiate(range(3, 12), range(0, 2)), None);
        assert_eq!(negotiate(range(3, 12), range(13, 14)), None);
        assert_eq!(negotiate(range(3, 12), range(9, 4)), None, "an empty range has no version");
        assert_eq!(negotiate(range(0, 4), range(i16::MIN, i16::MAX)), Some(4));
    }

    #[test]
    fn kafka_4_3_is_spoken_to_in_its_highest_version_of_produce() {
        let kafka_4_3 = VersionRange::new(0, 13);
        assert_eq!(negotiate(ApiKey::Produce.versions(), kafka_4_3), Some(13));
    }

    #[test]
    fn headers_follow_the_flexible_versions_except_for_api_versions() {
        for (api, first) in
            [(ApiKey::Produce, 9), (ApiKey::Metadata, 9), (ApiKey::InitProducerId, 2)]
        {
            assert_eq!(api.request_header_version(first - 1), 1);
            assert_eq!(api.request_header_version(first), 2);
            assert_eq!(api.response_header_version(first - 1), 0);
            assert_eq!(api.response_header_version(first), 1);
        }
        assert_eq!(ApiKey::ApiVersions.request_header_version(2), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(4), 0);
    }
}
