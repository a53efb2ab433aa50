//! The command `tidegate`, run as a user runs it, against the embedded cluster.

#[path = "cli/check.rs"]
mod check;
#[path = "cli/consume.rs"]
mod consume;
#[path = "cli/perf.rs"]
mod perf;
#[path = "cli/produce.rs"]
mod produce;

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use tidegate::embedded::EmbeddedCluster;

/// The command with these arguments.
fn tidegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(arguments: &[&str]) -> Child {
    tidegate(arguments).spawn().expect("the command starts")
}

/// Runs it to its end with this input.
fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = start(arguments);
    let mut stdin = child.stdin.take().expect("it is piped");
    std::thread::scope(|scope| {
        // The command may end without having read all of it.
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output().expect("the command ends")
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit status, and what was written to both outputs.
fn told(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn cluster(topic: &str, partitions: i32) -> EmbeddedCluster {
    EmbeddedCluster::builder().topic(topic, partitions).start().expect("brokers start")
}

#[test]
fn help_and_version_go_to_the_standard_output() {
    for arguments in [
        &["--help"][..],
        &["produce", "--help"],
        &["consume", "--help"],
        &["perf", "--help"],
        &["--version"],
    ] {
        let (status, out, error) = told(&run(arguments, b""));
        assert_eq!((status, error.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(out.contains("tidegate"), "{out}");
        let widest = out.lines().map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|width| width <= 100), "{widest:?}: {out}");
    }
}

#[test]
fn wrong_arguments_end_with_2() {
    for arguments in [
        &["produce"][..],
        &["produce", "-t", "orders"],
        &["produce", "-b", "localhost:1", "-t", "a b"],
        &["produce", "-b", "localhost", "-t", "orders"],
        &["produce", "-b", "localhost:1", "-t", "orders", "-X", "linger.m=1"],
        &["produce", "-b", "localhost:1", "-t", "orders", "-D", "\\q"],
        &["consume", "-b", "localhost:1"],
        &["consume", "-b", "localhost:1", "-t", "a b"],
        &["consume", "-b", "localhost:1", "-t", "orders", "-o", "soon"],
        &["consume", "-b", "localhost:1", "-t", "orders", "-f", "%q"],
        &["consume", "-b", "localhost:1", "-t", "orders", "-J", "-f", "%s"],
        &["consume", "-b", "localhost:1", "-t", "orders", "-p", "1", "-p", "1"],
        &["broker", "--topic", "orders:0"],
        &["no-such-command"],
    ] {
        let (status, out, error) = told(&run(arguments, b""));
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}: {error}");
        assert!(!error.is_empty() && !error.contains("panicked"), "{error}");
    }
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let (status, out, _) = told(&run(&["completions", shell], b""));
        assert_eq!(status, Some(0));
        for command in ["produce", "consume", "perf", "metadata", "check", "broker"] {
            assert!(out.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn the_brokers_run_until_their_input_ends() {
    let mut child = start(&["broker", "--brokers", "2", "--topic", "orders:3", "--until-eof"]);
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a line");
    let servers = line.trim().strip_prefix("bootstrap.servers=").expect("the first line");
    assert_eq!(servers.split(',').count(), 2, "{servers}");
    let (status, _, error) = told(&run(&["produce", "-b", servers, "-t", "orders"], b"1\n2\n"));
    assert_eq!((status, error.as_str()), (Some(0), "tidegate: 2 acknowledged\n"));
    drop(child.stdin.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn the_brokers_take_the_ports_that_are_asked_for() {
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it has one").port()
    };
    // Another process may take one in between: another one is tried then.
    let outcomes: Vec<_> = (0..5)
        .map(|_| {
            let port = free().min(65_000);
            let arguments = ["broker", "--brokers", "2", "--until-eof", "--port"];
            let output = run(&[&arguments[..], &[&port.to_string()]].concat(), b"");
            (port, told(&output))
        })
        .collect();
    let is_right = |(port, (status, out, _)): &(u16, (Option<i32>, String, String))| {
        let line = format!("bootstrap.servers=127.0.0.1:{port},127.0.0.1:{}\n", port + 1);
        *status == Some(0) && *out == line
    };
    assert!(outcomes.iter().any(is_right), "{outcomes:?}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it has one").port().to_string();
    let (status, _, error) = told(&run(&["broker", "--port", &port], b""));
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains(&port), "{error}");
}
