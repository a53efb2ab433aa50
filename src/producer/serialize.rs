//! `Serialize` for what a producer tells of itself (feature `serde`).
//!
//! The manual's page `observing` has the shape. The impls stand here and not at the types, so that
//! the shape can be read in one piece; each names every field and variant, and one that is missing
//! does not compile. They are written out because a derive would cost its users `syn`.

use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{
    BrokerLevels, BrokerReport, DeliveryStatus, Health, HealthReason, HealthState, Memory,
    MetadataReport, PartitionReport, RecordMetadata, Report, TopicReport,
};
use crate::engine::batch::{
    BrokerMetrics, DroppedRecords, FailedRecords, Metrics, PartitionMetrics, TopicMetrics,
};
use crate::engine::event::Event;
use crate::engine::meter::{ConnectionState, Histogram, RecordCounts, WaitsFor};
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause};
use crate::problem::{Problem, ProblemKind};

/// A time, told in seconds.
trait Time {
    type Seconds: Serialize;
    fn seconds(&self) -> Self::Seconds;
}

impl Time for Duration {
    type Seconds = f64;
    fn seconds(&self) -> f64 {
        self.as_secs_f64()
    }
}

impl Time for Option<Duration> {
    type Seconds = Option<f64>;
    fn seconds(&self) -> Option<f64> {
        self.map(|time| time.as_secs_f64())
    }
}

/// One field: as it is, or a time in seconds, which its name then says.
macro_rules! field {
    ($object:ident, $field:ident) => {
        $object.serialize_field(stringify!($field), $field)?;
    };
    ($object:ident, $field:ident seconds) => {
        $object.serialize_field(concat!(stringify!($field), "_s"), &Time::seconds($field))?;
    };
}

/// The number of fields.
macro_rules! count {
    ($($field:ident)*) => { <[&str]>::len(&[$(stringify!($field)),*]) };
}

/// An object with the fields of a struct.
macro_rules! structs {
    ($($type:ident { $($field:ident $(in $unit:ident)?),* $(,)? })*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $type { $($field),* } = self;
                let length = count!($($field)*);
                let mut object = serializer.serialize_struct(stringify!($type), length)?;
                $(field!(object, $field $($unit)?);)*
                object.end()
            }
        }
    )*};
}

/// An object with the fields of a variant, and its name as `kind`.
macro_rules! enums {
    ($($type:ident {
        $($variant:ident as $kind:literal { $($field:ident $(in $unit:ident)?),* $(,)? })*
    })*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {$(
                    $type::$variant { $($field),* } => {
                        let length = 1 + count!($($field)*);
                        let mut object = serializer.serialize_struct(stringify!($type), length)?;
                        object.serialize_field("kind", $kind)?;
                        $(field!(object, $field $($unit)?);)*
                        object.end()
                    }
                )*}
            }
        }
    )*};
}

/// A word for each variant.
macro_rules! words {
    ($($type:ident { $($variant:ident as $word:literal),* $(,)? })*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(match self { $($type::$variant { .. } => $word),* })
            }
        }
    )*};
}

structs! {
    Report {
        health, memory, metadata, brokers, topics, partitions, more_partitions, silent_loops,
    }
    Health { state, reasons }
    Memory { capacity, free }
    MetadataReport { cluster_id, asks, is_connected, answered in seconds, problem }
    BrokerReport {
        broker, address, state, state_for in seconds, failures, problem,
        throttled_for in seconds, requests_in_flight, charged, writable,
    }
    TopicReport { topic, oldest in seconds, waits_for }
    PartitionReport {
        topic, partition, leader, batches_waiting, batches_in_flight, attempts, last_problem,
        fails_in in seconds, waits_for,
    }
    BrokerLevels { broker, charged, high, low, writable, times_unwritable, times_writable }
    DeliveryStatus {
        topic, partition, waits_for, attempts, batches_ahead, last_problem, maybe_written,
        fails_in in seconds,
    }
    Metrics {
        client_id, time_ms, age in seconds, records, failed, dropped, fallback_records, topics,
        brokers, requests, request_bytes, connects, connection_failures, memory_capacity,
        memory_free,
        metadata_age in seconds,
    }
    TopicMetrics { topic, records, partitions }
    PartitionMetrics { partition, leader, records, unresolved_batches, open_for in seconds }
    BrokerMetrics {
        broker, address, is_connected, state, state_for in seconds, charged, high, low, writable,
        requests, request_bytes, request_records, responses, in_flight, connects,
        connection_failures, throttles, throttle_time in seconds, dropped_records, plain_bytes,
        packed_bytes,
        request_latency_us, queue_time_us, batch_bytes, batch_records,
    }
    RecordCounts {
        records, bytes, batches, acked_records, acked_bytes, acked_batches, failed_records,
        retries, dropped_records,
    }
    FailedRecords {
        total, unread, maybe_written, timed_out, refused, disconnected, unknown_topic, closed,
        other,
    }
    DroppedRecords { total, broker, pool, stash, leaderless }
}

enums! {
    HealthReason {
        Closed as "closed" {}
        Metadata as "metadata" { asks, answered in seconds, problem }
        ProducerId as "producer_id" { problem }
        Broker as "broker" { broker, address, state, failures, problem }
        Throttled as "throttled" { broker, left in seconds }
        Unwritable as "unwritable" { broker, charged, high }
        UnknownTopics as "unknown_topics" { topics, count }
        Leaderless as "leaderless" { partitions }
    }
    WaitsFor {
        Metadata as "metadata" { asks, problem }
        Topic as "topic" { unknown_for in seconds }
        Disk as "disk" {}
        Partition as "partition" {}
        Leader as "leader" {}
        Connection as "connection" {
            broker, address, state, failures, next_attempt in seconds, problem,
        }
        ProducerId as "producer_id" { problem }
        Throttle as "throttle" { broker, left in seconds }
        Backoff as "backoff" { left in seconds, problem }
        EarlierAttempts as "earlier_attempts" { in_flight }
        Linger as "linger" { left in seconds }
        Turn as "turn" { broker, requests_in_flight, batches_in_flight }
        Answer as "answer" { broker, since in seconds, is_written }
        EventLoop as "event_loop" {}
    }
    Event {
        BrokerFound as "broker_found" { broker, address }
        BrokerGone as "broker_gone" { broker }
        ClusterChanged as "cluster_changed" { before, now }
        Connected as "connected" { broker, address }
        Disconnected as "disconnected" { broker, address, problem }
        Throttled as "throttled" { broker, pause in seconds }
        TopicFound as "topic_found" { topic, partitions }
        TopicGone as "topic_gone" { topic }
        PartitionsChanged as "partitions_changed" { topic, before, now }
        LeaderMoved as "leader_moved" { topic, partition, before, now }
        Unwritable as "unwritable" { broker, charged, high }
        Writable as "writable" { broker }
        Failed as "failed" { error, records }
        Missed as "missed" { events }
    }
}

words! {
    HealthState { Ready as "ready", Degraded as "degraded", Down as "down" }
    ConnectionState {
        Down as "down", Connecting as "connecting", Handshaking as "handshaking",
        LoggingIn as "logging_in", Ready as "ready",
    }
    Certainty { NotWritten as "not_written", Unknown as "unknown" }
    ProblemKind {
        Dns as "dns", Refused as "refused", Unreachable as "unreachable", Reset as "reset",
        Closed as "closed", TimedOut as "timed_out", NotKafka as "not_kafka", Tls as "tls",
        Authentication as "authentication", Proxy as "proxy", Protocol as "protocol",
        BrokerTooOld as "broker_too_old", OtherCluster as "other_cluster", Broker as "broker",
        NoLeader as "no_leader", Throttled as "throttled",
        Limit as "limit", System as "system",
    }
    DeliveryErrorCause {
        Broker as "broker", BrokerTooOld as "broker_too_old", TimedOut as "timed_out",
        Disconnected as "disconnected", UnknownTopic as "unknown_topic",
        TopicNotCreated as "topic_not_created",
        ClusterChanged as "cluster_changed", PartitionOutOfRange as "partition_out_of_range",
        PartitionNotNamed as "partition_not_named", Dropped as "dropped",
        GivenToFallback as "given_to_fallback", Closed as "closed",
        LoopPanicked as "loop_panicked", PartitionerPanicked as "partitioner_panicked",
        TooManyLanes as "too_many_lanes", WaitedOnOwnThread as "waited_on_own_thread",
        Forked as "forked", Purged as "purged", LeftInSpill as "left_in_spill",
        SpillUnreadable as "spill_unreadable",
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let code = match self.kind() {
            ProblemKind::Broker(code) => Some(code),
            _ => None,
        };
        let mut object = serializer.serialize_struct("Problem", 4)?;
        object.serialize_field("kind", &self.kind())?;
        object.serialize_field("message", self.message())?;
        object.serialize_field("code", &code.map(|code| code.0))?;
        object.serialize_field("code_name", &code.map(|code| code.name()))?;
        object.end()
    }
}

impl Serialize for DeliveryError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("DeliveryError", 7)?;
        object.serialize_field("topic", self.topic())?;
        object.serialize_field("partition", &self.partition())?;
        object.serialize_field("broker", &self.broker())?;
        object.serialize_field("cause", self.cause())?;
        object.serialize_field("certainty", &self.certainty())?;
        object.serialize_field("message", &self.to_string())?;
        object.serialize_field("problem", &self.problem())?;
        object.end()
    }
}

impl Serialize for RecordMetadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("RecordMetadata", 4)?;
        object.serialize_field("topic", self.topic())?;
        object.serialize_field("partition", &self.partition())?;
        object.serialize_field("offset", &self.offset())?;
        object.serialize_field("timestamp_ms", &self.timestamp())?;
        object.end()
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Histogram", 9)?;
        object.serialize_field("count", &self.count())?;
        object.serialize_field("sum", &self.sum())?;
        object.serialize_field("mean", &self.mean())?;
        object.serialize_field("max", &self.max())?;
        object.serialize_field("p50", &self.quantile(0.5))?;
        object.serialize_field("p90", &self.quantile(0.9))?;
        object.serialize_field("p99", &self.quantile(0.99))?;
        object.serialize_field("p999", &self.quantile(0.999))?;
        object.serialize_field("buckets", &self.buckets().collect::<Vec<_>>())?;
        object.end()
    }
}
