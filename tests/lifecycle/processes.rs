//! What needs a process of its own: this program again, for one test.

use std::process::Command;

use super::*;

/// Set in the process that a test began.
const CHILD: &str = "TIDEGATE_TEST_LIFECYCLE_CHILD";

/// Runs `test` of this program in a process of its own, unless this is that process.
fn in_a_process_of_its_own(test: &str, act: impl FnOnce()) {
    if std::env::var(CHILD).as_deref() == Ok(test) {
        return act();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, test)
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    assert!(stdout.contains("1 passed"), "it did not run:\n{stdout}");
}

/// Threads, descriptors, mappings.
#[cfg(target_os = "linux")]
fn in_use() -> [usize; 3] {
    let entries = |path| std::fs::read_dir(path).unwrap().count();
    let mappings = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    [entries("/proc/self/task"), entries("/proc/self/fd"), mappings]
}

/// Memory of this process, in KiB.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Runs `act` up to `count` times, at least a tenth of that, for 20 s or so; then nothing may be
/// left of it.
#[cfg(target_os = "linux")]
fn again_and_again(what: &str, count: usize, mut act: impl FnMut()) {
    // What the process makes once, and threads' stacks that the system keeps for the next.
    (0..count / 20).for_each(|_| act());
    let (before, memory) = (in_use(), resident());
    let start = Instant::now();
    let mut runs = 0;
    while runs < count && (runs < count / 10 || start.elapsed() < Duration::from_secs(20)) {
        act();
        runs += 1;
    }
    println!("{what}: {runs} producers in {:?}, before {before:?}", start.elapsed());
    // Of mappings the allocator makes some of its own; a producer that leaks has one or more each.
    let few = [before[0], before[1], before[2] + runs / 20 + 16];
    eventually("nothing is left", || in_use().into_iter().zip(few).all(|(now, most)| now <= most));
    let grown = resident().saturating_sub(memory);
    assert!(grown < 16 << 10, "{what}: {grown} KiB more after {runs} producers");
}

#[test]
#[cfg(target_os = "linux")]
fn c42_thousands_of_producers_leave_nothing_behind() {
    let test = "processes::c42_thousands_of_producers_leave_nothing_behind";
    in_a_process_of_its_own(test, || {
        let small = |builder: ProducerBuilder| {
            builder.buffer_memory(4 << 20).configure(|c| c.on_drop = OnDrop::Wait(millis(0)))
        };
        again_and_again("without brokers", 3_000, || {
            drop(small(Producer::builder("127.0.0.1:1")).build().unwrap());
        });
        let cluster = cluster(2, 4);
        again_and_again("with brokers", 500, || {
            let producer = small(builder(&cluster)).build().unwrap();
            let topic = producer.topic("t").unwrap();
            let deliveries = [0, 1].map(|partition| send_to(&topic, partition, "v"));
            deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
            producer.close(LONG).wait().unwrap();
        });
        eventually("no connection is left", || cluster.stats().connections_open() == 0);
    });
}

#[test]
fn f35_one_core_for_brokers_loops_and_senders() {
    in_a_process_of_its_own("processes::f35_one_core_for_brokers_loops_and_senders", || {
        let core = core_affinity::get_core_ids().unwrap()[0];
        // Threads inherit it: from here on the process has one core.
        assert!(core_affinity::set_for_current(core));
        let cluster = cluster(3, 6);
        let producer = Producer::builder(&cluster.bootstrap_servers()).build().unwrap();
        let topic = producer.topic("t").unwrap();
        let threads: Vec<_> = (0..4_u32)
            .map(|thread| {
                let topic = topic.clone();
                std::thread::spawn(move || {
                    let send = |n: i32| {
                        let value = format!("{thread} {n}");
                        let record = Record::new().value(&value).partition(n % 6);
                        (n % 6, topic.send_record(record).unwrap(), value)
                    };
                    (0..5_000).map(send).collect::<Vec<_>>()
                })
            })
            .collect();
        let logs: Vec<_> = (0..6).map(|_| Vec::new()).collect();
        let logs = threads.into_iter().fold(logs, |mut logs, thread| {
            for (partition, delivery, value) in thread.join().unwrap() {
                let offset = acked(delivery).offset().expect("the broker says it");
                logs[partition as usize].push((offset, value));
            }
            logs
        });
        for (partition, mut log) in logs.into_iter().enumerate() {
            let records = cluster.records("t", partition as i32);
            assert_eq!(records.len(), log.len(), "nothing doubled, nothing lost");
            // One thread's records have rising offsets, in the order in which it sent them.
            for thread in 0..4 {
                let own = |entry: &&(i64, String)| entry.1.starts_with(&format!("{thread} "));
                assert!(log.iter().filter(own).is_sorted_by_key(|entry| entry.0));
            }
            log.sort_unstable();
            for (offset, value) in log {
                assert_eq!(records[offset as usize].value.as_deref(), Some(value.as_bytes()));
            }
        }
        producer.close(LONG).wait().unwrap();
    });
}
