//! The names that librdkafka has for itself, without those of TLS and logins. Those that it shares
//! with Kafka are in Kafka's tables.

use super::address::split_list;
use super::broker_version::NamedVersion;
use super::property::{NOT_GIVEN, Origin, Property, Show, Unit, field, shown_field};
use super::property_draft::{self, Draft};
use super::property_parse::Setting;
use crate::error::BuildError;

const UNUSED: &str = "it is not used by librdkafka any more either";
const LOGGING: &str = "messages go to the log crate, which says where and how much is logged";
const DELIVERIES: &str =
    "each record has a Delivery: await it, or give it a closure with Delivery::on_complete";
const OPENSSL: &str = "it is about OpenSSL, which this client does not use: leave it out";
const SOCKETS: &str = "sockets are opened by the client itself: set address_map or socks5 in code \
                       to change where they lead";
const CERTIFICATE: &str = "set it in code with TlsConfig, or with ssl.ca.pem, \
                           ssl.certificate.pem and ssl.key.pem";

/// Those that have no effect here, with the reason.
const fn ignored(
    name: &'static str,
    same: &'static [&'static str],
    words: &'static str,
) -> Property {
    Property::ignored(name, Origin::Librdkafka, same, words)
}

/// Those that cannot be had, with what to do instead.
const fn refused(
    name: &'static str,
    same: &'static [&'static str],
    words: &'static str,
) -> Property {
    Property::refused(name, Origin::Librdkafka, same, words)
}

/// The time of librdkafka's that is infinite where it is 0.
fn message_timeout(draft: &mut Draft, setting: Setting<'_>) -> Result<(), BuildError> {
    let timeout = setting.milliseconds()?;
    if timeout.is_zero() {
        return Err(setting.refuse(
            "0 is for ever, and every record must be acknowledged or fail some time: give a time \
             in milliseconds",
        ));
    }
    draft.config.delivery_timeout = timeout;
    draft.delivery_timeout_bounds = true;
    Ok(())
}

fn keepalive(draft: &mut Draft, setting: Setting<'_>) -> Result<(), BuildError> {
    draft.keepalive = Some(setting.boolean()?);
    Ok(())
}

/// The level of whichever codec is used; -1 is the codec's default.
fn level(draft: &mut Draft, setting: Setting<'_>) -> Result<(), BuildError> {
    let level = setting.integer(-131_072, 22)? as i32;
    draft.level = Some(level).filter(|level| *level != -1);
    Ok(())
}

pub(super) const LIBRDKAFKA: &[Property] = &[
    Property::read(
        "metadata.broker.list",
        Origin::Librdkafka,
        "bootstrap_servers",
        Unit::None,
        shown_field!(bootstrap_servers, None),
        "As `bootstrap.servers`; each entry needs a port.",
        |draft, setting| {
            let servers = split_list(setting.value).map(str::to_owned);
            draft.config.bootstrap_servers = servers.collect();
            Ok(())
        },
    ),
    field!(
        "message.max.bytes",
        Librdkafka,
        max_request_size,
        Bytes,
        size,
        "As `max.request.size`."
    ),
    field!(
        "max.in.flight",
        Librdkafka,
        max_in_flight,
        None,
        size,
        "As `max.in.flight.requests.per.connection`."
    ),
    Property::read(
        "topic.metadata.refresh.interval.ms",
        Origin::Librdkafka,
        "metadata_max_age (librdkafka)",
        Unit::Milliseconds,
        Show::Unset,
        "As `metadata.max.age.ms`, of which the shorter counts; `-1` for never, but after errors.",
        |draft, setting| {
            draft.refresh_interval = Some(setting.milliseconds_or_never()?);
            Ok(())
        },
    ),
    field!(
        "topic.metadata.refresh.fast.interval.ms",
        Librdkafka,
        metadata_min_refresh,
        Milliseconds,
        milliseconds,
        "As `tidegate.metadata.min.refresh.ms`."
    ),
    field!(
        "topic.metadata.propagation.max.ms",
        Librdkafka,
        topic_unknown_max,
        Milliseconds,
        milliseconds,
        "As `tidegate.topic.unknown.max.ms`."
    ),
    field!(
        "allow.auto.create.topics",
        Librdkafka,
        allow_auto_create_topics,
        None,
        boolean,
        "As `tidegate.allow.auto.create.topics`."
    ),
    Property::read(
        "socket.timeout.ms",
        Origin::Librdkafka,
        "request_timeout (librdkafka)",
        Unit::Milliseconds,
        Show::Unset,
        "As `request.timeout.ms`, before which it goes: there it is the client's own limit.",
        |draft, setting| {
            draft.socket_timeout = Some(setting.milliseconds()?);
            Ok(())
        },
    ),
    field!(
        "socket.send.buffer.bytes",
        Librdkafka,
        send_buffer,
        Bytes,
        socket_buffer_or_zero,
        "As `send.buffer.bytes`; `0`: as the system sizes it."
    ),
    field!(
        "socket.receive.buffer.bytes",
        Librdkafka,
        receive_buffer,
        Bytes,
        socket_buffer_or_zero,
        "As `receive.buffer.bytes`; `0`: as the system sizes it."
    ),
    Property::read(
        "socket.keepalive.enable",
        Origin::Librdkafka,
        "tcp_keepalive (whether)",
        Unit::None,
        Show::Draft(|draft| draft.config.tcp_keepalive.is_some().to_string()),
        "Whether TCP probes quiet connections; `tidegate.tcp.keepalive.ms` says after how long.",
        keepalive,
    ),
    field!(
        "api.version.request",
        Librdkafka,
        api_version_request,
        None,
        boolean,
        "Whether brokers are asked for the versions that they speak (KIP-35)."
    ),
    Property::read(
        "broker.version.fallback",
        Origin::Librdkafka,
        "broker_version_fallback",
        Unit::None,
        Show::Config(|config| {
            config.broker_version_fallback.map(|version| version.to_string()).unwrap_or_default()
        }),
        "What to take a broker for that cannot say what it speaks: `0.8.2` or `0.9.0`.",
        |draft, setting| {
            draft.config.broker_version_fallback = match NamedVersion::read(setting.value) {
                Some(NamedVersion::Old(version)) => Some(version),
                // Brokers since then say themselves what they speak.
                Some(NamedVersion::AsksVersions) => None,
                None => return Err(setting.refuse("it must be a version of Kafka, such as 0.9.0")),
            };
            Ok(())
        },
    ),
    Property::read(
        "queue.buffering.max.kbytes",
        Origin::Librdkafka,
        "buffer_memory",
        Unit::Kibibytes,
        shown_field!(buffer_memory, Kibibytes),
        "As `buffer.memory`, in KiB.",
        |draft, setting| {
            draft.config.buffer_memory = setting.kibibytes()?;
            Ok(())
        },
    ),
    field!(
        "queue.buffering.max.ms",
        Librdkafka,
        linger,
        Milliseconds,
        fractional_milliseconds,
        "As `linger.ms`; it may have a fraction, as `0.5`."
    ),
    field!("message.send.max.retries", Librdkafka, retries, None, count, "As `retries`."),
    field!("request.required.acks", Librdkafka, acks, None, acks, "As `acks`."),
    Property::read(
        "message.timeout.ms",
        Origin::Librdkafka,
        "delivery_timeout",
        Unit::Milliseconds,
        shown_field!(delivery_timeout, Milliseconds),
        "As `delivery.timeout.ms`; no request waits longer; not `0`.",
        message_timeout,
    ),
    Property::read(
        "compression.codec",
        Origin::Librdkafka,
        "compression",
        Unit::None,
        Show::Draft(|_| "none".to_owned()),
        "As `compression.type`; `inherit` changes nothing.",
        |draft, setting| match setting.value {
            "inherit" => Ok(()),
            _ => property_draft::codecs(draft, setting),
        },
    ),
    Property::read(
        "compression.level",
        Origin::Librdkafka,
        "Compression (level)",
        Unit::None,
        Show::Draft(|_| "-1".to_owned()),
        "The level of the codec that is used, in its own range; `-1` for its default.",
        level,
    ),
    ignored(
        "queue.buffering.max.messages",
        &[],
        "memory is bounded by bytes and not by records: buffer.memory",
    ),
    ignored(
        "batch.num.messages",
        &[],
        "batches are bounded by bytes and not by records: batch.size",
    ),
    ignored(
        "queue.buffering.backpressure.threshold",
        &[],
        "a batch is filled until its broker's connection has room, without options",
    ),
    ignored(
        "message.copy.max.bytes",
        &[],
        "every record is written once into buffer memory, which sockets are written from",
    ),
    ignored("receive.message.max.bytes", &[], "an answer may have 16 MiB, without options"),
    ignored("topic.metadata.refresh.fast.cnt", &[], UNUSED),
    ignored("topic.metadata.refresh.sparse", &["true"], "only topics in use are asked for"),
    ignored("socket.blocking.max.ms", &[], UNUSED),
    ignored("socket.nagle.disable", &["true"], "Nagle's algorithm is always off"),
    ignored("socket.max.fails", &["1"], "a connection with a late answer is always closed"),
    ignored("broker.address.ttl", &[], "a name is looked up again for each connection"),
    ignored(
        "broker.address.family",
        &["any"],
        "every address of a name is tried until one answers, of IPv4 and of IPv6",
    ),
    ignored("reconnect.backoff.jitter.ms", &[], UNUSED),
    ignored(
        "statistics.interval.ms",
        &["0"],
        "statistics are read when they are wanted, with Producer::metrics",
    ),
    ignored("debug", NOT_GIVEN, LOGGING),
    ignored("log_level", &[], LOGGING),
    ignored("log.queue", &["false"], LOGGING),
    ignored("log.thread.name", &[], LOGGING),
    ignored("log.connection.close", &[], LOGGING),
    ignored("enable.random.seed", &["true"], "random numbers are seeded by the system"),
    ignored("internal.termination.signal", &["0"], "the threads end without a signal"),
    ignored(
        "api.version.request.timeout.ms",
        &[],
        "the first answer belongs to socket.connection.setup.timeout.ms",
    ),
    ignored(
        "api.version.fallback.ms",
        &[],
        "a broker that cannot say its versions is asked again after an hour",
    ),
    ignored("client.rack", NOT_GIVEN, "only consumers read from the nearest broker"),
    ignored("delivery.report.only.error", &["false"], DELIVERIES),
    ignored("produce.offset.report", &[], "a Delivery tells the offset, unless acks is 0"),
    ignored(
        "sticky.partitioning.linger.ms",
        &[],
        "records without key move on after batch.size bytes or 100 ms (or linger.ms, if longer)",
    ),
    refused(
        "builtin.features",
        &[],
        "what is built in is chosen by the features of the tidegate crate, in Cargo.toml",
    ),
    refused(
        "topic.blacklist",
        NOT_GIVEN,
        "a producer asks only for topics that it sends to: do not send to those",
    ),
    refused("enable.gapless.guarantee", &["false"], "a failed batch does not stop the producer"),
    refused(
        "queuing.strategy",
        &["fifo"],
        "records are sent in the order of send, without options",
    ),
    refused("plugin.library.paths", NOT_GIVEN, "there are no plugins: do the same in code"),
    refused("enabled_events", &["0"], "listen with Producer::events: all of them come"),
    refused("error_cb", &[], "listen with Producer::events or Producer::on_event"),
    refused("throttle_cb", &[], "listen with Producer::events or Producer::on_event"),
    refused("stats_cb", &[], "statistics are read with Producer::metrics"),
    refused("log_cb", &[], "set a logger of the log crate"),
    refused("background_event_cb", &[], "listen with Producer::on_event"),
    refused("socket_cb", &[], SOCKETS),
    refused("connect_cb", &[], SOCKETS),
    refused("closesocket_cb", &[], SOCKETS),
    refused("open_cb", &[], "files are opened by the client itself, and closed on exec"),
    refused("resolve_cb", &[], "set address_map in code: it says where a broker is reached"),
    refused("opaque", &[], "a Delivery is a value: keep what belongs to it beside it"),
    refused("dr_cb", &[], DELIVERIES),
    refused("dr_msg_cb", &[], DELIVERIES),
    refused("partitioner_cb", &[], "set a Partitioner with ProducerBuilder::partitioner"),
    refused("msg_order_cmp", &[], "records are sent in the order of send, without options"),
    refused("interceptors", &[], "do the same in code before a record is sent"),
    refused(
        "default_topic_conf",
        &[],
        "its properties are written beside the others: all topics have the same settings",
    ),
    refused("ssl_key", &[], CERTIFICATE).secret(),
    refused("ssl_certificate", &[], CERTIFICATE).secret(),
    refused("ssl_ca", &[], CERTIFICATE),
    refused("ssl_engine_callback_data", &[], OPENSSL),
    refused("ssl.certificate.verify_cb", &[], "set a verifier with TlsConfig::client_config"),
    refused("ssl.curves.list", NOT_GIVEN, "set it with TlsConfig::client_config"),
    refused("ssl.sigalgs.list", NOT_GIVEN, "set it with TlsConfig::client_config"),
    refused(
        "ssl.ca.certificate.stores",
        &["", "Root"],
        "the system's own authorities are trusted, unless ssl.ca.location names a file",
    ),
    refused(
        "ssl.crl.location",
        NOT_GIVEN,
        "revocation lists are not read from a file: set them with TlsConfig::client_config",
    ),
    refused("ssl.providers", NOT_GIVEN, OPENSSL),
    refused("ssl.engine.location", NOT_GIVEN, OPENSSL),
    refused("ssl.engine.id", &["", "dynamic"], OPENSSL),
];
