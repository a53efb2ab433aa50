//! The options of all commands that connect to a cluster, and the settings that they make.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use tidegate::{BuildError, ConsumerConfig, ProducerConfig};

use crate::failure::Failure;

/// The options that say how to reach a cluster.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Connect {
    /// Brokers to start from, as HOST:PORT,HOST:PORT
    ///
    /// Two or three are enough; the rest of the cluster is learned from any of them. Goes before
    /// `bootstrap.servers` of -X and -F.
    #[arg(short = 'b', long = "bootstrap-server", value_name = "HOST:PORT,...")]
    pub(crate) servers: Option<String>,

    /// A property in Kafka's name, as NAME=VALUE; may be repeated
    ///
    /// Any property of the client: `client.id=till`, `security.protocol=SASL_SSL`. Goes before the
    /// file of -F. Arguments can be seen by other users of the machine: passwords are better in a
    /// file.
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE")]
    pub(crate) properties: Vec<String>,

    /// A file of properties, as Kafka's own tools take it
    #[arg(short = 'F', long = "config", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

impl Connect {
    /// The settings: `defaults`, and over them the file's, the properties and the servers, of which
    /// each goes before those that stand before it.
    ///
    /// # Errors
    /// Which of them cannot be used. No value of a password is in it.
    pub(crate) fn config(&self, defaults: &[(&str, &str)]) -> Result<ProducerConfig, Failure> {
        let text = self.text(defaults)?;
        let config = ProducerConfig::from_properties_text(&text)
            .map_err(|error| self.error(error, ProducerConfig::from_properties_file))?;
        check_servers(&config)?;
        Ok(config)
    }

    /// The same for a consumer, whose own properties are read too.
    ///
    /// # Errors
    /// As for [`Connect::config`].
    pub(crate) fn consumer_config(
        &self,
        defaults: &[(&str, &str)],
    ) -> Result<ConsumerConfig, Failure> {
        let text = self.text(defaults)?;
        let config = ConsumerConfig::from_properties_text(&text)
            .map_err(|error| self.error(error, ConsumerConfig::from_properties_file))?;
        check_servers(&config.client)?;
        Ok(config)
    }

    /// What is wrong: with the file by itself, if it is that, in the file's own lines.
    fn error<'a, T>(
        &'a self,
        of_all: BuildError,
        read: impl FnOnce(&'a PathBuf) -> Result<T, BuildError>,
    ) -> BuildError {
        let of_file = self.file.as_ref().and_then(|file| read(file).err());
        of_file.unwrap_or(of_all)
    }

    /// All properties, as one file.
    fn text(&self, defaults: &[(&str, &str)]) -> Result<String, Failure> {
        let mut text = String::new();
        for (name, value) in defaults {
            text.push_str(&property_line(name, value));
        }
        if let Some(file) = &self.file {
            let read = fs::read_to_string(file);
            text += &read.map_err(|error| {
                Failure::failed(format_args!("{} cannot be read: {error}", file.display()))
            })?;
            // The blank line ends a last line that a backslash continues.
            text += "\n\n";
        }
        for property in &self.properties {
            let Some((name, value)) = property.split_once('=') else {
                // It may be a password with a colon where the equals sign should be: not shown.
                return Err(Failure::usage("-X: a property is NAME=VALUE, with an equals sign"));
            };
            text.push_str(&property_line(name.trim(), value.trim()));
        }
        if let Some(servers) = &self.servers {
            text.push_str(&property_line("bootstrap.servers", servers));
        }
        Ok(text)
    }
}

/// Whether there is a broker to begin with.
fn check_servers(config: &ProducerConfig) -> Result<(), Failure> {
    match config.bootstrap_servers.is_empty() {
        false => Ok(()),
        true => Err(Failure::usage(
            "no broker to connect to: give -b HOST:PORT, or bootstrap.servers with -X or -F",
        )),
    }
}

/// A line of a properties file that stands for exactly this pair.
fn property_line(name: &str, value: &str) -> String {
    let mut line = String::with_capacity(name.len() + value.len() + 2);
    for (text, is_name) in [(name, true), (value, false)] {
        for (index, c) in text.chars().enumerate() {
            match c {
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '\\' => line.push_str("\\\\"),
                ' ' | '\t' | '\x0c' | '=' | ':' | '#' | '!' if is_name || index == 0 => {
                    line.extend(['\\', c]);
                }
                c => line.push(c),
            }
        }
        line.push(if is_name { '=' } else { '\n' });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(properties: &[&str]) -> Result<ProducerConfig, Failure> {
        let properties = properties.iter().map(|&text| text.to_owned()).collect();
        let servers = Some("localhost:9092".to_owned());
        Connect { servers, properties, file: None }.config(&[])
    }

    #[test]
    fn a_property_is_taken_as_it_is_written() {
        for id in ["a b", "back\\slash", " a", "\\", "x=y:z", "#1", "ü"] {
            let read = config(&[&format!("client.id={id}")]).expect("it is a property");
            assert_eq!(read.client_id, id.trim());
        }
    }

    #[test]
    fn a_property_without_value_and_one_that_is_unknown_are_wrong_usage() {
        for wrong in ["linger.ms", "linger.m=5", "acks=2"] {
            assert!(matches!(config(&[wrong]), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_property_is_not_shown_for_it_may_be_a_password() {
        for wrong in ["sasl.password:geheim", "sasl.pasword=geheim", "ssl.key.passwort=geheim"] {
            let Err(Failure::Usage(words)) = config(&[wrong]) else { panic!("{wrong}") };
            assert!(!words.contains("geheim"), "{words}");
        }
    }

    #[test]
    fn the_servers_of_b_go_before_all_others() {
        let read = config(&["bootstrap.servers=elsewhere:1"]).expect("both can be used");
        assert_eq!(read.bootstrap_servers, ["localhost:9092"]);
    }
}
