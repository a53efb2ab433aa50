// Writes batches.txt: record batches of format v2 as Apache Kafka's own classes make them, and
// checks batches that tidegate made with Kafka's own reader.
//
// Needs a JDK of version 17 or above, Maven and this file:
//
//   cat > /tmp/pom.xml <<'POM'
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
//   mvn -q -B -f /tmp/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
//       -DoutputDirectory=/tmp/golden-jars
//   cd tests/golden
//   java -cp "/tmp/golden-jars/*" BatchGolden.java > batches.txt
//   java -cp "/tmp/golden-jars/*" BatchGolden.java verify FILE
//
// FILE is of the same form; tests/record_batches.rs writes one with tidegate's encoder into the
// target directory: tmp/tidegate-batches.txt.
//
// A batch is a line `batch CODEC PRODUCER EPOCH SEQUENCE TRANSACTIONAL`, a line `record TIMESTAMP
// KEY VALUE HEADER=VALUE...` for each record, and a line `bytes HEX`. Keys, values and both sides
// of headers are hexadecimal, `-` is empty, `null` is null, `HEX*N` is N times those bytes.

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.utils.BufferSupplier;

public class BatchGolden {
    public static void main(String[] args) throws Exception {
        if (args.length == 2 && args[0].equals("verify")) {
            verify(Path.of(args[1]));
        } else {
            generate();
        }
    }

    static final long NOW = 1_700_000_000_000L;

    /** What one batch holds, as its lines say it. */
    record Batch(String identity, List<String> records) {}

    static List<Batch> small() {
        return List.of(
            new Batch("-1 -1 -1 false", List.of("0 null null")),
            new Batch("-1 -1 -1 false", List.of(NOW + " - -")),
            new Batch("4711 3 100 false", List.of(
                NOW + " 6b6579 76616c7565",
                (NOW - 5) + " 6b6579 null",
                (NOW - 70_000) + " null 76616c7565",
                (NOW + 1_000_000_000L) + " - 00ff",
                NOW + " null null")),
            new Batch("9223372036854775807 32767 2147483647 true", List.of(
                NOW + " 61 62 7472616365=31",
                (NOW + 1) + " null null 61=null 61=- -=62 c3bce4bda0=c3bc",
                (NOW + 2) + " null - " + "6b=76 ".repeat(70).trim())),
            // Lengths around where their varints become longer.
            new Batch("0 0 0 false", List.of(
                NOW + " null 61*54", NOW + " null 61*55", NOW + " 61*63 61*64",
                NOW + " 61*64 61*63", NOW + " null 616263*43", NOW + " 61*8191 62",
                NOW + " 61 62*8192", NOW + " null 61*8184", NOW + " null 61*8185")),
            new Batch("7 1 2147483600 false", many(200)));
    }

    static List<String> many(int count) {
        List<String> records = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            records.add((NOW + i * 7L % 90) + " null 76616c7565" + String.format("%04x", i));
        }
        return records;
    }

    /** More than one block of every codec, with records that lie in two. */
    static Batch large() {
        List<String> records = new ArrayList<>(many(30));
        for (int i = 0; i < 12; i++) {
            char digit = "123456789ab".charAt(i % 11);
            records.add((NOW + i) + " 6b657900*" + (i + 1) + " 6f726465720" + digit + "*"
                + (2000 + 700 * i));
        }
        records.addAll(many(30));
        return new Batch("4711 3 100 false", records);
    }

    static void generate() throws Exception {
        List<Batch> batches = new ArrayList<>(small());
        for (Batch batch : batches) {
            print(batch, Compression.NONE);
        }
        batches.add(large());
        for (Batch batch : batches.subList(2, batches.size())) {
            print(batch, Compression.gzip().build());
            print(batch, Compression.snappy().build());
            print(batch, Compression.lz4().build());
            print(batch, Compression.zstd().build());
        }
        print(large(), Compression.gzip().level(9).build());
        print(large(), Compression.lz4().level(1).build());
        print(large(), Compression.zstd().level(-100).build());
        print(large(), Compression.zstd().level(22).build());
    }

    static void print(Batch batch, Compression compression) {
        String[] identity = batch.identity.split(" ");
        MemoryRecordsBuilder builder = MemoryRecords.builder(
            ByteBuffer.allocate(1 << 20), RecordBatch.MAGIC_VALUE_V2, compression,
            TimestampType.CREATE_TIME, 0L, RecordBatch.NO_TIMESTAMP, Long.parseLong(identity[0]),
            Short.parseShort(identity[1]), Integer.parseInt(identity[2]),
            Boolean.parseBoolean(identity[3]), RecordBatch.NO_PARTITION_LEADER_EPOCH);
        System.out.println("batch " + compression.type().name + " " + batch.identity);
        for (String record : batch.records) {
            String[] words = record.split(" ");
            long timestamp = Long.parseLong(words[0]);
            builder.append(timestamp, bytes(words[1]), bytes(words[2]), headers(words));
            System.out.println("record " + record);
        }
        ByteBuffer made = builder.build().buffer();
        byte[] all = new byte[made.remaining()];
        made.get(all);
        System.out.println("bytes " + HexFormat.of().formatHex(all));
    }

    static byte[] bytes(String word) {
        if (word.equals("null")) {
            return null;
        }
        if (word.equals("-")) {
            return new byte[0];
        }
        int star = word.indexOf('*');
        if (star < 0) {
            return HexFormat.of().parseHex(word);
        }
        String once = word.substring(0, star);
        return HexFormat.of().parseHex(once.repeat(Integer.parseInt(word.substring(star + 1))));
    }

    static Header[] headers(String[] words) {
        Header[] headers = new Header[words.length - 3];
        for (int i = 0; i < headers.length; i++) {
            String[] sides = words[i + 3].split("=");
            String key = new String(bytes(sides[0]), StandardCharsets.UTF_8);
            headers[i] = new RecordHeader(key, bytes(sides[1]));
        }
        return headers;
    }

    static void verify(Path file) throws Exception {
        String[] batch = null;
        List<String[]> records = new ArrayList<>();
        int batches = 0;
        for (String line : Files.readAllLines(file)) {
            String[] words = line.split(" ");
            switch (words[0]) {
                case "batch" -> {
                    batch = words;
                    records.clear();
                }
                case "record" -> records.add(Arrays.copyOfRange(words, 1, words.length));
                case "bytes" -> {
                    verifyBatch(batch, records, bytes(words[1]));
                    batches++;
                }
                default -> throw new IllegalStateException(line);
            }
        }
        check(batches > 0, "no batches");
        System.out.println(batches + " batches are as they say they are");
    }

    static void verifyBatch(String[] said, List<String[]> records, byte[] bytes) {
        List<MutableRecordBatch> batches = new ArrayList<>();
        MemoryRecords.readableRecords(ByteBuffer.wrap(bytes)).batches().forEach(batches::add);
        check(batches.size() == 1, "one batch");
        RecordBatch batch = batches.get(0);
        batch.ensureValid();
        check(batch.sizeInBytes() == bytes.length, "length");
        check(batch.compressionType().name.equals(said[1]), "codec");
        check(batch.producerId() == Long.parseLong(said[2]), "producer id");
        check(batch.producerEpoch() == Short.parseShort(said[3]), "epoch");
        check(batch.baseSequence() == Integer.parseInt(said[4]), "sequence");
        check(batch.isTransactional() == Boolean.parseBoolean(said[5]), "transactional");
        check(batch.countOrNull() == records.size(), "count");
        check(batch.lastOffset() == records.size() - 1, "last offset");
        check(batch.maxTimestamp() == records.stream().mapToLong(r -> Long.parseLong(r[0])).max()
            .getAsLong(), "maximum timestamp");
        int index = 0;
        try (var iterator = batch.streamingIterator(BufferSupplier.create())) {
            while (iterator.hasNext()) {
                verifyRecord(iterator.next(), index, records.get(index));
                index++;
            }
        }
        check(index == records.size(), "records");
    }

    static void verifyRecord(Record record, int index, String[] said) {
        record.ensureValid();
        check(record.offset() == index, "offset");
        check(record.timestamp() == Long.parseLong(said[0]), "timestamp");
        check(Arrays.equals(array(record.key()), bytes(said[1])), "key");
        check(Arrays.equals(array(record.value()), bytes(said[2])), "value");
        check(Arrays.equals(record.headers(), headers(said)), "headers");
    }

    static byte[] array(ByteBuffer buffer) {
        if (buffer == null) {
            return null;
        }
        byte[] all = new byte[buffer.remaining()];
        buffer.duplicate().get(all);
        return all;
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException(what + " is wrong");
        }
    }
}
