import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a whole topic with Java's own consumer, which checks every CRC, from the beginning to the
 * offsets that were the ends when it started, and writes the records to standard output (Frames).
 * Arguments: bootstrap servers, topic. For the clients since 2.0.
 */
public final class ReadBack {
    private static final long STALLED_AFTER_NANOS = Duration.ofSeconds(60).toNanos();

    private final Frames frames = new Frames();

    private ReadBack() {}

    public static void main(String[] args) throws IOException {
        new ReadBack().run(args[0], args[1]);
    }

    private void run(String bootstrap, String topic) throws IOException {
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings(bootstrap))) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (PartitionInfo info : consumer.partitionsFor(topic)) {
                partitions.add(new TopicPartition(topic, info.partition()));
            }
            if (partitions.isEmpty()) {
                throw new IllegalStateException("no such topic: " + topic);
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            readUntil(consumer, new HashMap<>(consumer.endOffsets(partitions)));
        }
        frames.end();
    }

    private static Properties settings(String bootstrap) {
        Properties p = new Properties();
        p.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        p.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        p.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        p.put(ConsumerConfig.CHECK_CRCS_CONFIG, "true");
        p.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
        p.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "none");
        p.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        p.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, "10000");
        p.put(ConsumerConfig.FETCH_MAX_BYTES_CONFIG, String.valueOf(16 << 20));
        p.put(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, String.valueOf(4 << 20));
        p.put(ConsumerConfig.RECEIVE_BUFFER_CONFIG, "-1");
        // Since 2.3 and since 3.7; earlier clients pass over what they do not know.
        p.put("allow.auto.create.topics", "false");
        p.put("enable.metrics.push", "false");
        return p;
    }

    /** Reads until every position is at its end; `ends` loses the partitions that are done. */
    private void readUntil(KafkaConsumer<byte[], byte[]> consumer, Map<TopicPartition, Long> ends)
            throws IOException {
        Map<TopicPartition, Long> limits = new HashMap<>(ends);
        long progressAt = System.nanoTime();
        while (true) {
            // The position also passes transaction markers, which are not records.
            if (ends.entrySet().removeIf(e -> consumer.position(e.getKey()) >= e.getValue())) {
                progressAt = System.nanoTime();
            }
            if (ends.isEmpty()) {
                return;
            }
            ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(500));
            for (ConsumerRecord<byte[], byte[]> record : records) {
                TopicPartition at = new TopicPartition(record.topic(), record.partition());
                if (record.offset() < limits.get(at)) {
                    write(record);
                }
            }
            if (!records.isEmpty()) {
                progressAt = System.nanoTime();
            } else if (System.nanoTime() - progressAt > STALLED_AFTER_NANOS) {
                throw new IllegalStateException("stalled before the end offsets " + ends);
            }
        }
    }

    private void write(ConsumerRecord<byte[], byte[]> record) throws IOException {
        List<byte[]> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            headers.add(header.key().getBytes(StandardCharsets.UTF_8));
            headers.add(header.value());
        }
        frames.record(
                record.partition(),
                record.offset(),
                record.timestamp(),
                record.timestampType().id,
                record.key(),
                record.value(),
                headers.toArray(new byte[0][]));
    }
}
