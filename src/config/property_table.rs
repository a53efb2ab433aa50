//! The names of Kafka's own `ProducerConfig`, without those of TLS and logins.

use super::address::split_list;
use super::property::{NOT_GIVEN, Origin, Property, Show, Unit, field, shown_field};
use super::property_draft;
use crate::logging as log;

const METRICS: &str = "metrics are read with Producer::metrics, and go to the log with \
                       tidegate.metrics.log.interval.ms";
const SERIALIZER: &str = "keys and values are bytes here: write them as bytes before they are sent";
const TRANSACTIONS: &str = "transactions are not there yet";

/// Those of Kafka that have no effect here, with the reason.
const fn ignored(
    name: &'static str,
    same: &'static [&'static str],
    words: &'static str,
) -> Property {
    Property::ignored(name, Origin::Kafka, same, words)
}

/// Those of Kafka that cannot be had, with the reason.
const fn refused(
    name: &'static str,
    same: &'static [&'static str],
    words: &'static str,
) -> Property {
    Property::refused(name, Origin::Kafka, same, words)
}

/// The names of Kafka's own `ProducerConfig`.
pub(super) const KAFKA: &[Property] = &[
    Property::read(
        "bootstrap.servers",
        Origin::Kafka,
        "bootstrap_servers",
        Unit::None,
        shown_field!(bootstrap_servers, None),
        "Brokers to start from, as `host:port` with commas between; one is needed.",
        |draft, setting| {
            draft.config.bootstrap_servers = split_list(setting.value).map(str::to_owned).collect();
            Ok(())
        },
    ),
    field!(
        "client.id",
        Kafka,
        client_id,
        None,
        text,
        "The name under which brokers log, meter and throttle this producer."
    ),
    field!(
        "acks",
        Kafka,
        acks,
        None,
        acks,
        "How many replicas must have a record: `all`, `1` (the leader) or `0`."
    ),
    field!(
        "enable.idempotence",
        Kafka,
        enable_idempotence,
        None,
        boolean,
        "Whether brokers drop repeated batches; not given: where the other settings allow it."
    ),
    field!("retries", Kafka, retries, None, count, "How often a batch is sent again at most."),
    field!(
        "max.in.flight.requests.per.connection",
        Kafka,
        max_in_flight,
        None,
        size,
        "Requests on their way on one connection, from 1 to 1,024; with idempotence at most 5."
    ),
    field!(
        "linger.ms",
        Kafka,
        linger,
        Milliseconds,
        fractional_milliseconds,
        "How long a batch may wait for more records; it may have a fraction, as `0.5`."
    ),
    field!("batch.size", Kafka, batch_size, Bytes, size, "The size at which a batch is full."),
    field!(
        "buffer.memory",
        Kafka,
        buffer_memory,
        Bytes,
        size,
        "The memory for records that are queued or in flight, a hard limit."
    ),
    field!(
        "max.request.size",
        Kafka,
        max_request_size,
        Bytes,
        size,
        "The largest record, and the largest request but for a single larger batch."
    ),
    field!(
        "request.timeout.ms",
        Kafka,
        request_timeout,
        Milliseconds,
        milliseconds,
        "How long a broker may take to answer a request."
    ),
    field!(
        "delivery.timeout.ms",
        Kafka,
        delivery_timeout,
        Milliseconds,
        milliseconds,
        "How long a record may take to be acknowledged, waiting and retries included."
    ),
    field!(
        "max.block.ms",
        Kafka,
        max_block,
        Milliseconds,
        milliseconds,
        "How long a sender is held for which there is no room."
    ),
    field!(
        "retry.backoff.ms",
        Kafka,
        retry_backoff,
        Milliseconds,
        milliseconds,
        "The first wait before a retry."
    ),
    field!(
        "retry.backoff.max.ms",
        Kafka,
        retry_backoff_max,
        Milliseconds,
        milliseconds,
        "The longest wait before a retry."
    ),
    field!(
        "reconnect.backoff.ms",
        Kafka,
        reconnect_backoff,
        Milliseconds,
        milliseconds,
        "The first wait before a broker is connected to again."
    ),
    field!(
        "reconnect.backoff.max.ms",
        Kafka,
        reconnect_backoff_max,
        Milliseconds,
        milliseconds,
        "The longest wait before a broker is connected to again."
    ),
    field!(
        "socket.connection.setup.timeout.ms",
        Kafka,
        connection_setup_timeout,
        Milliseconds,
        milliseconds,
        "How long an address may take to accept a connection and to answer its first request."
    ),
    field!(
        "socket.connection.setup.timeout.max.ms",
        Kafka,
        connection_setup_timeout_max,
        Milliseconds,
        milliseconds,
        "What `socket.connection.setup.timeout.ms` grows to while an address fails (KIP-601)."
    ),
    field!(
        "connections.max.idle.ms",
        Kafka,
        connections_max_idle,
        Milliseconds,
        idle_time,
        "A connection unused for so long is closed; `-1` for never."
    ),
    field!(
        "metadata.max.age.ms",
        Kafka,
        metadata_max_age,
        Milliseconds,
        milliseconds,
        "Metadata is asked for again at this age."
    ),
    field!(
        "metadata.max.idle.ms",
        Kafka,
        metadata_max_idle,
        Milliseconds,
        milliseconds,
        "A topic that nothing was sent to for so long is not asked about any more."
    ),
    field!(
        "send.buffer.bytes",
        Kafka,
        send_buffer,
        Bytes,
        socket_buffer,
        "The socket's send buffer; `-1` or not given: as the system sizes it."
    ),
    field!(
        "receive.buffer.bytes",
        Kafka,
        receive_buffer,
        Bytes,
        socket_buffer,
        "The socket's receive buffer; `-1` or not given: as the system sizes it."
    ),
    Property::read(
        "compression.type",
        Origin::Kafka,
        "compression",
        Unit::None,
        Show::Draft(|_| "none".to_owned()),
        "`none`, `gzip`, `snappy`, `lz4`, `zstd`, or several in order of preference.",
        property_draft::codecs,
    ),
    Property::read(
        "compression.gzip.level",
        Origin::Kafka,
        "Compression::Gzip (level)",
        Unit::None,
        Show::Draft(|draft| draft.gzip_level.to_string()),
        "The level of gzip, from 1 to 9; `-1` for the default.",
        property_draft::gzip_level,
    ),
    Property::read(
        "compression.lz4.level",
        Origin::Kafka,
        "Compression::Lz4 (level)",
        Unit::None,
        Show::Draft(|draft| draft.lz4_level.to_string()),
        "The level of lz4, from 1 to 17; all levels compress alike in this client.",
        |draft, setting| {
            draft.lz4_level = setting.integer(1, 17)? as i32;
            let name = setting.name;
            log::warn!("{name} has no effect in this client: every level compresses alike");
            Ok(())
        },
    ),
    Property::read(
        "compression.zstd.level",
        Origin::Kafka,
        "Compression::Zstd (level)",
        Unit::None,
        Show::Draft(|draft| draft.zstd_level.to_string()),
        "The level of zstd, from -131,072 to 22.",
        |draft, setting| {
            draft.zstd_level = setting.integer(-131_072, 22)? as i32;
            Ok(())
        },
    ),
    ignored("key.serializer", &[], SERIALIZER),
    ignored("value.serializer", &[], SERIALIZER),
    refused(
        "client.dns.lookup",
        &["use_all_dns_ips"],
        "every address of a name is tried: only use_all_dns_ips can be had",
    ),
    ignored("metric.reporters", NOT_GIVEN, METRICS),
    ignored("metrics.num.samples", &[], METRICS),
    ignored("metrics.recording.level", &[], METRICS),
    ignored("metrics.sample.window.ms", &[], METRICS),
    ignored("enable.metrics.push", &["false"], "client telemetry (KIP-714) is not there yet"),
    ignored(
        "metadata.recovery.strategy",
        &["rebootstrap"],
        "the bootstrap list is always tried again where no known broker answers",
    ),
    ignored(
        "metadata.recovery.rebootstrap.trigger.ms",
        &[],
        "the bootstrap list is tried as soon as no known broker answers",
    ),
    refused("transactional.id", NOT_GIVEN, TRANSACTIONS),
    ignored(
        "transaction.timeout.ms",
        &[],
        "transactions are not there yet, and without them Kafka's own producer ignores it too",
    ),
    refused("transaction.two.phase.commit.enable", &["false"], TRANSACTIONS),
    refused(
        "interceptor.classes",
        NOT_GIVEN,
        "it names Java classes: write an Interceptor and set it with ProducerBuilder::interceptor",
    ),
    refused(
        "config.providers",
        NOT_GIVEN,
        "values are taken as they are written: write them themselves, or set them in code",
    ),
    refused(
        "security.providers",
        NOT_GIVEN,
        "it names Java classes: TLS and logins are this client's own",
    ),
];

/// Names that this client does not act on, by their beginnings, with the reason. Each is an error:
/// silently ignoring one could cost security or guarantees.
pub(super) const UNSUPPORTED: &[(&str, &str)] = &[
    ("sasl.kerberos.", "Kerberos (GSSAPI) is not there"),
    (
        "sasl.oauthbearer.",
        "it is a broker's, or of a way to fetch tokens that is not there: set an OAuthBearer with \
         ProducerBuilder::sasl",
    ),
    ("transaction", TRANSACTIONS),
    // Where Java and librdkafka add what a provider, an interceptor or a plugin reads.
    ("config.providers.", "values are taken as they are written: write them themselves"),
    ("source.", "settings for a single topic are not there yet: use a producer of its own"),
];

/// Names that files have which several programs share, by their beginnings, with the reason why
/// they mean nothing to a producer. As the Java client and librdkafka do, this client warns of
/// them.
pub(super) const OTHERS: &[(&str, &str)] = &[
    ("group.", CONSUMER),
    ("auto.offset.", CONSUMER),
    ("enable.auto.", CONSUMER),
    ("auto.commit.", CONSUMER),
    ("fetch.", CONSUMER),
    ("max.poll.", CONSUMER),
    ("session.timeout.ms", CONSUMER),
    ("heartbeat.interval.ms", CONSUMER),
    ("isolation.level", CONSUMER),
    ("key.deserializer", CONSUMER),
    ("value.deserializer", CONSUMER),
    ("schema.registry.", REGISTRY),
    ("basic.auth.", REGISTRY),
];

const CONSUMER: &str = "it is a consumer's";
const REGISTRY: &str =
    "it is of a schema registry, whose serializers write bytes before this client";
