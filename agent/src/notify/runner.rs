//! The thread that decides and sends.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use notify::Notification;
use notify::dispatch::{Ack, Dispatcher};
use notify::notification::Reason;
use notify::queue::{Fate, Queue};
use notify::receivers::Outcome;
use notify::silence::{Origin, Silence};
use notify::text::line;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, JoinError, JoinSet};
use tracing::{error, info, warn};
use wire::Timestamp;
use wire::messages::{self, Alert, AlertState, AlertTransition};

use super::Notify;
use super::dead::DeadLetters;
use super::deliver::Deliverer;
use super::feeder::Feeder;
use super::heard::Heard;
use super::states::{Kept, Queued, States};
use super::told::Told;
use crate::outbox::Post;
use crate::rules::Firing;

/// Requests that wait for the thread.
const MOST_COMMANDS: usize = 256;

/// Silences of this host and of the fleet.
const MOST_SILENCES: usize = 10_000;

/// How long a silence that is over is still shown.
const SHOWN_AFTER: Duration = Duration::from_secs(5 * 86_400);

/// What notifications that are under way get to arrive when the agent stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Without alerts to look after, silences that are over are forgotten this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// States that could not be written are written so soon again.
const UNWRITTEN: Duration = Duration::from_secs(5);

/// Of what somebody says, in one line of the log.
const SAID: usize = 300;

/// Why notifications find no room.
const CROWDED: &str = "too many wait for it";

/// Templates are rendered and states are written on it.
const STACK: usize = 1 << 20;

/// What the thread works with.
pub struct Parts {
    /// What is configured.
    pub notify: Arc<Notify>,
    /// The alerts that fire.
    pub firing: Firing,
    /// The folder of the states.
    pub states: PathBuf,
    /// Where acknowledgements go; nowhere but to the log without it.
    pub post: Option<Post>,
}

/// Talks to the thread.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    told: watch::Receiver<Arc<Told>>,
}

/// The thread itself.
#[derive(Debug)]
pub struct Running {
    thread: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

/// An alert that fires, and what is done about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The alert.
    pub alert: Alert,
    /// Who takes care of it.
    pub ack: Option<Ack>,
    /// The silence that hides it.
    pub silenced_by: Option<String>,
    /// Whether another alert hides it.
    pub inhibited: bool,
    /// The receivers that its routes lead to.
    pub receivers: Vec<String>,
}

/// What became of a trial: for each way of a receiver, whether it arrived.
pub type Tried = Vec<(String, Outcome)>;

#[derive(Debug)]
enum Command {
    Configure(Arc<Notify>),
    Alerts(oneshot::Sender<Vec<Shown>>),
    Silences(oneshot::Sender<Vec<Silence>>),
    Silence(Box<Silence>, oneshot::Sender<Result<(), String>>),
    Expire(String, oneshot::Sender<Result<(), String>>),
    Fleet(String, Option<messages::Silence>),
    Listens(bool),
    Acknowledge(String, Ack, Option<oneshot::Sender<Vec<Alert>>>),
    Test(String, oneshot::Sender<Result<Tried, String>>),
}

/// The thread is gone, or has too much to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("notifications are being sent; try again")]
pub struct Busy;

impl Handle {
    /// What there is to tell.
    pub fn told(&self) -> Arc<Told> {
        self.told.borrow().clone()
    }

    /// Takes over another configuration.
    pub fn reload(&self, notify: Arc<Notify>) {
        if self.commands.try_send(Command::Configure(notify)).is_err() {
            error!("notifications stay as they are: their thread does not answer; restart the agent");
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Busy> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|_| Busy)?;
        answer.await.map_err(|_| Busy)
    }

    /// The alerts that fire.
    pub async fn alerts(&self) -> Result<Vec<Shown>, Busy> {
        self.ask(Command::Alerts).await
    }

    /// All silences, also those that are over since a few days.
    pub async fn silences(&self) -> Result<Vec<Silence>, Busy> {
        self.ask(Command::Silences).await
    }

    /// Adds a silence, or changes the one with its id.
    pub async fn silence(&self, silence: Silence) -> Result<Result<(), String>, Busy> {
        self.ask(|reply| Command::Silence(Box::new(silence), reply)).await
    }

    /// Ends a silence.
    pub async fn expire(&self, id: String) -> Result<Result<(), String>, Busy> {
        self.ask(|reply| Command::Expire(id, reply)).await
    }

    /// The fleet has a silence, or has it no more.
    pub fn fleet(&self, id: String, silence: Option<messages::Silence>) {
        if self.commands.try_send(Command::Fleet(id, silence)).is_err() {
            warn!("a silence of the fleet was not heard: the thread that sends notifications does not answer");
        }
    }

    /// Whether the broker tells now which silences the fleet has; `false` when a connection begins or ends. What it does not have
    /// any more a minute later is over.
    pub fn listens(&self, to_fleet: bool) {
        // One that has ended has no silences to keep.
        if let Err(TrySendError::Full(_)) = self.commands.try_send(Command::Listens(to_fleet)) {
            warn!("silences of the fleet are kept until they end: the thread that sends notifications does not answer");
        }
    }

    /// Somebody takes care of an alert, by its fingerprint or its name. Gives the alerts.
    pub async fn acknowledge(&self, which: String, ack: Ack) -> Result<Vec<Alert>, Busy> {
        self.ask(|reply| Command::Acknowledge(which, ack, Some(reply))).await
    }

    /// The same, for one who waits for no answer.
    pub fn acknowledged(&self, which: String, ack: Ack) {
        if self.commands.try_send(Command::Acknowledge(which, ack, None)).is_err() {
            warn!("an acknowledgement was not heard: the thread that sends notifications does not answer");
        }
    }

    /// Tries a receiver, without any waiting.
    pub async fn test(&self, receiver: String) -> Result<Result<Tried, String>, Busy> {
        self.ask(|reply| Command::Test(receiver, reply)).await
    }

    /// Returns when the thread has ended, which it does not as long as this is there.
    pub async fn ended(&mut self) {
        while self.told.changed().await.is_ok() {}
    }
}

impl Running {
    /// Tells it to end; what is under way gets 2 s.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // One that is gone already has said why.
            let _ = stop.send(());
        }
    }

    /// Waits for its end.
    pub fn join(mut self) {
        self.stop();
        let _ = self.thread.join();
    }
}

/// Starts the thread.
pub fn spawn(parts: Parts) -> std::io::Result<(Handle, Running)> {
    let (commands, inbox) = mpsc::channel(MOST_COMMANDS);
    let (tell, told) = watch::channel(Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new().name("notify".to_owned()).stack_size(STACK).spawn(move || {
        runtime.block_on(Runner::new(parts, tell).run(inbox, stopped));
        // A name that is being resolved is not waited for.
        runtime.shutdown_background();
    })?;
    Ok((Handle { commands, told }, Running { thread, stop: Some(stop) }))
}

struct Runner {
    notify: Arc<Notify>,
    firing: Firing,
    dispatcher: Dispatcher,
    queue: Queue,
    /// By id; those of the configuration are the dispatcher's.
    silences: BTreeMap<String, Silence>,
    heard: Heard,
    states: States,
    dead: DeadLetters,
    deliverer: Deliverer,
    feeder: Feeder,
    sends: JoinSet<Outcome>,
    /// Target and id of each of them.
    under_way: HashMap<task::Id, (String, String)>,
    post: Option<Post>,
    /// Something was decided that is not yet on the disk, and the queue likewise.
    decided: bool,
    queued: bool,
    /// Something became of what waits.
    progressed: bool,
    /// Notifications that found no room since it was last said, by target.
    crowded: BTreeMap<String, usize>,
    /// Targets that are in trouble, as was said.
    troubled: BTreeMap<String, String>,
    /// Whether what fires is known, so that what does not is over.
    known: bool,
    told: Told,
    tell: watch::Sender<Arc<Told>>,
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Between 0 and 1, for spreading retries.
fn chance() -> f64 {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(random) / f64::from(u32::MAX)
}

impl Runner {
    fn new(parts: Parts, tell: watch::Sender<Arc<Told>>) -> Self {
        let Parts { notify, firing, states, post } = parts;
        let dead = DeadLetters::new(&states);
        let (states, kept) = States::open(&states);
        let now = now();
        let dispatcher = Dispatcher::new(notify.plan.clone(), notify.dispatch.clone(), kept.dispatcher, now);
        let mut runner = Self {
            queue: Queue::new(notify.queue, kept.queue.waiting, kept.queue.progress),
            deliverer: Deliverer::new(&notify),
            feeder: Feeder::new(notify.alertmanager.clone(), &notify.dispatch.external_url),
            notify,
            firing,
            dispatcher,
            silences: BTreeMap::new(),
            heard: Heard::default(),
            states,
            dead,
            sends: JoinSet::new(),
            under_way: HashMap::new(),
            post,
            decided: false,
            queued: false,
            progressed: false,
            crowded: BTreeMap::new(),
            troubled: BTreeMap::new(),
            known: false,
            told: Told::default(),
            tell,
        };
        for (id, silence, origin) in kept.silences {
            match Silence::read(&id, &silence, origin.into()) {
                Ok(silence) => drop(runner.silences.insert(id, silence)),
                Err(error) => warn!("the silence {id} is dropped: {error}"),
            }
        }
        runner.dispatcher.set_silences(runner.silences.values().cloned().collect());
        runner.take_targets();
        runner
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, mut stop: oneshot::Receiver<()>) {
        self.look();
        loop {
            self.work();
            let wake = self.wake();
            tokio::select! {
                biased;
                _ = &mut stop => break,
                Some(done) = self.sends.join_next_with_id() => self.done(done),
                Some(done) = self.feeder.answered() => self.feeder.done(done, now()),
                Ok(()) = self.firing.changed() => self.look(),
                Some(command) = inbox.recv() => {
                    self.obey(command);
                    // Many come at once when the broker tells what the fleet has: they are written together.
                    for _ in 0..MOST_COMMANDS {
                        let Ok(command) = inbox.try_recv() else { break };
                        self.obey(command);
                    }
                }
                () = tokio::time::sleep(wake) => {}
            }
        }
        let farewell = tokio::time::timeout(FAREWELL, async {
            while let Some(done) = self.sends.join_next_with_id().await {
                self.done(done);
            }
        });
        if farewell.await.is_err() {
            info!(
                "{} notifications are sent again at the next start: it is not known whether they arrived",
                self.sends.len()
            );
        }
        self.keep();
    }

    /// Decides, keeps what was decided, and sends.
    fn work(&mut self) {
        let now = now();
        if let Some(there) = self.heard.all(Instant::now()) {
            let before = self.silences.len();
            self.silences.retain(|id, silence| silence.origin != Origin::Fleet || there.contains(id));
            if self.silences.len() != before {
                self.silences_changed();
            }
        }
        let orders = if self.known { self.dispatcher.due(now) } else { Vec::new() };
        for order in orders {
            let heartbeat = order.notification.reason == Reason::Heartbeat;
            (self.decided, self.queued) = (self.decided || !heartbeat, self.queued || !heartbeat);
            self.push(&order.target, order.notification, now);
        }
        let mut ready = Vec::new();
        while let Some((target, notification)) = self.queue.next(now) {
            self.progressed |= notification.reason != Reason::Heartbeat;
            ready.push((target, notification));
        }
        for (target, count) in std::mem::take(&mut self.crowded) {
            error!("{count} notifications to {target} were given up: {CROWDED}");
        }
        // What is about to be sent stays as it is, also after a crash: whoever gets it twice can tell.
        self.keep();
        for (target, notification) in ready {
            self.send(target, notification, now);
        }
        self.feeder.work(&mut self.deliverer, now);
        self.tell(now);
    }

    /// What can't be written now is tried again in a moment.
    fn keep(&mut self) {
        // Where nobody is told anything, there is nothing to remember, and perhaps no folder for it.
        if self.notify.is_empty() && self.silences.is_empty() && !self.states.are_there() {
            (self.decided, self.queued, self.progressed) = (false, false, false);
            return;
        }
        let (decided, queued) = (self.decided, self.queued || self.progressed && self.queue.outgrown());
        if decided || queued {
            let written = match decided {
                true => self.states.write(self.kept()),
                false => self.states.write_queue(self.queue.saved()),
            };
            if written {
                (self.decided, self.queued, self.progressed) = (false, false, false);
                self.queue.written();
            }
        } else if self.progressed {
            self.progressed = !self.states.write_progress(self.queue.progress());
        }
    }

    fn kept(&self) -> Kept {
        let silences = self.silences.values();
        Kept {
            dispatcher: self.dispatcher.saved(),
            silences: silences.map(|silence| (silence.id.clone(), silence.written(), silence.origin.into())).collect(),
            queue: Queued::of(self.queue.saved()),
        }
    }

    fn push(&mut self, target: &str, notification: Notification, now: Timestamp) {
        if let Some((target, gone)) = self.queue.push(target, notification, now) {
            *self.crowded.entry(target.clone()).or_default() += 1;
            self.bury(&target, gone, CROWDED, now);
        }
    }

    fn send(&mut self, target: String, notification: Notification, now: Timestamp) {
        let id = notification.id.clone();
        let work = self.deliverer.prepare(&target, &notification, now);
        if !self.troubled.contains_key(&target) {
            self.told.note_latency(&notification, now);
        }
        let task = self.sends.spawn(work);
        self.under_way.insert(task.id(), (target, id));
    }

    fn done(&mut self, done: Result<(task::Id, Outcome), JoinError>) {
        let (task, outcome) = match done {
            Ok(done) => done,
            Err(panic) => {
                error!("BUG: sending a notification failed: {panic}");
                (panic.id(), Outcome::Retry(None, "BUG: sending it failed".to_owned()))
            }
        };
        let Some((target, id)) = self.under_way.remove(&task) else { return };
        let now = now();
        self.progressed = true;
        match self.queue.done(&target, &id, outcome, now, chance()) {
            Fate::Sent => {
                if self.troubled.remove(&target).is_some() {
                    info!("notifications reach {target} again");
                }
            }
            Fate::Later(then, why) => {
                if self.troubled.insert(target.clone(), why.clone()).as_deref() != Some(why.as_str()) {
                    let wait = Duration::from_millis((then.as_millis() - now.as_millis()).max(0).unsigned_abs());
                    warn!(
                        "a notification did not reach {target}: {why}; it is sent again in {:.0} s",
                        wait.as_secs_f64()
                    );
                }
            }
            Fate::GivenUp(notification, why) => self.given_up(&target, *notification, &why, now),
            Fate::Unknown => {}
        }
    }

    /// A notification is lost to its receiver: another is told, and it is kept for whoever looks.
    fn given_up(&mut self, target: &str, notification: Notification, why: &str, now: Timestamp) {
        if notification.reason == Reason::Heartbeat {
            return;
        }
        error!("a notification of {} alerts to {target} was given up: {why}", notification.alerts.len());
        self.bury(target, notification, why, now);
    }

    fn bury(&mut self, target: &str, notification: Notification, why: &str, now: Timestamp) {
        self.dead.add(target, &notification, why, now);
        if notification.reason == Reason::Failure {
            return;
        }
        let Some(receiver) = self.notify.plan.report_to(&notification.receiver).map(str::to_owned) else { return };
        let labels = &self.notify.dispatch.labels;
        let report = Notification::failure(&receiver, target, why, &notification, labels, now);
        for other in self.notify.plan.targets(&receiver).to_vec() {
            self.queued = true;
            self.push(&other.name, report.clone(), now);
        }
    }

    /// Looks at what fires.
    fn look(&mut self) {
        // The thread that evaluates says in a moment what fired before a restart.
        let Some(firing) = self.firing.borrow_and_update().clone() else { return };
        self.known = true;
        self.decided = true;
        self.dispatcher.observe(firing.iter(), now());
        self.feeder.observe(firing.iter(), now());
    }

    fn wake(&self) -> Duration {
        let now = now();
        let due = [self.dispatcher.next().filter(|_| self.known), self.queue.due(), self.feeder.due()]
            .into_iter()
            .flatten()
            .min();
        let wait = due.map(|due| Duration::from_millis((due.as_millis() - now.as_millis()).max(0).unsigned_abs()));
        let longest = if self.decided || self.queued || self.progressed { UNWRITTEN } else { LONGEST_SLEEP };
        let heard = self.heard.wait(Instant::now()).unwrap_or(longest);
        wait.unwrap_or(longest).min(longest).min(heard)
    }

    fn take_targets(&mut self) {
        let now = now();
        for (target, notification) in self.queue.configure(self.notify.queue, &self.notify.manners()) {
            self.given_up(&target, notification, "the configuration has it no more", now);
        }
    }

    fn obey(&mut self, command: Command) {
        let now = now();
        match command {
            Command::Configure(notify) => {
                self.dispatcher.set_plan(notify.plan.clone(), notify.dispatch.clone(), now);
                self.deliverer = Deliverer::new(&notify);
                if self.feeder.differs(&notify.alertmanager, &notify.dispatch.external_url) {
                    self.feeder = Feeder::new(notify.alertmanager.clone(), &notify.dispatch.external_url);
                    if let Some(firing) = self.firing.borrow().clone() {
                        self.feeder.observe(firing.iter(), now);
                    }
                }
                self.notify = notify;
                (self.decided, self.queued) = (true, true);
                self.take_targets();
            }
            Command::Alerts(reply) => drop(reply.send(self.shown(now))),
            Command::Silences(reply) => drop(reply.send(self.dispatcher.silences().to_vec())),
            Command::Silence(silence, reply) => drop(reply.send(self.silence(*silence))),
            Command::Expire(id, reply) => drop(reply.send(self.expire(&id, now))),
            Command::Fleet(id, silence) => self.fleet(id, silence),
            Command::Listens(true) => self.heard.listens(Instant::now()),
            Command::Listens(false) => self.heard.begin(),
            Command::Acknowledge(which, ack, reply) => {
                let found = self.dispatcher.acknowledge(&which, &ack);
                self.decided |= !found.is_empty();
                found.iter().for_each(|alert| self.publish(alert, &ack));
                if let Some(reply) = reply {
                    let _ = reply.send(found);
                }
            }
            Command::Test(receiver, reply) => self.test(&receiver, reply, now),
        }
        self.forget_silences(now);
    }

    /// For the reports: rows have the times of an alert's beginning, of its acknowledgement and of its end.
    fn publish(&self, alert: &Alert, ack: &Ack) {
        let name = alert.labels.get("alertname").unwrap_or_default();
        info!("{} takes care of the alert {name} ({})", line(&ack.by, SAID), alert.fingerprint);
        let Some(post) = &self.post else { return };
        let mut alert = alert.clone();
        alert.annotations.insert("acknowledged_by".to_owned(), ack.by.clone());
        if !ack.comment.is_empty() {
            alert.annotations.insert("acknowledgement".to_owned(), ack.comment.clone());
        }
        alert.annotations.insert("false_alarm".to_owned(), ack.false_alarm.to_string());
        if let Err(error) = post.put(ack.at, AlertTransition { state: AlertState::Acknowledged, alert }) {
            warn!("the acknowledgement of {name} gets no row: {error}");
        }
    }

    fn shown(&self, now: Timestamp) -> Vec<Shown> {
        let alerts = self.dispatcher.alerts(now).into_iter();
        let shown = alerts.map(|(alert, ack, silence, inhibited)| Shown {
            alert: alert.clone(),
            ack: ack.cloned(),
            silenced_by: silence.map(|silence| silence.id.clone()),
            inhibited,
            receivers: self.notify.plan.receivers_of(&alert.labels).into_iter().map(str::to_owned).collect(),
        });
        shown.collect()
    }

    fn silence(&mut self, silence: Silence) -> Result<(), String> {
        if self.is_configured(&silence.id) {
            return Err("it stands in the configuration; change it there and reload".to_owned());
        }
        match self.silences.get(&silence.id) {
            Some(before) if before.origin != Origin::Host => {
                return Err("it is the fleet's; change it there".to_owned());
            }
            None if self.silences.len() >= MOST_SILENCES => {
                return Err(format!("there are {MOST_SILENCES} silences already; let some expire"));
            }
            _ => {}
        }
        let (who, why) = (line(&silence.created_by, SAID), line(&silence.comment, SAID));
        info!("{who} silences alerts until {}: {why}", silence.ends_at);
        self.silences.insert(silence.id.clone(), silence);
        self.silences_changed();
        Ok(())
    }

    fn is_configured(&self, id: &str) -> bool {
        self.dispatcher.silences().iter().any(|silence| silence.id == id && silence.origin == Origin::File)
    }

    fn expire(&mut self, id: &str, now: Timestamp) -> Result<(), String> {
        if self.is_configured(id) {
            return Err("it stands in the configuration; remove it there and reload".to_owned());
        }
        match self.silences.get_mut(id) {
            Some(silence) if silence.origin == Origin::Fleet => Err("it is the fleet's; remove it there".to_owned()),
            Some(silence) => {
                silence.ends_at = silence.ends_at.min(now);
                self.silences_changed();
                Ok(())
            }
            None => Err(format!("there is no silence {id:?}")),
        }
    }

    fn fleet(&mut self, id: String, silence: Option<messages::Silence>) {
        let own = |silence: &Silence| silence.origin == Origin::Host;
        if self.silences.get(&id).is_some_and(own) {
            return;
        }
        let there = self.silences.contains_key(&id);
        let changed = match silence {
            None => self.silences.remove(&id).is_some(),
            Some(silence) => match Silence::read(&id, &silence, Origin::Fleet) {
                Ok(silence) if self.silences.get(&id) == Some(&silence) => {
                    self.heard.has(id);
                    false
                }
                Ok(_) if !there && self.silences.len() >= MOST_SILENCES => {
                    warn!("the fleet's silence {id} is not taken: there are {MOST_SILENCES} already");
                    false
                }
                Ok(silence) => {
                    self.heard.has(id.clone());
                    self.silences.insert(id, silence);
                    true
                }
                Err(error) => {
                    warn!("the fleet's silence {id} can't be used: {error}");
                    false
                }
            },
        };
        if changed {
            self.silences_changed();
        }
    }

    fn silences_changed(&mut self) {
        self.dispatcher.set_silences(self.silences.values().cloned().collect());
        self.decided = true;
    }

    fn forget_silences(&mut self, now: Timestamp) {
        let before = self.silences.len();
        self.silences.retain(|_, silence| silence.ends_at.plus(SHOWN_AFTER) > now);
        if self.silences.len() != before {
            self.silences_changed();
        }
    }

    /// Beside the queue, so that nothing waits for it and nothing of it is repeated.
    fn test(&mut self, receiver: &str, reply: oneshot::Sender<Result<Tried, String>>, now: Timestamp) {
        let targets = self.notify.plan.targets(receiver).to_vec();
        if targets.is_empty() {
            let known: Vec<_> = self.notify.receivers().collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let _ =
                reply.send(Err(format!("there is no receiver {receiver:?} that is told anything; there are: {known}")));
            return;
        }
        let notification = Notification::test(receiver, &self.notify.dispatch.labels, now);
        let works: Vec<_> = targets
            .iter()
            .map(|target| (target.name.clone(), self.deliverer.prepare(&target.name, &notification, now)))
            .collect();
        tokio::spawn(async move {
            let mut tried = Vec::new();
            for (target, work) in works {
                tried.push((target, work.await));
            }
            let _ = reply.send(Ok(tried));
        });
    }

    fn tell(&mut self, now: Timestamp) {
        self.told.update(&self.queue, &self.dispatcher, &self.dead, now);
        self.told.feeds(&self.feeder);
        self.told.silences = self.dispatcher.silences().iter().filter(|silence| silence.is_active(now)).count();
        self.told.unwritten = self.states.failures();
        self.tell.send_replace(Arc::new(self.told.clone()));
    }
}
