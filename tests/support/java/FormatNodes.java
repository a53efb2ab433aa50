import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import kafka.tools.StorageTool;

/**
 * Formats the log directories of several KRaft nodes in one virtual machine, where the command-line
 * tool would start one for each. Arguments: the cluster id, the nodes' properties files, and after
 * {@code --} what the command-line tool takes beside them, for every node.
 */
public final class FormatNodes {
    private FormatNodes() {}

    public static void main(String[] args) {
        List<String> arguments = Arrays.asList(args);
        int end = arguments.indexOf("--");
        for (String file : arguments.subList(1, end)) {
            List<String> command = new ArrayList<>(List.of("format", "-t", args[0], "-c", file));
            command.addAll(arguments.subList(end + 1, args.length));
            int status = StorageTool.execute(command.toArray(new String[0]), System.out);
            if (status != 0) {
                System.exit(status);
            }
        }
        System.exit(0);
    }
}
