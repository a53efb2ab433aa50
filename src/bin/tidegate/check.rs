//! `tidegate check`: connects, logs in and looks at a cluster step by step, and says what is wrong.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use tidegate::probe::{
    BrokerDescription, ClusterDescription, Probe, ProbeError, ProbeFinding, ProbeStage, ProbeStep,
    SpokenVersions,
};
use tidegate::{ProblemKind, Producer, ProducerConfig};

use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::Output;
use crate::terminal::{say, show_log};

/// A certificate that ends within so many days is worth a word.
const CERTIFICATE_DAYS_MIN: u64 = 30;
const DAY: u64 = 86_400;
/// How long the producer of `--send` may take to close.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// The arguments of `tidegate check`.
#[derive(Args)]
#[command(after_help = "\
Each step is a line on the standard output: whether it went well, how long it took, and what it
found. After the first broker has described the cluster, every broker is connected to at the address
that it advertises: that is where clients go, and addresses that cannot be reached from here are the
commonest mistake. What is wrong is said again on the standard error, with what to do about it.

No record is sent without --send, and nothing is changed.

Examples:
  tidegate check -b localhost:9092
  tidegate check -F producer.properties -t orders --send")]
pub(crate) struct Options {
    #[command(flatten)]
    connect: Connect,

    /// Check that this topic exists and that its partitions have leaders
    #[arg(short, long)]
    topic: Option<String>,

    /// Send one record to the topic, and wait until it is acknowledged
    #[arg(long, requires = "topic")]
    send: bool,

    /// Show the client's log as well; -vv and -vvv: more of it
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    show_log(options.verbose == 0, options.verbose);
    let config = options.connect.config(&[("client.id", "tidegate-check")])?;
    let probe = Probe::new(config.clone())?;
    let mut check =
        Checking { output: Output::new(), closed: None, wrong: Vec::new(), versions: None };
    let described = probe.run(|step| check.step(step));
    let cluster = match described {
        Ok(cluster) => cluster,
        Err(error) => {
            check.wrong.extend(error.failures.iter().map(ToString::to_string));
            return check.finish();
        }
    };
    check.brokers(&probe, &cluster);
    let is_there = options.topic.as_ref().is_none_or(|topic| check.topic(&cluster, topic));
    if let Some(topic) = options.topic.as_ref().filter(|_| options.send) {
        match is_there {
            true => check.send(config, topic),
            false => check.line("--", None, "send a record: left out, for the topic is not there"),
        }
    }
    check.finish()
}

struct Checking {
    output: Output,
    /// Nobody reads the output any more.
    closed: Option<Failure>,
    /// What the last broker speaks.
    versions: Option<SpokenVersions>,
    /// What is wrong, in the order in which it was found.
    wrong: Vec<String>,
}

impl Checking {
    fn line(&mut self, mark: &str, took: Option<Duration>, words: &str) {
        let took =
            took.map_or(String::new(), |took| format!("{:.1} ms", took.as_secs_f64() * 1_000.0));
        let line = format_args!("{mark:4} {took:>10}  {words}");
        let written = self.output.line(line).and_then(|()| self.output.flush());
        if let Err(failure) = written {
            self.closed.get_or_insert(failure);
        }
    }

    fn step(&mut self, step: &ProbeStep) {
        let ProbeStep { server, stage, took, outcome, .. } = step;
        match outcome {
            Ok(ProbeFinding::Speaks(versions)) if self.versions.as_ref() == Some(versions) => {
                self.line("ok", Some(*took), &format!("{server}: {stage}: the same"));
            }
            Ok(finding) => {
                if let ProbeFinding::Speaks(versions) = finding {
                    self.versions = Some(versions.clone());
                }
                self.line("ok", Some(*took), &format!("{server}: {stage}: {finding}"));
                if let ProbeFinding::Encrypted(tls) = finding
                    && let Some(expires) = tls.expires_unix
                {
                    self.certificate(server, expires);
                }
            }
            Err(problem) => {
                self.line("FAIL", Some(*took), &format!("{server}: {stage}: {problem}"));
            }
        }
    }

    fn certificate(&mut self, server: &str, expires: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let days = expires.abs_diff(now) / DAY;
        let (mark, words) = match expires < now {
            true => ("WARN", format!("ended {days} days ago")),
            false if days < CERTIFICATE_DAYS_MIN => ("WARN", format!("ends in {days} days")),
            false => ("ok", format!("ends in {days} days")),
        };
        self.line(mark, None, &format!("{server}: its certificate {words}"));
    }

    /// Every broker, where it says that it is.
    fn brokers(&mut self, probe: &Probe, cluster: &ClusterDescription) {
        if cluster.brokers.is_empty() {
            self.wrong.push("the cluster lists no broker that is alive".to_owned());
        }
        for broker in &cluster.brokers {
            let (id, address) = (broker.id, address_of(broker));
            self.line("--", None, &format!("broker {id} advertises {address}"));
            if let Err(error) = probe.reach(cluster, broker, |step| self.step(step)) {
                self.wrong.extend(advertised(broker, &error));
            }
        }
    }

    /// Whether the topic can be sent to.
    fn topic(&mut self, cluster: &ClusterDescription, name: &str) -> bool {
        let problem = match cluster.topics.iter().find(|topic| topic.name == name) {
            None => format!(
                "there is no topic {name} that this user may see: check its name, create it, or \
                 allow the user to describe it"
            ),
            Some(topic) => {
                let leaderless: Vec<String> = topic
                    .partitions
                    .iter()
                    .filter(|partition| partition.leader.is_none())
                    .map(|partition| partition.partition.to_string())
                    .collect();
                match (topic.error, leaderless.as_slice()) {
                    (Some(error), _) => format!("topic {name}: the broker answered {error}"),
                    (None, []) => {
                        let count = topic.partitions.len();
                        let words = format!("topic {name}: partitions with a leader: all {count}");
                        self.line("ok", None, &words);
                        return true;
                    }
                    (None, leaderless) => format!(
                        "topic {name}: no broker leads partition {}: are all brokers up that hold \
                         replicas?",
                        leaderless.join(", ")
                    ),
                }
            }
        };
        self.line("FAIL", None, &problem);
        self.wrong.push(problem);
        // A record for a partition that has a leader can be sent nevertheless.
        cluster.topics.iter().any(|topic| topic.name == name && topic.error.is_none())
    }

    fn send(&mut self, config: ProducerConfig, topic: &str) {
        let begun = Instant::now();
        let sent = || -> Result<String, Box<dyn std::error::Error>> {
            let producer = Producer::from_config(config)?;
            let delivery = producer.topic(topic)?.send((), "tidegate check")?;
            let at = delivery.wait()?.to_string();
            producer.close(CLOSE_MAX).wait()?;
            Ok(at)
        };
        match sent() {
            Ok(at) => self.line("ok", Some(begun.elapsed()), &format!("send a record: {at}")),
            Err(error) => {
                let words = format!("send a record: {error}");
                self.line("FAIL", Some(begun.elapsed()), &words);
                self.wrong.push(words);
            }
        }
    }

    fn finish(self) -> Result<(), Failure> {
        for words in &self.wrong {
            say(format_args!("tidegate: {words}"));
        }
        match (self.wrong.is_empty(), self.closed) {
            (false, _) => Err(Failure::Told),
            (true, Some(failure)) => Err(failure),
            (true, None) => Ok(()),
        }
    }
}

/// Where a broker says that it is, as one can paste it.
fn address_of(broker: &BrokerDescription) -> String {
    let BrokerDescription { host, port, .. } = broker;
    // What a broker says of itself may hold anything.
    let host: String = host.chars().filter(|c| !c.is_control()).collect();
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What it means that a broker cannot be used where it says that it is.
fn advertised(broker: &BrokerDescription, error: &ProbeError) -> Vec<String> {
    let (id, address) = (broker.id, address_of(broker));
    let words = |stage: ProbeStage, problem: &tidegate::Problem| {
        let place = format!("broker {id} advertises {address}");
        // A proxy that is away, or a descriptor that this machine lacks, is not the broker's fault.
        if matches!(problem.kind(), ProblemKind::Proxy | ProblemKind::System | ProblemKind::Limit) {
            return format!("{place}, which was not reached: {problem}");
        }
        let advice = "clients go where brokers advertise, not where the bootstrap servers are: \
                      mend advertised.listeners there, or the way to it from here";
        match stage {
            ProbeStage::Resolve => {
                format!("{place}, whose name cannot be resolved ({problem}); {advice}")
            }
            ProbeStage::Connect => {
                format!("{place}, which cannot be connected to ({problem}); {advice}")
            }
            stage => format!("{place}, where {stage} failed: {problem}"),
        }
    };
    error.failures.iter().map(|failure| words(failure.stage, &failure.problem)).collect()
}
