//! Clients whose connections are cut and whose acknowledgements get lost on the way.

use std::thread;
use std::time::Duration;

use crate::kafka::Kafka;
use crate::proxy::{Act, Proxy, api};
use crate::stage::{self, LIMIT, RECOVERY_MAX, Set, Stage};

const STEP: Duration = Duration::from_millis(250);
/// How long connections live.
const LIFE: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_millis(1_500);

/// Of so many acknowledgements one is eaten, with its connection.
fn eat_one_of(every: u64, proxy: &Proxy) {
    let mut seen = 0;
    proxy.script(move |frame| {
        if !frame.answers(api::PRODUCE) {
            return Act::Pass;
        }
        seen += 1;
        if seen % every == 0 { Act::CutAt(0) } else { Act::Pass }
    });
}

/// Connections live shortly, and one acknowledgement of fifty is lost, until [`calm`].
pub fn disturb(set: &Set) {
    for (seed, proxy) in (1..).zip(&set.proxies) {
        proxy.lifetimes(seed, LIFE);
        eat_one_of(50, proxy);
        // Those that are open already would live long.
        proxy.cut_all();
    }
}

/// Connections live as long as they want, and everything passes.
pub fn calm(set: &Set) {
    for proxy in &set.proxies {
        proxy.live_long();
        proxy.clear();
    }
}

pub fn f14_acknowledgements_lost(kafka: &Kafka) {
    scenario(kafka, "f14", |set| set.proxies.iter().for_each(|proxy| eat_one_of(5, proxy)));
}

pub fn f21_short_connections(kafka: &Kafka) {
    scenario(kafka, "f21", disturb);
}

fn scenario(kafka: &Kafka, name: &str, faults: fn(&Set)) {
    let stage = Stage::beside_others(kafka);
    let _proxies = stage::take_proxies();
    let producer = stage.proxied_producer(|builder| builder);
    let (_, streams) = stage.streams(&producer, name);
    let accepted = || stage.proxies.iter().map(|proxy| proxy.seen().accepted).sum::<u64>();
    let before = accepted();
    streams.reset_gaps();
    faults(&stage);
    for _ in stage::rounds(20) {
        thread::sleep(STEP);
    }
    streams.all_go_on(500, LIMIT, "with faults on the way");
    let (overall, in_one) = (streams.overall_gap(), streams.longest_gap());
    calm(&stage);
    let connections = accepted() - before;
    let summary = streams.finish(&stage.cluster);
    println!(
        "{name}: {connections} connections, longest gap {overall:.2?} overall, {in_one:.2?} in one \
         partition: {summary:?}"
    );
    assert!(connections >= 6, "{connections} connections: there were no faults");
    assert!(in_one < RECOVERY_MAX, "{in_one:?}");
    assert_eq!((summary.failed(), summary.acked), (0, summary.offered));
    stage::close(&producer);
}
