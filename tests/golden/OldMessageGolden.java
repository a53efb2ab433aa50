// Writes golden bytes of the versions of Produce that only releases before Kafka 4 have classes for.
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
        }
    }

    static void line(String name, short version, Message message, short layout) {
        ByteBuffer buffer = MessageUtil.toByteBuffer(message, layout);
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        out.println(name + " " + version + " " + HexFormat.of().formatHex(bytes));
    }

    static void produce(short v) {
        ApiKeys api = ApiKeys.PRODUCE;
        line("RequestHeader." + api.name, v, new RequestHeaderData().setRequestApiKey(api.id)
            .setRequestApiVersion(v).setCorrelationId(0x01020304).setClientId("tide-gäte"),
            api.requestHeaderVersion(v));
        line("ResponseHeader." + api.name, v,
            new ResponseHeaderData().setCorrelationId(0x01020304), api.responseHeaderVersion(v));
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
}
