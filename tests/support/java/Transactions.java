import java.nio.charset.StandardCharsets;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Writes records to partition 0 of a topic with Java's own producer, in transactions of some
 * records each: of every three one is aborted, and between them records are written that belong to
 * none. Arguments: bootstrap servers, topic, how many transactions.
 */
public final class Transactions {
    private static final int RECORDS = 5;

    private Transactions() {}

    public static void main(String[] args) throws Exception {
        String topic = args[1];
        int count = Integer.parseInt(args[2]);
        try (KafkaProducer<byte[], byte[]> inside = producer(args[0], "id-" + topic);
                KafkaProducer<byte[], byte[]> outside = producer(args[0], null)) {
            inside.initTransactions();
            for (int t = 0; t < count; t++) {
                boolean aborted = t % 3 == 1;
                inside.beginTransaction();
                for (int r = 0; r < RECORDS; r++) {
                    send(inside, topic, (aborted ? "aborted " : "committed ") + t + " " + r);
                    // Sent at once: what is not sent yet is never written if it is aborted.
                    inside.flush();
                    send(outside, topic, "outside " + t + " " + r);
                    outside.flush();
                }
                if (aborted) {
                    inside.abortTransaction();
                } else {
                    inside.commitTransaction();
                }
            }
        }
    }

    private static void send(KafkaProducer<byte[], byte[]> producer, String topic, String value)
            throws Exception {
        byte[] bytes = value.getBytes(StandardCharsets.UTF_8);
        producer.send(new ProducerRecord<>(topic, 0, null, bytes)).get();
    }

    private static KafkaProducer<byte[], byte[]> producer(String bootstrap, String id) {
        Properties p = new Properties();
        p.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        p.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class);
        p.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class);
        p.put(ProducerConfig.ENABLE_METRICS_PUSH_CONFIG, "false");
        if (id != null) {
            p.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, id);
        }
        return new KafkaProducer<>(p);
    }
}
