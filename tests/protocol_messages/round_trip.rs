//! Property tests: what this codec writes the `kafka-protocol` crate reads, and the reverse, in
//! every version.

use kafka_protocol::messages as peer;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

pub(super) const CASES: u32 = 24;

pub(super) fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9._äß€-]{0,40}"
}

fn id() -> impl Strategy<Value = TopicId> {
    any::<[u8; 16]>().prop_map(TopicId)
}

pub(super) fn str_bytes(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn nullable(text: &Option<String>) -> Option<StrBytes> {
    text.as_deref().map(str_bytes)
}

/// The UUID type is not re-exported: it is made from its text, and inferred.
fn uuid<T: std::str::FromStr<Err: std::fmt::Debug>>(id: TopicId) -> T {
    let hex: String = id.0.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.parse().expect("32 hex digits are a UUID")
}

/// Decodes the peer's message and insists that it leaves nothing over.
pub(super) fn peer_decode<M: Decodable>(mut bytes: &[u8], version: i16) -> M {
    let message = M::decode(&mut bytes, version).expect("our bytes are valid");
    assert!(bytes.is_empty(), "the peer leaves {} bytes over", bytes.len());
    message
}

pub(super) fn peer_encode(message: &impl Encodable, version: i16) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out, version).expect("the peer's own message");
    out
}

/// The versions that both codecs speak: the peer has no Produce before record batches.
pub(super) fn versions(api: ApiKey) -> std::ops::RangeInclusive<i16> {
    let min = match api {
        ApiKey::Produce => 3,
        ApiKey::Fetch => 4,
        ApiKey::ListOffsets => 1,
        api => api.versions().min,
    };
    min..=api.versions().max
}

type Records = Vec<(i32, Vec<u8>)>;

fn topics_to_produce() -> impl Strategy<Value = Vec<(String, TopicId, Records)>> {
    let records = vec((any::<i32>(), vec(any::<u8>(), 0..300)), 0..4);
    vec((text(), id(), records), 0..4)
}

fn partition_response() -> impl Strategy<Value = peer::produce_response::PartitionProduceResponse> {
    let numbers = (any::<i32>(), any::<i16>(), any::<i64>(), any::<i64>(), any::<i64>());
    let leader = option::of((0..i32::MAX, any::<i32>()));
    let errors = vec((any::<i32>(), option::of(text())), 0..3);
    (numbers, leader, errors, option::of(text())).prop_map(|(n, leader, errors, message)| {
        use peer::produce_response::{
            BatchIndexAndErrorMessage, LeaderIdAndEpoch, PartitionProduceResponse,
        };
        let errors = errors.into_iter().map(|(index, message)| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(index)
                .with_batch_index_error_message(nullable(&message))
        });
        let leader = leader.map_or(LeaderIdAndEpoch::default(), |(id, epoch)| {
            LeaderIdAndEpoch::default().with_leader_id(id.into()).with_leader_epoch(epoch)
        });
        PartitionProduceResponse::default()
            .with_index(n.0)
            .with_error_code(n.1)
            .with_base_offset(n.2)
            .with_log_append_time_ms(n.3)
            .with_log_start_offset(n.4)
            .with_record_errors(errors.collect())
            .with_error_message(nullable(&message))
            .with_current_leader(leader)
    })
}

fn produce_response() -> impl Strategy<Value = peer::ProduceResponse> {
    use peer::produce_response::{NodeEndpoint, TopicProduceResponse};
    let topic =
        (text(), id(), vec(partition_response(), 0..4)).prop_map(|(name, id, partitions)| {
            TopicProduceResponse::default()
                .with_name(str_bytes(&name).into())
                .with_topic_id(uuid(id))
                .with_partition_responses(partitions)
        });
    let endpoint = (any::<i32>(), text(), any::<u16>(), option::of(text())).prop_map(|e| {
        NodeEndpoint::default()
            .with_node_id(e.0.into())
            .with_host(str_bytes(&e.1))
            .with_port(e.2.into())
            .with_rack(nullable(&e.3))
    });
    (vec(topic, 0..4), any::<i32>(), vec(endpoint, 0..3)).prop_map(
        |(topics, throttle, endpoints)| {
            peer::ProduceResponse::default()
                .with_responses(topics)
                .with_throttle_time_ms(throttle)
                .with_node_endpoints(endpoints)
        },
    )
}

/// What `version` cannot carry is taken out, since the peer refuses to encode it.
fn produce_response_of(version: i16, mut response: peer::ProduceResponse) -> peer::ProduceResponse {
    if version < 10 {
        response.node_endpoints.clear();
        for topic in &mut response.responses {
            for partition in &mut topic.partition_responses {
                partition.current_leader = Default::default();
            }
        }
    }
    response
}

fn check_produce_response(version: i16, theirs: &peer::ProduceResponse, ours: &ProduceResponse) {
    let expected: Vec<_> = theirs
        .responses
        .iter()
        .flat_map(|topic| topic.partition_responses.iter().map(move |partition| (topic, partition)))
        .collect();
    assert_eq!(ours.len(), expected.len());
    assert_eq!(ours.throttle_time_ms, theirs.throttle_time_ms);
    for ((topic, ours), (their_topic, theirs)) in ours.iter().zip(expected) {
        let expected = match version {
            13 => TopicRef::Id(TopicId(*their_topic.topic_id.as_bytes())),
            _ => TopicRef::Name(&their_topic.name),
        };
        assert_eq!(topic, expected);
        assert_eq!(ours.partition.0, theirs.index);
        assert_eq!(ours.error.0, theirs.error_code);
        assert_eq!(ours.base_offset, theirs.base_offset);
        assert_eq!(ours.log_append_time_ms, theirs.log_append_time_ms);
        let start = if version >= 5 { theirs.log_start_offset } else { -1 };
        assert_eq!(ours.log_start_offset, start);
        let leader = &theirs.current_leader;
        let leader = (leader.leader_id.0 >= 0)
            .then_some((BrokerId(leader.leader_id.0), leader.leader_epoch));
        assert_eq!(ours.current_leader, leader);
        if version >= 8 {
            assert_eq!(ours.error_message.as_deref(), theirs.error_message.as_deref());
            let errors = theirs.record_errors.iter();
            let errors: Vec<_> = errors
                .map(|e| {
                    let message = e.batch_index_error_message.as_deref();
                    (e.batch_index, message.map(str::to_owned))
                })
                .collect();
            assert_eq!(ours.record_errors, errors);
        }
    }
    let endpoints: Vec<_> = theirs
        .node_endpoints
        .iter()
        .map(|e| NodeEndpoint {
            id: BrokerId(e.node_id.0),
            host: e.host.to_string(),
            port: e.port as u16,
        })
        .collect();
    assert_eq!(ours.node_endpoints, endpoints);
}

fn metadata_partition() -> impl Strategy<Value = PartitionMetadata> {
    let ids = || vec((0..100i32).prop_map(BrokerId), 0..4);
    let numbers = (any::<i16>(), any::<i32>(), option::of(0..i32::MAX), any::<i32>());
    (numbers, ids(), ids()).prop_map(|(n, replicas, isr)| PartitionMetadata {
        error: ErrorCode(n.0),
        partition: PartitionId(n.1),
        leader: n.2.map(BrokerId),
        leader_epoch: n.3,
        replicas,
        isr,
    })
}

fn metadata_response() -> impl Strategy<Value = MetadataResponse> {
    let broker = (any::<i32>(), text(), any::<u16>(), option::of(text()))
        .prop_map(|b| BrokerMetadata { id: BrokerId(b.0), host: b.1, port: b.2, rack: b.3 });
    let topic = (any::<i16>(), option::of(text()), id(), any::<bool>());
    let topic = (topic, vec(metadata_partition(), 0..4)).prop_map(|(t, partitions)| {
        let (error, name, id, is_internal) = t;
        TopicMetadata { error: ErrorCode(error), name, id, is_internal, partitions }
    });
    let cluster = (any::<i16>(), any::<i32>(), option::of(text()), option::of(0..i32::MAX));
    (cluster, vec(broker, 0..4), vec(topic, 0..4)).prop_map(|(c, brokers, topics)| {
        MetadataResponse {
            error: ErrorCode(c.0),
            throttle_time_ms: c.1,
            brokers,
            cluster_id: c.2,
            controller: c.3.map(BrokerId),
            topics,
        }
    })
}

/// The response as `version` can carry it.
fn metadata_response_of(version: i16, mut response: MetadataResponse) -> MetadataResponse {
    if version < 1 {
        response.controller = None;
        response.brokers.iter_mut().for_each(|broker| broker.rack = None);
    }
    if version < 2 {
        response.cluster_id = None;
    }
    if version < 3 {
        response.throttle_time_ms = 0;
    }
    if version < 13 {
        response.error = ErrorCode::NONE;
    }
    for topic in &mut response.topics {
        topic.is_internal &= version >= 1;
        if version < 10 {
            topic.id = TopicId::ZERO;
        }
        if version < 12 {
            topic.name.get_or_insert_default();
        }
        for partition in &mut topic.partitions {
            if version < 7 {
                partition.leader_epoch = -1;
            }
        }
    }
    response
}

fn to_peer(response: &MetadataResponse) -> peer::MetadataResponse {
    use peer::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0.into()).collect::<Vec<_>>();
    let partition = |p: &PartitionMetadata| {
        MetadataResponsePartition::default()
            .with_error_code(p.error.0)
            .with_partition_index(p.partition.0)
            .with_leader_id(p.leader.map_or(-1, |id| id.0).into())
            .with_leader_epoch(p.leader_epoch)
            .with_replica_nodes(ids(&p.replicas))
            .with_isr_nodes(ids(&p.isr))
            .with_offline_replicas(ids(&p.isr))
    };
    let topics = response.topics.iter().map(|t| {
        MetadataResponseTopic::default()
            .with_error_code(t.error.0)
            .with_name(nullable(&t.name).map(Into::into))
            .with_topic_id(uuid(t.id))
            .with_is_internal(t.is_internal)
            .with_partitions(t.partitions.iter().map(partition).collect())
    });
    let brokers = response.brokers.iter().map(|b| {
        MetadataResponseBroker::default()
            .with_node_id(b.id.0.into())
            .with_host(str_bytes(&b.host))
            .with_port(b.port.into())
            .with_rack(nullable(&b.rack))
    });
    peer::MetadataResponse::default()
        .with_error_code(response.error.0)
        .with_throttle_time_ms(response.throttle_time_ms)
        .with_brokers(brokers.collect())
        .with_cluster_id(nullable(&response.cluster_id))
        .with_controller_id(response.controller.map_or(-1, |id| id.0).into())
        .with_topics(topics.collect())
}

fn software_word() -> impl Strategy<Value = String> {
    ("[A-Za-z0-9]", "[A-Za-z0-9.-]{0,8}", "[A-Za-z0-9]")
        .prop_map(|(first, middle, last)| format!("{first}{middle}{last}"))
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(CASES)
    })]

    #[test]
    fn produce_requests_are_read_by_the_peer(
        transactional_id in option::of(text()),
        acks in any::<i16>(),
        timeout_ms in any::<i32>(),
        topics in topics_to_produce(),
    ) {
        let lent = topics.iter().map(|(name, id, records)| (name.as_str(), *id, records.clone()));
        let lent: Vec<_> = lent.collect();
        for version in versions(ApiKey::Produce) {
            let ours = produce(version, transactional_id.as_deref(), acks, timeout_ms, &lent);
            let theirs: peer::ProduceRequest = peer_decode(ours.body(version), version);
            let id = theirs.transactional_id.as_ref().map(|id| id.as_str());
            prop_assert_eq!(id, transactional_id.as_deref());
            prop_assert_eq!((theirs.acks, theirs.timeout_ms), (acks, timeout_ms));
            prop_assert_eq!(theirs.topic_data.len(), topics.len());
            for (theirs, (name, id, records)) in theirs.topic_data.iter().zip(&topics) {
                if version >= 13 {
                    prop_assert_eq!(theirs.topic_id.as_bytes(), &id.0);
                } else {
                    prop_assert_eq!(theirs.name.as_str(), name);
                }
                let data: Records = theirs
                    .partition_data
                    .iter()
                    .map(|p| (p.index, p.records.as_deref().expect("not null").to_vec()))
                    .collect();
                prop_assert_eq!(&data, records);
            }
        }
    }

    #[test]
    fn produce_responses_of_the_peer_are_read(response in produce_response()) {
        let mut ours = ProduceResponse::new();
        for version in versions(ApiKey::Produce) {
            let theirs = produce_response_of(version, response.clone());
            ours.decode_into(version, &peer_encode(&theirs, version)).expect("the peer's bytes");
            check_produce_response(version, &theirs, &ours);
        }
    }

    #[test]
    fn metadata_requests_are_read_by_the_peer(
        names in vec(text(), 0..4),
        ids in vec(id(), 0..4),
        allow in any::<bool>(),
    ) {
        let lent: Vec<&str> = names.iter().map(String::as_str).collect();
        for version in versions(ApiKey::Metadata) {
            let read = |topics| {
                let request = MetadataRequest { topics, allow_auto_topic_creation: allow };
                let bytes = encoded(|out| request.encode(version, out));
                peer_decode::<peer::MetadataRequest>(&bytes, version)
            };
            let all = read(MetadataTopics::All);
            // In version 0 an empty list stands for all.
            prop_assert!(all.topics.is_none_or(|topics| version == 0 && topics.is_empty()));
            prop_assert_eq!(all.allow_auto_topic_creation, allow || version < 4);
            let theirs = read(MetadataTopics::Names(&lent)).topics.expect("not null");
            let name = |topic: &peer::metadata_request::MetadataRequestTopic| {
                topic.name.as_ref().expect("named").to_string()
            };
            prop_assert_eq!(theirs.iter().map(name).collect::<Vec<_>>(), &names[..]);
            if version >= 12 {
                let theirs = read(MetadataTopics::Ids(&ids)).topics.expect("not null");
                prop_assert!(theirs.iter().all(|topic| topic.name.is_none()));
                let theirs = theirs.iter().map(|t| TopicId(*t.topic_id.as_bytes()));
                let theirs: Vec<_> = theirs.collect();
                prop_assert_eq!(&theirs, &ids);
            }
        }
    }

    #[test]
    fn metadata_responses_of_the_peer_are_read(response in metadata_response()) {
        for version in versions(ApiKey::Metadata) {
            let expected = metadata_response_of(version, response.clone());
            let bytes = peer_encode(&to_peer(&expected), version);
            prop_assert_eq!(MetadataResponse::decode(version, &bytes), Ok(expected));
        }
    }

    #[test]
    fn api_versions_both_ways(
        // Words that brokers accept (KIP-511) go as they are.
        (name, release) in (software_word(), software_word()),
        error in any::<i16>(),
        throttle in any::<i32>(),
        ranges in prop::collection::btree_map(any::<i16>(), any::<(i16, i16)>(), 0..20),
    ) {
        let request =
            ApiVersionsRequest { client_software_name: &name, client_software_version: &release };
        let theirs = peer::ApiVersionsResponse::default()
            .with_error_code(error)
            .with_throttle_time_ms(throttle)
            .with_api_keys(ranges.iter().rev().map(|(key, (min, max))| {
                peer::api_versions_response::ApiVersion::default()
                    .with_api_key(*key)
                    .with_min_version(*min)
                    .with_max_version(*max)
            }).collect());
        for version in versions(ApiKey::ApiVersions) {
            let bytes = encoded(|out| request.encode(version, out));
            let read: peer::ApiVersionsRequest = peer_decode(&bytes, version);
            if version >= 3 {
                prop_assert_eq!(read.client_software_name.as_str(), &name);
                prop_assert_eq!(read.client_software_version.as_str(), &release);
            }
            let bytes = peer_encode(&theirs, version);
            let ours = ApiVersionsResponse::decode(version, &bytes).expect("the peer's bytes");
            prop_assert_eq!(ours.error.0, error);
            prop_assert_eq!(ours.throttle_time_ms, if version >= 1 { throttle } else { 0 });
            let range =
                |(key, (min, max)): (&i16, &(i16, i16))| (*key, VersionRange::new(*min, *max));
            let expected: Vec<_> = ranges.iter().map(range).collect();
            prop_assert_eq!(ours.ranges(), expected);
        }
    }

    #[test]
    fn init_producer_id_both_ways(
        transactional_id in option::of(text()),
        timeout_ms in any::<i32>(),
        (producer_id, epoch) in any::<(i64, i16)>(),
        (throttle, error) in any::<(i32, i16)>(),
    ) {
        let identity = ProducerIdentity { id: producer_id, epoch };
        let request = InitProducerIdRequest {
            transactional_id: transactional_id.as_deref(),
            transaction_timeout_ms: timeout_ms,
            identity,
        };
        let theirs = peer::InitProducerIdResponse::default()
            .with_throttle_time_ms(throttle)
            .with_error_code(error)
            .with_producer_id(producer_id.into())
            .with_producer_epoch(epoch);
        for version in versions(ApiKey::InitProducerId) {
            let bytes = encoded(|out| request.encode(version, out));
            let read: peer::InitProducerIdRequest = peer_decode(&bytes, version);
            let id = read.transactional_id.as_ref().map(|id| id.as_str());
            prop_assert_eq!(id, transactional_id.as_deref());
            prop_assert_eq!(read.transaction_timeout_ms, timeout_ms);
            if version >= 3 {
                prop_assert_eq!((read.producer_id.0, read.producer_epoch), (producer_id, epoch));
            }
            let expected = InitProducerIdResponse {
                throttle_time_ms: throttle,
                error: ErrorCode(error),
                identity,
            };
            let ours = InitProducerIdResponse::decode(version, &peer_encode(&theirs, version));
            prop_assert_eq!(ours, Ok(expected));
        }
    }

    #[test]
    fn new_topics_both_ways(
        topics in vec((text(), option::of(1..i32::MAX), option::of(1..i16::MAX)), 0..4),
        settings in vec((text(), text()), 0..4),
        timeout_ms in any::<i32>(),
        results in vec((text(), id(), any::<i16>(), option::of(text())), 0..4),
        throttle in any::<i32>(),
    ) {
        use peer::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
        let ours = topics.iter().map(|(name, partitions, replication_factor)| TopicToCreate {
            name,
            partitions: *partitions,
            replication_factor: *replication_factor,
            settings: &settings,
        });
        let ours: Vec<_> = ours.collect();
        let request = CreateTopicsRequest { topics: &ours, timeout_ms };
        let configs = settings.iter().map(|(name, value)| {
            CreatableTopicConfigs::default()
                .with_name(str_bytes(name))
                .with_value(Some(str_bytes(value)))
        });
        let configs: Vec<_> = configs.collect();
        let theirs = results.iter().map(|(name, id, error, message)| {
            CreatableTopicResult::default()
                .with_name(str_bytes(name).into())
                .with_topic_id(uuid(*id))
                .with_error_code(*error)
                .with_error_message(nullable(message))
                .with_configs(Some(configs.clone()))
        });
        let theirs: Vec<_> = theirs.collect();
        for version in versions(ApiKey::CreateTopics) {
            let bytes = encoded(|out| request.encode(version, out));
            let read: peer::CreateTopicsRequest = peer_decode(&bytes, version);
            prop_assert_eq!((read.timeout_ms, read.validate_only), (timeout_ms, false));
            prop_assert_eq!(read.topics.len(), topics.len());
            for (read, (name, partitions, replicas)) in read.topics.iter().zip(&topics) {
                prop_assert_eq!(read.name.as_str(), name);
                prop_assert_eq!(read.num_partitions, partitions.unwrap_or(-1));
                prop_assert_eq!(read.replication_factor, replicas.unwrap_or(-1));
                let read = read.configs.iter().map(|config| {
                    let value = config.value.as_ref().map(|value| value.as_str());
                    (config.name.as_str(), value.unwrap_or_default())
                });
                let given = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                prop_assert!(read.eq(given));
            }
            let mut theirs = peer::CreateTopicsResponse::default()
                .with_throttle_time_ms(throttle)
                .with_topics(theirs.clone());
            if version < 7 {
                theirs.topics.iter_mut().for_each(|topic| topic.topic_id = uuid(TopicId::ZERO));
            }
            if version < 5 {
                theirs.topics.iter_mut().for_each(|topic| topic.configs = Some(Vec::new()));
            }
            let expected = results.iter().map(|(name, _, error, message)| CreatedTopic {
                name: name.clone(),
                error: ErrorCode(*error),
                message: message.clone(),
            });
            let expected =
                CreateTopicsResponse { throttle_time_ms: throttle, topics: expected.collect() };
            let bytes = peer_encode(&theirs, version);
            prop_assert_eq!(CreateTopicsResponse::decode(version, &bytes), Ok(expected));
        }
    }

    #[test]
    fn logins_both_ways(
        mechanism in text(),
        mechanisms in vec(text(), 0..4),
        token in vec(any::<u8>(), 0..300),
        message in option::of(text()),
        (error, lifetime) in any::<(i16, i64)>(),
    ) {
        let offered = mechanisms.iter().map(|name| str_bytes(name)).collect();
        let theirs = peer::SaslHandshakeResponse::default()
            .with_error_code(error)
            .with_mechanisms(offered);
        for version in versions(ApiKey::SaslHandshake) {
            let request = SaslHandshakeRequest { mechanism: &mechanism };
            let bytes = encoded(|out| request.encode(version, out));
            let read: peer::SaslHandshakeRequest = peer_decode(&bytes, version);
            prop_assert_eq!(read.mechanism.as_str(), &mechanism);
            let ours = SaslHandshakeResponse::decode(version, &peer_encode(&theirs, version));
            let expected =
                SaslHandshakeResponse { error: ErrorCode(error), mechanisms: mechanisms.clone() };
            prop_assert_eq!(ours, Ok(expected));
        }
        for version in versions(ApiKey::SaslAuthenticate) {
            let request = SaslAuthenticateRequest { token: &token };
            let bytes = encoded(|out| request.encode(version, out));
            let read: peer::SaslAuthenticateRequest = peer_decode(&bytes, version);
            prop_assert_eq!(&read.auth_bytes[..], &token[..]);
            let session_lifetime_ms = if version >= 1 { lifetime } else { 0 };
            let theirs = peer::SaslAuthenticateResponse::default()
                .with_error_code(error)
                .with_error_message(nullable(&message))
                .with_auth_bytes(token.clone().into())
                .with_session_lifetime_ms(session_lifetime_ms);
            let ours = SaslAuthenticateResponse::decode(version, &peer_encode(&theirs, version));
            let ours = ours.expect("the peer's own message");
            prop_assert_eq!((ours.error.0, ours.message), (error, message.clone()));
            prop_assert_eq!(&ours.token, &token);
            prop_assert_eq!(ours.session_lifetime_ms, session_lifetime_ms);
        }
    }
}
