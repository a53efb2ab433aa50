// Writes kafka_properties.txt: the names and defaults of Apache Kafka's own ProducerConfig.
//
// Needs the jars that the top of BatchGolden.java says how to get:
//
//   cd tests/golden
//   java -cp "/tmp/golden-jars/*" PropertyGolden.java > kafka_properties.txt
//
// A line is NAME, or NAME=DEFAULT where there is a default that is not empty. A list has commas, a
// class its name.

import java.util.List;
import java.util.TreeMap;
import org.apache.kafka.clients.producer.ProducerConfig;

public class PropertyGolden {
    public static void main(String[] arguments) {
        new TreeMap<>(ProducerConfig.configDef().configKeys()).forEach((name, key) -> {
            String value = key.hasDefault() ? text(key.defaultValue) : "";
            System.out.print(value.isEmpty() ? name + "\n" : name + "=" + value + "\n");
        });
    }

    private static String text(Object value) {
        if (value == null) {
            return "";
        }
        if (value instanceof Class<?> type) {
            return type.getName();
        }
        if (value instanceof List<?> list) {
            return String.join(",", list.stream().map(Object::toString).toList());
        }
        return value.toString();
    }
}
