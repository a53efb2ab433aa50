import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
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
 * offsets that were the ends when it started, and writes the records to standard output.
 * Arguments: bootstrap servers, topic.
 *
 * <p>All numbers are big-endian. A record is a 4-byte length of what follows, then partition (4),
 * offset (8), timestamp (8), timestamp type (1; -1 none, 0 create, 1 append), key, value, header
 * count (4), and for each header its key and value. A byte string is a 4-byte length, -1 for null,
 * and the bytes. The end is a length of -1 and the number of records (8): whoever does not see it
 * has not seen everything.
 */
public final class ReadBack {
    private static final int FIXED_BYTES = 4 + 8 + 8 + 1 + 4;
    private static final long STALLED_AFTER_NANOS = Duration.ofSeconds(60).toNanos();

    private final OutputStream out = new FileOutputStream(FileDescriptor.out);
    private ByteBuffer buffer = ByteBuffer.allocate(1 << 20);
    private long count;

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
        reserve(12);
        buffer.putInt(-1).putLong(count);
        flush();
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
        p.put(ConsumerConfig.ALLOW_AUTO_CREATE_TOPICS_CONFIG, "false");
        p.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, "10000");
        p.put(ConsumerConfig.FETCH_MAX_BYTES_CONFIG, String.valueOf(16 << 20));
        p.put(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, String.valueOf(4 << 20));
        p.put(ConsumerConfig.RECEIVE_BUFFER_CONFIG, "-1");
        p.put(ConsumerConfig.ENABLE_METRICS_PUSH_CONFIG, "false");
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
        Header[] headers = record.headers().toArray();
        byte[][] names = new byte[headers.length][];
        int size = FIXED_BYTES + size(record.key()) + size(record.value());
        for (int i = 0; i < headers.length; i++) {
            names[i] = headers[i].key().getBytes(StandardCharsets.UTF_8);
            size += size(names[i]) + size(headers[i].value());
        }
        reserve(4 + size);
        buffer.putInt(size).putInt(record.partition()).putLong(record.offset());
        buffer.putLong(record.timestamp()).put((byte) record.timestampType().id);
        put(record.key());
        put(record.value());
        buffer.putInt(headers.length);
        for (int i = 0; i < headers.length; i++) {
            put(names[i]);
            put(headers[i].value());
        }
        count++;
    }

    private static int size(byte[] bytes) {
        return 4 + (bytes == null ? 0 : bytes.length);
    }

    private void put(byte[] bytes) {
        if (bytes == null) {
            buffer.putInt(-1);
        } else {
            buffer.putInt(bytes.length).put(bytes);
        }
    }

    private void reserve(int size) throws IOException {
        if (buffer.remaining() < size) {
            flush();
        }
        if (buffer.remaining() < size) {
            buffer = ByteBuffer.allocate(size);
        }
    }

    private void flush() throws IOException {
        out.write(buffer.array(), 0, buffer.position());
        buffer.clear();
    }
}
