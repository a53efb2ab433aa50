// Writes golden bytes of the versions of Produce, Fetch and ListOffsets that only releases before
// Kafka 4 have classes for.
// As MessageGolden.java, with version 3.9.1 of kafka-clients in the pom:
//
//   cd tests/golden && java -cp "$JARS/*" OldMessageGolden.java
//
// Output, in the current directory: old_messages.txt, a line as in messages.txt.

import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.message.FetchRequestData;
import org.apache.kafka.common.message.FetchResponseData;
import org.apache.kafka.common.message.ListOffsetsRequestData;
import org.apache.kafka.common.message.ListOffsetsResponseData;
import org.apache.kafka.common.message.ProduceRequestData;
import org.apache.kafka.common.message.ProduceResponseData;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.record.MemoryRecords;

public class OldMessageGolden {
    static PrintWriter out;

    public static void main(String[] args) throws Exception {
        try (PrintWriter file = new PrintWriter("old_messages.txt", StandardCharsets.UTF_8)) {
            out = file;
            for (short v = 0; v <= 2; v++) produce(v);
            for (short v = 0; v <= 3; v++) fetch(v);
            listOffsets((short) 0);
        }
    }

    static void line(String name, short version, Message message, short layout) {
        ByteBuffer buffer = MessageUtil.toByteBuffer(message, layout);
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        out.println(name + " " + version + " " + HexFormat.of().formatHex(bytes));
    }

    static void headers(ApiKeys api, short v) {
        line("RequestHeader." + api.name, v, new RequestHeaderData().setRequestApiKey(api.id)
            .setRequestApiVersion(v).setCorrelationId(0x01020304).setClientId("tide-gäte"),
            api.requestHeaderVersion(v));
        line("ResponseHeader." + api.name, v,
            new ResponseHeaderData().setCorrelationId(0x01020304), api.responseHeaderVersion(v));
    }

    static void produce(short v) {
        headers(ApiKeys.PRODUCE, v);
        ProduceRequestData request =
            new ProduceRequestData().setAcks((short) -1).setTimeoutMs(30000);
        request.topicData().add(new ProduceRequestData.TopicProduceData().setName("orders")
            .setPartitionData(List.of(data(7, 200, 0x5a), data(0, 3, 0xa5))));
        request.topicData().add(new ProduceRequestData.TopicProduceData().setName("täglich")
            .setPartitionData(List.of(data(1, 300, 0x33))));
        line("ProduceRequest", v, request, v);
        ProduceRequestData one = new ProduceRequestData().setAcks((short) 1).setTimeoutMs(0);
        one.topicData().add(new ProduceRequestData.TopicProduceData().setName("t")
            .setPartitionData(List.of(data(0, 126, 0x11))));
        line("ProduceRequest.plain", v, one, v);
        response(v);
    }

    static ProduceRequestData.PartitionProduceData data(int index, int length, int fill) {
        byte[] records = new byte[length];
        Arrays.fill(records, (byte) fill);
        return new ProduceRequestData.PartitionProduceData().setIndex(index)
            .setRecords(MemoryRecords.readableRecords(ByteBuffer.wrap(records)));
    }

    static void response(short v) {
        ProduceResponseData.PartitionProduceResponse written =
            new ProduceResponseData.PartitionProduceResponse().setIndex(7)
                .setBaseOffset(0x0102030405060708L).setLogAppendTimeMs(1760000000000L);
        ProduceResponseData.PartitionProduceResponse moved =
            new ProduceResponseData.PartitionProduceResponse().setIndex(0)
                .setErrorCode(Errors.NOT_LEADER_OR_FOLLOWER.code()).setBaseOffset(-1);
        ProduceResponseData.PartitionProduceResponse invalid =
            new ProduceResponseData.PartitionProduceResponse().setIndex(1)
                .setErrorCode(Errors.INVALID_RECORD.code()).setBaseOffset(-1);
        ProduceResponseData response = new ProduceResponseData().setThrottleTimeMs(498);
        response.responses().add(new ProduceResponseData.TopicProduceResponse()
            .setName("orders").setPartitionResponses(List.of(written, moved)));
        response.responses().add(new ProduceResponseData.TopicProduceResponse()
            .setName("täglich").setPartitionResponses(List.of(invalid)));
        line("ProduceResponse", v, response, v);
    }

    static void fetch(short v) {
        headers(ApiKeys.FETCH, v);
        FetchRequestData request = new FetchRequestData().setReplicaId(-1).setMaxWaitMs(500)
            .setMinBytes(1024).setMaxBytes(v < 3 ? Integer.MAX_VALUE : 52428800);
        request.topics().add(new FetchRequestData.FetchTopic().setTopic("orders").setPartitions(
            List.of(wanted(7, 0x0102030405060708L, 1048576), wanted(0, 5, 77))));
        request.topics().add(new FetchRequestData.FetchTopic().setTopic("täglich").setPartitions(
            List.of(wanted(1, 0x1112131415161718L, Integer.MAX_VALUE))));
        line("FetchRequest", v, request, v);
        FetchRequestData plain = new FetchRequestData().setReplicaId(-1).setMaxWaitMs(0)
            .setMinBytes(1).setMaxBytes(v < 3 ? Integer.MAX_VALUE : 300);
        plain.topics().add(new FetchRequestData.FetchTopic().setTopic("t").setPartitions(
            List.of(wanted(0, 0, 200))));
        line("FetchRequest.plain", v, plain, v);

        byte[] records = new byte[200];
        Arrays.fill(records, (byte) 0x5a);
        FetchResponseData response = new FetchResponseData().setThrottleTimeMs(v > 0 ? 498 : 0);
        response.responses().add(new FetchResponseData.FetchableTopicResponse().setTopic("orders")
            .setPartitions(List.of(
                new FetchResponseData.PartitionData().setPartitionIndex(7)
                    .setHighWatermark(0x0102030405060708L)
                    .setRecords(MemoryRecords.readableRecords(ByteBuffer.wrap(records))),
                new FetchResponseData.PartitionData().setPartitionIndex(0)
                    .setErrorCode(Errors.NOT_LEADER_OR_FOLLOWER.code()).setHighWatermark(-1)
                    .setRecords(null))));
        response.responses().add(new FetchResponseData.FetchableTopicResponse().setTopic("täglich")
            .setPartitions(List.of(new FetchResponseData.PartitionData().setPartitionIndex(1)
                .setErrorCode(Errors.KAFKA_STORAGE_ERROR.code()).setHighWatermark(500)
                .setRecords(MemoryRecords.EMPTY))));
        line("FetchResponse", v, response, v);
        line("FetchResponse.error", v, new FetchResponseData().setThrottleTimeMs(v > 0 ? 17 : 0), v);
    }

    static FetchRequestData.FetchPartition wanted(int index, long offset, int bytes) {
        return new FetchRequestData.FetchPartition().setPartition(index).setFetchOffset(offset)
            .setPartitionMaxBytes(bytes);
    }

    static void listOffsets(short v) {
        headers(ApiKeys.LIST_OFFSETS, v);
        ListOffsetsRequestData request = new ListOffsetsRequestData().setReplicaId(-1);
        request.topics().add(new ListOffsetsRequestData.ListOffsetsTopic().setName("orders")
            .setPartitions(List.of(sought(7, 1760000000000L), sought(0, -1))));
        request.topics().add(new ListOffsetsRequestData.ListOffsetsTopic().setName("täglich")
            .setPartitions(List.of(sought(1, -2))));
        line("ListOffsetsRequest", v, request, v);
        ListOffsetsRequestData plain = new ListOffsetsRequestData().setReplicaId(-1);
        plain.topics().add(new ListOffsetsRequestData.ListOffsetsTopic().setName("t")
            .setPartitions(List.of(sought(0, 0))));
        line("ListOffsetsRequest.plain", v, plain, v);

        ListOffsetsResponseData response = new ListOffsetsResponseData();
        // Brokers answer with as many offsets as were asked for; the first is what counts.
        response.topics().add(new ListOffsetsResponseData.ListOffsetsTopicResponse()
            .setName("orders").setPartitions(List.of(
                new ListOffsetsResponseData.ListOffsetsPartitionResponse().setPartitionIndex(7)
                    .setOldStyleOffsets(List.of(0x0102030405060708L, 9L)),
                new ListOffsetsResponseData.ListOffsetsPartitionResponse().setPartitionIndex(0)
                    .setErrorCode(Errors.NOT_LEADER_OR_FOLLOWER.code()))));
        response.topics().add(new ListOffsetsResponseData.ListOffsetsTopicResponse()
            .setName("täglich").setPartitions(List.of(
                new ListOffsetsResponseData.ListOffsetsPartitionResponse().setPartitionIndex(1)
                    .setOldStyleOffsets(List.of(12345L)))));
        line("ListOffsetsResponse", v, response, v);
    }

    static ListOffsetsRequestData.ListOffsetsPartition sought(int index, long time) {
        return new ListOffsetsRequestData.ListOffsetsPartition().setPartitionIndex(index)
            .setTimestamp(time).setMaxNumOffsets(1);
    }
}
