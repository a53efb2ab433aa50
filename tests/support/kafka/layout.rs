//! The processes of a cluster and their settings: a controller, or ZooKeeper, and brokers.

use std::io;
use std::path::{Path, PathBuf};

use super::cluster::{ClusterConfig, Session};
use super::node::{Node, Role};
use super::ports::PortBlock;
use super::release::Quorum;

const PROTOCOLS: &str = "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT";

/// The node id of the controller, or of ZooKeeper, of a cluster whose brokers are 1, 2 and 3.
pub const QUORUM_ID: i32 = 100;

/// The places in a single node's block of ports for listeners beside the first and the proxied.
pub const LISTENER_PORTS: [u16; 6] = [2, 3, 5, 6, 7, 8];

/// How far a broker's listener for proxies is from its first, in its block of ports.
pub const PROXIED_OFFSET: u16 = 3;

type Properties = Vec<(String, String)>;

/// The nodes of a cluster, none of them started.
pub fn nodes(config: &ClusterConfig, ports: &PortBlock, folder: &Path) -> io::Result<Vec<Node>> {
    match config.release.quorum {
        Quorum::Controller => with_controller(config, ports, folder),
        Quorum::ZooKeeper => with_zookeeper(config, ports, folder),
    }
}

fn with_controller(
    config: &ClusterConfig,
    ports: &PortBlock,
    folder: &Path,
) -> io::Result<Vec<Node>> {
    let quorum_port = ports.port(0);
    let combined = config.brokers == 1;
    let voter = if combined { 1 } else { QUORUM_ID };
    let controller = format!("CONTROLLER://127.0.0.1:{quorum_port}");
    let common = |id: i32| {
        let mut properties = common(config, id, folder);
        set(&mut properties, "node.id", &id.to_string());
        let voters = format!("{voter}@127.0.0.1:{quorum_port}");
        set(&mut properties, "controller.quorum.voters", &voters);
        set(&mut properties, "controller.listener.names", "CONTROLLER");
        let protocols = format!("CONTROLLER:PLAINTEXT,{}", protocols(config));
        set(&mut properties, "listener.security.protocol.map", &protocols);
        let (session, heartbeat) = match config.session {
            Session::Steady => ("3000", "500"),
            Session::Fast => ("1000", "200"),
        };
        set(&mut properties, "broker.session.timeout.ms", session);
        set(&mut properties, "broker.heartbeat.interval.ms", heartbeat);
        properties
    };
    let mut nodes = Vec::new();
    if !combined {
        let mut properties = common(QUORUM_ID);
        set(&mut properties, "process.roles", "controller");
        set(&mut properties, "listeners", &controller);
        extend(&mut properties, &config.properties);
        nodes.push(node(QUORUM_ID, Role::Kafka, None, folder, &properties)?);
    }
    for (id, port) in brokers(config, ports)? {
        let mut properties = common(id);
        let mut listeners = set_listeners(&mut properties, config, ports, (id, port));
        if combined {
            set(&mut properties, "process.roles", "broker,controller");
            listeners = format!("{listeners},{controller}");
        } else {
            set(&mut properties, "process.roles", "broker");
        }
        set(&mut properties, "listeners", &listeners);
        extend(&mut properties, &config.properties);
        nodes.push(node(id, Role::Kafka, Some(port), folder, &properties)?);
    }
    Ok(nodes)
}

fn with_zookeeper(
    config: &ClusterConfig,
    ports: &PortBlock,
    folder: &Path,
) -> io::Result<Vec<Node>> {
    let port = ports.port(0);
    let data = node_folder(folder, QUORUM_ID).join("data").display().to_string();
    let one_port = !config.release.has_listeners;
    let more_listeners = config.proxies.is_some() || !config.listeners.is_empty();
    assert!(!(one_port && more_listeners), "these brokers have one port");
    let mut nodes = Vec::new();
    let properties = properties(&[
        ("dataDir", &data),
        ("clientPort", &port.to_string()),
        ("clientPortAddress", "127.0.0.1"),
        ("maxClientCnxns", "0"),
        // A session lasts between two and twenty of them.
        ("tickTime", "250"),
        ("admin.enableServer", "false"),
        ("4lw.commands.whitelist", "*"),
    ]);
    nodes.push(node(QUORUM_ID, Role::ZooKeeper { port }, None, folder, &properties)?);
    let session = match config.session {
        Session::Steady => "3000",
        Session::Fast => "1000",
    };
    for (id, broker_port) in brokers(config, ports)? {
        let mut properties = common(config, id, folder);
        set(&mut properties, "broker.id", &id.to_string());
        set(&mut properties, "zookeeper.connect", &format!("127.0.0.1:{port}"));
        set(&mut properties, "zookeeper.session.timeout.ms", session);
        set(&mut properties, "zookeeper.connection.timeout.ms", "60000");
        set(&mut properties, "listener.security.protocol.map", &protocols(config));
        set(&mut properties, "delete.topic.enable", "true");
        if config.release.has_listeners {
            let listeners = set_listeners(&mut properties, config, ports, (id, broker_port));
            set(&mut properties, "listeners", &listeners);
        } else {
            set_port(&mut properties, broker_port);
            // They go by the age of files, not by timestamps, and take no such value.
            properties.retain(|(name, _)| name != "log.retention.ms");
        }
        extend(&mut properties, &config.properties);
        nodes.push(node(id, Role::Kafka, Some(broker_port), folder, &properties)?);
    }
    Ok(nodes)
}

/// Says where clients and other brokers find a broker that has one port.
fn set_port(properties: &mut Properties, port: u16) {
    for (host, number) in [("host.name", "port"), ("advertised.host.name", "advertised.port")] {
        set(properties, host, "127.0.0.1");
        set(properties, number, &port.to_string());
    }
}

/// The ids of the brokers and the ports of their first listeners.
fn brokers(config: &ClusterConfig, ports: &PortBlock) -> io::Result<Vec<(i32, u16)>> {
    let count = u16::try_from(config.brokers).map_err(io::Error::other)?;
    Ok((1..=count).map(|index| (i32::from(index), ports.port(index))).collect())
}

/// Says where clients find a broker; gives the listeners for them.
fn set_listeners(
    properties: &mut Properties,
    config: &ClusterConfig,
    ports: &PortBlock,
    (id, port): (i32, u16),
) -> String {
    let mut listeners = format!("PLAINTEXT://127.0.0.1:{port}");
    let mut advertised = listeners.clone();
    if let Some(proxies) = &config.proxies {
        listeners += &format!(",PROXIED://127.0.0.1:{}", port + PROXIED_OFFSET);
        advertised += &format!(",PROXIED://127.0.0.1:{}", proxies[id as usize - 1]);
    }
    for ((name, _), index) in config.listeners.iter().zip(LISTENER_PORTS) {
        let listener = format!(",{name}://127.0.0.1:{}", ports.port(index));
        listeners += &listener;
        advertised += &listener;
    }
    set(properties, "advertised.listeners", &advertised);
    set(properties, "inter.broker.listener.name", "PLAINTEXT");
    listeners
}

/// The security protocol of each listener.
fn protocols(config: &ClusterConfig) -> String {
    let mut protocols = PROTOCOLS.to_owned();
    for (name, protocol) in &config.listeners {
        protocols += &format!(",{name}:{protocol}");
    }
    protocols
}

fn node(
    id: i32,
    role: Role,
    port: Option<u16>,
    folder: &Path,
    properties: &Properties,
) -> io::Result<Node> {
    Node::new(id, role, port, node_folder(folder, id), properties)
}

fn node_folder(folder: &Path, id: i32) -> PathBuf {
    folder.join(format!("node-{id}"))
}

/// What all nodes of all releases have in common, but for their own data directory.
fn common(config: &ClusterConfig, id: i32, folder: &Path) -> Properties {
    let (replicas, in_sync) = if config.brokers == 1 { ("1", "1") } else { ("3", "2") };
    let data = node_folder(folder, id).join("data").display().to_string();
    properties(&[
        ("log.dirs", &data),
        ("default.replication.factor", replicas),
        ("min.insync.replicas", in_sync),
        ("offsets.topic.replication.factor", replicas),
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.replication.factor", replicas),
        ("transaction.state.log.min.isr", in_sync),
        ("transaction.state.log.num.partitions", "1"),
        ("group.initial.rebalance.delay.ms", "0"),
        // A leader stays where a test has put it.
        ("auto.leader.rebalance.enable", "false"),
        // Tests choose timestamps as they like, and a broker deletes what is a week old by them,
        // half a minute after it has started and every five minutes from then on.
        ("log.retention.ms", "-1"),
        ("replica.fetch.wait.max.ms", "100"),
        ("replica.lag.time.max.ms", "2000"),
        ("num.network.threads", "2"),
        ("num.io.threads", "4"),
        ("log.cleaner.dedupe.buffer.size", "2097152"),
        // A quota, once set, throttles after two seconds of traffic instead of ten.
        ("quota.window.num", "2"),
        ("quota.window.size.seconds", "1"),
    ])
}

fn properties(values: &[(&str, &str)]) -> Properties {
    values.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn set(properties: &mut Properties, name: &str, value: &str) {
    properties.retain(|(existing, _)| existing != name);
    properties.push((name.to_owned(), value.to_owned()));
}

fn extend(properties: &mut Properties, more: &[(String, String)]) {
    for (name, value) in more {
        set(properties, name, value);
    }
}
