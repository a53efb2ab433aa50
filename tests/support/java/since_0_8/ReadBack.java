import java.io.IOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Collections;
import kafka.api.FetchRequestBuilder;
import kafka.api.PartitionOffsetRequestInfo;
import kafka.common.TopicAndPartition;
import kafka.javaapi.FetchResponse;
import kafka.javaapi.OffsetRequest;
import kafka.javaapi.OffsetResponse;
import kafka.javaapi.PartitionMetadata;
import kafka.javaapi.TopicMetadata;
import kafka.javaapi.TopicMetadataRequest;
import kafka.javaapi.consumer.SimpleConsumer;
import kafka.message.MessageAndOffset;

/**
 * Reads a whole topic as the other ReadBack does, with the consumer of 0.8, which is asked for one
 * partition at a time.
 */
public final class ReadBack {
    private static final String CLIENT_ID = "read-back";
    private static final int TIMEOUT_MS = 60_000;
    private static final int BUFFER_BYTES = 1 << 16;
    /** More than a broker takes as one message. */
    private static final int FETCH_BYTES = 4 << 20;
    private static final long STALLED_AFTER_NANOS = Duration.ofSeconds(60).toNanos();
    private static final long LOOK_AGAIN_MS = 50;

    private final Frames frames = new Frames();

    private ReadBack() {}

    public static void main(String[] args) throws Exception {
        new ReadBack().run(args[0], args[1]);
    }

    private void run(String bootstrap, String topic) throws Exception {
        String[] first = bootstrap.split(",")[0].split(":");
        SimpleConsumer asked = connect(first[0], Integer.parseInt(first[1]));
        TopicMetadataRequest request = new TopicMetadataRequest(Collections.singletonList(topic));
        TopicMetadata metadata = asked.send(request).topicsMetadata().get(0);
        asked.close();
        if (metadata.errorCode() != 0) {
            throw new IllegalStateException(topic + ": error " + metadata.errorCode());
        }
        for (PartitionMetadata partition : metadata.partitionsMetadata()) {
            SimpleConsumer leader = connect(partition.leader().host(), partition.leader().port());
            read(leader, topic, partition.partitionId());
            leader.close();
        }
        frames.end();
    }

    private static SimpleConsumer connect(String host, int port) {
        return new SimpleConsumer(host, port, TIMEOUT_MS, BUFFER_BYTES, CLIENT_ID);
    }

    private void read(SimpleConsumer leader, String topic, int partition) throws Exception {
        long next = offset(leader, topic, partition, kafka.api.OffsetRequest.EarliestTime());
        long end = offset(leader, topic, partition, kafka.api.OffsetRequest.LatestTime());
        long progressAt = System.nanoTime();
        while (next < end) {
            FetchRequestBuilder request = new FetchRequestBuilder().clientId(CLIENT_ID);
            request.addFetch(topic, partition, next, FETCH_BYTES);
            FetchResponse response = leader.fetch(request.build());
            check(response.errorCode(topic, partition), topic, partition);
            long before = next;
            for (MessageAndOffset each : response.messageSet(topic, partition)) {
                // A compressed set comes whole, though it begins before what was asked for.
                if (each.offset() >= next && each.offset() < end) {
                    write(partition, each);
                    next = each.offset() + 1;
                }
            }
            if (next > before) {
                progressAt = System.nanoTime();
            } else if (System.nanoTime() - progressAt > STALLED_AFTER_NANOS) {
                throw new IllegalStateException("stalled at " + next + " before " + end);
            } else {
                Thread.sleep(LOOK_AGAIN_MS);
            }
        }
    }

    private static long offset(SimpleConsumer leader, String topic, int partition, long time) {
        TopicAndPartition at = new TopicAndPartition(topic, partition);
        PartitionOffsetRequestInfo one = new PartitionOffsetRequestInfo(time, 1);
        short version = kafka.api.OffsetRequest.CurrentVersion();
        OffsetResponse response =
                leader.getOffsetsBefore(
                        new OffsetRequest(Collections.singletonMap(at, one), version, CLIENT_ID));
        check(response.errorCode(topic, partition), topic, partition);
        return response.offsets(topic, partition)[0];
    }

    private static void check(short error, String topic, int partition) {
        if (error != 0) {
            throw new IllegalStateException(topic + "-" + partition + ": error " + error);
        }
    }

    private void write(int partition, MessageAndOffset each) throws IOException {
        each.message().ensureValid();
        frames.record(
                partition,
                each.offset(),
                Frames.NO_TIMESTAMP,
                Frames.NO_TIMESTAMP_TYPE,
                array(each.message().key()),
                array(each.message().payload()));
    }

    private static byte[] array(ByteBuffer buffer) {
        if (buffer == null) {
            return null;
        }
        byte[] all = new byte[buffer.remaining()];
        buffer.duplicate().get(all);
        return all;
    }
}
