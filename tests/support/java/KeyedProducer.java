import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.FileInputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Sends a record for each key of a file with Java's own producer and its default partitioner, and
 * prints where each went: a line `key-in-hex partition`, in the file's order.
 * Arguments: bootstrap servers, topic, file of keys (their number, then
 * for each its length and its bytes; numbers of 4 bytes, big-endian).
 */
public final class KeyedProducer {
    private KeyedProducer() {}

    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        p.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class);
        p.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class);
        p.put(ProducerConfig.ENABLE_METRICS_PUSH_CONFIG, "false");
        List<byte[]> keys = readKeys(args[2]);
        List<Future<RecordMetadata>> sent = new ArrayList<>(keys.size());
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(p)) {
            for (byte[] key : keys) {
                sent.add(producer.send(new ProducerRecord<>(args[1], key, new byte[0])));
            }
        }
        try (PrintStream out = new PrintStream(
                new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16))) {
            for (int i = 0; i < keys.size(); i++) {
                String key = HexFormat.of().formatHex(keys.get(i));
                out.print(key + " " + sent.get(i).get().partition() + "\n");
            }
        }
    }

    private static List<byte[]> readKeys(String file) throws Exception {
        List<byte[]> keys = new ArrayList<>();
        try (DataInputStream in =
                new DataInputStream(new BufferedInputStream(new FileInputStream(file)))) {
            int count = in.readInt();
            for (int i = 0; i < count; i++) {
                keys.add(in.readNBytes(in.readInt()));
            }
        }
        return keys;
    }
}
