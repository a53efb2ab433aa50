//! `tidegate metadata`: what a cluster consists of.

use clap::Args;
use serde_json::{Value, json};
use tidegate::probe::{ClusterDescription, Probe, TopicDescription};

use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::Output;
use crate::terminal::show_log;

/// The arguments of `tidegate metadata`.
#[derive(Args)]
#[command(after_help = "\
A broker with * is the controller. With KRaft, brokers name one of themselves at random.
A topic that a user may not see is not listed.

Examples:
  tidegate metadata -b localhost:9092
  tidegate metadata -F producer.properties -t orders --json | jq .topics[0].partitions")]
pub(crate) struct Options {
    #[command(flatten)]
    connect: Connect,

    /// Only this topic; may be repeated. One that does not exist is an error
    #[arg(short = 't', long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,

    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    show_log(false, 0);
    let config = options.connect.config(&[("client.id", "tidegate-metadata")])?;
    let mut cluster = Probe::new(config)?.run(|_| {}).map_err(Failure::failed)?;
    if !options.topics.is_empty() {
        cluster.topics.retain(|topic| options.topics.contains(&topic.name));
    }
    let mut output = Output::new();
    if options.json {
        output.line(format_args!("{:#}", as_json(&cluster)))?;
    } else {
        print(&cluster, &mut output)?;
    }
    output.flush()?;
    let is_there = |name: &&String| cluster.topics.iter().any(|topic| topic.name == **name);
    let missing: Vec<&str> =
        options.topics.iter().filter(|name| !is_there(name)).map(String::as_str).collect();
    match missing.as_slice() {
        [] => Ok(()),
        missing => Err(Failure::failed(format_args!(
            "there is no topic {} that this user may see",
            missing.join(", ")
        ))),
    }
}

fn print(cluster: &ClusterDescription, output: &mut Output) -> Result<(), Failure> {
    let id = cluster.cluster_id.as_deref().unwrap_or("unknown (an old broker)");
    output.line(format_args!("cluster {id}, {}", cluster.versions))?;
    output.line("")?;
    let mut rows = vec![["BROKER", "ADDRESS", "RACK"].map(str::to_owned).to_vec()];
    for broker in &cluster.brokers {
        let mark = if cluster.controller == Some(broker.id) { "*" } else { "" };
        let host = match broker.host.contains(':') {
            true => format!("[{}]", broker.host),
            false => broker.host.clone(),
        };
        rows.push(vec![
            format!("{}{mark}", broker.id),
            format!("{host}:{}", broker.port),
            broker.rack.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    print_table(&rows, output)?;
    output.line("")?;
    if cluster.topics.is_empty() {
        return output.line("no topics");
    }
    let titles = ["TOPIC", "PARTITION", "LEADER", "REPLICAS", "IN SYNC", "REMARKS"];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    for topic in &cluster.topics {
        add_topic(topic, &mut rows);
    }
    print_table(&rows, output)
}

fn add_topic(topic: &TopicDescription, rows: &mut Vec<Vec<String>>) {
    let none = || "-".to_owned();
    let ids = |ids: &[i32]| match ids {
        [] => "-".to_owned(),
        ids => ids.iter().map(i32::to_string).collect::<Vec<_>>().join(","),
    };
    if let Some(error) = topic.error {
        let row = vec![topic.name.clone(), none(), none(), none(), none(), error.to_string()];
        return rows.push(row);
    }
    for partition in &topic.partitions {
        let mut remarks = Vec::new();
        if topic.is_internal {
            remarks.push("internal".to_owned());
        }
        if partition.leader.is_none() {
            remarks.push("no leader".to_owned());
        }
        if partition.in_sync.len() < partition.replicas.len() {
            remarks.push("replicas out of sync".to_owned());
        }
        remarks.extend(partition.error.map(|error| error.to_string()));
        rows.push(vec![
            topic.name.clone(),
            partition.partition.to_string(),
            partition.leader.map_or_else(none, |id| id.to_string()),
            ids(&partition.replicas),
            ids(&partition.in_sync),
            remarks.join(", "),
        ]);
    }
}

/// Columns as wide as what is in them.
fn print_table(rows: &[Vec<String>], output: &mut Output) -> Result<(), Failure> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        output.line(line.trim_end())?;
    }
    Ok(())
}

fn as_json(cluster: &ClusterDescription) -> Value {
    let brokers: Vec<Value> = cluster
        .brokers
        .iter()
        .map(|broker| {
            json!({
                "id": broker.id, "host": broker.host, "port": broker.port, "rack": broker.rack,
            })
        })
        .collect();
    let error = |error: Option<tidegate::ErrorCode>| error.map(|code| code.to_string());
    let topics: Vec<Value> = cluster
        .topics
        .iter()
        .map(|topic| {
            let partitions: Vec<Value> = topic
                .partitions
                .iter()
                .map(|partition| {
                    json!({
                        "partition": partition.partition,
                        "leader": partition.leader,
                        "replicas": partition.replicas,
                        "in_sync": partition.in_sync,
                        "error": error(partition.error),
                    })
                })
                .collect();
            json!({
                "name": topic.name,
                "internal": topic.is_internal,
                "error": error(topic.error),
                "partitions": partitions,
            })
        })
        .collect();
    let versions: serde_json::Map<String, Value> = cluster
        .versions
        .newest
        .iter()
        .map(|(name, newest)| (name.clone(), json!(newest)))
        .collect();
    json!({
        "cluster_id": cluster.cluster_id,
        "controller": cluster.controller,
        "brokers": brokers,
        "topics": topics,
        "newest_versions_in_common": versions,
        "versions_assumed": cluster.versions.assumed,
    })
}
