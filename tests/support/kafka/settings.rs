//! Configurations, quotas and access rules, set and read over the wire.

use std::io;

use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    AlterClientQuotasRequest, CreateAclsRequest, DescribeAclsRequest, DescribeClientQuotasRequest,
    DescribeConfigsRequest, IncrementalAlterConfigsRequest,
};

use super::admin::{check, describe, first, insist, text};
use super::cluster::Cluster;
use super::wire::Wire;

const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;
const CONFIG_SET: i8 = 0;
const CONFIG_DELETE: i8 = 1;
const SOURCE_TOPIC: i8 = 1;
const MATCH_EXACT: i8 = 0;
const MATCH_DEFAULT: i8 = 1;

const ACL_ANY: i8 = 1;
const ACL_DENY: i8 = 2;
const ACL_ALLOW: i8 = 3;
const ACL_LITERAL: i8 = 3;
const ACL_TOPIC: i8 = 2;
const ACL_CLUSTER: i8 = 4;

/// What a client that is not authenticated may do, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// Whether it may; a rule that denies goes before one that allows.
    pub allow: bool,
    /// The number of the operation: 2 for all, 4 to write, 12 for an idempotent write.
    pub operation: i8,
    /// To all topics; else to the cluster.
    pub topics: bool,
}

impl AccessRule {
    fn as_creation(&self) -> AclCreation {
        let mut creation = AclCreation::default();
        creation.resource_type = if self.topics { ACL_TOPIC } else { ACL_CLUSTER };
        creation.resource_name = text(if self.topics { "*" } else { "kafka-cluster" });
        creation.resource_pattern_type = ACL_LITERAL;
        creation.principal = text("User:ANONYMOUS");
        creation.host = text("*");
        creation.operation = self.operation;
        creation.permission_type = if self.allow { ACL_ALLOW } else { ACL_DENY };
        creation
    }
}

impl Cluster {
    /// Sets (`Some`) or resets (`None`) configurations of a topic, and waits until every running
    /// broker shows them.
    #[track_caller]
    pub fn alter_topic_config(&self, topic: &str, configs: &[(&str, Option<&str>)]) {
        let mut resource = AlterConfigsResource::default();
        resource.resource_type = RESOURCE_TOPIC;
        resource.resource_name = text(topic);
        resource.configs =
            configs.iter().map(|&(name, value)| config_change(name, value)).collect();
        let mut request = IncrementalAlterConfigsRequest::default();
        request.resources = vec![resource];
        insist(&format!("altering topic {topic}"), || {
            let result = first(self.ask_any(0, &request)?.responses)?;
            check(result.error_code, result.error_message.as_ref())
        });
        for &(key, value) in configs {
            self.wait_everywhere(&format!("{key} of topic {topic} to be {value:?}"), |id| {
                let (shown, own) = self.topic_config_at(id, topic, key)?;
                Ok(if value.is_some() { shown.as_deref() == value } else { !own })
            });
        }
    }

    /// Sets configurations of a running broker, which reads a file that has changed even
    /// when the path is the same. The broker may use it some milliseconds later.
    #[track_caller]
    pub fn alter_broker_config(&self, id: i32, configs: &[(&str, &str)]) {
        let mut resource = AlterConfigsResource::default();
        resource.resource_type = RESOURCE_BROKER;
        resource.resource_name = text(&id.to_string());
        resource.configs =
            configs.iter().map(|&(name, value)| config_change(name, Some(value))).collect();
        let mut request = IncrementalAlterConfigsRequest::default();
        request.resources = vec![resource];
        insist(&format!("altering broker {id}"), || {
            let result = first(Wire::connect(self.address(id))?.call(0, &request)?.responses)?;
            check(result.error_code, result.error_message.as_ref())
        });
    }

    /// The value of a topic's configuration that is in force, own or default.
    #[track_caller]
    pub fn topic_config(&self, topic: &str, key: &str) -> Option<String> {
        insist(&format!("{key} of topic {topic}"), || {
            let id = self.running_broker()?;
            Ok(self.topic_config_at(id, topic, key)?.0)
        })
    }

    /// Sets or removes a quota, as `producer_byte_rate` in bytes per second or
    /// `request_percentage`, of a client id, or of all client ids without an own one. Brokers
    /// heed it some milliseconds after they show it.
    #[track_caller]
    pub fn set_client_quota(&self, client_id: Option<&str>, key: &str, value: Option<f64>) {
        let mut entity = EntityData::default();
        entity.entity_type = text("client-id");
        entity.entity_name = client_id.map(text);
        let mut change = OpData::default();
        change.key = text(key);
        change.value = value.unwrap_or_default();
        change.remove = value.is_none();
        let mut entry = EntryData::default();
        entry.entity = vec![entity];
        entry.ops = vec![change];
        let mut request = AlterClientQuotasRequest::default();
        request.entries = vec![entry];
        insist(&format!("setting {key} of client {client_id:?}"), || {
            let result = first(self.ask_any(0, &request)?.entries)?;
            check(result.error_code, result.error_message.as_ref())
        });
        self.wait_everywhere(&format!("{key} of client {client_id:?} to be {value:?}"), |id| {
            Ok(self.client_quota_at(id, client_id, key)? == value)
        });
    }

    /// Adds rules for clients that are not authenticated, and waits until they are in force. The
    /// brokers need an authorizer.
    #[track_caller]
    pub fn create_rules(&self, rules: &[AccessRule]) {
        let mut request = CreateAclsRequest::default();
        request.creations = rules.iter().map(AccessRule::as_creation).collect();
        insist("creating access rules", || {
            for result in self.ask_any(1, &request)?.results {
                check(result.error_code, result.error_message.as_ref())?;
            }
            Ok(())
        });
        let mut request = DescribeAclsRequest::default();
        request.resource_type_filter = ACL_ANY;
        request.resource_name_filter = None;
        request.principal_filter = None;
        request.host_filter = None;
        request.pattern_type_filter = ACL_ANY;
        request.operation = ACL_ANY;
        request.permission_type = ACL_ANY;
        self.wait_everywhere("access rules", |id| {
            let answer = Wire::connect(self.address(id))?.call(1, &request)?;
            let rules_there = answer.resources.iter().map(|resource| resource.acls.len()).sum();
            Ok(rules.len() <= rules_there)
        });
    }

    /// The value, and whether it is the topic's own.
    fn topic_config_at(
        &self,
        id: i32,
        topic: &str,
        key: &str,
    ) -> io::Result<(Option<String>, bool)> {
        let mut resource = DescribeConfigsResource::default();
        resource.resource_type = RESOURCE_TOPIC;
        resource.resource_name = text(topic);
        resource.configuration_keys = Some(vec![text(key)]);
        let mut request = DescribeConfigsRequest::default();
        request.resources = vec![resource];
        let answer = Wire::connect(self.address(id))?.call(1, &request)?;
        let config = answer.results.first().and_then(|result| result.configs.first());
        let config = config.ok_or_else(|| io::Error::other(format!("{topic} has no {key}")))?;
        let value = config.value.as_ref().map(|value| value.as_str().to_owned());
        Ok((value, config.config_source == SOURCE_TOPIC))
    }

    fn client_quota_at(
        &self,
        id: i32,
        client_id: Option<&str>,
        key: &str,
    ) -> io::Result<Option<f64>> {
        let mut component = ComponentData::default();
        component.entity_type = text("client-id");
        component.match_type = if client_id.is_some() { MATCH_EXACT } else { MATCH_DEFAULT };
        component._match = client_id.map(text);
        let mut request = DescribeClientQuotasRequest::default();
        request.components = vec![component];
        request.strict = true;
        let answer = Wire::connect(self.address(id))?.call(0, &request)?;
        if answer.error_code != 0 {
            return Err(io::Error::other(describe(answer.error_code)));
        }
        let entries = answer.entries.unwrap_or_default();
        let value = entries.iter().flat_map(|entry| &entry.values).find(|v| v.key.as_str() == key);
        Ok(value.map(|value| value.value))
    }
}

fn config_change(key: &str, value: Option<&str>) -> AlterableConfig {
    let mut config = AlterableConfig::default();
    config.name = text(key);
    config.config_operation = if value.is_some() { CONFIG_SET } else { CONFIG_DELETE };
    config.value = value.map(text);
    config
}
