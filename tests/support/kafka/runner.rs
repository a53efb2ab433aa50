//! The main function of a test binary that needs Kafka.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::{Kafka, cluster};

/// A test: its name and what it does with Kafka. It fails by panicking.
#[derive(Clone, Copy)]
pub struct Test {
    /// Its name, as the filter on the command line goes by.
    pub name: &'static str,
    /// Its body.
    pub run: fn(&Kafka),
}

/// Runs the tests that the command line selects, and stops the shared clusters.
///
/// Where Kafka cannot run, every test is shown as ignored with the reason; with
/// `TIDEGATE_REQUIRE_KAFKA=1` or `CI=true` in the environment it fails instead.
pub fn run(tests: &[Test]) -> ExitCode {
    run_selected(&Arguments::from_args(), tests)
}

/// The same with arguments that the caller has read.
pub fn run_selected(arguments: &Arguments, tests: &[Test]) -> ExitCode {
    if arguments.list {
        let trials = tests.iter().map(|test| Trial::test(test.name, || Ok(()))).collect();
        return libtest_mimic::run(arguments, trials).exit_code();
    }
    match super::availability() {
        Ok(kafka) => {
            let trials = tests.iter().map(|&test| trial(test, kafka.clone())).collect();
            let conclusion = libtest_mimic::run(arguments, trials);
            kafka.stop_shared();
            conclusion.exit_code()
        }
        Err(reason) => {
            let trials = tests.iter().map(|test| without_kafka(test, &reason)).collect();
            libtest_mimic::run(arguments, trials).exit_code()
        }
    }
}

fn trial(test: Test, kafka: Kafka) -> Trial {
    Trial::ignorable_test(test.name, move || {
        // A test before this one may have passed by catching the panic that dropped its cluster.
        cluster::take_reports();
        let result = panic::catch_unwind(AssertUnwindSafe(|| (test.run)(&kafka)));
        if let Err(payload) = result {
            if let Some(Missing(reason)) = payload.downcast_ref() {
                return without_release(reason);
            }
            eprintln!("{} failed\n{}{}", test.name, cluster::take_reports(), kafka.shared_report());
            panic::resume_unwind(payload);
        }
        Ok(Completion::Completed)
    })
}

/// What a test panics with where the release that it needs cannot be had.
#[derive(Debug)]
pub(super) struct Missing(pub(super) String);

fn without_release(reason: &str) -> Result<Completion, Failed> {
    if is_required() {
        return Err(Failed::from(format!("this Kafka is required here, but {reason}")));
    }
    let reason = reason.lines().next().unwrap_or_default();
    Ok(Completion::ignored_with(format!("no Kafka: {reason}")))
}

fn without_kafka(test: &Test, reason: &str) -> Trial {
    if is_required() {
        let reason = format!("Kafka is required here, but {reason}");
        return Trial::test(test.name, move || Err(Failed::from(reason)));
    }
    let reason = reason.lines().next().unwrap_or_default();
    // The reason is shown as the test's kind, so that the name stays what filters go by.
    let kind = format!("no Kafka: {reason}");
    Trial::test(test.name, || Ok(())).with_kind(kind).with_ignored_flag(true)
}

fn is_required() -> bool {
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set == value);
    is("TIDEGATE_REQUIRE_KAFKA", "1") || is("CI", "true")
}
