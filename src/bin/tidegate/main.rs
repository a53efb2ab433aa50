//! The command `tidegate`: sends and reads records, measures, describes and checks a cluster, and
//! runs one for tests. It uses the crate's public interface and nothing else.

mod broker;
mod check;
mod connect;
mod consume;
mod failure;
mod failures;
mod metadata;
mod output;
mod perf;
mod produce;
mod signals;
mod terminal;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use failure::Failure;

/// Sends records to Apache Kafka, reads them, and says what a cluster is like.
#[derive(Parser)]
#[command(name = "tidegate", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 if all went well, 1 if something failed, 2 if the arguments are \
                  wrong.\nResults go to the standard output, everything else to the standard \
                  error. `tidegate COMMAND --help` says more about a command."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send lines or files as records
    Produce(produce::Options),
    /// Print the records of topics
    Consume(consume::Options),
    /// Measure rate and latency, with the arguments of kafka-producer-perf-test
    Perf(perf::Options),
    /// Show brokers, topics and leaders
    Metadata(metadata::Options),
    /// Connect, log in and look at a cluster step by step, and say what is wrong
    Check(check::Options),
    /// Run brokers on this machine, in memory, for tests
    Broker(broker::Options),
    /// Print what a shell needs to complete this command
    #[command(after_help = "For bash: tidegate completions bash \
                            > ~/.local/share/bash-completion/completions/tidegate")]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Produce(options) => produce::run(&options),
        Command::Consume(options) => consume::run(&options),
        Command::Perf(options) => perf::run(&options),
        Command::Metadata(options) => metadata::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Broker(options) => broker::run(&options),
        Command::Completions { shell } => completions(shell),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
    output::Output::new().bytes(&script)
}
