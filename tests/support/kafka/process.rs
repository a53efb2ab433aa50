//! Child processes that cannot outlive the test process.
//!
//! Each runs under a small shell that holds the read end of a pipe. The test process holds the
//! write end: when it ends, in whatever way (return, panic, abort, SIGKILL), the pipe closes and
//! the shell kills its child. The shell is also the child's parent, so that a signal, which it
//! sends on request, can never reach another process that got the same id.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// `$1` is the log file, the rest the command. Standard error carries answers, one line each: the
/// child's id, then `sent` for each signal. The child starts before the trap, because it would
/// inherit ignored signals, and a Java virtual machine does not stop on an ignored SIGTERM.
const WATCHDOG: &str = r#"
log=$1
shift
exec 3<&0
"$@" </dev/null 2>>"$log" 3<&- &
child=$!
trap '' INT TERM HUP
exec >/dev/null
echo "$child" >&2
{
    while read -r signal; do
        kill -s "$signal" "$child" 2>/dev/null
        echo sent >&2
    done
    kill -s KILL "$child" 2>/dev/null
} <&3 &
reader=$!
exec 3<&-
wait "$child"
status=$?
kill -s KILL "$reader" 2>/dev/null
exit "$status"
"#;

/// How often a wait looks again. What is waited for here takes tens of milliseconds and more.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Where a child's standard output goes. Standard error always goes to the log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// To the log file, with standard error.
    Log,
    /// To a pipe, which [`Process::take_stdout`] hands out.
    Pipe,
}

/// A running child process and the shell that watches over it. Dropping it kills the child.
#[derive(Debug)]
pub struct Process {
    shell: Child,
    control: Option<ChildStdin>,
    answers: BufReader<ChildStderr>,
    pid: u32,
}

impl Process {
    /// Starts `program` with `arguments`; appends what it prints to `log`.
    pub fn spawn<S: AsRef<OsStr>>(
        program: &str,
        arguments: impl IntoIterator<Item = S>,
        log: &Path,
        output: Output,
    ) -> io::Result<Self> {
        let file: File = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(WATCHDOG).arg("watchdog").arg(log).arg(program).args(arguments);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        command.stdout(match output {
            Output::Log => Stdio::from(file),
            Output::Pipe => Stdio::piped(),
        });
        // A terminal's Ctrl-C, or a runner that kills the whole group, must not stop the watchdog
        // before it has killed its child.
        command.process_group(0);
        let mut shell = command.spawn()?;
        let control = shell.stdin.take();
        let answers = shell.stderr.take().expect("standard error was set to a pipe above");
        let mut process = Self { shell, control, answers: BufReader::new(answers), pid: 0 };
        process.pid = process.answer()?.parse().map_err(io::Error::other)?;
        Ok(process)
    }

    /// The process id of the child itself, not of its watchdog.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The read end of the child's standard output, once, if it was started with [`Output::Pipe`].
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.shell.stdout.take()
    }

    /// Sends a signal by its name without `SIG`: `STOP`, `CONT`, `TERM`.
    pub fn signal(&mut self, name: &str) -> io::Result<()> {
        let control = self.control.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(control, "{name}")?;
        match self.answer()?.as_str() {
            "sent" => Ok(()),
            other => Err(io::Error::other(format!("the watchdog answered {other:?}"))),
        }
    }

    /// Stops the child where it is (SIGSTOP) and returns once the kernel shows it as stopped.
    pub fn pause(&mut self) -> io::Result<()> {
        self.signal("STOP")?;
        let pid = self.pid;
        wait_until(Duration::from_secs(60), || state_of(pid) == Some('T'))
            .then_some(())
            .ok_or_else(|| io::Error::other(format!("process {pid} did not stop")))
    }

    /// The exit status if the child has ended: its code, or 128 + the signal that ended it.
    pub fn status(&mut self) -> Option<i32> {
        self.shell.try_wait().ok().flatten().map(|status| status.code().unwrap_or(-1))
    }

    /// Waits for the child to end by itself, and gives its exit status.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let mut status = None;
        wait_until(limit, || {
            status = self.status();
            status.is_some()
        });
        status
    }

    /// Kills the child (SIGKILL) and returns when it is gone.
    pub fn kill(&mut self) {
        drop(self.control.take());
        // The watchdog ends as soon as the child, which it has just killed, is gone.
        let _ = self.shell.wait();
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the process has ended"));
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program to its end, with what it prints in `log`. An error says how it ended.
pub fn run<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
    log: &Path,
    limit: Duration,
) -> Result<(), String> {
    let mut process = Process::spawn(program, arguments, log, Output::Log)
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    match process.wait(limit) {
        Some(0) => Ok(()),
        Some(status) => {
            Err(format!("{program} ended with status {status}:\n{}", tail(log, TAIL_LINES)))
        }
        None => Err(format!("{program} took over {limit:?}:\n{}", tail(log, TAIL_LINES))),
    }
}

/// Looks until `done` says true or the limit has passed, and gives what it said last.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The kernel's letter for the state of a process: `R`, `S`, `T`, `Z` …; nothing if there is none.
pub fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; the state follows the last parenthesis.
    stat[stat.rfind(')')? + 1..].trim_start().chars().next()
}

/// How many lines of a log a failure shows.
pub const TAIL_LINES: usize = 40;

/// The last lines of a file.
pub fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
