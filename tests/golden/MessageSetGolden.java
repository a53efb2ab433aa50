// Writes message_sets.txt: message sets of magic 0 and 1 as the Java clients of their time make
// them, and checks sets that tidegate made with those clients' own readers.
//
// Magic 0 comes from kafka-clients 0.9.0.1, magic 1 from 0.10.2.2: each magic is a run of its own
// with the jars of its client. Needs a JDK of version 17 or above, Maven and this file:
//
//   for version in 0.9.0.1 0.10.2.2; do
//   cat > /tmp/pom.xml <<POM
//   <project xmlns="http://maven.apache.org/POM/4.0.0">
//     <modelVersion>4.0.0</modelVersion>
//     <groupId>golden</groupId><artifactId>golden</artifactId><version>1</version>
//     <packaging>pom</packaging>
//     <dependencies><dependency>
//       <groupId>org.apache.kafka</groupId><artifactId>kafka-clients</artifactId>
//       <version>$version</version>
//     </dependency></dependencies>
//   </project>
//   POM
//   mvn -q -B -f /tmp/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
//       -DoutputDirectory=/tmp/golden-jars-$version
//   done
//   cd tests/golden
//   { java -cp "/tmp/golden-jars-0.9.0.1/*" MessageSetGolden.java
//     java -cp "/tmp/golden-jars-0.10.2.2/*" MessageSetGolden.java; } > message_sets.txt
//   java -cp "/tmp/golden-jars-0.9.0.1/*" MessageSetGolden.java verify FILE
//   java -cp "/tmp/golden-jars-0.10.2.2/*" MessageSetGolden.java verify FILE
//
// FILE is of the same form. Each client checks the sets of its own magic and skips the others.
//
// A set is a line `set MAGIC CODEC`, a line `record TIMESTAMP KEY VALUE` for each record, and a
// line `bytes HEX`. The bytes are what a Produce request carries: with a codec one message, whose
// value is the compressed set. Timestamps are milliseconds, -1 is none, as always in magic 0. Keys
// and values are hexadecimal, `-` is empty, `null` is null, `HEX*N` is N times those bytes.

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.LogEntry;
import org.apache.kafka.common.record.MemoryRecords;

public class MessageSetGolden {
    static final long NOW = 1_700_000_000_000L;
    static final int BUFFER_BYTES = 1 << 20;
    /** Offset and size before a message; its magic and attributes come after the CRC. */
    static final int MAGIC_AT = 8 + 4 + 4;

    public static void main(String[] args) throws Exception {
        if (args.length == 2 && args[0].equals("verify")) {
            verify(Path.of(args[1]));
        } else {
            generate();
        }
    }

    /** The magic of the client whose jars these are: only the later one has timestamps. */
    static int magic() {
        try {
            Class.forName("org.apache.kafka.common.record.TimestampType");
            return 1;
        } catch (ClassNotFoundException older) {
            return 0;
        }
    }

    static List<List<String>> small() throws Exception {
        return List.of(
            List.of("0 null null"),
            List.of(NOW + " - -"),
            List.of("-1 6b6579 76616c7565"),
            List.of(
                NOW + " 6b6579 76616c7565",
                (NOW - 5) + " 6b6579 null",
                (NOW - 70_000) + " null 76616c7565",
                (NOW + 1_000_000_000L) + " - 00ff",
                NOW + " null null"),
            List.of(NOW + " 61*127 62*128", (NOW + 1) + " 61*300 62*8192", NOW + " null 61*1"),
            noise(),
            many(200));
    }

    /** A record that no codec makes smaller: LZ4 stores its block as it is. */
    static List<String> noise() throws Exception {
        StringBuilder value = new StringBuilder();
        byte[] digest = new byte[0];
        for (int i = 0; i < 64; i++) {
            digest = MessageDigest.getInstance("SHA-256").digest(digest);
            value.append(HexFormat.of().formatHex(digest));
        }
        return List.of(NOW + " null " + value);
    }

    static List<String> many(int count) {
        List<String> records = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            records.add((NOW + i * 7L % 90) + " null 76616c7565" + String.format("%04x", i));
        }
        return records;
    }

    /** More than one block of every codec, with records that lie in two. */
    static List<String> large() {
        List<String> records = new ArrayList<>(many(30));
        for (int i = 0; i < 8; i++) {
            char digit = (char) ('1' + i);
            records.add((NOW + i) + " 6b657900*" + (i + 1) + " 6f726465720" + digit + "*"
                + (2000 + 700 * i));
        }
        records.addAll(many(30));
        return records;
    }

    static void generate() throws Exception {
        for (List<String> records : small()) {
            print(records, CompressionType.NONE);
        }
        List<List<String>> sets = new ArrayList<>(small());
        sets.add(large());
        for (List<String> records : sets) {
            print(records, CompressionType.GZIP);
            print(records, CompressionType.SNAPPY);
            print(records, CompressionType.LZ4);
        }
    }

    static void print(List<String> records, CompressionType codec) throws Exception {
        List<String> said = new ArrayList<>();
        for (String record : records) {
            boolean timeless = magic() == 0;
            said.add(timeless ? "-1" + record.substring(record.indexOf(' ')) : record);
        }
        System.out.println("set " + magic() + " " + codec.name);
        said.forEach(record -> System.out.println("record " + record));
        ByteBuffer made = magic() == 0 ? make0(said, codec) : make1(said, codec);
        byte[] all = new byte[made.remaining()];
        made.get(all);
        System.out.println("bytes " + HexFormat.of().formatHex(all));
    }

    /** As the producer of 0.9 fills a batch: it gives every record the offset 0. */
    static ByteBuffer make0(List<String> said, CompressionType codec) throws Exception {
        ByteBuffer buffer = ByteBuffer.allocate(BUFFER_BYTES);
        Object records = call(MemoryRecords.class, null, "emptyRecords", buffer, codec);
        for (String record : said) {
            String[] words = record.split(" ");
            call(MemoryRecords.class, records, "append", 0L, bytes(words[1]), bytes(words[2]));
        }
        call(MemoryRecords.class, records, "close");
        return (ByteBuffer) call(MemoryRecords.class, records, "buffer");
    }

    /** As the producer of 0.10.2 fills a batch. */
    static ByteBuffer make1(List<String> said, CompressionType codec) throws Exception {
        Class<?> types = Class.forName("org.apache.kafka.common.record.TimestampType");
        Class<?> builders = Class.forName("org.apache.kafka.common.record.MemoryRecordsBuilder");
        Object created = types.getField("CREATE_TIME").get(null);
        ByteBuffer buffer = ByteBuffer.allocate(BUFFER_BYTES);
        Object builder = call(MemoryRecords.class, null, "builder", buffer, codec, created);
        for (String record : said) {
            String[] words = record.split(" ");
            long timestamp = Long.parseLong(words[0]);
            call(builders, builder, "append", timestamp, bytes(words[1]), bytes(words[2]));
        }
        Object records = call(builders, builder, "build");
        return (ByteBuffer) call(MemoryRecords.class, records, "buffer");
    }

    /** Calls a method that only one of the clients has: this file compiles with both. */
    static Object call(Class<?> type, Object target, String name, Object... arguments)
            throws Exception {
        for (Method method : type.getMethods()) {
            if (method.getName().equals(name) && method.getParameterCount() == arguments.length) {
                try {
                    return method.invoke(target, arguments);
                } catch (InvocationTargetException thrown) {
                    throw new IllegalStateException(name + " failed", thrown.getCause());
                }
            }
        }
        throw new NoSuchMethodException(type + " has no " + name);
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

    static void verify(Path file) throws Exception {
        String[] set = null;
        List<String[]> records = new ArrayList<>();
        int sets = 0;
        for (String line : Files.readAllLines(file)) {
            String[] words = line.split(" ");
            switch (words[0]) {
                case "set" -> {
                    set = words;
                    records.clear();
                }
                case "record" -> records.add(Arrays.copyOfRange(words, 1, words.length));
                case "bytes" -> {
                    if (Integer.parseInt(set[1]) == magic()) {
                        verifySet(set[2], records, bytes(words[1]));
                        sets++;
                    }
                }
                default -> throw new IllegalStateException(line);
            }
        }
        check(sets > 0, "the number of sets of magic " + magic());
        System.out.println(sets + " sets of magic " + magic() + " are as they say they are");
    }

    static void verifySet(String codec, List<String[]> said, byte[] bytes) throws Exception {
        check(bytes[MAGIC_AT] == magic(), "magic");
        check(CompressionType.forId(bytes[MAGIC_AT + 1] & 7).name.equals(codec), "codec");
        MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(bytes));
        check(records.sizeInBytes() == bytes.length, "length");
        int index = 0;
        // The earlier client's records are iterated as they are, the later one's are asked for.
        Object entries =
            magic() == 0 ? records : call(MemoryRecords.class, records, "deepEntries");
        for (Object each : (Iterable<?>) entries) {
            LogEntry entry = (LogEntry) each;
            String[] words = said.get(index);
            entry.record().ensureValid();
            if (magic() == 1) {
                Object timestamp = call(entry.record().getClass(), entry.record(), "timestamp");
                check(timestamp.equals(Long.parseLong(words[0])), "timestamp");
                check(entry.offset() == index, "offset");
            }
            check(Arrays.equals(array(entry.record().key()), bytes(words[1])), "key");
            check(Arrays.equals(array(entry.record().value()), bytes(words[2])), "value");
            index++;
        }
        check(index == said.size(), "the number of records");
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
