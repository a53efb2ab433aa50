import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * What Java's own consumer says of offsets, without joining a group. Arguments: bootstrap servers,
 * and one of
 * <ul>
 *   <li>{@code find TOPIC ISOLATION TIME...}: prints a line for each partition: its index, where its
 *       log begins and ends, and the offset of each time or -1;
 *   <li>{@code commit GROUP TOPIC PARTITION OFFSET METADATA};
 *   <li>{@code committed GROUP TOPIC PARTITION}: prints offset and metadata, or -1.
 * </ul>
 */
public final class Offsets {
    private Offsets() {}

    public static void main(String[] args) {
        switch (args[1]) {
            case "find" -> find(args);
            case "commit" -> {
                try (KafkaConsumer<byte[], byte[]> consumer = consumer(args[0], args[2], null)) {
                    TopicPartition partition = partition(args);
                    consumer.assign(List.of(partition));
                    long offset = Long.parseLong(args[5]);
                    consumer.commitSync(Map.of(partition, new OffsetAndMetadata(offset, args[6])));
                }
            }
            case "committed" -> {
                try (KafkaConsumer<byte[], byte[]> consumer = consumer(args[0], args[2], null)) {
                    TopicPartition partition = partition(args);
                    OffsetAndMetadata found = consumer.committed(Set.of(partition)).get(partition);
                    System.out.println(
                            found == null ? "-1" : found.offset() + " " + found.metadata());
                }
            }
            default -> throw new IllegalArgumentException(args[1]);
        }
    }

    private static void find(String[] args) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(args[0], null, args[3])) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (PartitionInfo info : consumer.partitionsFor(args[2])) {
                partitions.add(new TopicPartition(info.topic(), info.partition()));
            }
            Map<TopicPartition, StringBuilder> lines = new HashMap<>();
            Map<TopicPartition, Long> begins = consumer.beginningOffsets(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            for (TopicPartition it : partitions) {
                lines.put(it, new StringBuilder(it.partition() + " " + begins.get(it) + " " + ends.get(it)));
            }
            for (int i = 4; i < args.length; i++) {
                Map<TopicPartition, Long> times = new HashMap<>();
                for (TopicPartition it : partitions) {
                    times.put(it, Long.parseLong(args[i]));
                }
                Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(times);
                for (TopicPartition it : partitions) {
                    OffsetAndTimestamp at = found.get(it);
                    lines.get(it).append(' ').append(at == null ? -1 : at.offset());
                }
            }
            lines.values().forEach(System.out::println);
        }
    }

    private static TopicPartition partition(String[] args) {
        return new TopicPartition(args[3], Integer.parseInt(args[4]));
    }

    private static KafkaConsumer<byte[], byte[]> consumer(
            String bootstrap, String group, String isolation) {
        Properties p = new Properties();
        p.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        p.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        p.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        p.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        p.put(ConsumerConfig.ENABLE_METRICS_PUSH_CONFIG, "false");
        if (group != null) {
            p.put(ConsumerConfig.GROUP_ID_CONFIG, group);
        }
        if (isolation != null) {
            p.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, isolation);
        }
        return new KafkaConsumer<>(p);
    }
}
