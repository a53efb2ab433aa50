//! One process of a cluster with its properties, data directory and log, through kills and
//! restarts.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::jars::Install;
use super::process::{Output, Process};

/// A SIGTERM took up to 1.3 s; it waits for the disk.
const TERMINATE_LIMIT: Duration = Duration::from_secs(120);

/// What the process of a node is doing.
#[derive(Debug)]
enum State {
    Running(Process),
    /// Stopped by SIGSTOP: its ports accept connections, and nobody answers.
    Paused(Process),
    Dead,
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A broker, a controller, or both in one.
    Kafka,
    /// The store of a cluster of the ZooKeeper era, on this port.
    ZooKeeper { port: u16 },
}

/// A broker, a controller, both in one, or a ZooKeeper.
#[derive(Debug)]
pub struct Node {
    id: i32,
    role: Role,
    /// The port of clients; none for a pure controller and for ZooKeeper.
    port: Option<u16>,
    folder: PathBuf,
    state: Mutex<State>,
}

impl Node {
    /// Writes the node's properties into its own folder; it starts later.
    pub fn new(
        id: i32,
        role: Role,
        port: Option<u16>,
        folder: PathBuf,
        properties: &[(String, String)],
    ) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let lines: String =
            properties.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        fs::write(folder.join("server.properties"), lines)?;
        Ok(Self { id, role, port, folder, state: Mutex::new(State::Dead) })
    }

    /// Sets a property for the next start, in place of what it was.
    pub fn set_property(&self, name: &str, value: &str) -> io::Result<()> {
        // Of several lines with one name Java takes the last.
        let mut file = fs::OpenOptions::new().append(true).open(self.properties())?;
        writeln!(file, "{name}={value}")
    }

    /// The node id in the cluster.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// What it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Where clients connect; nothing for a pure controller and for ZooKeeper.
    pub fn address(&self) -> Option<SocketAddr> {
        self.port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Its properties file.
    pub fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    /// What it has printed, over all of its starts.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The id of its process, if there is one.
    pub fn pid(&self) -> Option<u32> {
        match &*self.state() {
            State::Running(process) | State::Paused(process) => Some(process.pid()),
            State::Dead => None,
        }
    }

    /// Whether its process runs: not killed, not ended by itself, not stopped.
    pub fn is_running(&self) -> bool {
        match &mut *self.state() {
            State::Running(process) => process.status().is_none(),
            State::Paused(_) | State::Dead => false,
        }
    }

    /// Whether its process has ended without being told to.
    pub fn has_ended(&self) -> bool {
        match &mut *self.state() {
            State::Running(process) | State::Paused(process) => process.status().is_some(),
            State::Dead => false,
        }
    }

    /// Starts the process; it answers later.
    pub fn start(&self, install: &Install, java_options: &[String]) -> io::Result<()> {
        let mut state = self.state();
        assert!(matches!(*state, State::Dead), "node {} is already there", self.id);
        let mut arguments = install.broker_arguments("256m", &self.folder);
        arguments.extend(java_options.iter().cloned());
        let main = match self.role {
            Role::Kafka => "kafka.Kafka",
            Role::ZooKeeper { .. } => "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        };
        arguments.push(main.to_owned());
        arguments.push(self.properties().display().to_string());
        *state = State::Running(Process::spawn("java", arguments, &self.log(), Output::Log)?);
        Ok(())
    }

    /// Kills the process and waits until it is gone.
    pub fn kill(&self) {
        // Dropping the process kills it.
        *self.state() = State::Dead;
    }

    /// Asks the process to end in order (SIGTERM) and waits until it has.
    pub fn terminate(&self) -> io::Result<()> {
        let mut state = self.state();
        let State::Running(process) = &mut *state else {
            return Err(io::Error::other(format!("node {} does not run", self.id)));
        };
        process.signal("TERM")?;
        let ended = process.wait(TERMINATE_LIMIT).is_some();
        *state = State::Dead;
        if ended { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }

    /// Stops the process where it is (SIGSTOP).
    pub fn pause(&self) -> io::Result<()> {
        self.change(|state| match state {
            State::Running(mut process) => {
                process.pause()?;
                Ok(State::Paused(process))
            }
            other => Ok(other),
        })
    }

    /// Lets a stopped process go on (SIGCONT).
    pub fn resume(&self) -> io::Result<()> {
        self.change(|state| match state {
            State::Paused(mut process) => {
                process.signal("CONT")?;
                Ok(State::Running(process))
            }
            other => Ok(other),
        })
    }

    /// Copies the log into a folder, under a name that tells nodes apart.
    pub fn keep_log(&self, folder: &Path, name: &str) -> io::Result<PathBuf> {
        let file = folder.join(format!("{name}-node-{}.log", self.id));
        fs::copy(self.log(), &file)?;
        Ok(file)
    }

    fn change(&self, step: impl FnOnce(State) -> io::Result<State>) -> io::Result<()> {
        let mut state = self.state();
        let before = std::mem::replace(&mut *state, State::Dead);
        *state = step(before)?;
        Ok(())
    }

    /// A panic elsewhere in a test must not keep the node from being killed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
