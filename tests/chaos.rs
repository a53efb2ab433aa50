//! Faults on three real brokers while records are sent, each named after its line in the list of
//! faults: kills, restarts, stops, outages, leaders that swing, topics that change, quotas, and
//! clients whose connections die under them. Whatever happens, nothing acknowledged is lost,
//! nothing is doubled, reordered or misrouted, and every delivery resolves; Java's consumer reads.
//!
//! A plain run gives each a few seconds. `--minutes N` shares so many minutes among the scenarios
//! that the filter selects; `--measure` tests nothing and prints how fast things recover.
//! `TIDEGATE_LOG=1` shows what the producer logs.

#[path = "chaos/blackhole.rs"]
mod blackhole;
#[path = "chaos/changes.rs"]
mod changes;
#[path = "chaos/failover.rs"]
mod failover;
#[path = "support/kafka/mod.rs"]
mod kafka;
#[path = "support/logger.rs"]
mod logger;
#[path = "chaos/measure.rs"]
mod measure;
#[path = "support/oracle.rs"]
mod oracle;
#[path = "chaos/outages.rs"]
mod outages;
#[path = "chaos/probe.rs"]
mod probe;
#[path = "chaos/proxied.rs"]
mod proxied;
#[path = "support/proxy/mod.rs"]
mod proxy;
#[path = "chaos/stage.rs"]
mod stage;
#[path = "support/streams.rs"]
mod streams;

use std::process::ExitCode;
use std::time::Duration;

use kafka::Test;
use libtest_mimic::Arguments;

const TESTS: &[Test] = &[
    Test { name: "the_oracle_sees_every_fault", run: oracle::sees_every_fault },
    Test { name: "f01_leaders_are_killed_in_a_loop", run: failover::f01_killed },
    Test { name: "f02_brokers_restart_in_turn", run: failover::f02_restarted },
    Test { name: "f03_leaders_swing_twice_a_second", run: changes::f03_swinging },
    Test { name: "f04_two_of_three_stand_still", run: outages::f04_two_stopped },
    Test { name: "f05_all_brokers_are_down", run: outages::f05_all_down },
    Test { name: "f07_a_topic_is_created_again", run: changes::f07_created_again },
    Test { name: "f08_partitions_are_added", run: changes::f08_partitions_added },
    Test { name: "f12_a_quota_throttles", run: changes::f12_throttled },
    Test { name: "f14_acknowledgements_are_lost", run: proxied::f14_acknowledgements_lost },
    Test { name: "f21_connections_live_shortly", run: proxied::f21_short_connections },
];

fn main() -> ExitCode {
    logger::install();
    let mut minutes = None;
    let mut rest = Vec::new();
    let mut arguments = std::env::args();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--minutes" => {
                let number = arguments.next().and_then(|text| text.parse::<f64>().ok());
                minutes = Some(number.expect("--minutes takes a number"));
            }
            "--measure" => {
                return match measure::run(arguments.next().as_deref()) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(reason) => {
                        eprintln!("{reason}");
                        ExitCode::FAILURE
                    }
                };
            }
            _ => rest.push(argument),
        }
    }
    let arguments = Arguments::from_iter(rest);
    if let Some(minutes) = minutes {
        let filter = arguments.filter.as_deref().unwrap_or_default();
        let selected = TESTS.iter().filter(|test| test.name.starts_with('f'));
        let selected = selected.filter(|test| test.name.contains(filter)).count();
        stage::set_share(Duration::from_secs_f64(minutes * 60.0 / selected.max(1) as f64));
    }
    let exit = kafka::run_selected(&arguments, TESTS);
    stage::clear();
    exit
}
