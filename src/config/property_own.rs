//! This client's own names, which begin with `tidegate.`.

use std::sync::Arc;

use super::producer_config::OnDrop;
use super::property::{Origin, Property, Show, Unit, field, shown_field};
use crate::engine::policy::{DropRecords, RejectRecords, UseFallback};

pub(super) const OWN: &[Property] = &[
    field!(
        "tidegate.request.bytes.max",
        Tidegate,
        request_bytes_max,
        Bytes,
        size,
        "The largest request; not given: as `max.request.size`, which it cannot exceed."
    ),
    field!(
        "tidegate.reconnect.quick.ms",
        Tidegate,
        reconnect_quick,
        Milliseconds,
        milliseconds,
        "For so long after a broker was lost, waits before it is tried again are at most 200 ms."
    ),
    field!(
        "tidegate.metadata.min.refresh.ms",
        Tidegate,
        metadata_min_refresh,
        Milliseconds,
        milliseconds,
        "The least time between two metadata requests."
    ),
    field!(
        "tidegate.producer.id.idle.max.ms",
        Tidegate,
        producer_id_idle_max,
        Milliseconds,
        milliseconds,
        "After so long without an acknowledgement a partition's next batch goes alone."
    ),
    field!(
        "tidegate.topic.unknown.max.ms",
        Tidegate,
        topic_unknown_max,
        Milliseconds,
        milliseconds,
        "How long brokers may say that a topic does not exist before its records fail."
    ),
    field!(
        "tidegate.cluster.change",
        Tidegate,
        on_cluster_change,
        None,
        cluster_change,
        "What to do when the brokers turn out to be of another cluster: `follow` or `fail`."
    ),
    field!(
        "tidegate.allow.auto.create.topics",
        Tidegate,
        allow_auto_create_topics,
        None,
        boolean,
        "Whether asking for an unknown topic may create it, where brokers allow that too."
    ),
    Property::read(
        "tidegate.tcp.keepalive.ms",
        Origin::Tidegate,
        "tcp_keepalive",
        Unit::Milliseconds,
        shown_field!(tcp_keepalive, Milliseconds),
        "The quiet time after which TCP probes a connection; `0` for never.",
        |draft, setting| {
            let time = setting.milliseconds()?;
            draft.config.tcp_keepalive = Some(time).filter(|time| !time.is_zero());
            Ok(())
        },
    ),
    Property::read(
        "tidegate.close.on.drop.ms",
        Origin::Tidegate,
        "on_drop",
        Unit::Milliseconds,
        shown_field!(on_drop, Milliseconds),
        "How long dropping the last handle waits for what is unacknowledged; or `detach`.",
        |draft, setting| {
            draft.config.on_drop = match setting.value {
                "detach" => OnDrop::Detach,
                _ => OnDrop::Wait(setting.milliseconds()?),
            };
            Ok(())
        },
    ),
    field!(
        "tidegate.callbacks.max",
        Tidegate,
        callbacks_max,
        None,
        size,
        "Callbacks for single records that may be outstanding; further ones are refused."
    ),
    field!(
        "tidegate.fallback.memory",
        Tidegate,
        fallback_memory,
        Bytes,
        size,
        "Memory for records without room that wait for the fallback; further ones are refused."
    ),
    field!(
        "tidegate.events.max",
        Tidegate,
        events_max,
        None,
        size,
        "Events that wait for a slow listener; further ones are counted."
    ),
    Property::read(
        "tidegate.metrics.log.interval.ms",
        Origin::Tidegate,
        "metrics_log_interval",
        Unit::Milliseconds,
        shown_field!(metrics_log_interval, Milliseconds),
        "How often metrics go to the log; not given or `0`: never.",
        |draft, setting| {
            let interval = setting.milliseconds()?;
            draft.config.metrics_log_interval = Some(interval).filter(|time| !time.is_zero());
            Ok(())
        },
    ),
    field!(
        "tidegate.lanes.max",
        Tidegate,
        lanes_max,
        None,
        size,
        "Partitions that the producer may use in all."
    ),
    field!(
        "tidegate.brokers.max",
        Tidegate,
        brokers_max,
        None,
        size,
        "Brokers that the producer may know at one time."
    ),
    field!(
        "tidegate.high.watermark",
        Tidegate,
        high_watermark,
        Bytes,
        size,
        "Above it a broker takes no more records; not given: it follows the free memory."
    ),
    field!(
        "tidegate.low.watermark",
        Tidegate,
        low_watermark,
        Bytes,
        size,
        "Below it a broker takes records again; not given: half of the high watermark."
    ),
    field!(
        "tidegate.part.filled.floor.us",
        Tidegate,
        part_filled_floor,
        Microseconds,
        microseconds,
        "The least time between requests with part-filled batches on a busy connection; not given: \
         none while its event loop has time to spare, else up to 100 µs."
    ),
    field!(
        "tidegate.cores",
        Tidegate,
        cores,
        None,
        cores,
        "The cores that event loops are pinned to, as in `0,2-5`; not given: chosen."
    ),
    field!(
        "tidegate.pinning",
        Tidegate,
        pinning,
        None,
        boolean,
        "Whether event loops are pinned to cores at all."
    ),
    field!(
        "tidegate.loop.wait",
        Tidegate,
        wait_strategy,
        None,
        wait_strategy,
        "How event loops wait: `block`, `spin`, or for how many microseconds they spin first."
    ),
    Property::read(
        "tidegate.backoff.strategy",
        Origin::Tidegate,
        "backoff",
        Unit::None,
        Show::Draft(|_| "park".to_owned()),
        "A record without room: `park` the sender, `drop` or `reject` it, or to the `fallback`.",
        |draft, setting| {
            draft.config.backoff = match setting.value {
                "park" => None,
                "drop" => Some(Arc::new(DropRecords)),
                "reject" => Some(Arc::new(RejectRecords)),
                "fallback" => Some(Arc::new(UseFallback)),
                _ => return Err(setting.refuse("it must be park, drop, reject or fallback")),
            };
            Ok(())
        },
    ),
];
