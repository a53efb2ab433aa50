//! What a client's run took.

use std::time::{Duration, Instant};

/// Figures of one client's run.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Acknowledged records per second, from the first send to the last acknowledgement.
    pub per_second: f64,
    /// CPU time of the whole client process per record: user and system, nanoseconds.
    pub cpu: f64,
    /// The system's part of it.
    pub cpu_system: f64,
    /// Peak resident memory, in KiB.
    pub peak_kib: u64,
    pub acked: u64,
    pub errors: u64,
}

impl Measured {
    pub fn line(&self) -> String {
        let Measured { per_second, cpu, cpu_system, peak_kib, acked, errors } = self;
        let times = format!("cpu_ns={cpu:.1} cpu_system_ns={cpu_system:.1}");
        let counts = format!("peak_kib={peak_kib} acked={acked} errors={errors}");
        format!("records_per_second={per_second:.0} {times} {counts}")
    }

    pub fn parse(line: &str) -> Option<Measured> {
        let field = |name: &str| {
            let mut fields = line.split_whitespace();
            fields.find_map(|field| field.split_once('=').filter(|(n, _)| *n == name))
        };
        let float = |name| field(name)?.1.parse().ok();
        let count = |name| field(name)?.1.parse().ok();
        Some(Measured {
            per_second: float("records_per_second")?,
            cpu: float("cpu_ns")?,
            cpu_system: float("cpu_system_ns")?,
            peak_kib: count("peak_kib")?,
            acked: count("acked")?,
            errors: count("errors")?,
        })
    }
}

/// A run that has begun.
pub struct Stopwatch {
    started: Instant,
    user: Duration,
    system: Duration,
}

impl Stopwatch {
    pub fn start() -> Stopwatch {
        let (user, system) = cpu_times();
        Stopwatch { started: Instant::now(), user, system }
    }

    pub fn stop(self, acked: u64, errors: u64) -> Measured {
        let elapsed = self.started.elapsed();
        let (user, system) = cpu_times();
        let system = system - self.system;
        let cpu = user - self.user + system;
        let records = (acked + errors).max(1) as f64;
        Measured {
            per_second: acked as f64 / elapsed.as_secs_f64(),
            cpu: cpu.as_nanos() as f64 / records,
            cpu_system: system.as_nanos() as f64 / records,
            peak_kib: peak_kib(),
            acked,
            errors,
        }
    }
}

/// User and system time of this process, all threads.
fn cpu_times() -> (Duration, Duration) {
    // SAFETY: an all-zero rusage is a valid one, and the call only writes to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0, "getrusage");
        usage
    };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    (duration(usage.ru_utime), duration(usage.ru_stime))
}

/// VmHWM of this process; 0 where the system has no /proc.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
