//! Topics that the metadata loop has created: those that records wait for, and those that the
//! application asks for.

use std::sync::Arc;

use super::metadata_loop::MetadataLoop;
use super::metadata_mailbox::{Message, MetadataMailbox, TellCreation};
use super::topic_creator::{Outcome, Wanting, Whom, Wishes};
use crate::config::NewTopic;
use crate::error::CreateTopicErrorKind;
use crate::logging as log;

impl MetadataLoop {
    /// Creates topics that records wait for and that do not exist.
    pub(super) fn create_wanted(&mut self, now: u64) {
        let (round, topics) = self.machine.poll_creatable(now);
        if topics.is_empty() {
            return;
        }
        let accumulator = &self.parts.accumulator;
        let mut wishes = Wishes::new();
        for topic in topics {
            let known = accumulator.known_topic(&topic);
            if let Some(wish) = known.and_then(|topic| topic.settings.create.clone()) {
                wishes.insert(topic, wish);
            }
        }
        if wishes.is_empty() {
            // Nobody has a handle to them any more.
            return self.machine.handle_creation_over(round);
        }
        let mailbox = self.mailbox.clone();
        // Dropped with the job, at the latest: then no topic's outcome is open any more.
        let over = CreationOver(mailbox.clone(), round);
        self.creator.begin(Wanting::Producer, wishes, self.whom(), move |topic, outcome| {
            let _over = &over;
            log_outcome(topic, &outcome);
            let outcome = match outcome {
                Ok(()) | Err(CreateTopicErrorKind::AlreadyExists) => Ok(()),
                Err(kind) => Err(kind.to_problem()),
            };
            mailbox.send(Message::Created(topic.clone(), round, outcome));
        });
    }

    /// Creates a topic for the application.
    pub(super) fn create_topic(
        &mut self,
        name: Arc<str>,
        topic: Arc<NewTopic>,
        told: TellCreation,
    ) {
        let mailbox = self.mailbox.clone();
        let wishes = [(name, topic)].into();
        self.creator.begin(Wanting::Application, wishes, self.whom(), move |topic, outcome| {
            log_outcome(topic, &outcome);
            // A failure is the application's own: the producer may be told another outcome.
            if matches!(outcome, Ok(()) | Err(CreateTopicErrorKind::AlreadyExists)) {
                mailbox.send(Message::TopicThere(topic.clone()));
            }
            told(outcome);
        });
    }

    /// The brokers that are known, and those to start from.
    fn whom(&self) -> Whom {
        let snapshot = self.machine.snapshot();
        let mut servers: Vec<_> = snapshot.brokers.values().cloned().collect();
        for address in &self.parts.machine.bootstrap {
            if !servers.contains(address) {
                servers.push(address.clone());
            }
        }
        Whom { servers, cluster_id: snapshot.cluster_id.clone() }
    }
}

/// Says, when it goes, that the topics which the producer wanted in this round are settled.
struct CreationOver(Arc<MetadataMailbox>, u64);

impl Drop for CreationOver {
    fn drop(&mut self) {
        self.0.send(Message::CreationOver(self.1));
    }
}

fn log_outcome(topic: &str, outcome: &Outcome) {
    match outcome {
        Ok(()) => log::info!("topic {topic}: created"),
        Err(kind) => log::debug!("topic {topic}: not created: {kind}"),
    }
}
