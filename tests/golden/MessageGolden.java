// Writes golden bytes of every message and version that the client speaks, made by Apache Kafka's
// own classes, and the table of its error codes. tests/protocol_messages.rs holds the same values
// and compares. Needs a JDK of version 17 or above, Maven and this file:
//
//   export JARS=$(mktemp -d)
//   cat > $JARS/pom.xml <<'POM'
//   <project xmlns="http://maven.apache.org/POM/4.0.0">
//     <modelVersion>4.0.0</modelVersion>
//     <groupId>golden</groupId><artifactId>golden</artifactId><version>1</version>
//     <packaging>pom</packaging>
//     <dependencies><dependency>
//       <groupId>org.apache.kafka</groupId><artifactId>kafka-clients</artifactId>
//       <version>4.3.0</version>
//     </dependency></dependencies>
//   </project>
//   POM
//   mvn -q -B -f $JARS/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
//       -DoutputDirectory=$JARS
//   cd tests/golden && java -cp "$JARS/*" MessageGolden.java
//
// Output, in the current directory: messages.txt with "name version hex" a line, where the name of
// a header is followed by that of its API and an empty message has "-" for its hex; error_codes.txt
// with "code name retriable invalidates-metadata" a line.

import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.InvalidMetadataException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.message.ApiVersionsRequestData;
import org.apache.kafka.common.message.ApiVersionsResponseData;
import org.apache.kafka.common.message.CreateTopicsRequestData;
import org.apache.kafka.common.message.CreateTopicsResponseData;
import org.apache.kafka.common.message.FetchRequestData;
import org.apache.kafka.common.message.FetchResponseData;
import org.apache.kafka.common.message.FindCoordinatorRequestData;
import org.apache.kafka.common.message.FindCoordinatorResponseData;
import org.apache.kafka.common.message.InitProducerIdRequestData;
import org.apache.kafka.common.message.InitProducerIdResponseData;
import org.apache.kafka.common.message.ListOffsetsRequestData;
import org.apache.kafka.common.message.ListOffsetsResponseData;
import org.apache.kafka.common.message.MetadataRequestData;
import org.apache.kafka.common.message.MetadataResponseData;
import org.apache.kafka.common.message.OffsetCommitRequestData;
import org.apache.kafka.common.message.OffsetCommitResponseData;
import org.apache.kafka.common.message.OffsetFetchRequestData;
import org.apache.kafka.common.message.OffsetFetchResponseData;
import org.apache.kafka.common.message.ProduceRequestData;
import org.apache.kafka.common.message.ProduceResponseData;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.message.SaslAuthenticateRequestData;
import org.apache.kafka.common.message.SaslAuthenticateResponseData;
import org.apache.kafka.common.message.SaslHandshakeRequestData;
import org.apache.kafka.common.message.SaslHandshakeResponseData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.record.internal.MemoryRecords;

public class MessageGolden {
    static final Uuid ID_A = new Uuid(0x0102030405060708L, 0x090a0b0c0d0e0f10L);
    static final Uuid ID_B = new Uuid(0xf1f2f3f4f5f6f7f8L, 0xf9fafbfcfdfeff00L);

    static PrintWriter out;

    public static void main(String[] args) throws Exception {
        try (PrintWriter file = new PrintWriter("messages.txt", StandardCharsets.UTF_8)) {
            out = file;
            for (short v = 0; v <= 4; v++) apiVersions(v);
            for (short v = 0; v <= 13; v++) metadata(v);
            // Those before are made by OldMessageGolden.java: this release has no classes for them.
            for (short v = 3; v <= 13; v++) produce(v);
            for (short v = 0; v <= 5; v++) initProducerId(v);
            for (short v = 2; v <= 7; v++) createTopics(v);
            for (short v = 4; v <= 12; v++) fetch(v);
            for (short v = 1; v <= 6; v++) listOffsets(v);
            for (short v = 2; v <= 9; v++) offsetCommit(v);
            for (short v = 1; v <= 7; v++) offsetFetch(v);
            for (short v = 0; v <= 4; v++) findCoordinator(v);
            for (short v = 0; v <= 1; v++) saslHandshake(v);
            for (short v = 0; v <= 2; v++) saslAuthenticate(v);
        }
        try (PrintWriter file = new PrintWriter("error_codes.txt", StandardCharsets.UTF_8)) {
            for (Errors error : Errors.values()) {
                file.println(error.code() + " " + error.name()
                    + " " + (error.exception() instanceof RetriableException)
                    + " " + (error.exception() instanceof InvalidMetadataException));
            }
        }
    }

    static void line(String name, short version, Message message) {
        line(name, version, message, version);
    }

    static void line(String name, short version, Message message, short layout) {
        ByteBuffer buffer = MessageUtil.toByteBufferAccessor(message, layout).buffer();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        String hex = bytes.length == 0 ? "-" : HexFormat.of().formatHex(bytes);
        out.println(name + " " + version + " " + hex);
    }

    static void headers(ApiKeys api, short version) {
        RequestHeaderData request = new RequestHeaderData().setRequestApiKey(api.id)
            .setRequestApiVersion(version).setCorrelationId(0x01020304).setClientId("tide-gäte");
        line("RequestHeader." + api.name, version, request, api.requestHeaderVersion(version));
        short layout = api.responseHeaderVersion(version);
        ResponseHeaderData response = new ResponseHeaderData().setCorrelationId(0x01020304);
        if (layout >= 1) tag(response);
        line("ResponseHeader." + api.name, version, response, layout);
    }

    /** A field from the future, which readers must pass over. */
    static void tag(Message message) {
        message.unknownTaggedFields().add(new RawTaggedField(77, new byte[] {1, 2, 3}));
    }

    static void apiVersions(short v) {
        headers(ApiKeys.API_VERSIONS, v);
        line("ApiVersionsRequest", v, new ApiVersionsRequestData()
            .setClientSoftwareName("tidegate").setClientSoftwareVersion("0.1.0"));

        ApiVersionsResponseData response = new ApiVersionsResponseData().setThrottleTimeMs(123456);
        int[][] ranges = {{22, 0, 5}, {0, 0, 13}, {3, 0, 12}, {18, 0, 4}, {1000, 7, 32767}};
        for (int[] range : ranges) {
            ApiVersionsResponseData.ApiVersion entry = new ApiVersionsResponseData.ApiVersion()
                .setApiKey((short) range[0]).setMinVersion((short) range[1])
                .setMaxVersion((short) range[2]);
            if (v >= 3) tag(entry);
            response.apiKeys().add(entry);
        }
        if (v >= 3) {
            response.supportedFeatures().add(new ApiVersionsResponseData.SupportedFeatureKey()
                .setName("metadata.version").setMinVersion((short) 1).setMaxVersion((short) 25));
            response.setFinalizedFeaturesEpoch(99);
            response.finalizedFeatures().add(new ApiVersionsResponseData.FinalizedFeatureKey()
                .setName("metadata.version").setMinVersionLevel((short) 20)
                .setMaxVersionLevel((short) 20));
            response.setZkMigrationReady(true);
            tag(response);
        }
        line("ApiVersionsResponse", v, response);
        ApiVersionsResponseData unsupported =
            new ApiVersionsResponseData().setErrorCode(Errors.UNSUPPORTED_VERSION.code());
        unsupported.apiKeys().add(new ApiVersionsResponseData.ApiVersion()
            .setApiKey((short) 18).setMinVersion((short) 0).setMaxVersion((short) 2));
        line("ApiVersionsResponse.unsupported", v, unsupported, (short) 0);
    }

    static void metadata(short v) {
        headers(ApiKeys.METADATA, v);
        // Version 0 has no null: an empty list stands for all topics.
        MetadataRequestData all = new MetadataRequestData().setTopics(v == 0 ? List.of() : null);
        line("MetadataRequest.all", v, all);
        MetadataRequestData none = new MetadataRequestData().setTopics(List.of());
        if (v >= 4) none.setAllowAutoTopicCreation(false);
        line("MetadataRequest.none", v, none);
        MetadataRequestData names = new MetadataRequestData().setTopics(List.of(
            new MetadataRequestData.MetadataRequestTopic().setName("orders"),
            new MetadataRequestData.MetadataRequestTopic().setName("täglich")));
        if (v >= 4) names.setAllowAutoTopicCreation(false);
        line("MetadataRequest.names", v, names);
        if (v >= 12) {
            MetadataRequestData ids = new MetadataRequestData().setTopics(List.of(
                new MetadataRequestData.MetadataRequestTopic().setName(null).setTopicId(ID_A),
                new MetadataRequestData.MetadataRequestTopic().setName(null).setTopicId(ID_B)));
            ids.setAllowAutoTopicCreation(false);
            line("MetadataRequest.ids", v, ids);
        }
        metadataResponse(v);
        MetadataResponseData empty = new MetadataResponseData();
        if (v >= 13) empty.setErrorCode(Errors.REBOOTSTRAP_REQUIRED.code());
        line("MetadataResponse.empty", v, empty);
    }

    static void metadataResponse(short v) {
        boolean flexible = v >= 9;
        MetadataResponseData response = new MetadataResponseData().setThrottleTimeMs(4321)
            .setClusterId("MkU3OEVBNTcwNTJENDM2Qk").setControllerId(3);
        MetadataResponseData.MetadataResponseBroker one =
            new MetadataResponseData.MetadataResponseBroker()
                .setNodeId(1).setHost("broker-1.example").setPort(9092).setRack("eu-west-1a");
        if (flexible) tag(one);
        response.brokers().add(one);
        response.brokers().add(new MetadataResponseData.MetadataResponseBroker()
            .setNodeId(3).setHost("::1").setPort(65535).setRack(null));

        MetadataResponseData.MetadataResponsePartition led =
            new MetadataResponseData.MetadataResponsePartition()
                .setPartitionIndex(1).setLeaderId(3).setLeaderEpoch(42)
                .setReplicaNodes(List.of(3, 1, 2)).setIsrNodes(List.of(3, 1))
                .setOfflineReplicas(List.of(2));
        if (flexible) tag(led);
        MetadataResponseData.MetadataResponsePartition leaderless =
            new MetadataResponseData.MetadataResponsePartition()
                .setErrorCode(Errors.LEADER_NOT_AVAILABLE.code()).setPartitionIndex(0)
                .setLeaderId(-1).setLeaderEpoch(41).setReplicaNodes(List.of(2))
                .setIsrNodes(List.of()).setOfflineReplicas(List.of(2));
        MetadataResponseData.MetadataResponseTopic orders =
            new MetadataResponseData.MetadataResponseTopic().setName("orders").setTopicId(ID_A)
                .setIsInternal(false).setPartitions(List.of(led, leaderless));
        MetadataResponseData.MetadataResponseTopic offsets =
            new MetadataResponseData.MetadataResponseTopic().setName("__consumer_offsets")
                .setTopicId(ID_B).setIsInternal(true);
        MetadataResponseData.MetadataResponseTopic unknown =
            new MetadataResponseData.MetadataResponseTopic().setName(v >= 12 ? null : "gone")
                .setTopicId(ID_B)
                .setErrorCode((v >= 12 ? Errors.UNKNOWN_TOPIC_ID
                    : Errors.UNKNOWN_TOPIC_OR_PARTITION).code());
        if (v >= 8) orders.setTopicAuthorizedOperations(0x0df8);
        if (v >= 8 && v <= 10) response.setClusterAuthorizedOperations(0x0264);
        if (flexible) {
            tag(orders);
            tag(response);
        }
        response.topics().add(orders);
        response.topics().add(offsets);
        response.topics().add(unknown);
        line("MetadataResponse", v, response);
    }

    static void produce(short v) {
        headers(ApiKeys.PRODUCE, v);
        ProduceRequestData request = new ProduceRequestData().setAcks((short) -1)
            .setTimeoutMs(30000).setTransactionalId("tx-1");
        request.topicData().add(new ProduceRequestData.TopicProduceData().setName("orders")
            .setTopicId(ID_A).setPartitionData(List.of(data(7, 200, 0x5a), data(0, 3, 0xa5))));
        request.topicData().add(new ProduceRequestData.TopicProduceData().setName("täglich")
            .setTopicId(ID_B).setPartitionData(List.of(data(1, 300, 0x33))));
        line("ProduceRequest", v, request);
        ProduceRequestData one = new ProduceRequestData().setAcks((short) 1).setTimeoutMs(0);
        one.topicData().add(new ProduceRequestData.TopicProduceData().setName("t")
            .setTopicId(ID_A).setPartitionData(List.of(data(0, 126, 0x11))));
        line("ProduceRequest.plain", v, one);
        produceResponse(v);
    }

    static ProduceRequestData.PartitionProduceData data(int index, int length, int fill) {
        return new ProduceRequestData.PartitionProduceData().setIndex(index)
            .setRecords(records(length, fill));
    }

    static MemoryRecords records(int length, int fill) {
        byte[] records = new byte[length];
        Arrays.fill(records, (byte) fill);
        return MemoryRecords.readableRecords(ByteBuffer.wrap(records));
    }

    static void produceResponse(short v) {
        ProduceResponseData.PartitionProduceResponse written =
            new ProduceResponseData.PartitionProduceResponse().setIndex(7)
                .setBaseOffset(0x0102030405060708L).setLogAppendTimeMs(1760000000000L)
                .setLogStartOffset(12345);
        ProduceResponseData.PartitionProduceResponse moved =
            new ProduceResponseData.PartitionProduceResponse().setIndex(0)
                .setErrorCode(Errors.NOT_LEADER_OR_FOLLOWER.code()).setBaseOffset(-1);
        ProduceResponseData.PartitionProduceResponse invalid =
            new ProduceResponseData.PartitionProduceResponse().setIndex(1)
                .setErrorCode(Errors.INVALID_RECORD.code()).setBaseOffset(-1)
                .setErrorMessage("a record is invalid").setRecordErrors(List.of(
                    new ProduceResponseData.BatchIndexAndErrorMessage().setBatchIndex(2)
                        .setBatchIndexErrorMessage("no key"),
                    new ProduceResponseData.BatchIndexAndErrorMessage().setBatchIndex(5)));
        ProduceResponseData.TopicProduceResponse orders =
            new ProduceResponseData.TopicProduceResponse().setName("orders").setTopicId(ID_A)
                .setPartitionResponses(List.of(written, moved));
        ProduceResponseData.TopicProduceResponse daily =
            new ProduceResponseData.TopicProduceResponse().setName("täglich").setTopicId(ID_B)
                .setPartitionResponses(List.of(invalid));
        ProduceResponseData response = new ProduceResponseData().setThrottleTimeMs(498);
        if (v >= 9) {
            tag(written);
            tag(orders);
            tag(invalid.recordErrors().get(0));
            tag(response);
        }
        if (v >= 10) {
            moved.setCurrentLeader(new ProduceResponseData.LeaderIdAndEpoch()
                .setLeaderId(3).setLeaderEpoch(43));
            tag(moved);
            tag(moved.currentLeader());
            ProduceResponseData.NodeEndpoint endpoint = new ProduceResponseData.NodeEndpoint()
                .setNodeId(3).setHost("broker-3.example").setPort(9094).setRack("eu-west-1c");
            tag(endpoint);
            response.nodeEndpoints().add(endpoint);
            response.nodeEndpoints().add(new ProduceResponseData.NodeEndpoint()
                .setNodeId(4).setHost("10.0.0.4").setPort(9095));
        }
        response.responses().add(orders);
        response.responses().add(daily);
        line("ProduceResponse", v, response);
    }

    static void saslHandshake(short v) {
        headers(ApiKeys.SASL_HANDSHAKE, v);
        line("SaslHandshakeRequest", v,
            new SaslHandshakeRequestData().setMechanism("SCRAM-SHA-512"));
        line("SaslHandshakeResponse", v, new SaslHandshakeResponseData()
            .setErrorCode(Errors.UNSUPPORTED_SASL_MECHANISM.code())
            .setMechanisms(List.of("GSSAPI", "PLAIN")));
    }

    static void saslAuthenticate(short v) {
        headers(ApiKeys.SASL_AUTHENTICATE, v);
        line("SaslAuthenticateRequest", v, new SaslAuthenticateRequestData()
            .setAuthBytes(new byte[] {0, 1, (byte) 254, (byte) 255}));
        SaslAuthenticateResponseData response = new SaslAuthenticateResponseData()
            .setAuthBytes(new byte[] {9, 8, 7});
        if (v >= 1) response.setSessionLifetimeMs(3600000);
        if (v >= 2) tag(response);
        line("SaslAuthenticateResponse", v, response);
        line("SaslAuthenticateResponse.error", v, new SaslAuthenticateResponseData()
            .setErrorCode(Errors.SASL_AUTHENTICATION_FAILED.code())
            .setErrorMessage("Authentication failed"));
    }

    static void initProducerId(short v) {
        headers(ApiKeys.INIT_PRODUCER_ID, v);
        InitProducerIdRequestData plain = new InitProducerIdRequestData()
            .setTransactionalId(null).setTransactionTimeoutMs(60000);
        line("InitProducerIdRequest.plain", v, plain);
        InitProducerIdRequestData request = new InitProducerIdRequestData()
            .setTransactionalId("tx-1").setTransactionTimeoutMs(Integer.MAX_VALUE);
        if (v >= 3) request.setProducerId(0x0102030405060708L).setProducerEpoch((short) 9);
        line("InitProducerIdRequest", v, request);

        InitProducerIdResponseData response = new InitProducerIdResponseData()
            .setThrottleTimeMs(17).setProducerId(0x0102030405060708L).setProducerEpoch((short) 10);
        if (v >= 2) tag(response);
        line("InitProducerIdResponse", v, response);
        line("InitProducerIdResponse.error", v, new InitProducerIdResponseData()
            .setErrorCode(Errors.CLUSTER_AUTHORIZATION_FAILED.code()).setProducerId(-1)
            .setProducerEpoch((short) -1));
    }

    static void createTopics(short v) {
        headers(ApiKeys.CREATE_TOPICS, v);
        CreateTopicsRequestData request = new CreateTopicsRequestData().setTimeoutMs(30000);
        CreateTopicsRequestData.CreatableTopicConfigCollection settings =
            new CreateTopicsRequestData.CreatableTopicConfigCollection();
        settings.add(new CreateTopicsRequestData.CreatableTopicConfig()
            .setName("retention.ms").setValue("86400000"));
        settings.add(new CreateTopicsRequestData.CreatableTopicConfig()
            .setName("cleanup.policy").setValue(""));
        request.topics().add(new CreateTopicsRequestData.CreatableTopic()
            .setName("orders").setNumPartitions(12).setReplicationFactor((short) 3)
            .setConfigs(settings));
        request.topics().add(new CreateTopicsRequestData.CreatableTopic()
            .setName("plain").setNumPartitions(-1).setReplicationFactor((short) -1));
        line("CreateTopicsRequest", v, request);

        CreateTopicsResponseData response = new CreateTopicsResponseData().setThrottleTimeMs(17);
        CreateTopicsResponseData.CreatableTopicResult created =
            new CreateTopicsResponseData.CreatableTopicResult().setName("orders")
                .setErrorMessage(null);
        if (v >= 5) {
            CreateTopicsResponseData.CreatableTopicConfigs config =
                new CreateTopicsResponseData.CreatableTopicConfigs()
                    .setName("retention.ms").setValue("86400000").setReadOnly(true)
                    .setConfigSource((byte) 1).setIsSensitive(true);
            tag(config);
            created.setNumPartitions(12).setReplicationFactor((short) 3).setConfigs(List.of(config));
            tag(created);
        }
        if (v >= 7) created.setTopicId(ID_A);
        response.topics().add(created);
        CreateTopicsResponseData.CreatableTopicResult refused =
            new CreateTopicsResponseData.CreatableTopicResult().setName("plain")
                .setErrorCode(Errors.TOPIC_ALREADY_EXISTS.code()).setErrorMessage("it exists");
        if (v >= 5) refused.setConfigs(null).setTopicConfigErrorCode((short) 29);
        response.topics().add(refused);
        if (v >= 5) tag(response);
        line("CreateTopicsResponse", v, response);
    }

    static void fetch(short v) {
        headers(ApiKeys.FETCH, v);
        FetchRequestData request = fetchRequest().setMaxWaitMs(500).setMinBytes(1024)
            .setMaxBytes(52428800).setIsolationLevel((byte) 1);
        request.topics().add(new FetchRequestData.FetchTopic().setTopic("orders").setPartitions(
            List.of(wanted(v, 7, 42, 0x0102030405060708L, 41, 1048576),
                wanted(v, 0, 9, 5, 8, 77))));
        request.topics().add(new FetchRequestData.FetchTopic().setTopic("täglich").setPartitions(
            List.of(wanted(v, 1, 3, 0x1112131415161718L, 2, Integer.MAX_VALUE))));
        line("FetchRequest", v, request);
        FetchRequestData plain = fetchRequest().setMaxWaitMs(0).setMinBytes(1).setMaxBytes(300);
        plain.topics().add(new FetchRequestData.FetchTopic().setTopic("t").setPartitions(
            List.of(wanted(v, 0, -1, 0, -1, 200))));
        line("FetchRequest.plain", v, plain);

        fetchResponse(v);
        FetchResponseData failed = new FetchResponseData().setThrottleTimeMs(17);
        if (v >= 7) failed.setErrorCode(Errors.FETCH_SESSION_ID_NOT_FOUND.code());
        line("FetchResponse.error", v, failed);
    }

    /** What the client always says: it is no replica, wants no session and is in no rack. */
    static FetchRequestData fetchRequest() {
        return new FetchRequestData().setReplicaId(-1).setSessionId(0).setSessionEpoch(-1)
            .setForgottenTopicsData(List.of()).setRackId("");
    }

    static FetchRequestData.FetchPartition wanted(
            short v, int index, int epoch, long offset, int lastEpoch, int bytes) {
        FetchRequestData.FetchPartition wanted = new FetchRequestData.FetchPartition()
            .setPartition(index).setCurrentLeaderEpoch(epoch).setFetchOffset(offset)
            .setLogStartOffset(-1).setPartitionMaxBytes(bytes);
        if (v >= 12) wanted.setLastFetchedEpoch(lastEpoch);
        return wanted;
    }

    static void fetchResponse(short v) {
        FetchResponseData.PartitionData read = new FetchResponseData.PartitionData()
            .setPartitionIndex(7).setHighWatermark(0x0102030405060708L)
            .setLastStableOffset(0x0102030405060701L).setLogStartOffset(12345)
            .setAbortedTransactions(List.of(
                new FetchResponseData.AbortedTransaction().setProducerId(0x1112131415161718L)
                    .setFirstOffset(0x2122232425262728L),
                new FetchResponseData.AbortedTransaction().setProducerId(8).setFirstOffset(9)))
            .setRecords(records(200, 0x5a));
        FetchResponseData.PartitionData moved = new FetchResponseData.PartitionData()
            .setPartitionIndex(0).setErrorCode(Errors.NOT_LEADER_OR_FOLLOWER.code())
            .setHighWatermark(-1).setAbortedTransactions(null).setRecords(null);
        FetchResponseData.PartitionData diverging = new FetchResponseData.PartitionData()
            .setPartitionIndex(1).setErrorCode(Errors.KAFKA_STORAGE_ERROR.code())
            .setHighWatermark(500).setLastStableOffset(400).setLogStartOffset(300)
            .setAbortedTransactions(List.of()).setRecords(MemoryRecords.EMPTY);
        FetchResponseData.FetchableTopicResponse orders =
            new FetchResponseData.FetchableTopicResponse().setTopic("orders")
                .setPartitions(List.of(read, moved));
        FetchResponseData.FetchableTopicResponse daily =
            new FetchResponseData.FetchableTopicResponse().setTopic("täglich")
                .setPartitions(List.of(diverging));
        FetchResponseData response = new FetchResponseData().setThrottleTimeMs(498);
        // Brokers send either topics or this error; both at once show that both are read.
        if (v >= 7) {
            response.setErrorCode(Errors.INVALID_FETCH_SESSION_EPOCH.code()).setSessionId(123456);
        }
        if (v >= 11) {
            read.setPreferredReadReplica(5);
            diverging.setPreferredReadReplica(0);
        }
        if (v >= 12) fetchTags(response, orders, read, moved, diverging);
        response.responses().add(orders);
        response.responses().add(daily);
        line("FetchResponse", v, response);
    }

    static void fetchTags(FetchResponseData response,
            FetchResponseData.FetchableTopicResponse orders, FetchResponseData.PartitionData read,
            FetchResponseData.PartitionData moved, FetchResponseData.PartitionData diverging) {
        tag(read.abortedTransactions().get(0));
        tag(read);
        moved.setCurrentLeader(new FetchResponseData.LeaderIdAndEpoch()
            .setLeaderId(3).setLeaderEpoch(43));
        tag(moved.currentLeader());
        tag(moved);
        diverging.setDivergingEpoch(new FetchResponseData.EpochEndOffset()
            .setEpoch(41).setEndOffset(0x3132333435363738L));
        tag(diverging.divergingEpoch());
        diverging.setCurrentLeader(new FetchResponseData.LeaderIdAndEpoch()
            .setLeaderId(4).setLeaderEpoch(44));
        // For replicas of Kafka's own metadata only: the client passes over it.
        diverging.setSnapshotId(new FetchResponseData.SnapshotId().setEndOffset(6).setEpoch(7));
        tag(orders);
        tag(response);
    }

    static void listOffsets(short v) {
        headers(ApiKeys.LIST_OFFSETS, v);
        ListOffsetsRequestData request = new ListOffsetsRequestData().setReplicaId(-1);
        if (v >= 2) request.setIsolationLevel((byte) 1);
        request.topics().add(new ListOffsetsRequestData.ListOffsetsTopic().setName("orders")
            .setPartitions(List.of(sought(7, 42, 1760000000000L), sought(0, 9, -1))));
        request.topics().add(new ListOffsetsRequestData.ListOffsetsTopic().setName("täglich")
            .setPartitions(List.of(sought(1, 3, -2))));
        line("ListOffsetsRequest", v, request);
        ListOffsetsRequestData plain = new ListOffsetsRequestData().setReplicaId(-1);
        plain.topics().add(new ListOffsetsRequestData.ListOffsetsTopic().setName("t")
            .setPartitions(List.of(sought(0, -1, 0))));
        line("ListOffsetsRequest.plain", v, plain);

        ListOffsetsResponseData.ListOffsetsPartitionResponse found =
            new ListOffsetsResponseData.ListOffsetsPartitionResponse().setPartitionIndex(7)
                .setTimestamp(1760000000000L).setOffset(0x0102030405060708L);
        ListOffsetsResponseData.ListOffsetsPartitionResponse moved =
            new ListOffsetsResponseData.ListOffsetsPartitionResponse().setPartitionIndex(0)
                .setErrorCode(Errors.NOT_LEADER_OR_FOLLOWER.code());
        ListOffsetsResponseData.ListOffsetsPartitionResponse earliest =
            new ListOffsetsResponseData.ListOffsetsPartitionResponse().setPartitionIndex(1)
                .setOffset(12345);
        ListOffsetsResponseData.ListOffsetsTopicResponse orders =
            new ListOffsetsResponseData.ListOffsetsTopicResponse().setName("orders")
                .setPartitions(List.of(found, moved));
        ListOffsetsResponseData.ListOffsetsTopicResponse daily =
            new ListOffsetsResponseData.ListOffsetsTopicResponse().setName("täglich")
                .setPartitions(List.of(earliest));
        ListOffsetsResponseData response = new ListOffsetsResponseData().setThrottleTimeMs(498);
        if (v >= 4) {
            found.setLeaderEpoch(42);
            earliest.setLeaderEpoch(0);
        }
        if (v >= 6) {
            tag(found);
            tag(orders);
            tag(response);
        }
        response.topics().add(orders);
        response.topics().add(daily);
        line("ListOffsetsResponse", v, response);
    }

    static ListOffsetsRequestData.ListOffsetsPartition sought(int index, int epoch, long time) {
        return new ListOffsetsRequestData.ListOffsetsPartition().setPartitionIndex(index)
            .setCurrentLeaderEpoch(epoch).setTimestamp(time);
    }

    static void offsetCommit(short v) {
        headers(ApiKeys.OFFSET_COMMIT, v);
        OffsetCommitRequestData request = new OffsetCommitRequestData().setGroupId("grüppe")
            .setGenerationIdOrMemberEpoch(-1).setMemberId("");
        request.topics().add(new OffsetCommitRequestData.OffsetCommitRequestTopic()
            .setName("orders")
            .setPartitions(List.of(kept(7, 0x0102030405060708L), kept(0, 0))));
        request.topics().add(new OffsetCommitRequestData.OffsetCommitRequestTopic()
            .setName("täglich").setPartitions(List.of(kept(1, 12345))));
        line("OffsetCommitRequest", v, request);

        OffsetCommitResponseData.OffsetCommitResponsePartition good =
            new OffsetCommitResponseData.OffsetCommitResponsePartition().setPartitionIndex(7);
        OffsetCommitResponseData.OffsetCommitResponsePartition moved =
            new OffsetCommitResponseData.OffsetCommitResponsePartition().setPartitionIndex(0)
                .setErrorCode(Errors.NOT_COORDINATOR.code());
        OffsetCommitResponseData.OffsetCommitResponsePartition last =
            new OffsetCommitResponseData.OffsetCommitResponsePartition().setPartitionIndex(1);
        OffsetCommitResponseData.OffsetCommitResponseTopic orders =
            new OffsetCommitResponseData.OffsetCommitResponseTopic().setName("orders")
                .setPartitions(List.of(good, moved));
        OffsetCommitResponseData response = new OffsetCommitResponseData();
        if (v >= 3) response.setThrottleTimeMs(498);
        if (v >= 8) {
            tag(good);
            tag(orders);
            tag(response);
        }
        response.topics().add(orders);
        response.topics().add(new OffsetCommitResponseData.OffsetCommitResponseTopic()
            .setName("täglich").setPartitions(List.of(last)));
        line("OffsetCommitResponse", v, response);
    }

    static OffsetCommitRequestData.OffsetCommitRequestPartition kept(int index, long offset) {
        return new OffsetCommitRequestData.OffsetCommitRequestPartition()
            .setPartitionIndex(index).setCommittedOffset(offset).setCommittedMetadata("");
    }

    static void offsetFetch(short v) {
        headers(ApiKeys.OFFSET_FETCH, v);
        OffsetFetchRequestData request = new OffsetFetchRequestData().setGroupId("grüppe");
        if (v >= 7) request.setRequireStable(true);
        request.setTopics(List.of(
            new OffsetFetchRequestData.OffsetFetchRequestTopic().setName("orders")
                .setPartitionIndexes(List.of(7, 0)),
            new OffsetFetchRequestData.OffsetFetchRequestTopic().setName("täglich")
                .setPartitionIndexes(List.of(1))));
        line("OffsetFetchRequest", v, request);

        OffsetFetchResponseData.OffsetFetchResponsePartition kept =
            new OffsetFetchResponseData.OffsetFetchResponsePartition().setPartitionIndex(7)
                .setCommittedOffset(0x0102030405060708L).setMetadata("from Java");
        OffsetFetchResponseData.OffsetFetchResponsePartition none =
            new OffsetFetchResponseData.OffsetFetchResponsePartition().setPartitionIndex(0)
                .setCommittedOffset(-1).setMetadata(null);
        OffsetFetchResponseData.OffsetFetchResponsePartition unstable =
            new OffsetFetchResponseData.OffsetFetchResponsePartition().setPartitionIndex(1)
                .setCommittedOffset(-1).setMetadata("")
                .setErrorCode(Errors.UNSTABLE_OFFSET_COMMIT.code());
        OffsetFetchResponseData.OffsetFetchResponseTopic orders =
            new OffsetFetchResponseData.OffsetFetchResponseTopic().setName("orders")
                .setPartitions(List.of(kept, none));
        OffsetFetchResponseData response = new OffsetFetchResponseData();
        if (v >= 2) response.setErrorCode(Errors.COORDINATOR_LOAD_IN_PROGRESS.code());
        if (v >= 3) response.setThrottleTimeMs(498);
        if (v >= 5) kept.setCommittedLeaderEpoch(42);
        if (v >= 6) {
            tag(kept);
            tag(orders);
            tag(response);
        }
        response.setTopics(List.of(orders,
            new OffsetFetchResponseData.OffsetFetchResponseTopic().setName("täglich")
                .setPartitions(List.of(unstable))));
        line("OffsetFetchResponse", v, response);
    }

    static void findCoordinator(short v) {
        headers(ApiKeys.FIND_COORDINATOR, v);
        FindCoordinatorRequestData request = new FindCoordinatorRequestData();
        if (v >= 4) {
            request.setCoordinatorKeys(List.of("grüppe"));
        } else {
            request.setKey("grüppe");
        }
        line("FindCoordinatorRequest", v, request);
        coordinator("FindCoordinatorResponse", v, Errors.NONE, 3, "broker-3.example", 65535);
        coordinator("FindCoordinatorResponse.none", v, Errors.COORDINATOR_NOT_AVAILABLE, -1, "", -1);
    }

    static void coordinator(String name, short v, Errors error, int id, String host, int port) {
        FindCoordinatorResponseData response = new FindCoordinatorResponseData();
        if (v >= 1) response.setThrottleTimeMs(498);
        if (v >= 4) {
            FindCoordinatorResponseData.Coordinator found =
                new FindCoordinatorResponseData.Coordinator().setKey("grüppe").setNodeId(id)
                    .setHost(host).setPort(port).setErrorCode(error.code());
            tag(found);
            response.setCoordinators(List.of(found));
        } else {
            response.setNodeId(id).setHost(host).setPort(port).setErrorCode(error.code());
            if (v >= 1) response.setErrorMessage("a word on it");
        }
        if (v >= 3) tag(response);
        line(name, v, response);
    }
}
