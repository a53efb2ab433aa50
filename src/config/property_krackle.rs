//! The names that Krackle, BlackBerry's producer for Kafka 0.8, has for itself. Those that it
//! shares with Kafka or librdkafka are in their tables.

use super::property::{NOT_GIVEN, Origin, Property, Show, Unit, field, shown_field};
use super::property_draft;

const SHARED: &str = "all topics share the one memory of buffer.memory";
const KERBEROS: &str = "Kerberos (GSSAPI) is not there";

const fn ignored(
    name: &'static str,
    same: &'static [&'static str],
    words: &'static str,
) -> Property {
    Property::ignored(name, Origin::Krackle, same, words)
}

pub(super) const KRACKLE: &[Property] = &[
    field!(
        "message.buffer.size",
        Krackle,
        batch_size,
        Bytes,
        size,
        "As `batch.size`: a full buffer was sent at once."
    ),
    field!(
        "queue.enqueue.timeout.ms",
        Krackle,
        max_block,
        Milliseconds,
        milliseconds_or_never,
        "As `max.block.ms`; `-1` for ever. After it `send` is an error, where Krackle dropped."
    ),
    Property::read(
        "gzip.compression.level",
        Origin::Krackle,
        "Compression::Gzip (level)",
        Unit::None,
        Show::Draft(|draft| draft.gzip_level.to_string()),
        "As `compression.gzip.level`.",
        property_draft::gzip_level,
    ),
    Property::read(
        "kafka.security.protocol",
        Origin::Krackle,
        "security_protocol",
        Unit::None,
        shown_field!(security_protocol, None),
        "As `security.protocol`.",
        super::property_tls::security_protocol,
    ),
    ignored("num.buffers", &[], SHARED),
    ignored("use.shared.buffers", &["true"], SHARED),
    ignored("send.buffer.size", &[], "requests are written to the socket from buffer memory"),
    ignored("response.buffer.size", &[], "an answer is read into memory of its own size"),
    ignored(
        "sender.threads",
        &[],
        "event loops are set in code, with ProducerBuilder::event_loops; they keep the order",
    ),
    ignored(
        "retry.backoff.exponent",
        &["2"],
        "each wait is twice the last one, up to retry.backoff.max.ms",
    ),
    Property::read(
        "partitions.rotate",
        Origin::Krackle,
        "partitioner (rotating)",
        Unit::None,
        Show::Unset,
        "`true` or `random`: records stay with a partition until metadata is refreshed.",
        |draft, setting| match setting.value {
            "true" | "random" => {
                draft.partitioner.rotate_on_refresh();
                Ok(())
            }
            _ => Err(setting.refuse("it must be true or random: name a partition in each record")),
        },
    ),
    Property::read(
        "metrics.to.console",
        Origin::Krackle,
        "metrics_log_interval (whether)",
        Unit::None,
        Show::Unset,
        "Whether metrics go to the log; `metrics.to.console.interval.ms` says how often.",
        |draft, setting| {
            draft.metrics_to_console = Some(setting.boolean()?);
            Ok(())
        },
    ),
    Property::read(
        "metrics.to.console.interval.ms",
        Origin::Krackle,
        "metrics_log_interval",
        Unit::Milliseconds,
        shown_field!(metrics_log_interval, Milliseconds),
        "How often metrics go to the log, as `tidegate.metrics.log.interval.ms`.",
        |draft, setting| {
            let interval = setting.milliseconds()?;
            draft.config.metrics_log_interval = Some(interval).filter(|time| !time.is_zero());
            Ok(())
        },
    ),
    Property::refused(
        "kafka.security.protocol.service.principal",
        Origin::Krackle,
        NOT_GIVEN,
        KERBEROS,
    ),
    Property::refused("kafka.client.jaas.login.context", Origin::Krackle, NOT_GIVEN, KERBEROS),
];
