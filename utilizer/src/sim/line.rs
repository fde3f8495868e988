//! One connection with its hosts, in one task.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use delivery::Millis;
use mqtt::{Client, Event, Events, Message, Options};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use wire::messages::{Confirmation, Control, ControlAction, HostState, TierStatus};
use wire::{HostName, Timestamp, Topic, decode_state};

use super::content::Content;
use super::host::Host;
use super::plan::{Plan, Run};
use super::state::StateFile;
use super::totals::Totals;
use crate::command::{CommandError, is_final};

/// Hosts of one connection up to which their commands are asked for by name: a client may have 64 filters.
pub(super) const MOST_NAMED: usize = 60;

/// A reading that may not be taken yet is looked at again after this.
const BREATH: u64 = 100;

/// How often it is written down what is stored.
const LOWS_EVERY: u64 = 30_000;

/// How long the hosts' goodbyes may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// What all connections have in common.
pub(super) struct Shared {
    /// What is simulated.
    pub(super) plan: Plan,
    /// All runs; the last is the present one.
    pub(super) runs: Vec<Run>,
    /// Makes payloads.
    pub(super) content: Content,
    /// Counts.
    pub(super) totals: Totals,
    /// Readings up to this moment may be taken, in ms since 1970.
    pub(super) allowed: AtomicI64,
    /// Where a killed simulation is found again.
    pub(super) state: Option<StateFile>,
    /// The first refusal of the broker, for the summary.
    pub(super) refusal: Mutex<Option<String>>,
    /// The clock: an instant, and the same moment in ms since 1970.
    pub(super) clock: (Instant, i64),
}

impl Shared {
    /// Now, in ms since 1970 on a clock that never goes back.
    pub(super) fn now(&self) -> Millis {
        Millis(self.clock.1 as u64 + self.clock.0.elapsed().as_millis() as u64)
    }

    fn instant(&self, at: Millis) -> Instant {
        self.clock.0 + Duration::from_millis(at.0.saturating_sub(self.clock.1 as u64))
    }

    fn run(&self) -> &Run {
        self.runs.last().unwrap_or_else(|| unreachable!("BUG: there is no present run"))
    }

    fn refused(&self, reason: &str) {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| reason.to_owned());
    }
}

/// See the [module](self).
pub(super) struct Line {
    shared: std::sync::Arc<Shared>,
    hosts: Vec<Host>,
    by_name: HashMap<HostName, usize>,
    client: Client,
    events: Events,
    most_in_flight: usize,
    connected: bool,
    /// When each host wants to be looked at, and the same sorted by time; what no longer agrees is passed over.
    wake: Vec<u64>,
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    ready: VecDeque<usize>,
    is_ready: Vec<bool>,
    done: Vec<bool>,
    lows_at: u64,
}

/// Names a publish to the client: which host's, and which of its sender's; 0 is a status.
fn publish_id(host: usize, id: u64) -> u64 {
    (host as u64) << 40 | id
}

impl Line {
    /// Starts to connect.
    pub(super) async fn start(
        shared: std::sync::Arc<Shared>,
        mut options: Options,
        hosts: Vec<Host>,
        named: bool,
    ) -> Result<Self, CommandError> {
        options.max_in_flight = u16::try_from(hosts.len() * 2).unwrap_or(u16::MAX).clamp(32, 512);
        let wall = Timestamp::from(SystemTime::now());
        options.will = hosts.first().map(|host| host.last_will(&shared.plan, wall));
        let most_in_flight = usize::from(options.max_in_flight);
        let (client, events) = Client::start(options).map_err(|error| CommandError::Usage(error.to_string()))?;
        let filters = [Topic::all_tier_statuses()]
            .into_iter()
            .chain(hosts.iter().filter(|_| named).map(|host| Topic::all_commands_of(&host.name)));
        let stopped = |_| CommandError::Failed("BUG: the MQTT client stopped by itself".to_owned());
        client.subscribe(filters).await.map_err(stopped)?;
        let count = hosts.len();
        let by_name = hosts.iter().enumerate().map(|(place, host)| (host.name.clone(), place)).collect();
        let lows_at = shared.now().0 + LOWS_EVERY;
        Ok(Self {
            shared,
            hosts,
            by_name,
            client,
            events,
            most_in_flight,
            connected: false,
            wake: vec![u64::MAX; count],
            timers: BinaryHeap::new(),
            ready: (0..count).collect(),
            is_ready: vec![true; count],
            done: vec![false; count],
            lows_at,
        })
    }

    /// Runs until `stop` says so, and gives the hosts back. `heard`: commands that another connection heard for these.
    pub(super) async fn run(
        mut self,
        mut stop: watch::Receiver<bool>,
        mut heard: mpsc::Receiver<Message>,
    ) -> Result<Vec<Host>, CommandError> {
        loop {
            let now = self.shared.now();
            while let Some(&Reverse((at, place))) = self.timers.peek()
                && at <= now.0
            {
                self.timers.pop();
                if self.wake.get(place) == Some(&at) {
                    self.look_at(place);
                }
            }
            self.pump(now)?;
            self.write_lows(now)?;
            let next = self.timers.peek().map_or(u64::MAX, |Reverse((at, _))| *at).min(now.0 + 1_000);
            tokio::select! {
                event = self.events.recv() => self.hear(event)?,
                Some(message) = heard.recv() => self.command(&message),
                () = sleep_until(self.shared.instant(Millis(next))) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.leave().await;
        Ok(self.hosts)
    }

    fn look_at(&mut self, place: usize) {
        if let Some(ready) = self.is_ready.get_mut(place)
            && !std::mem::replace(ready, true)
        {
            self.ready.push_back(place);
        }
    }

    fn look_at_all(&mut self) {
        (0..self.hosts.len()).for_each(|place| self.look_at(place));
    }

    fn has_room(&self) -> bool {
        self.connected && self.client.in_flight() < self.most_in_flight
    }

    /// Lets the hosts that have something to do do it, as far as there is room on the connection.
    fn pump(&mut self, now: Millis) -> Result<(), CommandError> {
        let shared = self.shared.clone();
        let allowed = shared.allowed.load(Ordering::Acquire);
        for _ in 0..self.ready.len() {
            let Some(place) = self.ready.pop_front() else { break };
            let Some(host) = self.hosts.get_mut(place) else { continue };
            host.take_readings(&shared.plan, shared.run(), allowed.min(now.0 as i64), &shared.totals);
            host.keep(shared.state.as_ref(), &shared.totals)?;
            let waits = !self.publish(place, now);
            let Some(host) = self.hosts.get_mut(place) else { continue };
            host.keep(shared.state.as_ref(), &shared.totals)?;
            if let Some(done) = self.done.get_mut(place)
                && *done != host.is_done()
            {
                *done = !*done;
                let change = if *done { 1 } else { u64::MAX };
                Totals::add(&shared.totals.done, change);
            }
            let reading = host.next_reading(&shared.plan, shared.run()).map_or(u64::MAX, |time| time as u64);
            // One that is due and not allowed yet.
            let reading = if reading <= now.0 { now.0 + BREATH } else { reading };
            let sender = if waits { now.0 + BREATH } else { host.sender.wake_at(now).0.max(now.0 + 1) };
            let wake = reading.min(sender);
            if let Some(at) = self.wake.get_mut(place) {
                *at = wake;
            }
            if wake != u64::MAX {
                self.timers.push(Reverse((wake, place)));
            }
            if let Some(ready) = self.is_ready.get_mut(place) {
                *ready = false;
            }
        }
        Ok(())
    }

    /// Publishes what a host has for the broker; `false`: there was no room for all of it.
    fn publish(&mut self, place: usize, now: Millis) -> bool {
        let shared = self.shared.clone();
        if !self.connected {
            return true;
        }
        let Some(host) = self.hosts.get(place) else { return true };
        if host.sender.status_due(now) {
            if !self.has_room() {
                return false;
            }
            let status = host.status(&shared.plan, HostState::Online, Timestamp::from_millis(now.0 as i64));
            if self.client.try_publish(publish_id(place, 0), status).is_err() {
                return false;
            }
            self.hosts.get_mut(place).into_iter().for_each(|host| host.sender.status_sent(now));
        }
        loop {
            if !self.has_room() {
                return false;
            }
            let Some(host) = self.hosts.get_mut(place) else { return true };
            let Some((id, again, message)) = host.publish(&shared.plan, &shared.runs, &shared.content, now) else {
                return true;
            };
            let bytes = message.payload.len() as u64;
            if self.client.try_publish(publish_id(place, id), message).is_err() {
                host.sender.lost(id, now);
                return false;
            }
            Totals::add(&shared.totals.sent, 1);
            Totals::add(&shared.totals.again, u64::from(again));
            Totals::add(&shared.totals.bytes, bytes);
        }
    }

    fn hear(&mut self, event: Option<Event>) -> Result<(), CommandError> {
        let shared = self.shared.clone();
        let now = shared.now();
        let of = |id: u64| ((id >> 40) as usize, id & ((1 << 40) - 1));
        match event {
            Some(Event::Connected { .. }) => {
                self.connected = true;
                Totals::add(&shared.totals.connections, 1);
                self.hosts.iter_mut().for_each(|host| host.sender.connected());
                self.look_at_all();
            }
            Some(Event::Disconnected { reason, retry_in }) => {
                if retry_in.is_none() || is_final(reason.cause) {
                    return Err(CommandError::Failed(reason.sentence));
                }
                shared.refused(&reason.sentence);
                if std::mem::take(&mut self.connected) {
                    Totals::add(&shared.totals.connections, u64::MAX);
                    self.hosts.iter_mut().for_each(|host| host.sender.disconnected(now));
                    self.look_at_all();
                }
            }
            Some(Event::Subscribed { filter }) => {
                if filter == Topic::all_tier_statuses() {
                    self.hosts.iter_mut().for_each(|host| host.sender.subscribed(now));
                    self.look_at_all();
                }
            }
            Some(Event::SubscriptionRefused { filter, reason, .. }) => {
                return Err(CommandError::Failed(format!(
                    "{reason}, for {filter}: the simulation's user must be allowed to be each of its hosts"
                )));
            }
            Some(Event::Acked { id, .. }) => {
                let (place, id) = of(id);
                if id > 0 {
                    Totals::add(&shared.totals.acked, 1);
                    self.hosts.get_mut(place).into_iter().for_each(|host| host.sender.puback(id, now));
                }
                self.look_at(place);
            }
            Some(Event::Lost { id }) => {
                let (place, id) = of(id);
                if id > 0 {
                    Totals::add(&shared.totals.unanswered, 1);
                    self.hosts.get_mut(place).into_iter().for_each(|host| host.sender.lost(id, now));
                }
                self.look_at(place);
            }
            Some(Event::Refused { reason, .. }) => {
                // It is due again in its time, as if nobody had answered.
                Totals::add(&shared.totals.refused, 1);
                shared.refused(&reason);
            }
            Some(Event::Received { message, ack }) => {
                self.client.ack(ack);
                self.command(&message);
            }
            None => return Err(CommandError::Failed("BUG: the MQTT client ended by itself".to_owned())),
        }
        Ok(())
    }

    fn command(&mut self, message: &Message) {
        let shared = self.shared.clone();
        let now = shared.now();
        match message.topic.parse() {
            Ok(Topic::Tier(..)) => {
                let Ok(status) = decode_state::<TierStatus>("tier status", &message.payload) else { return };
                self.hosts.iter_mut().for_each(|host| host.sender.tier_status(&status));
                self.look_at_all();
            }
            Ok(Topic::Confirmed(host, group, member)) => {
                let Some(&place) = self.by_name.get(&host) else { return };
                let Ok(said) = decode_state::<Confirmation>("confirmed", &message.payload) else { return };
                Totals::add(&shared.totals.confirmations, 1);
                if let Some(host) = self.hosts.get_mut(place) {
                    host.confirmed(&group, &member, &said, now, &shared.totals);
                }
                self.look_at(place);
            }
            Ok(Topic::Control(host)) => {
                let Some(&place) = self.by_name.get(&host) else { return };
                let Ok(control) = decode_state::<Control>("control", &message.payload) else { return };
                if let (ControlAction::RetireGroup, Some(group)) = (control.action, control.group)
                    && let Some(host) = self.hosts.get_mut(place)
                {
                    host.sender.retire(&group, control.time);
                }
                self.look_at(place);
            }
            _ => {}
        }
    }

    fn write_lows(&mut self, now: Millis) -> Result<(), CommandError> {
        let Some(state) = self.shared.state.as_ref().filter(|_| self.lows_at <= now.0) else { return Ok(()) };
        self.lows_at = now.0 + LOWS_EVERY;
        state.low(self.hosts.iter().flat_map(Host::lows).collect())
    }

    /// Says goodbye for each host, as a stopped agent does.
    async fn leave(&mut self) {
        let shared = self.shared.clone();
        if let Some(state) = &shared.state {
            // Without it, a later run would send again what is stored: no harm.
            let _ = state.low(self.hosts.iter().flat_map(Host::lows).collect());
        }
        let wall = Timestamp::from(SystemTime::now());
        let goodbyes = async {
            let mut hosts = self.hosts.iter().peekable();
            while hosts.peek().is_some() && self.connected {
                while self.client.in_flight() < self.most_in_flight
                    && let Some(host) = hosts.next()
                {
                    let status = host.status(&shared.plan, HostState::Offline, wall);
                    let _ = self.client.try_publish(publish_id(0, 0), status);
                }
                match self.events.recv().await {
                    Some(Event::Received { ack, .. }) => self.client.ack(ack),
                    Some(Event::Disconnected { .. }) | None => return,
                    Some(_) => {}
                }
            }
            crate::command::leave(&self.client, &mut self.events).await;
        };
        let _ = timeout(FAREWELL, goodbyes).await;
    }
}
