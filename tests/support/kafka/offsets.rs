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

    #[track_caller]
    fn offsets_tool(&self, arguments: &[String]) -> String {
        let all: Vec<_> =
            std::iter::once(self.running_servers()).chain(arguments.to_vec()).collect();
        let (mut process, log) = self.run_tool("Offsets", "256m", &all);
        let mut text = String::new();
        let mut stdout = process.take_stdout().expect("the tool was started with a pipe");
        stdout.read_to_string(&mut text).expect("the tool prints text");
        let status = process.wait(super::reader::END_LIMIT);
        assert_eq!(status, Some(0), "{arguments:?} failed:\n{}", super::reader::tail(&log));
        text
    }
}
