import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a whole topic as the other ReadBack does, with the clients from 0.9 to 1.1. What they have
 * not in common is called by name: seeking takes an array in 0.9 and a collection later, records
 * have timestamps since 0.10 and headers since 0.11.
 */
public final class ReadBack {
    private static final long STALLED_AFTER_NANOS = Duration.ofSeconds(60).toNanos();

    private final Frames frames = new Frames();

    private ReadBack() {}

    public static void main(String[] args) throws Exception {
        new ReadBack().run(args[0], args[1]);
    }

    private void run(String bootstrap, String topic) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings(bootstrap))) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (PartitionInfo info : consumer.partitionsFor(topic)) {
                partitions.add(new TopicPartition(topic, info.partition()));
            }
            if (partitions.isEmpty()) {
                throw new IllegalStateException("no such topic: " + topic);
            }
            consumer.assign(partitions);
            seek(consumer, "seekToEnd", partitions);
            Map<TopicPartition, Long> ends = new HashMap<>();
            for (TopicPartition partition : partitions) {
                ends.put(partition, consumer.position(partition));
            }
            seek(consumer, "seekToBeginning", partitions);
            readUntil(consumer, ends);
        }
        frames.end();
    }

    private static Properties settings(String bootstrap) {
        Properties p = new Properties();
        p.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        p.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        p.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        p.put(ConsumerConfig.CHECK_CRCS_CONFIG, "true");
        p.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        p.put(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, String.valueOf(4 << 20));
        // They look for committed offsets even where a position is set.
        p.put(ConsumerConfig.GROUP_ID_CONFIG, UUID.randomUUID().toString());
        // Since 0.11; earlier clients pass over what they do not know.
        p.put("isolation.level", "read_committed");
        return p;
    }

    private static void seek(
            KafkaConsumer<?, ?> consumer, String where, List<TopicPartition> partitions)
            throws Exception {
        for (Method method : KafkaConsumer.class.getMethods()) {
            if (method.getName().equals(where)) {
                boolean array = method.getParameterTypes()[0].isArray();
                Object to = array ? partitions.toArray(new TopicPartition[0]) : partitions;
                method.invoke(consumer, to);
                return;
            }
        }
        throw new NoSuchMethodException(where);
    }

    /** Reads until every position is at its end. */
    private void readUntil(KafkaConsumer<byte[], byte[]> consumer, Map<TopicPartition, Long> ends)
            throws Exception {
        Map<TopicPartition, Long> limits = new HashMap<>(ends);
        long progressAt = System.nanoTime();
        while (true) {
            if (ends.entrySet().removeIf(e -> consumer.position(e.getKey()) >= e.getValue())) {
                progressAt = System.nanoTime();
            }
            if (ends.isEmpty()) {
                return;
            }
            ConsumerRecords<byte[], byte[]> records = consumer.poll(500);
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

    private void write(ConsumerRecord<byte[], byte[]> record) throws Exception {
        long timestamp = Frames.NO_TIMESTAMP;
        int type = Frames.NO_TIMESTAMP_TYPE;
        if (has("timestamp")) {
            timestamp = (long) call(record, "timestamp");
            Object of = call(record, "timestampType");
            type = of.getClass().getField("id").getInt(of);
        }
        List<byte[]> headers = new ArrayList<>();
        if (has("headers")) {
            for (Object header : (Iterable<?>) call(record, "headers")) {
                headers.add(((String) call(header, "key")).getBytes(StandardCharsets.UTF_8));
                headers.add((byte[]) call(header, "value"));
            }
        }
        frames.record(
                record.partition(),
                record.offset(),
                timestamp,
                type,
                record.key(),
                record.value(),
                headers.toArray(new byte[0][]));
    }

    private static boolean has(String part) {
        for (Method method : ConsumerRecord.class.getMethods()) {
            if (method.getName().equals(part)) {
                return true;
            }
        }
        return false;
    }

    private static Object call(Object target, String name) throws Exception {
        return target.getClass().getMethod(name).invoke(target);
    }
}
