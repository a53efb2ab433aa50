//! How a consumer's thread has its group's coordinator asked.

use super::fetch_loop::{FetchLoop, Purpose};
use crate::engine::connection::{Connection, RequestKind};
use crate::engine::fetch::GroupQuestion;
use crate::engine::protocol::{
    ApiKey, FindCoordinatorRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use crate::problem::{Problem, ProblemKind};

/// What is asked on the connection to the coordinator, or to a broker that can name it.
const APIS: [ApiKey; 3] = [ApiKey::FindCoordinator, ApiKey::OffsetCommit, ApiKey::OffsetFetch];

impl FetchLoop {
    /// Connects to the group's coordinator where calls or partitions wait for it, and asks it.
    pub(super) fn drive_group(&mut self, now: u64) {
        self.calls.begin_slots(now, &mut self.fetcher, &mut self.coordinator);
        if self.coordinator.poll_close()
            && let Some(number) = self.number_of(|it| matches!(it, Purpose::Group(_)))
        {
            self.close(number);
        }
        while let Some((id, address)) = self.coordinator.poll_connect(now, self.machine.snapshot())
        {
            self.open(now, Purpose::Group(id), address);
            self.handle_links(now);
        }
        self.ask_coordinator(now);
        self.calls.tell_group(now, &mut self.coordinator, &mut self.fetcher);
    }

    fn ask_coordinator(&mut self, now: u64) {
        let Some(number) = self.number_of(|it| matches!(it, Purpose::Group(_))) else { return };
        let Some(connection) = self.links.connection(number) else { return };
        if connection.in_flight() == 0 {
            connection.renew_login(now);
        }
        if !connection.may_send(now) {
            return;
        }
        if let Some(api) = APIS.into_iter().find(|&api| connection.version(api).is_none()) {
            let text = format_args!(
                "the broker speaks no version of {api:?} that this consumer knows: Kafka does \
                 from 0.10 on, and says so"
            );
            let problem = Problem::new(ProblemKind::BrokerTooOld, text);
            return self.coordinator.handle_lacking(&problem);
        }
        let Some(question) = self.coordinator.poll_question(now) else { return };
        if let Some(group) = self.coordinator.group() {
            send(connection, now, group, &question);
        }
    }
}

fn send(connection: &mut Connection, now: u64, group: &str, question: &GroupQuestion) {
    let (kind, api) = match question {
        GroupQuestion::Find => (RequestKind::FindCoordinator, ApiKey::FindCoordinator),
        GroupQuestion::Commit(_) => (RequestKind::OffsetCommit, ApiKey::OffsetCommit),
        GroupQuestion::Fetch(_) => (RequestKind::OffsetFetch, ApiKey::OffsetFetch),
    };
    let Some(version) = connection.version(api) else { return };
    connection.send_simple(now, kind, version, |version, out| match question {
        GroupQuestion::Find => FindCoordinatorRequest { group }.encode(version, out),
        GroupQuestion::Commit(topics) => {
            let topics: Vec<_> = topics.iter().map(|it| (&*it.0, it.1.clone())).collect();
            OffsetCommitRequest { group, topics: &topics }.encode(version, out);
        }
        GroupQuestion::Fetch(topics) => {
            let topics: Vec<_> = topics.iter().map(|it| (&*it.0, it.1.clone())).collect();
            OffsetFetchRequest { group, topics: &topics }.encode(version, out);
        }
    });
}
