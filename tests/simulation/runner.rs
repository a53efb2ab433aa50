//! The command line, and seeds on all cores.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use tidegate::internals::planted::{self, Bug};

use super::plan::Plan;
use super::world::World;

/// Seeds in each `cargo test`.
const SEEDS: u64 = 10_000;

/// What is asked for besides what every test binary takes.
#[derive(Clone, Default)]
struct Options {
    seeds: Option<u64>,
    seed: Option<u64>,
    trace: bool,
    bug: Option<Bug>,
}

impl Options {
    /// Takes its own arguments out of `arguments`.
    fn take_from(arguments: &mut Vec<String>) -> Result<Options, String> {
        let mut options = Options::default();
        let mut rest = Vec::new();
        let mut given = std::mem::take(arguments).into_iter();
        while let Some(argument) = given.next() {
            let mut number = || {
                let value = given.next().and_then(|value| value.parse().ok());
                value.ok_or_else(|| format!("{argument} wants a number"))
            };
            match argument.as_str() {
                "--seeds" => options.seeds = Some(number()?),
                "--seed" => options.seed = Some(number()?),
                "--trace" => options.trace = true,
                "--bug" => {
                    let name = given.next().unwrap_or_default();
                    let bug = Bug::all().find(|bug| format!("{bug:?}") == name);
                    options.bug = Some(bug.ok_or_else(|| format!("there is no bug {name}"))?);
                }
                _ => rest.push(argument),
            }
        }
        *arguments = rest;
        Ok(options)
    }
}

pub fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().collect();
    let options = match Options::take_from(&mut arguments) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    let arguments = Arguments::from_iter(arguments);
    quiet_panics();
    if let Some(seed) = options.seed {
        return match run_seed(seed, options.bug, options.trace) {
            None => {
                println!("seed {seed}: all is well");
                ExitCode::SUCCESS
            }
            Some(problem) => {
                println!("seed {seed}: {problem}");
                ExitCode::FAILURE
            }
        };
    }
    let seeds = options.seeds.unwrap_or(SEEDS);
    let all_is_well = move || {
        let failed = run_seeds(seeds, None);
        if failed.is_empty() { Ok(()) } else { Err(Failed::from(report(&failed))) }
    };
    let trials = vec![
        Trial::test("nothing_is_lost_doubled_reordered_or_forgotten", all_is_well),
        Trial::test("planted_bugs_are_found", move || find_bugs(seeds, options.bug)),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn report(failed: &[(u64, String)]) -> String {
    let mut text = format!("{} seeds failed\n", failed.len());
    for (seed, problem) in failed.iter().take(10) {
        text.push_str(&format!("seed {seed}: {problem}\n"));
    }
    text.push_str("again, with all that happens: cargo test --test simulation -- --seed S --trace");
    text
}

/// Runs each bug until a seed finds it, and prints how many seeds that took.
fn find_bugs(seeds: u64, only: Option<Bug>) -> Result<(), Failed> {
    let bugs: Vec<_> = Bug::all().filter(|&bug| only.is_none_or(|it| it == bug)).collect();
    let mut silent = Vec::new();
    let mut table = String::from("planted bugs, and the seeds that it took to find them:\n");
    for bug in bugs {
        let found = run_seeds(seeds, Some(bug)).into_iter().next();
        let count = found.as_ref().map_or("-".to_owned(), |(seed, _)| (seed + 1).to_string());
        table.push_str(&format!("{count:>6}  {}\n", bug.story()));
        match found {
            Some((_, problem)) => table.push_str(&format!("        {problem}\n")),
            None => silent.push(bug),
        }
    }
    println!("{table}");
    if silent.is_empty() { Ok(()) } else { Err(Failed::from(format!("not found: {silent:?}"))) }
}

/// The seeds that failed, and why, in their order. With a bug the first is enough.
fn run_seeds(seeds: u64, bug: Option<Bug>) -> Vec<(u64, String)> {
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    // Seeds are taken in order, so none before the first that failed is left out.
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if let Some(problem) = run_seed(seed, bug, false) {
                        if bug.is_some() {
                            next.store(seeds, Ordering::Relaxed);
                        }
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push((seed, problem));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort();
    failed
}

thread_local! {
    static PROBLEM: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs one seed. Returns what went wrong, if anything did.
fn run_seed(seed: u64, bug: Option<Bug>, trace: bool) -> Option<String> {
    let plan = Plan::new(seed);
    planted::switch(bug);
    planted::begin_at(plan.first_sequence);
    if trace {
        println!("{plan:#?}");
    }
    // A run that failed is not dropped: what is broken may well panic again.
    let mut world = ManuallyDrop::new(World::new(plan, trace));
    match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(()) => {
            drop(ManuallyDrop::into_inner(world));
            None
        }
        Err(_) => {
            if trace {
                world.trace_outcomes();
            }
            let problem = PROBLEM.take().unwrap_or_default();
            Some(format!("at {} ms: {problem}", world.now() / super::plan::MS))
        }
    }
}

/// Panics are how the oracle and the client's own assertions speak: they are collected.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = match info.payload().downcast_ref::<&str>() {
            Some(text) => text,
            None => info.payload().downcast_ref::<String>().map_or("a panic without words", |s| s),
        };
        PROBLEM.set(Some(format!("{text} ({place})")));
    }));
}
