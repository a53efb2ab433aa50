import kafka.tools.StorageTool;

/**
 * Formats the log directories of several KRaft nodes in one virtual machine, where the command-line
 * tool would start one for each. Arguments: the cluster id, then the nodes' properties files.
 */
public final class FormatNodes {
    private FormatNodes() {}

    public static void main(String[] args) {
        String clusterId = args[0];
        for (int i = 1; i < args.length; i++) {
            String[] command = {"format", "-t", clusterId, "-c", args[i]};
            int status = StorageTool.execute(command, System.out);
            if (status != 0) {
                System.exit(status);
            }
        }
        System.exit(0);
    }
}
