//! What is asked for on the command line.

/// The topic that everything is sent to.
pub const TOPIC: &str = "peers";

/// Buffer memory of every client.
pub const BUFFER_BYTES: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Tidegate,
    Batch,
    Produce,
    Threaded,
    /// No client: see `raw`.
    Raw,
}

impl Client {
    pub fn name(self) -> &'static str {
        match self {
            Client::Tidegate => "tidegate",
            Client::Batch => "rdkafka-batch",
            Client::Produce => "rdkafka-produce",
            Client::Threaded => "rdkafka-threaded",
            Client::Raw => "raw",
        }
    }

    fn parse(name: &str) -> Result<Client, String> {
        let all = [Client::Tidegate, Client::Batch, Client::Produce, Client::Threaded, Client::Raw];
        let found = all.into_iter().find(|client| client.name() == name);
        found.ok_or_else(|| format!("there is no client {name}"))
    }
}

/// How records without a key are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The client decides, and stays on a partition for a while.
    Sticky,
    /// Every record names a partition of its own, at random.
    Random,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub client: Option<Client>,
    pub clients: Vec<Client>,
    pub rounds: usize,
    pub bootstrap: Option<String>,
    pub records: u64,
    pub value_size: usize,
    pub partitions: i32,
    pub threads: usize,
    pub spread: Spread,
    pub backlog: usize,
    pub call: usize,
    pub set: Vec<(String, String)>,
    pub set_tidegate: Vec<(String, String)>,
    /// Connections are encrypted; the brokers' authority is written to this file.
    pub tls: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            client: None,
            clients: vec![Client::Tidegate, Client::Batch, Client::Produce],
            rounds: 3,
            bootstrap: None,
            records: 10_000_000,
            value_size: 100,
            partitions: 12,
            threads: 1,
            spread: Spread::Sticky,
            backlog: 1 << 17,
            call: 1_000,
            set: Vec::new(),
            set_tidegate: Vec::new(),
            tls: None,
        }
    }
}

impl Settings {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
        let mut settings = Settings::default();
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
            settings.apply(&flag, &value)?;
        }
        let positive = settings.records.min(settings.threads as u64).min(settings.call as u64);
        if positive == 0 || settings.partitions < 1 || settings.rounds == 0 {
            return Err("counts are at least 1".into());
        }
        Ok(settings)
    }

    fn apply(&mut self, flag: &str, value: &str) -> Result<(), String> {
        match flag {
            "--client" => self.client = Some(Client::parse(value)?),
            "--clients" => {
                self.clients = value.split(',').map(Client::parse).collect::<Result<_, _>>()?
            }
            "--rounds" => self.rounds = number(flag, value)?,
            "--bootstrap" => self.bootstrap = Some(value.to_owned()),
            "--records" => self.records = number(flag, value)?,
            "--value-size" => self.value_size = number(flag, value)?,
            "--partitions" => self.partitions = number(flag, value)?,
            "--threads" => self.threads = number(flag, value)?,
            "--backlog" => self.backlog = number::<usize>(flag, value)?.max(1),
            "--call" => self.call = number(flag, value)?,
            "--spread" => {
                self.spread = match value {
                    "sticky" => Spread::Sticky,
                    "random" => Spread::Random,
                    _ => return Err("--spread is sticky or random".into()),
                }
            }
            "--tls" => self.tls = Some(value.to_owned()),
            "--set" => self.set.push(pair(flag, value)?),
            "--set-tidegate" => self.set_tidegate.push(pair(flag, value)?),
            _ => return Err(format!("{flag} is unknown")),
        }
        Ok(())
    }

    /// The same settings as arguments of a child process.
    pub fn arguments(&self, client: Client, bootstrap: &str) -> Vec<String> {
        let spread = if self.spread == Spread::Sticky { "sticky" } else { "random" };
        let mut arguments: Vec<String> = [
            ("--client", client.name().to_owned()),
            ("--bootstrap", bootstrap.to_owned()),
            ("--records", self.records.to_string()),
            ("--value-size", self.value_size.to_string()),
            ("--partitions", self.partitions.to_string()),
            ("--threads", self.threads.to_string()),
            ("--spread", spread.to_owned()),
            ("--backlog", self.backlog.to_string()),
            ("--call", self.call.to_string()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        if let Some(file) = &self.tls {
            arguments.extend(["--tls".to_owned(), file.clone()]);
        }
        for (flag, pairs) in [("--set", &self.set), ("--set-tidegate", &self.set_tidegate)] {
            for (name, value) in pairs {
                arguments.extend([flag.to_owned(), format!("{name}={value}")]);
            }
        }
        arguments
    }

    /// What a client is told of encryption, in names that both librdkafka and tidegate know.
    pub fn encryption(&self) -> Vec<(String, String)> {
        let file = self.tls.iter();
        let pairs = |file: &String| {
            [("security.protocol", "SSL".to_owned()), ("ssl.ca.location", file.clone())]
        };
        file.flat_map(pairs).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// How many records thread `index` sends.
    pub fn share(&self, index: usize) -> u64 {
        let threads = self.threads as u64;
        self.records / threads + u64::from((index as u64) < self.records % threads)
    }

    /// A value: compressible by nothing in particular, the same for every client.
    pub fn value(&self) -> Vec<u8> {
        let mut random = Random::new(1);
        (0..self.value_size).map(|_| random.next() as u8).collect()
    }
}

fn pair(flag: &str, value: &str) -> Result<(String, String), String> {
    let (name, value) = value.split_once('=').ok_or_else(|| format!("{flag} takes NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn number<N: std::str::FromStr>(flag: &str, value: &str) -> Result<N, String> {
    value.replace(['_', ','], "").parse().map_err(|_| format!("{flag} takes a number"))
}

/// A cheap random sequence (xorshift), one a thread.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    #[inline]
    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// Below `n`.
    #[inline]
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(n)) >> 32) as u32
    }
}
