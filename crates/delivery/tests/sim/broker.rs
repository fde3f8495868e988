//! A broker with default settings: it acknowledges and drops, forgets what it retained when it restarts, sends twice, and
//! publishes last wills late.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use wire::messages::{Confirmation, Status, TierStatus};
use wire::{HostName, Timestamp};

use super::names::{GROUPS, Rec};
use super::{CH, World};

/// What arrives at an agent.
#[derive(Clone)]
pub(crate) enum ToAgent {
    Tier(Rc<TierStatus>),
    Confirmed(u8, usize, Rc<Confirmation>),
    Retire(u8, Timestamp),
}

/// Messages for an exporter until it has acknowledged them.
#[derive(Default)]
pub(crate) struct Session {
    /// Since when it is not connected.
    gone: Option<u64>,
    queue: BTreeMap<u64, Rec>,
    recent: VecDeque<Rec>,
}

#[derive(Default)]
pub(crate) struct Broker {
    pub(crate) up: bool,
    pub(crate) sessions: BTreeMap<usize, Session>,
    pub(crate) tiers: BTreeMap<usize, Rc<TierStatus>>,
    pub(crate) hosts: BTreeMap<HostName, Rc<Status>>,
    pub(crate) messages: u64,
    /// Session expiry.
    pub(crate) forgets_after: u64,
}

impl World {
    fn session_of(&mut self, exporter: usize) -> Option<&mut Session> {
        let now = self.now;
        let expiry = self.broker.forgets_after;
        let expired = |session: &Session| session.gone.is_some_and(|gone| now > gone + expiry);
        if self.broker.sessions.get(&exporter).is_some_and(expired) {
            self.broker.sessions.remove(&exporter);
        }
        self.broker.sessions.get_mut(&exporter)
    }

    /// An exporter has connected: what waits for it is sent again.
    pub(crate) fn broker_connected(&mut self, exporter: usize) {
        if self.exporters[exporter].will {
            self.publish_will(exporter);
        }
        if self.session_of(exporter).is_none() {
            self.broker.sessions.insert(exporter, Session::default());
            return;
        }
        let again = self.random.chance(self.faults.duplicates);
        let Some(session) = self.session_of(exporter) else { return };
        session.gone = None;
        let waiting: Vec<u64> = session.queue.keys().copied().collect();
        let twice: Vec<Rec> = if again { session.recent.iter().copied().collect() } else { Vec::new() };
        waiting.into_iter().for_each(|id| self.send(exporter, id));
        twice.into_iter().for_each(|record| self.enqueue(exporter, record));
    }

    /// An exporter's session ends for good.
    pub(crate) fn broker_unsubscribe(&mut self, exporter: usize) {
        self.broker.sessions.remove(&exporter);
    }

    pub(crate) fn broker_lost(&mut self, exporter: usize) {
        let now = self.now;
        if !self.broker.up {
            return;
        }
        if let Some(session) = self.broker.sessions.get_mut(&exporter) {
            session.gone = Some(now);
        }
        self.exporters[exporter].will = true;
        let epoch = self.exporters[exporter].epoch;
        let delay = self.random.pick(&[100, 100, 45_000]);
        self.after(delay, move |world| {
            let of = &world.exporters[exporter];
            if of.will && world.broker.up && of.epoch == epoch {
                world.publish_will(exporter);
            }
        });
    }

    fn publish_will(&mut self, exporter: usize) {
        self.exporters[exporter].will = false;
        let status = self.exporters[exporter].announcement(false, self.exporters[exporter].connected_at);
        self.publish_tier(exporter, Some(status));
    }

    fn enqueue(&mut self, exporter: usize, record: Rec) {
        let (dropped, limit) = (self.random.chance(self.faults.drop), self.faults.queue);
        self.broker.messages += 1;
        let id = self.broker.messages;
        let Some(session) = self.session_of(exporter) else { return };
        session.recent.push_back(record);
        if session.recent.len() > 5 {
            session.recent.pop_front();
        }
        if dropped || session.queue.len() >= limit {
            return;
        }
        session.queue.insert(id, record);
        if session.gone.is_none() {
            self.send(exporter, id);
        }
    }

    fn send(&mut self, exporter: usize, id: u64) {
        let epoch = self.exporters[exporter].epoch;
        let delay = self.latency();
        self.after(delay, move |world| {
            let of = &world.exporters[exporter];
            if !of.connected || of.epoch != epoch {
                return;
            }
            let record = world.broker.sessions.get(&exporter).and_then(|session| session.queue.get(&id)).copied();
            if let Some(record) = record {
                world.exporter_receives(exporter, record, id);
            }
        });
    }

    /// An exporter acknowledges.
    pub(crate) fn broker_acked(&mut self, exporter: usize, id: u64) {
        if let Some(session) = self.broker.sessions.get_mut(&exporter) {
            session.queue.remove(&id);
        }
    }

    /// A record comes from an agent: one copy for each group, or for each member of a sharded one.
    pub(crate) fn broker_takes(&mut self, record: Rec) {
        for group in 0..self.stores.len() as u8 {
            if !self.stores[group as usize].kinds.contains(record.kind) {
                continue;
            }
            let members: Vec<usize> = (0..self.exporters.len()).filter(|e| self.exporters[*e].group == group).collect();
            let with_session: Vec<usize> = members.into_iter().filter(|e| self.session_of(*e).is_some()).collect();
            if with_session.is_empty() {
                continue;
            }
            if group == CH && !self.rules.share_shards {
                with_session.into_iter().for_each(|exporter| self.enqueue(exporter, record));
            } else {
                let exporter = self.random.pick(&with_session);
                self.enqueue(exporter, record);
            }
        }
    }

    /// A member's announcement is retained, or cleared.
    pub(crate) fn publish_tier(&mut self, exporter: usize, status: Option<TierStatus>) {
        let Some(status) = status else {
            self.broker.tiers.remove(&exporter);
            return;
        };
        let status = Rc::new(status);
        self.broker.tiers.insert(exporter, status.clone());
        for agent in 0..self.agents.len() {
            self.tell(agent, ToAgent::Tier(status.clone()), self.faults.drop);
        }
    }

    /// A message for an agent, which has a clean session: lost if it is not connected.
    pub(crate) fn tell(&mut self, agent: usize, message: ToAgent, drop: u64) {
        if !self.agents[agent].connected || self.random.chance(drop) {
            return;
        }
        let epoch = self.agents[agent].epoch;
        let delay = self.latency();
        self.after(delay, move |world| {
            if world.agents[agent].connected && world.agents[agent].epoch == epoch {
                world.agent_hears(agent, message);
            }
        });
    }

    pub(crate) fn publish_status(&mut self, status: Status) {
        let status = Rc::new(status);
        self.broker.hosts.insert(status.host.clone(), status.clone());
        for exporter in 0..self.exporters.len() {
            if self.exporters[exporter].connected && !self.random.chance(self.faults.drop) {
                self.tell_status(exporter, status.clone());
            }
        }
    }

    pub(crate) fn tell_status(&mut self, exporter: usize, status: Rc<Status>) {
        let epoch = self.exporters[exporter].epoch;
        let delay = self.latency();
        self.after(delay, move |world| {
            if world.exporters[exporter].connected && world.exporters[exporter].epoch == epoch {
                world.exporter_hears(exporter, &status);
            }
        });
    }

    /// The broker dies and comes back.
    pub(crate) fn broker_restart(&mut self, down: u64) {
        if !self.broker.up {
            return;
        }
        self.broker.up = false;
        for agent in 0..self.agents.len() {
            self.agent_disconnected(agent);
        }
        for exporter in 0..self.exporters.len() {
            self.exporters[exporter].will = false;
            self.exporter_disconnected(exporter);
        }
        if self.faults.forgetful {
            self.broker.sessions.clear();
            self.broker.tiers.clear();
            self.broker.hosts.clear();
        } else {
            let back = self.now + down;
            self.broker.sessions.values_mut().for_each(|session| session.gone = Some(back));
        }
        self.after(down, |world| world.broker.up = true);
    }

    /// The operator retires the late group: clears what is retained, and tells every host until none lists it.
    pub(crate) fn retire_late(&mut self) {
        let group = super::LATE;
        let at = self.timestamp();
        let members: Vec<usize> = (0..self.exporters.len()).filter(|e| self.exporters[*e].group == group).collect();
        members.into_iter().for_each(|exporter| self.publish_tier(exporter, None));
        for agent in 0..self.agents.len() {
            self.tell(agent, ToAgent::Retire(group, at), self.faults.drop);
        }
        if !self.rules.retire_once {
            self.after(600_000, |world| {
                let name = GROUPS[super::LATE as usize].parse().unwrap();
                if world.agents.iter().any(|agent| agent.waits_for(&name)) {
                    world.retire_late();
                }
            });
        }
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.now as i64 + 1_000_000)
    }
}
