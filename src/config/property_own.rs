//! This client's own names, which begin with `tidegate.`.

use std::sync::Arc;

use super::producer_config::OnDrop;
use super::property::{Origin, Property, Show, Unit, field, shown_field};
use super::property_draft::Draft;
use super::spill::{SpillConfig, SpillFull, SpillInDoubt, SpillSync};
use crate::engine::policy::{DropRecords, RejectRecords, SpillRecords, UseFallback};

/// The spill settings, which any property of theirs makes.
fn spill_of(draft: &mut Draft) -> &mut SpillConfig {
    draft.config.spill.get_or_insert_with(|| SpillConfig::new(""))
}

/// Shows a spill setting, or its default.
macro_rules! shown_spill {
    ($show:expr) => {
        Show::Config(|config| {
            let show: fn(&SpillConfig) -> String = $show;
            match &config.spill {
                Some(spill) => show(spill),
                None => show(&SpillConfig::new("")),
            }
        })
    };
}

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
    Property::read(
        "tidegate.spill.directory",
        Origin::Tidegate,
        "spill (directory)",
        Unit::None,
        shown_spill!(|spill| spill.directory.display().to_string()),
        "A folder for records without room in memory; not given: none goes to disk.",
        |draft, setting| {
            spill_of(draft).directory = setting.value.into();
            Ok(())
        },
    ),
    Property::read(
        "tidegate.spill.quota",
        Origin::Tidegate,
        "spill (quota)",
        Unit::Bytes,
        shown_spill!(|spill| spill.quota.to_string()),
        "What the files in the spill folder may take together.",
        |draft, setting| {
            spill_of(draft).quota = setting.size()? as u64;
            Ok(())
        },
    ),
    Property::read(
        "tidegate.spill.sync",
        Origin::Tidegate,
        "spill (sync)",
        Unit::None,
        shown_spill!(|spill| match spill.sync {
            SpillSync::Never => "never".to_owned(),
            SpillSync::Every(time) => time.as_millis().to_string(),
            SpillSync::Always => "always".to_owned(),
        }),
        "When spilled records are forced to the disk: `never`, `always`, or every so many ms.",
        |draft, setting| {
            spill_of(draft).sync = match setting.value {
                "never" => SpillSync::Never,
                "always" => SpillSync::Always,
                _ => SpillSync::Every(setting.milliseconds()?),
            };
            Ok(())
        },
    ),
    Property::read(
        "tidegate.spill.full",
        Origin::Tidegate,
        "spill (full)",
        Unit::None,
        shown_spill!(|spill| match spill.full {
            SpillFull::Park(time) => time.as_millis().to_string(),
            SpillFull::Drop => "drop".to_owned(),
            SpillFull::Reject => "reject".to_owned(),
        }),
        "A record without room on disk: `drop` or `reject` it, or park its sender for so many ms.",
        |draft, setting| {
            spill_of(draft).full = match setting.value {
                "drop" => SpillFull::Drop,
                "reject" => SpillFull::Reject,
                value if value.starts_with(|digit: char| digit.is_ascii_digit()) => {
                    SpillFull::Park(setting.milliseconds()?)
                }
                _ => return Err(setting.refuse("it must be drop, reject, or ms to park for")),
            };
            Ok(())
        },
    ),
    Property::read(
        "tidegate.spill.in.doubt",
        Origin::Tidegate,
        "spill (in_doubt)",
        Unit::None,
        shown_spill!(|spill| match spill.in_doubt {
            SpillInDoubt::Send => "send".to_owned(),
            SpillInDoubt::SetAside => "set-aside".to_owned(),
        }),
        "Spilled records that were on their way when a process was killed: `send` or `set-aside`.",
        |draft, setting| {
            spill_of(draft).in_doubt = match setting.value {
                "send" => SpillInDoubt::Send,
                "set-aside" => SpillInDoubt::SetAside,
                _ => return Err(setting.refuse("it must be send or set-aside")),
            };
            Ok(())
        },
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
        "A record without room: `park` its sender, `drop`, `reject` or `spill` it, or `fallback`.",
        |draft, setting| {
            draft.config.backoff = match setting.value {
                "park" => None,
                "drop" => Some(Arc::new(DropRecords)),
                "reject" => Some(Arc::new(RejectRecords)),
                "fallback" => Some(Arc::new(UseFallback)),
                "spill" => Some(Arc::new(SpillRecords)),
                _ => {
                    let names = "it must be park, drop, reject, fallback or spill";
                    return Err(setting.refuse(names));
                }
            };
            Ok(())
        },
    ),
];
