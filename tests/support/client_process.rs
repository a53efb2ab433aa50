//! A producer alone in a process, as limits and processor time are counted by process: the process
//! is the test's own binary, run again for one test. Brokers, and the proxy in front of them, stay
//! with the test; the child asks for what is to happen to them by lines on its standard output.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Tells the child where its brokers are.
const BOOTSTRAP: &str = "TIDEGATE_TEST_BOOTSTRAP";
/// What the child asks for begins with this: the test harness prints lines of its own.
const ASKS: &str = "child asks: ";

/// Runs a test of this binary in a process of its own, and has `serve` do what it asks for. Fails
/// if it does. `shell` comes before the program's name in a shell, as `ulimit -n 64;` does.
pub fn run(test: &str, shell: &str, bootstrap: &str, mut serve: impl FnMut(&str)) {
    let mut child = Command::new("sh")
        .args(["-c", &format!("{shell} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(BOOTSTRAP, bootstrap)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = child.stdin.take().unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.split_once(ASKS) {
            Some((_, asks)) => {
                serve(asks);
                writeln!(answers, "done").unwrap();
            }
            None => println!("{line}"),
        }
    }
    assert!(child.wait().unwrap().success(), "{test} failed in its process");
}

/// The child's side of [`run`]: returns once that is done.
pub fn ask(what: &str) {
    println!("{ASKS}{what}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "done");
}

/// Where a child's brokers are. `None` in any other process, in which the child's test does
/// nothing.
pub fn bootstrap() -> Option<String> {
    std::env::var(BOOTSTRAP).ok()
}
