//! What is known of all hosts, and what Alertmanager is to be told of it. No clock, no I/O.
//!
//! Of a host's alerts `alerts/active` is the truth: each such message replaces what was known, in the order of arrival.
//! Transitions are for programs that publish no such state, and a moment faster. Hosts themselves are judged once a
//! second, and only while the broker is there and has had time to tell what it retains: who hears nothing knows nothing.

mod host;
mod judge;
mod labels;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use notify::feed::{self, Feed, Firing};
use notify::silence::Silence;
use wire::messages::{ActiveAlerts, Alert, AlertState, AlertTransition, HostState, Status};
use wire::{Head, HostName, LabelSet, Timestamp};

use host::{Host, Known};

/// Silences that are remembered.
const MOST_SILENCES: usize = 1000;

/// Conditions of one silence.
const MOST_MATCHERS: usize = 32;

/// Records that were on their way when their host was lost still come in; what comes later is a sign of life.
const STRAGGLERS: Duration = Duration::from_secs(5);

/// Nobody looked for longer: the machine slept, or its clock was set.
const SLEPT: Duration = Duration::from_secs(30);

/// What is made of hosts and alerts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Labels of every alert that lacks them.
    pub labels: LabelSet,
    /// The label that says of which host an alert is, whatever the alert says itself; `None`: there is none.
    pub host_label: Option<String>,
    /// The label `job` of alerts about hosts.
    pub job: String,
    /// `generatorURL`; empty for none.
    pub generator_url: String,
    /// Hosts that are remembered.
    pub most_hosts: usize,
    /// Alerts of one host.
    pub most_alerts_per_host: usize,
    /// How long after connecting nothing is judged.
    pub settle: Duration,
    /// How long after connecting a host is forgotten of which the broker has nothing any more.
    pub forget_after: Duration,
    /// How long after a clean stop a host's alerts are over.
    pub stopped_after: Duration,
    /// Of hosts that are gone; `None`: not raised. The same below.
    pub down: Option<Down>,
    /// Of hosts that come and go.
    pub flapping: Option<Flapping>,
    /// Of hosts whose clock is wrong.
    pub skew: Option<Skew>,
    /// Of hosts that declare losses.
    pub dropped: Option<Dropped>,
}

/// `HostDown`
#[derive(Debug, Clone)]
pub struct Down {
    /// Label.
    pub severity: String,
    /// How long a host may be away.
    pub grace: Duration,
    /// How long one that is connected may say nothing; at least three of its intervals. `None`: for ever, as where nobody listens.
    pub silent_after: Option<Duration>,
}

/// `HostFlapping`
#[derive(Debug, Clone)]
pub struct Flapping {
    /// Label.
    pub severity: String,
    /// More comings and goings than these
    pub changes: usize,
    /// within this time.
    pub window: Duration,
}

/// `ClockSkew`
#[derive(Debug, Clone)]
pub struct Skew {
    /// Label.
    pub severity: String,
    /// How far a host's clock may be from ours.
    pub bound: Duration,
}

/// `RecordsDropped`
#[derive(Debug, Clone)]
pub struct Dropped {
    /// Label.
    pub severity: String,
    /// How long after the last loss it is over.
    pub hold: Duration,
}

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The message can't be read, or names another host than its topic.
    Unreadable,
    /// There are as many hosts as are remembered.
    Hosts,
    /// There are as many alerts as are taken, of this host or in all.
    Alerts,
    /// Labels that Alertmanager would not take.
    Labels,
    /// A silence that can't be understood, or one too many.
    Silence,
}

impl Refusal {
    /// All.
    pub const ALL: [Self; 5] = [Self::Unreadable, Self::Hosts, Self::Alerts, Self::Labels, Self::Silence];

    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Hosts => "hosts",
            Self::Alerts => "alerts",
            Self::Labels => "labels",
            Self::Silence => "silence",
        }
    }
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Hosts that are remembered.
    pub hosts: usize,
    /// Those that are connected.
    pub online: usize,
    /// Alerts about hosts, by [`judge::NAMES`].
    pub own: [usize; judge::NAMES.len()],
    /// Silences that are remembered.
    pub silences: usize,
}

pub use judge::NAMES;
pub(crate) use labels::is_name as is_label_name;

/// All hosts.
#[derive(Debug)]
pub struct Fleet {
    settings: Settings,
    feed: Feed,
    hosts: HashMap<HostName, Host>,
    /// Each with the connection in which the broker had it.
    silences: BTreeMap<String, (u64, Silence)>,
    /// Since when the broker is there.
    connected: Option<Timestamp>,
    /// Which connection this is, from 1.
    connection: u64,
    /// The broker had time, once, to tell all that it retains.
    settled: bool,
    /// Our own clock is in doubt: most hosts differ from it.
    doubt: bool,
    /// When it was last looked at.
    looked_at: Option<Timestamp>,
    refused: BTreeMap<Refusal, (u64, String)>,
}

impl Fleet {
    /// Knows nobody yet. `targets`: how many Alertmanagers there are.
    pub fn new(settings: Settings, feed: feed::Settings, targets: usize) -> Self {
        Self {
            settings,
            feed: Feed::new(feed, targets),
            hosts: HashMap::new(),
            silences: BTreeMap::new(),
            connected: None,
            connection: 0,
            settled: false,
            doubt: false,
            looked_at: None,
            refused: BTreeMap::new(),
        }
    }

    /// What Alertmanagers are told.
    pub fn feed(&mut self) -> &mut Feed {
        &mut self.feed
    }

    /// The broker is there and tells what it retains.
    pub fn connected(&mut self, now: Timestamp) {
        self.connected = Some(now);
        self.connection += 1;
    }

    /// The broker is away: everything stays as it is.
    pub fn disconnected(&mut self) {
        self.connected = None;
    }

    /// Something that can't be taken.
    pub fn refuse(&mut self, refusal: Refusal, why: impl FnOnce() -> String) {
        let (count, last) = self.refused.entry(refusal).or_default();
        *count += 1;
        *last = why();
    }

    /// What was refused since the last call, with an example of each.
    pub fn take_refused(&mut self) -> BTreeMap<Refusal, (u64, String)> {
        std::mem::take(&mut self.refused)
    }

    fn host(&mut self, name: &HostName, now: Timestamp) -> Option<&mut Host> {
        if !self.hosts.contains_key(name) {
            if self.hosts.len() >= self.settings.most_hosts {
                self.refuse(Refusal::Hosts, || format!("{name} is one host too many; [fleet] most_hosts decides"));
                return None;
            }
            self.hosts.insert(name.clone(), Host::new(now));
        }
        let connection = self.connection;
        let host = self.hosts.get_mut(name)?;
        host.seen = connection;
        Some(host)
    }

    /// A host's status. `retained`: the broker had it.
    pub fn status(&mut self, status: &Status, retained: bool, now: Timestamp) {
        let (settled, grace) = (self.settled, self.settings.down.as_ref().map_or(Duration::ZERO, |down| down.grace));
        let window = self.settings.flapping.as_ref().map(|flapping| (flapping.changes, flapping.window));
        let hold = self.settings.dropped.as_ref().map(|dropped| dropped.hold);
        let Some(host) = self.host(&status.host, now) else { return };
        let is_online = status.state == HostState::Online;
        let same = host.known.as_ref().is_some_and(|known| known.is_online == is_online && known.boot == status.boot);
        if !same {
            // One that was lost before this program began was lost for as long as it may be.
            host.since = if settled { now } else { now.minus(grace) };
            if let Some((changes, window)) = window
                && !retained
                && host.known.is_some()
            {
                host.changed(now, changes, window);
            }
        }
        if !retained && is_online {
            host.heard(status.time, now);
        }
        if !status.labels.is_empty() || is_online {
            host.labels = status.labels.clone();
        }
        if let Some(interval) = status.interval_seconds.filter(|interval| interval.is_finite()) {
            host.interval = Some(Duration::from_secs_f64(interval.clamp(0.0, 86_400.0)));
        }
        host.known = Some(Known {
            is_online,
            stopped: status.stopped && !is_online,
            boot: status.boot.clone(),
            time: status.time,
        });
        if let Some(hold) = hold {
            host.losses(status, now, hold);
        }
    }

    /// Somebody has cleared a host's status: it is no more.
    pub fn forget(&mut self, name: &HostName, now: Timestamp) {
        if let Some(host) = self.hosts.remove(name) {
            for key in host.alerts.iter().chain(host.own.iter().flatten()) {
                self.feed.resolve(*key, now, now);
            }
        }
    }

    /// The alerts that fire on a host.
    pub fn active(&mut self, message: &ActiveAlerts, retained: bool, now: Timestamp) {
        let (most, stopped_after) = (self.settings.most_alerts_per_host, self.settings.stopped_after);
        let Some(host) = self.host(&message.host, now) else { return };
        host.active = Some(message.time);
        if !retained {
            host.heard(message.time, now);
        }
        let before = std::mem::take(&mut host.alerts);
        // A host that was stopped some time ago has none, whatever it said before.
        let away = host.is_put_away(stopped_after, now);
        let surplus = if away { message.alerts.len() } else { message.alerts.len().saturating_sub(most) };
        if surplus > 0 && !away {
            self.refuse(Refusal::Alerts, || {
                format!("{} has {surplus} alerts more than [fleet] most_alerts_per_host", message.host)
            });
        }
        let mut keys = std::collections::HashSet::new();
        for alert in message.alerts.iter().take(message.alerts.len() - surplus) {
            keys.extend(self.fire(&message.host, alert, now));
        }
        for key in before.difference(&keys) {
            self.feed.resolve(*key, message.time, now);
        }
        if let Some(host) = self.hosts.get_mut(&message.host) {
            host.alerts = keys;
        }
    }

    /// Somebody has cleared a host's alerts.
    pub fn clear_active(&mut self, name: &HostName, now: Timestamp) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        for key in std::mem::take(&mut host.alerts) {
            self.feed.resolve(key, now, now);
        }
    }

    /// One alert began or ended.
    pub fn transition(&mut self, head: &Head, transition: &AlertTransition, now: Timestamp) {
        let (settled, most) = (self.settled, self.settings.most_alerts_per_host);
        let stopped_after = self.settings.stopped_after;
        let Some(host) = self.host(&head.host, now) else { return };
        // One from before the state that is known says nothing new, and before the first it may be old.
        let is_old = host.active.map_or(!settled, |active| head.time <= active);
        if is_old || host.is_put_away(stopped_after, now) {
            return;
        }
        let room = host.alerts.len() < most;
        match transition.state {
            AlertState::Firing if room => {
                let key = self.fire(&head.host, &transition.alert, now);
                if let Some(host) = self.hosts.get_mut(&head.host) {
                    host.alerts.extend(key);
                }
            }
            AlertState::Firing => self
                .refuse(Refusal::Alerts, || format!("{} has more alerts than [fleet] most_alerts_per_host", head.host)),
            // Alertmanager knows no such thing.
            AlertState::Acknowledged => {}
            AlertState::Resolved => {
                let Ok(labels) = labels::of_alert(&transition.alert.labels, &head.host, &self.settings) else { return };
                let key = feed::Key::of(&labels);
                if self.hosts.get_mut(&head.host).is_some_and(|host| host.alerts.remove(&key)) {
                    self.feed.resolve(key, transition.alert.resolved_at.unwrap_or(head.time), now);
                }
            }
        }
    }

    fn fire(&mut self, host: &HostName, alert: &Alert, now: Timestamp) -> Option<feed::Key> {
        let labels = match labels::of_alert(&alert.labels, host, &self.settings) {
            Ok(labels) => labels,
            Err(why) => {
                self.refuse(Refusal::Labels, || format!("an alert of {host} can't be told: {why}"));
                return None;
            }
        };
        let firing = Firing {
            labels,
            annotations: labels::annotations(&alert.annotations),
            starts_at: alert.fired_at,
            generator_url: self.settings.generator_url.clone(),
        };
        match self.feed.fire(firing, now) {
            Ok(key) => Some(key),
            Err(full) => {
                self.refuse(Refusal::Alerts, || format!("an alert of {host} is not told: {full}"));
                None
            }
        }
    }

    /// A host made a record just now, or some time ago: `head` says when.
    pub fn beat(&mut self, head: &Head, now: Timestamp) {
        // Who publishes without a status is no host to be missed.
        let Some(host) = self.hosts.get_mut(&head.host) else { return };
        host.heard = now;
        // One that is sent again tells nothing of the clock.
        if let (Some(boot), Some(seq)) = (&head.boot, head.seq)
            && host.is_new(boot, seq)
        {
            host.heard(head.time, now);
            let since = host.since;
            if let Some(known) = host.known.as_mut().filter(|known| !known.is_online)
                && !known.stopped
                && known.boot == *boot
                && now >= since.plus(STRAGGLERS)
            {
                // Its birth did not get here.
                known.is_online = true;
                host.since = now;
            }
        }
    }

    /// A silence is there, or no more.
    pub fn silence(&mut self, id: &str, silence: Option<wire::messages::Silence>) {
        let Some(silence) = silence else {
            self.silences.remove(id);
            return;
        };
        if let Some(now) = self.looked_at.filter(|_| self.silences.len() >= MOST_SILENCES) {
            self.silences.retain(|_, (_, silence)| now < silence.ends_at);
        }
        let full = self.silences.len() >= MOST_SILENCES && !self.silences.contains_key(id);
        match checked(id, silence) {
            Ok(silence) if !full => drop(self.silences.insert(id.to_owned(), (self.connection, silence))),
            Ok(_) => self.refuse(Refusal::Silence, || format!("silence {id} is one too many")),
            Err(why) => {
                self.silences.remove(id);
                self.refuse(Refusal::Silence, || format!("silence {id} can't be understood: {why}"));
            }
        }
    }

    /// Once a second: judges hosts, and puts what is due into the Alertmanagers' queues.
    pub fn tick(&mut self, now: Timestamp) {
        let before = self.looked_at.replace(now);
        if before.is_some_and(|before| now < before || now > before.plus(SLEPT)) {
            // Whoever was not heard meanwhile may have said something, and nothing may wait for a time that was never right.
            self.connected = self.connected.map(|_| now);
            self.hosts.values_mut().for_each(|host| host.clock_was_set(now));
        }
        if self.connected.is_some_and(|at| now >= at.plus(self.settings.settle)) {
            self.settled = true;
            self.judge(now);
        }
        self.feed.tick(now);
    }

    /// Whether the broker had time to tell what it retains.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether our own clock is in doubt.
    pub fn doubts_own_clock(&self) -> bool {
        self.doubt
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { hosts: self.hosts.len(), silences: self.silences.len(), ..Counts::default() };
        for host in self.hosts.values() {
            counts.online += usize::from(host.known.as_ref().is_some_and(|known| known.is_online));
            for (count, own) in counts.own.iter_mut().zip(&host.own) {
                *count += usize::from(own.is_some());
            }
        }
        counts
    }
}

fn checked(id: &str, silence: wire::messages::Silence) -> Result<Silence, String> {
    use rules::labels::{MatchOp, Matcher};
    use wire::messages::MatchOperator;

    if silence.matchers.is_empty() || silence.matchers.len() > MOST_MATCHERS {
        return Err(format!("it has {} matchers; from 1 to {MOST_MATCHERS} are taken", silence.matchers.len()));
    }
    let matcher = |matcher: &wire::messages::Matcher| {
        let op = match matcher.operator {
            MatchOperator::Equal => MatchOp::Equal,
            MatchOperator::NotEqual => MatchOp::NotEqual,
            MatchOperator::Regex => MatchOp::Regex,
            MatchOperator::NotRegex => MatchOp::NotRegex,
        };
        Matcher::new(&matcher.name, op, &matcher.value).map_err(|error| format!("{}: {error}", matcher.name))
    };
    Ok(Silence {
        id: id.to_owned(),
        matchers: silence.matchers.iter().map(matcher).collect::<Result<_, _>>()?,
        starts_at: silence.starts_at,
        ends_at: silence.ends_at,
        created_by: silence.author,
        comment: silence.comment,
        origin: notify::silence::Origin::Fleet,
    })
}
