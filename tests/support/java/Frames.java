import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;

/**
 * Writes records to standard output, for whichever client read them.
 *
 * <p>All numbers are big-endian. A record is a 4-byte length of what follows, then partition (4),
 * offset (8), timestamp (8), timestamp type (1; -1 none, 0 create, 1 append), key, value, header
 * count (4), and for each header its key and value. A byte string is a 4-byte length, -1 for null,
 * and the bytes. The end is a length of -1 and the number of records (8): whoever does not see it
 * has not seen everything.
 */
final class Frames {
    static final long NO_TIMESTAMP = -1;
    static final int NO_TIMESTAMP_TYPE = -1;

    private static final int FIXED_BYTES = 4 + 8 + 8 + 1 + 4;

    private final OutputStream out = new FileOutputStream(FileDescriptor.out);
    private ByteBuffer buffer = ByteBuffer.allocate(1 << 20);
    private long count;

    /** The parts of a record; headers are a key and a value in turn. */
    void record(
            int partition,
            long offset,
            long timestamp,
            int timestampType,
            byte[] key,
            byte[] value,
            byte[]... headers)
            throws IOException {
        int size = FIXED_BYTES + size(key) + size(value);
        for (byte[] part : headers) {
            size += size(part);
        }
        reserve(4 + size);
        buffer.putInt(size).putInt(partition).putLong(offset);
        buffer.putLong(timestamp).put((byte) timestampType);
        put(key);
        put(value);
        buffer.putInt(headers.length / 2);
        for (byte[] part : headers) {
            put(part);
        }
        count++;
    }

    void end() throws IOException {
        reserve(12);
        buffer.putInt(-1).putLong(count);
        flush();
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
