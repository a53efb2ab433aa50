//! The producer against real Apache Kafka, judged by Java's own clients.
//!
//! `TIDEGATE_KAFKA_RECORDS` sets the number of records of each codec's run, `TIDEGATE_LOG=1` shows
//! the producer's warnings.

#[path = "real_kafka/ages.rs"]
mod ages;
#[path = "real_kafka/consuming.rs"]
mod consuming;
#[path = "real_kafka/creation.rs"]
mod creation;
#[path = "support/example.rs"]
mod example;
#[path = "real_kafka/extent.rs"]
mod extent;
#[path = "real_kafka/failover.rs"]
mod failover;
#[path = "support/kafka/mod.rs"]
mod kafka;
#[path = "real_kafka/limits.rs"]
mod limits;
#[path = "real_kafka/load.rs"]
mod load;
#[path = "support/logger.rs"]
mod logger;
#[path = "real_kafka/main_job.rs"]
mod main_job;
#[path = "real_kafka/many_partitions.rs"]
mod many_partitions;
#[path = "real_kafka/moved.rs"]
mod moved;
#[path = "real_kafka/offsets.rs"]
mod offsets;
#[path = "real_kafka/old.rs"]
mod old;
#[path = "support/oracle.rs"]
mod oracle;
#[path = "support/proxy/mod.rs"]
mod proxy;
#[path = "real_kafka/records.rs"]
mod records;
#[path = "real_kafka/secured.rs"]
mod secured;
#[path = "real_kafka/sending.rs"]
mod sending;
#[path = "real_kafka/spilling.rs"]
mod spilling;
#[path = "real_kafka/stalled.rs"]
mod stalled;
#[path = "support/streams.rs"]
mod streams;
#[path = "real_kafka/tools.rs"]
mod tools;
#[path = "real_kafka/topics.rs"]
mod topics;
#[path = "real_kafka/truncated.rs"]
mod truncated;

use std::process::ExitCode;

use kafka::Test;
use libtest_mimic::Arguments;

const TESTS: &[Test] = &[
    Test { name: "the_oracle_sees_every_fault", run: oracle::sees_every_fault },
    Test { name: "records_of_every_kind_come_back_uncompressed", run: main_job::uncompressed },
    Test { name: "records_of_every_kind_come_back_from_gzip", run: main_job::gzip },
    Test { name: "records_of_every_kind_come_back_from_snappy", run: main_job::snappy },
    Test { name: "records_of_every_kind_come_back_from_lz4", run: main_job::lz4 },
    Test { name: "records_of_every_kind_come_back_from_zstd", run: main_job::zstd },
    Test { name: "java_reads_the_embedded_brokers", run: main_job::embedded_brokers },
    Test { name: "f16_batches_too_large_for_their_topic_are_split", run: main_job::too_large },
    Test { name: "small_records_are_acknowledged_quickly", run: main_job::rate_of_small_records },
    Test { name: "keys_go_where_java_sends_them", run: main_job::keys_as_java },
    Test { name: "an_unknown_topic_is_an_error_after_the_limit", run: main_job::unknown_topic },
    Test { name: "a_topic_is_created_where_that_is_allowed", run: main_job::auto_creation },
    Test { name: "transactions_are_read_as_java_reads_them", run: consuming::transactions },
    Test { name: "offsets_are_found_where_java_finds_them", run: offsets::as_java },
    Test { name: "offsets_are_committed_as_java_commits_them", run: offsets::committed },
    Test { name: "a_killed_coordinator_costs_no_commit", run: offsets::killed_coordinator },
    Test { name: "a_killed_leader_is_read_over", run: consuming::killed_leader },
    Test { name: "topics_in_an_old_format_are_read", run: consuming::old_formats },
    Test { name: "old_brokers_are_read", run: consuming::old_brokers },
    Test { name: "topics_are_created_as_the_client_says", run: creation::as_told },
    Test {
        name: "kafka_2_0_has_its_controller_create_topics",
        run: creation::by_zookeepers_controller,
    },
    Test {
        name: "verifiable_producer_says_where_its_records_are",
        run: tools::verifiable_producer,
    },
    Test {
        name: "topics_with_settings_of_their_own_share_a_producer",
        run: sending::topics_with_settings,
    },
    Test {
        name: "what_was_never_sent_comes_back_when_the_broker_is_gone",
        run: sending::handed_back,
    },
    Test {
        name: "a_fallback_gets_what_a_killed_broker_does_not",
        run: sending::fallback_to_another_cluster,
    },
    Test {
        name: "all_brokers_are_killed_and_then_the_process_and_nothing_on_disk_is_lost",
        run: spilling::killed_process,
    },
    Test { name: "a_killed_leader_costs_nothing_acknowledged", run: failover::killed_leader },
    Test { name: "each_broker_in_turn_may_be_killed", run: failover::each_broker_in_turn },
    Test { name: "all_brokers_stand_still_and_go_on", run: stalled::all_brokers },
    Test { name: "one_broker_of_three_stands_still", run: stalled::one_broker },
    Test { name: "nobody_waits_for_linger_under_pressure", run: many_partitions::steady },
    Test { name: "f54_a_deleted_topic_leaves_others_their_rate", run: topics::f54_deleted_topic },
    Test { name: "c60_a_partition_just_added_is_used_by_number", run: topics::c60_added_partition },
    Test { name: "c58_a_topic_without_id_comes_back_smaller", run: topics::c58_recreated_smaller },
    Test {
        name: "c47_f40_acks_0_loses_what_was_on_the_way_when_the_leader_moves",
        run: moved::f40_acks_0_and_a_moved_leader,
    },
    Test {
        name: "c51_f44_a_metadata_broker_that_hangs_is_passed_over",
        run: moved::f44_metadata_broker_stopped,
    },
    Test {
        name: "c51_f44_a_metadata_broker_that_is_isolated_is_passed_over",
        run: moved::f44_metadata_broker_isolated,
    },
    Test { name: "c03_kafka_0_11_remembers_one_batch", run: old::c03_one_remembered },
    Test { name: "c63_kafka_0_11_throttles_by_itself", run: old::c63_throttled_by_0_11 },
    Test { name: "c63_kafka_2_0_throttles_behind_its_answer", run: old::c63_throttled_by_2_0 },
    Test { name: "c66_kafka_2_0_takes_no_zstd", run: old::c66_zstd },
    Test { name: "kafka_2_3_refuses_the_keyless_record_alone", run: old::keyless_in_compacted },
    Test { name: "c64_kafka_0_9_is_named_as_too_old", run: old::c64_silent_on_api_versions },
    Test { name: "kafka_0_8_2_takes_records_of_every_kind", run: ages::kafka_0_8_2 },
    Test { name: "kafka_0_9_takes_records_of_every_kind", run: ages::kafka_0_9 },
    Test { name: "kafka_0_10_lacks_headers_and_idempotence", run: ages::lacks_of_0_10 },
    Test { name: "kafka_0_8_2_loses_a_leader_and_no_record", run: ages::killed_leader_of_0_8_2 },
    Test { name: "default_requests_stay_below_a_mebibyte", run: limits::request_limit },
    Test { name: "a_denied_producer_id_names_right_and_setting", run: limits::denied_producer_id },
    Test {
        name: "c50_f43_an_unclean_election_beside_an_unanswered_batch",
        run: truncated::f43_unclean_election,
    },
    Test {
        name: "c50_f55_a_clean_restart_beside_unanswered_batches_doubles_nothing",
        run: truncated::f55_clean_restart,
    },
    Test {
        name: "secured_every_login_and_certificate_carries_records",
        run: secured::ways::all_carry_records,
    },
    Test {
        name: "secured_sessions_are_renewed_under_load",
        run: secured::sessions::are_renewed_under_load,
    },
    Test { name: "secured_refusals_say_what_to_do", run: secured::refusals::say_what_to_do },
    Test {
        name: "secured_certificates_are_replaced_under_load",
        run: secured::renewal::of_certificates_stops_nobody,
    },
    Test { name: "secured_kafka_0_9_takes_tls", run: secured::old_brokers::kafka_0_9_takes_tls },
    Test {
        name: "secured_kafka_0_10_takes_bare_tokens",
        run: secured::old_brokers::kafka_0_10_takes_logins,
    },
    Test {
        name: "secured_kafka_0_11_takes_bare_tokens",
        run: secured::old_brokers::kafka_0_11_takes_logins,
    },
    Test {
        name: "secured_kafka_2_0_takes_logins_and_tls",
        run: secured::old_brokers::kafka_2_0_takes_logins_and_tls,
    },
];

/// What takes minutes whatever is done, and releases between those that the others stand for: with
/// `--long` only.
const LONG: &[Test] = &[
    Test { name: "kafka_0_10_0_takes_records_of_every_kind", run: ages::kafka_0_10_0 },
    Test { name: "kafka_0_10_2_takes_records_of_every_kind", run: ages::kafka_0_10_2 },
    Test { name: "kafka_0_11_takes_records_of_every_kind", run: ages::kafka_0_11 },
    Test { name: "kafka_1_1_takes_records_of_every_kind", run: ages::kafka_1_1 },
    Test { name: "kafka_2_0_takes_records_of_every_kind", run: ages::kafka_2_0 },
    Test { name: "kafka_2_8_takes_records_of_every_kind", run: ages::kafka_2_8 },
    Test { name: "kafka_3_9_takes_records_of_every_kind", run: ages::kafka_3_9 },
    Test { name: "kafka_4_3_takes_records_of_every_kind", run: ages::kafka_4_3 },
    Test {
        name: "secured_kafka_1_1_takes_logins_and_tls",
        run: secured::old_brokers::kafka_1_1_takes_logins_and_tls,
    },
    Test {
        name: "secured_kafka_2_8_takes_logins_and_tls",
        run: secured::old_brokers::kafka_2_8_takes_logins_and_tls,
    },
    Test { name: "c31_a_throttle_of_minutes_doubles_nothing", run: limits::c31_long_throttle },
    Test { name: "c63_kafka_2_7_throttles_behind_its_answer", run: old::c63_throttled_by_2_7 },
];

fn main() -> ExitCode {
    spilling::be_killed();
    logger::install_and_keep_warnings();
    let (long, rest): (Vec<_>, Vec<_>) = std::env::args().partition(|text| text == "--long");
    let mut tests = TESTS.to_vec();
    if !long.is_empty() {
        extent::set_long();
        tests.extend(LONG);
    }
    kafka::run_selected(&Arguments::from_iter(rest), &tests)
}
