//! A Kafka cluster of one or three brokers, and what a test does to its nodes.
//!
//! Waits are ten times what was measured on two busy cores. A wait that runs out panics with what
//! was waited for; a cluster that is dropped by a panic keeps its logs and leaves their ends to
//! the runner, which shows them with the failed test.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::jars::{self, Install};
use super::layout::{self, LISTENER_PORTS, PROXIED_OFFSET, QUORUM_ID};
use super::node::{Node, Role};
use super::pool::Permit;
use super::ports::PortBlock;
use super::process;
use super::release::{Quorum, Release, V4_3};

const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// Formatting took up to 4 s, starting four nodes up to 9.6 s.
const START_LIMIT: Duration = Duration::from_secs(140);

/// How much of each log a failure shows; the whole log is kept in a file.
const REPORT_LINES: usize = 10;

/// How long a broker may be silent before the controller takes its leaderships away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// 3 s, with a heartbeat every 0.5 s: no false alarms on a busy machine.
    Steady,
    /// 1 s, with a heartbeat every 0.2 s: failover within a second, but a busy machine may lose
    /// live brokers for a moment.
    Fast,
}

/// What cluster to start.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    pub(super) release: &'static Release,
    pub(super) brokers: usize,
    pub(super) session: Session,
    pub(super) properties: Vec<(String, String)>,
    /// Listeners beside the first, by name and security protocol.
    pub(super) listeners: Vec<(String, String)>,
    scram_users: Vec<ScramUser>,
    java_options: Vec<String>,
    /// Ports of the proxies in front of the brokers, by id from 1.
    pub(super) proxies: Option<Vec<u16>>,
}

impl ClusterConfig {
    /// One node with id 1 that is broker and controller.
    pub fn single() -> Self {
        Self::new(1)
    }

    /// Brokers 1, 2 and 3, and a controller that tests leave alone. Topics have three replicas,
    /// of which two must be in sync, unless told.
    pub fn three() -> Self {
        Self::new(3)
    }

    fn new(brokers: usize) -> Self {
        Self {
            release: &V4_3,
            brokers,
            session: Session::Steady,
            properties: Vec::new(),
            listeners: Vec::new(),
            scram_users: Vec::new(),
            java_options: Vec::new(),
            proxies: None,
        }
    }

    /// Replaces the release, which is [`V4_3`]. Where that is not there yet it is fetched when the
    /// cluster starts; where it cannot be, the test is shown as ignored.
    pub fn release(mut self, release: &'static Release) -> Self {
        self.release = release;
        self
    }

    /// Replaces the session time-out, which is [`Session::Steady`].
    pub fn session(mut self, session: Session) -> Self {
        self.session = session;
        self
    }

    /// Sets a property of every node, in place of one of the same name.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives the broker of a single node another listener, at [`Cluster::listener_address`]: its
    /// name, in capitals, and its security protocol, as `SASL_SSL`. Replication, administration
    /// and the reader keep to the first listener, which is plain.
    pub fn listener(mut self, name: &str, protocol: &str) -> Self {
        assert_eq!(self.brokers, 1, "the ports of the others are taken");
        self.listeners.push((name.to_owned(), protocol.to_owned()));
        assert!(self.listeners.len() <= LISTENER_PORTS.len(), "a block has no more ports");
        self
    }

    /// Adds a user of a mechanism of SCRAM, as `SCRAM-SHA-256`.
    pub fn scram_user(mut self, mechanism: &str, user: &str, password: &str) -> Self {
        let [mechanism, user, password] = [mechanism, user, password].map(str::to_owned);
        self.scram_users.push(ScramUser { mechanism, user, password });
        self
    }

    /// Gives each broker a second listener, at [`Cluster::proxied_address`], whose clients are told
    /// that broker `n` is at 127.0.0.1 and the `n`-th of these ports: a proxy listens there and
    /// forwards. Replication, administration and the reader keep to the first listener.
    pub fn behind(mut self, ports: &[u16]) -> Self {
        assert_eq!(ports.len(), self.brokers, "a proxy for each broker");
        self.proxies = Some(ports.to_vec());
        self
    }

    /// Adds an option of the nodes' virtual machines.
    pub fn java_option(mut self, option: String) -> Self {
        self.java_options.push(option);
        self
    }
}

/// Who may log in with SCRAM.
#[derive(Clone, Debug)]
struct ScramUser {
    mechanism: String,
    user: String,
    password: String,
}

/// A running cluster. Dropping it kills its processes and removes its data.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    nodes: Vec<Node>,
    install: Arc<Install>,
    java_options: Vec<String>,
    listeners: Vec<String>,
    /// Removed after the nodes are dead: fields drop in this order.
    folder: TempDir,
    ports: PortBlock,
    _permit: Option<Permit>,
}

impl Cluster {
    /// Formats, starts and waits until every broker lists every broker. `install` is of the
    /// configured release; `parent` takes the data.
    pub fn start(
        install: &Arc<Install>,
        parent: &Path,
        config: &ClusterConfig,
        permit: Option<Permit>,
    ) -> Result<Self, String> {
        let problem = |error: io::Error| format!("cannot start Kafka: {error}");
        let ports = PortBlock::take().map_err(problem)?;
        let folder = tempfile::Builder::new().prefix("cluster-").tempdir_in(parent);
        let folder = folder.map_err(problem)?;
        let nodes = layout::nodes(config, &ports, folder.path()).map_err(problem)?;
        let cluster = Self {
            name: format!("kafka-{}", ports.port(0)),
            nodes,
            install: Arc::clone(install),
            java_options: config.java_options.clone(),
            listeners: config.listeners.iter().map(|(name, _)| name.clone()).collect(),
            folder,
            ports,
            _permit: permit,
        };
        if config.release.quorum == Quorum::Controller {
            cluster.format(&config.scram_users)?;
        }
        for node in &cluster.nodes {
            node.start(install, &config.java_options).map_err(problem)?;
        }
        let ready = cluster.wait_listed(&cluster.broker_ids());
        ready.map_err(|reason| format!("{reason}\n{}", cluster.report()))?;
        if config.release.quorum == Quorum::ZooKeeper {
            cluster.add_scram_users(&config.scram_users)?;
        }
        Ok(cluster)
    }

    /// The addresses of all brokers, also of those that are down, as a client is configured.
    pub fn bootstrap_servers(&self) -> String {
        join(self.nodes.iter().filter_map(Node::address))
    }

    /// The addresses of the brokers that run now.
    pub fn running_servers(&self) -> String {
        join(self.running().filter_map(Node::address))
    }

    /// The ids of all brokers, in ascending order.
    pub fn broker_ids(&self) -> Vec<i32> {
        self.nodes.iter().filter(|node| node.address().is_some()).map(Node::id).collect()
    }

    /// Where a broker listens; the same after a restart.
    pub fn address(&self, id: i32) -> SocketAddr {
        self.node(id).address().unwrap_or_else(|| panic!("node {id} is not a broker"))
    }

    /// Where a broker listens for clients that come through its proxy; see
    /// [`ClusterConfig::behind`].
    pub fn proxied_address(&self, id: i32) -> SocketAddr {
        let direct = self.address(id);
        SocketAddr::new(direct.ip(), direct.port() + PROXIED_OFFSET)
    }

    /// Where the broker of a single node listens with a listener of
    /// [`ClusterConfig::listener`]; the same after a restart.
    pub fn listener_address(&self, name: &str) -> SocketAddr {
        let index = self.listeners.iter().position(|listener| listener == name);
        let index = index.unwrap_or_else(|| panic!("{} has no listener {name}", self.name));
        (Ipv4Addr::LOCALHOST, self.ports.port(LISTENER_PORTS[index])).into()
    }

    /// The process id of a node, if it has a process.
    pub fn pid(&self, id: i32) -> Option<u32> {
        self.node(id).pid()
    }

    /// The process ids of all nodes that have one.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(Node::pid).collect()
    }

    /// Where the data directories and the logs are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The files with the batches of a topic, at all brokers.
    pub fn segments(&self, topic: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder().to_owned()];
        while let Some(folder) = folders.pop() {
            // Brokers rename and remove files of their own meanwhile.
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            for path in entries.map(|entry| entry.path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "log") {
                    found.push(path);
                }
            }
        }
        let is_of_topic = |file: &PathBuf| {
            let folder = file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
            folder.and_then(|name| name.rsplit_once('-')).is_some_and(|(name, _)| name == topic)
        };
        found.retain(is_of_topic);
        found
    }

    /// What a node has printed so far.
    pub fn log(&self, id: i32) -> PathBuf {
        self.node(id).log()
    }

    /// Kills a broker (SIGKILL) and waits until its process is gone.
    pub fn kill(&self, id: i32) {
        self.node(id).kill();
    }

    /// Asks a broker to hand over and end (SIGTERM), and waits until its process is gone.
    #[track_caller]
    pub fn terminate(&self, id: i32) {
        self.node(id).terminate().unwrap_or_else(|error| panic!("terminating {id}: {error}"));
    }

    /// Stops a broker where it is (SIGSTOP): its port still accepts, nobody answers.
    #[track_caller]
    pub fn stop(&self, id: i32) {
        self.node(id).pause().unwrap_or_else(|error| panic!("stopping {id}: {error}"));
    }

    /// Lets a stopped broker go on (SIGCONT).
    #[track_caller]
    pub fn cont(&self, id: i32) {
        self.node(id).resume().unwrap_or_else(|error| panic!("continuing {id}: {error}"));
    }

    /// Starts a killed or terminated broker again, at its old address and with its old data, and
    /// waits until every running broker lists it. It may not be in sync yet.
    #[track_caller]
    pub fn restart(&self, id: i32) {
        self.restart_all(&[id]);
    }

    /// Starts several brokers again, at once; see [`Cluster::restart`].
    #[track_caller]
    pub fn restart_all(&self, ids: &[i32]) {
        for &id in ids {
            self.wait_forgotten(id);
            let started = self.node(id).start(&self.install, &self.java_options);
            started.unwrap_or_else(|error| panic!("restarting {id}: {error}"));
        }
        self.wait_ready();
    }

    /// Where the controller listens for brokers.
    pub fn controller_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.port(0)).into()
    }

    /// Restarts a broker that takes the controller to listen at this address from then on: a proxy
    /// there can cut it off from the controller alone.
    #[track_caller]
    pub fn move_controller_for(&self, id: i32, address: SocketAddr) {
        self.terminate(id);
        self.node(id)
            .set_property("controller.quorum.voters", &format!("{QUORUM_ID}@{address}"))
            .unwrap_or_else(|error| panic!("changing the settings of {id}: {error}"));
        self.restart(id);
    }

    /// Waits until every running broker answers and lists all running brokers.
    #[track_caller]
    pub fn wait_ready(&self) {
        let ids: Vec<i32> =
            self.running().filter(|node| node.address().is_some()).map(Node::id).collect();
        assert!(!ids.is_empty(), "no broker of {} runs", self.name);
        self.wait_listed(&ids).unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// The ends of all logs, which are also copied to a folder that stays; the text names it.
    pub fn report(&self) -> String {
        let kept = jars::target_folder().join("kafka").join("failed");
        // Without the copy the ends of the logs are still shown.
        let _ = std::fs::create_dir_all(&kept);
        let mut text = String::new();
        for node in &self.nodes {
            let file = node.keep_log(&kept, &self.name).map(|path| path.display().to_string());
            let file = file.unwrap_or_else(|error| format!("not kept: {error}"));
            let end = process::tail(&node.log(), REPORT_LINES);
            text.push_str(&format!("--- {} node {} ({file})\n{end}\n", self.name, node.id()));
        }
        text
    }

    /// The brokers and controllers whose processes run and are not stopped.
    pub(super) fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    /// The programs of the brokers and of those who read from them.
    pub(super) fn install(&self) -> &Install {
        &self.install
    }

    /// The release of the brokers.
    pub(super) fn release(&self) -> &'static Release {
        self.install.release()
    }

    /// Waits until ZooKeeper has forgotten a broker that is dead: one that starts earlier finds its
    /// own id taken, and ends.
    fn wait_forgotten(&self, id: i32) {
        let zookeeper = self.nodes.iter().find_map(|node| match node.role() {
            Role::ZooKeeper { port } => Some(port),
            Role::Kafka => None,
        });
        let Some(port) = zookeeper else { return };
        let listing = format!("/brokers/ids/{id}");
        let is_forgotten =
            || owned_nodes(port).is_ok_and(|dump| !dump.lines().any(|l| l.trim() == listing));
        let forgotten = process::wait_until(START_LIMIT, is_forgotten);
        assert!(forgotten, "ZooKeeper still lists the dead broker {id}");
    }

    fn node(&self, id: i32) -> &Node {
        let node = self.nodes.iter().find(|node| node.id() == id);
        node.unwrap_or_else(|| panic!("{} has no node {id}", self.name))
    }

    fn format(&self, scram_users: &[ScramUser]) -> Result<(), String> {
        let mut arguments = self.install.tool_arguments("256m", self.folder());
        arguments.extend(["FormatNodes".to_owned(), CLUSTER_ID.to_owned()]);
        arguments.extend(self.nodes.iter().map(|node| node.properties().display().to_string()));
        arguments.push("--".to_owned());
        for ScramUser { mechanism, user, password } in scram_users {
            arguments.push("--add-scram".to_owned());
            arguments.push(format!("{mechanism}=[name={user},password={password}]"));
        }
        let log = self.folder.path().join("format.log");
        process::run("java", arguments, &log, START_LIMIT)
    }

    /// Into ZooKeeper, from which the brokers take them as they come.
    fn add_scram_users(&self, scram_users: &[ScramUser]) -> Result<(), String> {
        for ScramUser { mechanism, user, password } in scram_users {
            // The password is last: the rest of the value would be taken for a part of it.
            let credential = format!("{mechanism}=[iterations=4096,password={password}]");
            self.run_zookeeper_tool(
                "kafka.admin.ConfigCommand",
                &["--alter", "--entity-type", "users", "--entity-name", user],
                &["--add-config", &credential],
            )?;
        }
        Ok(())
    }

    /// Runs one of the tools that change what ZooKeeper holds.
    pub(super) fn run_zookeeper_tool(
        &self,
        class: &str,
        command: &[&str],
        values: &[&str],
    ) -> Result<(), String> {
        let mut arguments = self.install.tool_arguments("256m", self.folder());
        let zookeeper = format!("127.0.0.1:{}", self.ports.port(0));
        arguments.extend([class, "--zookeeper", &zookeeper].map(str::to_owned));
        arguments.extend(command.iter().chain(values).map(|&argument| argument.to_owned()));
        process::run("java", arguments, &self.folder.path().join("tools.log"), START_LIMIT)
    }

    fn wait_listed(&self, ids: &[i32]) -> Result<(), String> {
        let mut waiting_for = String::new();
        let listed = process::wait_until(START_LIMIT, || {
            let view = self.check_listed(ids);
            let fatal = view.as_ref().is_err_and(|(fatal, _)| *fatal);
            waiting_for = view.as_ref().err().map(|(_, what)| what.clone()).unwrap_or_default();
            view.is_ok() || fatal
        });
        if listed && waiting_for.is_empty() { Ok(()) } else { Err(waiting_for) }
    }

    /// Whether each of the brokers lists all of them. An error says whether it is for good.
    fn check_listed(&self, ids: &[i32]) -> Result<(), (bool, String)> {
        for node in &self.nodes {
            if node.has_ended() {
                return Err((true, format!("node {} of {} has ended", node.id(), self.name)));
            }
        }
        for &id in ids {
            let listed = self
                .brokers_listed_by(id)
                .map_err(|error| (false, format!("broker {id} does not answer: {error}")))?;
            if !ids.iter().all(|id| listed.contains(id)) {
                return Err((false, format!("broker {id} lists {listed:?}, not all of {ids:?}")));
            }
        }
        Ok(())
    }
}

thread_local! {
    /// The logs of the clusters that a panic on this thread dropped.
    static REPORTS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Takes what clusters that a panic on this thread dropped have left to show.
pub fn take_reports() -> String {
    REPORTS.take()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            REPORTS.with_borrow_mut(|reports| reports.push_str(&self.report()));
        }
        for node in &self.nodes {
            node.kill();
        }
    }
}

/// What ZooKeeper keeps only as long as the sessions that made it last, in its own words.
fn owned_nodes(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(b"dump")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn join(addresses: impl Iterator<Item = SocketAddr>) -> String {
    let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
    addresses.join(",")
}
