//! What Java's own consumer says of offsets.

use std::io::Read;

use super::cluster::Cluster;

/// Where a partition begins and ends, and the offset of each time that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JavaOffsets {
    /// The partition.
    pub partition: i32,
    /// Its first offset.
    pub begin: i64,
    /// The offset that the next record gets.
    pub end: i64,
    /// The first record of each time.
    pub times: Vec<Option<i64>>,
}

impl Cluster {
    /// `beginningOffsets`, `endOffsets` and `offsetsForTimes` of Java's consumer, by partition.
    #[track_caller]
    pub fn java_offsets(&self, topic: &str, isolation: &str, times: &[i64]) -> Vec<JavaOffsets> {
        let fixed = ["find", topic, isolation].map(str::to_owned);
        let times = times.iter().map(i64::to_string);
        let text = self.offsets_tool(&fixed.into_iter().chain(times).collect::<Vec<_>>());
        let mut found: Vec<_> = text
            .lines()
            .map(|line| {
                let number = |word: &str| word.parse::<i64>().expect("the tool prints numbers");
                let numbers: Vec<_> = line.split(' ').map(number).collect();
                let [partition, begin, end, times @ ..] = &numbers[..] else { panic!("{line}") };
                let times = times.iter().map(|&at| (at >= 0).then_some(at)).collect();
                JavaOffsets { partition: *partition as i32, begin: *begin, end: *end, times }
            })
            .collect();
        found.sort();
        found
    }

    /// Has Java's consumer commit an offset of a partition for a group.
    #[track_caller]
    pub fn java_commits(&self, group: &str, (topic, partition): (&str, i32), offset: i64) {
        let (partition, offset) = (partition.to_string(), offset.to_string());
        let arguments = ["commit", group, topic, &partition, &offset, "by Java"];
        self.offsets_tool(&arguments.map(str::to_owned));
    }

    /// The offset that Java's consumer finds to be committed.
    #[track_caller]
    pub fn java_committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let arguments = ["committed", group, topic, &partition.to_string()].map(str::to_owned);
        let text = self.offsets_tool(&arguments);
        let offset = text.split_whitespace().next().expect("the tool prints an offset");
        let offset: i64 = offset.parse().expect("a number");
        (offset >= 0).then_some(offset)
    }

    /// Partition, offset and lag of each line that `kafka-consumer-groups` prints of a group.
    #[track_caller]
    pub fn described_group(&self, group: &str, topic: &str) -> Vec<[i64; 3]> {
        let servers = self.running_servers();
        let arguments = ["--bootstrap-server", &servers, "--describe", "--group", group];
        let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        let text = self.tool_output(class, &arguments.map(str::to_owned));
        let mut lines: Vec<_> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|words| words.len() > 5 && words[0] == group && words[1] == topic)
            .map(|words| [2, 3, 5].map(|at| words[at].parse().expect("a number")))
            .collect();
        lines.sort();
        lines
    }

    #[track_caller]
    fn offsets_tool(&self, arguments: &[String]) -> String {
        let servers = std::iter::once(self.running_servers());
        self.tool_output("Offsets", &servers.chain(arguments.to_vec()).collect::<Vec<_>>())
    }

    #[track_caller]
    fn tool_output(&self, class: &str, arguments: &[String]) -> String {
        let (mut process, log) = self.run_tool(class, "256m", arguments);
        let mut text = String::new();
        let mut stdout = process.take_stdout().expect("the tool was started with a pipe");
        stdout.read_to_string(&mut text).expect("the tool prints text");
        let status = process.wait(super::reader::END_LIMIT);
        assert_eq!(status, Some(0), "{arguments:?} failed:\n{}", super::reader::tail(&log));
        text
    }
}
