//! The thread that evaluates.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use rules::ast::{Expr, Millis, Selector};
use rules::eval::Options;
use rules::group::{self, Engine, State};
use rules::labels::Matcher;
use rules::order;
use rules::sample::NAME;
use rules::window::{Limits, Source, TooMany, Window};
use rules::{Interest, Labels, Rules, Sample, Series, Storage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tracing::{error, info, warn};
use wire::messages::{Alert, AlertState, AlertTransition};
use wire::{Kind, Timestamp};

use super::answer::text;
use super::series::{Maker, Shared};
use super::states::{OnDisk, States};
use super::told::{Evaluation, Told};
use crate::collectors::{self, Status};
use crate::config::Config;
use crate::outbox::{Post, PutError};
use crate::sampler::Reading;
use crate::scrape::{Event, Sample as Scrape, Scraped};
use crate::snapshot::{Families, Section};

/// So long rules wait at most for the samples that they look back on: until then nothing is resolved that fired before a
/// restart, and nothing new fires.
const SETTLE: Duration = Duration::from_secs(3600);

/// Transitions that wait for room in the spool.
const MOST_UNSENT: usize = 10_000;

/// Alerts of one round that have a line of their own in the log.
const MOST_LINES: usize = 10;

/// Before the spool is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a query may take: as long as it runs, no rule is evaluated, and the agent does not stop.
const QUERY_TIME: Duration = Duration::from_secs(2);

/// Reloads that wait for the thread. Only the last one counts, but each has to be seen.
const MOST_COMMANDS: usize = 64;

/// Queries that wait for the thread: together they take it away from rules for no longer than an interval.
const MOST_QUERIES: usize = 4;

/// Samples in an answer. It is a text as a whole, about 30 bytes each.
const MOST_ANSWERED: usize = 250_000;

/// How long the end waits for the thread. An evaluation is cut short; what may take longer is the disk.
const STOP_TIME: Duration = Duration::from_secs(2);

/// Rules and windows are on the heap; what stands here are the walks over expressions, whose depth is bounded.
const STACK: usize = 2 << 20;

/// The labels of scraped targets are on their samples.
const UNLABELLED: [(&str, &str); 0] = [];

/// What the agent says of itself beside a reading.
pub type Describe = Box<dyn Fn(&Reading, &mut Families) + Send>;

/// What the thread works with.
pub struct Parts {
    /// The configuration, with its rules.
    pub config: Arc<Config>,
    /// What the host measures.
    pub readings: watch::Receiver<Option<Arc<Reading>>>,
    /// What is to be told besides that.
    pub describe: Describe,
    /// Where series go that join the next snapshot.
    pub series: Shared,
    /// Where transitions go; nowhere but to the log without it.
    pub post: Option<Post>,
    /// The folder of the states.
    pub states: PathBuf,
    /// What was scraped.
    pub scraped: mpsc::Receiver<Event>,
}

/// Talks to the thread.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    told: watch::Receiver<Arc<Told>>,
    interest: watch::Receiver<Arc<Interest>>,
    firing: Firing,
    queries: Arc<Semaphore>,
}

/// The alerts that fire; nothing before that is known.
pub type Firing = watch::Receiver<Option<Arc<Vec<Alert>>>>;

/// The thread itself.
#[derive(Debug)]
pub struct Running {
    thread: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    /// Cuts an evaluation short.
    stopping: Arc<AtomicBool>,
    last: std::sync::mpsc::Receiver<Last>,
}

/// The states at the end.
#[derive(Debug)]
pub struct Last(States, OnDisk);

#[derive(Debug)]
enum Command {
    Reload(Arc<Config>),
    Refused,
    Query(Query),
}

/// A question, and where its answer goes. Its turn ends with it.
#[derive(Debug)]
struct Query {
    expr: Box<Expr>,
    at: Option<Millis>,
    reply: oneshot::Sender<Result<rules::Value, String>>,
    _turn: OwnedSemaphorePermit,
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The expression fails over these samples.
    #[error("{0}")]
    Failed(String),
    /// The thread has too much to do, or is gone.
    #[error("{MOST_QUERIES} queries wait already for the rules to be evaluated; try again in a moment")]
    Busy,
    /// The agent stops.
    #[error("the agent stops")]
    Stopping,
}

impl Handle {
    /// What there is to tell, as of the last evaluation.
    pub fn told(&self) -> Arc<Told> {
        self.told.borrow().clone()
    }

    /// The alerts that fire; a change of their values alone is none.
    pub fn firing(&self) -> Firing {
        self.firing.clone()
    }

    /// What rules look at: nobody else's series need be given.
    pub fn interest(&self) -> watch::Receiver<Arc<Interest>> {
        self.interest.clone()
    }

    /// Takes over other rules.
    pub fn reload(&self, config: Arc<Config>) {
        if self.commands.try_send(Command::Reload(config)).is_err() {
            error!("rules stay as they are: the thread that evaluates them does not answer; restart the agent");
        }
    }

    /// The rules on disk can't be used.
    pub fn refused(&self) {
        let _ = self.commands.try_send(Command::Refused);
    }

    /// Evaluates an expression over what is kept for rules and over the last reading.
    pub async fn query(&self, expr: Expr, at: Option<Millis>) -> Result<rules::Value, QueryError> {
        let turn = self.queries.clone().try_acquire_owned().map_err(|_| QueryError::Busy)?;
        let (reply, answer) = oneshot::channel();
        let query = Query { expr: Box::new(expr), at, reply, _turn: turn };
        self.commands.try_send(Command::Query(query)).map_err(|_| QueryError::Busy)?;
        answer.await.map_err(|_| QueryError::Stopping)?.map_err(QueryError::Failed)
    }

    /// Returns when the thread has ended, which it does not as long as this is there.
    pub async fn ended(&mut self) {
        while self.told.changed().await.is_ok() {}
    }
}

impl Running {
    /// Ends it. What this gives is written when the spool is synced: it says what was announced. Nothing where the thread
    /// panicked, or hangs: then the states that it wrote last are good.
    pub fn stop(self) -> Option<Last> {
        self.stopping.store(true, Ordering::Relaxed);
        // One that is gone already has said why.
        let _ = self.stop.send(());
        match self.last.recv_timeout(STOP_TIME) {
            Ok(last) => {
                let _ = self.thread.join();
                Some(last)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                warn!("rules do not stop being evaluated, or the disk hangs: the agent ends without them");
                None
            }
        }
    }
}

impl Last {
    /// Writes the states.
    pub fn write(mut self) {
        self.0.write(&self.1);
    }
}

/// Starts the thread.
pub fn spawn(mut parts: Parts) -> std::io::Result<(Handle, Running)> {
    let (commands, inbox) = mpsc::channel(MOST_COMMANDS);
    let scraped = std::mem::replace(&mut parts.scraped, mpsc::channel(1).1);
    let (tell, told) = watch::channel(Arc::default());
    let (fire, firing) = watch::channel(None);
    let (say, interest) = watch::channel(Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (stop, stopped) = oneshot::channel();
    let (give, last) = std::sync::mpsc::channel();
    let stopping = Arc::new(AtomicBool::new(false));
    let flag = stopping.clone();
    let thread = thread::Builder::new().name("rules".to_owned()).stack_size(STACK).spawn(move || {
        let runner = Runner::new(parts, Outlets { tell, fire, interest: say }, flag);
        // Nobody may wait for it any more.
        let _ = give.send(runtime.block_on(runner.run(inbox, scraped, stopped)));
    })?;
    let queries = Arc::new(Semaphore::new(MOST_QUERIES));
    Ok((Handle { commands, told, interest, firing, queries }, Running { thread, stop, stopping, last }))
}

/// Where others hear what the thread has to say.
struct Outlets {
    tell: watch::Sender<Arc<Told>>,
    fire: watch::Sender<Option<Arc<Vec<Alert>>>>,
    interest: watch::Sender<Arc<Interest>>,
}

struct Runner {
    readings: watch::Receiver<Option<Arc<Reading>>>,
    describe: Describe,
    series: Shared,
    post: Option<Post>,
    states: States,
    engine: Engine,
    window: Window,
    source: Source,
    /// The targets that are scraped, by their numbers.
    targets: BTreeMap<u64, Source>,
    /// Stands for all targets until they are known: before that, nobody can tell what is not there.
    awaited: Option<Source>,
    /// `job` and `instance`.
    target: Vec<(String, String)>,
    external: Vec<(String, String)>,
    /// Of what alerts say.
    redactor: logs::Redactor,
    rules: usize,
    last: Option<Arc<Reading>>,
    /// When the sampler was last found to hang.
    down: Option<Instant>,
    own: Families,
    maker: Maker,
    unsent: VecDeque<(Timestamp, AlertTransition)>,
    /// When as many waited as may, and the spool had no room for any.
    blocked: Option<Instant>,
    told: Told,
    outlets: Outlets,
    /// Whose series the window had no room for, said once.
    crowded: Option<Source>,
    stopping: Arc<AtomicBool>,
    unread: Unread,
}

/// What can't be read at the moment. Only known where states are to be kept meanwhile.
#[derive(Debug, Default)]
struct Unread {
    keep: bool,
    /// The collector of each metric that rules look at.
    collectors: BTreeMap<String, &'static str>,
    /// Metrics whose collector failed.
    names: BTreeSet<String>,
}

impl Unread {
    fn note(&mut self, name: &str, section: Section) {
        if let Section::Of(collector) = section
            && self.keep
            && self.collectors.get(name) != Some(&collector)
        {
            self.collectors.insert(name.to_owned(), collector);
        }
    }

    /// Of the collectors, these failed.
    fn failed(&mut self, failed: impl Fn(&str) -> bool) {
        let names = self.collectors.iter().filter(|(_, collector)| failed(collector));
        self.names = names.map(|(name, _)| name.clone()).collect();
    }

    fn is(&self, selector: &Selector) -> bool {
        let names = |name: &String| selector.matchers.iter().all(|m| m.name != NAME || m.matches(name));
        self.names.iter().any(names)
    }
}

fn settings(config: &Config) -> group::Settings {
    group::Settings {
        interval: millis(config.rules.interval),
        external_labels: Labels::new(config.labels.iter()),
        external_url: config.rules.external_url.clone(),
        options: Options::default(),
        settle: millis(SETTLE),
        ..group::Settings::default()
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        series: config.rules.max_series,
        bytes: usize::try_from(config.rules.max_bytes).unwrap_or(usize::MAX),
        max_age: millis(config.rules.max_history),
    }
}

fn target(config: &Config) -> Vec<(String, String)> {
    let instance = config.rules.instance.clone().unwrap_or_else(|| config.host.to_string());
    vec![("job".to_owned(), config.rules.job.clone()), ("instance".to_owned(), instance)]
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

fn now() -> Millis {
    Timestamp::from(SystemTime::now()).as_millis()
}

impl Runner {
    fn new(parts: Parts, outlets: Outlets, stopping: Arc<AtomicBool>) -> Self {
        let Parts { config, readings, describe, series, post, states, scraped: _ } = parts;
        let rules = config.fresh_rules.take();
        let count = rules.count();
        let (window, rules) = match Window::new(rules.needs(), limits(&config)) {
            Ok(window) => (window, rules),
            Err(error) => {
                // Checked with the configuration.
                error!("BUG: {error}");
                (
                    Window::new([], limits(&config)).unwrap_or_else(|_| unreachable!("BUG: no need is too long")),
                    Rules::default(),
                )
            }
        };
        let (states, saved) = States::open(&states);
        outlets.interest.send_replace(Arc::new(Interest::new(rules.needs())));
        let mut runner = Self {
            readings,
            describe,
            series,
            post,
            states,
            engine: Engine::new(rules, settings(&config)),
            source: Source::default(),
            targets: BTreeMap::new(),
            awaited: None,
            window,
            target: target(&config),
            external: external(&config),
            redactor: config.logs.redactor.for_operators(),
            rules: count,
            last: None,
            down: None,
            own: Families::default(),
            maker: Maker::default(),
            unsent: VecDeque::new(),
            blocked: None,
            told: Told { reloaded: true, ..Told::default() },
            outlets,
            crowded: None,
            stopping,
            unread: Unread { keep: config.rules.keep_last_state_on_missing, ..Unread::default() },
        };
        runner.source = runner.window.source(runner.target.clone());
        runner.awaited = (!config.scrape.is_empty()).then(|| runner.window.source(UNLABELLED));
        if let Some(saved) = saved {
            runner.restore(saved);
        }
        runner
    }

    /// Takes over what a run before left.
    fn restore(&mut self, saved: OnDisk) {
        if let Some(post) = &self.post {
            let there = post.next_place(Kind::Alerts).saturating_sub(saved.from);
            self.unsent.extend(saved.announcing.into_iter().skip(usize::try_from(there).unwrap_or(usize::MAX)));
        }
        match self.engine.restore(&saved.states, now()) {
            Ok(resolved) => {
                let present = std::mem::replace(&mut self.external, saved.labels);
                self.announce(resolved);
                self.label_anew(present);
            }
            Err(error) => warn!("{error}; what fired before the restart is announced again"),
        }
    }

    /// Takes over other labels of the host. They are part of what tells an alert from others: those that fire end under the old
    /// ones and begin under the new ones.
    fn label_anew(&mut self, external: Vec<(String, String)>) {
        let before = std::mem::replace(&mut self.external, external);
        if before == self.external {
            return;
        }
        let mut count = 0;
        let mut told = Vec::new();
        for alert in self.engine.alerts().filter(|alert| alert.state == State::Firing) {
            let (mut old, new) =
                (wire_alert(alert, &before, &self.redactor), wire_alert(alert, &self.external, &self.redactor));
            if old.fingerprint != new.fingerprint {
                let time = Timestamp::from_millis(now()).max(old.fired_at);
                old.resolved_at = Some(time);
                told.push((time, AlertTransition { state: AlertState::Resolved, alert: old }));
                told.push((time, AlertTransition { state: AlertState::Firing, alert: new }));
                count += 1;
            }
        }
        if count > 0 {
            info!("{count} alerts fire on under other labels: `labels` changed");
            self.states.announced();
        }
        told.into_iter().for_each(|(time, transition)| self.queue(time, transition));
    }

    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Command>,
        mut scraped: mpsc::Receiver<Event>,
        mut stop: oneshot::Receiver<()>,
    ) -> Last {
        // With what fired before a restart.
        self.show();
        loop {
            let wake = self.wake();
            tokio::select! {
                // However much there is to do.
                biased;
                _ = &mut stop => break,
                // The end of the sampler is the app's business.
                Ok(()) = self.readings.changed() => self.take_reading(),
                Some(event) = scraped.recv() => self.take_scraped(event),
                Some(command) = inbox.recv() => self.obey(command),
                () = tokio::time::sleep(wake) => {}
            }
            self.evaluate();
            // What has just begun or ended is announced when this is on the disk.
            if self.states.due() <= Instant::now() {
                self.write();
            }
            self.send();
        }
        self.send();
        let saved = self.on_disk();
        Last(self.states, saved)
    }

    /// Writes the states, once all that they call announced is on the disk.
    fn write(&mut self) {
        let synced = self.post.as_ref().is_none_or(|post| post.sync(Kind::Alerts).is_ok());
        if synced {
            let saved = self.on_disk();
            self.states.write(&saved);
        } else {
            // The spool says what is wrong with it.
            self.states.later();
        }
    }

    /// What a restart must not lose.
    fn on_disk(&self) -> OnDisk {
        OnDisk {
            states: self.engine.saved(),
            labels: self.external.clone(),
            from: self.post.as_ref().map_or(0, |post| post.next_place(Kind::Alerts)),
            announcing: self.unsent.iter().cloned().collect(),
        }
    }

    /// How long there is nothing to do if nothing happens.
    fn wake(&mut self) -> Duration {
        let now = now();
        let next = self.last.as_ref().and_then(|_| self.engine.next(now));
        let next = next.map_or(Duration::MAX, |next| Duration::from_millis((next - now).max(0).unsigned_abs()));
        let next = if self.unsent.is_empty() { next } else { next.min(ASK_AGAIN) };
        next.min(self.states.due().saturating_duration_since(Instant::now()))
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Reload(config) => {
                let rules = config.fresh_rules.take();
                if let Err(error) = self.window.retarget(rules.needs()) {
                    // Checked with the configuration, but for limits that need a restart.
                    error!("rules stay as they are: {error}");
                    self.told.reloaded = false;
                    return self.tell();
                }
                self.rules = rules.count();
                self.outlets.interest.send_replace(Arc::new(Interest::new(rules.needs())));
                self.engine.set_external_labels(Labels::new(config.labels.iter()));
                let resolved = self.engine.reload(rules, now(), &mut self.window);
                self.redactor = config.logs.redactor.for_operators();
                self.announce(resolved);
                self.label_anew(external(&config));
                self.states.changed();
                self.told.reloaded = true;
                info!("{} rules are in force", self.rules);
                self.show();
            }
            Command::Refused => {
                self.told.reloaded = false;
                self.tell();
            }
            Command::Query(Query { expr, at, reply, _turn }) => {
                if self.rules == 0
                    && let Some(reading) = &self.last
                {
                    self.own.clear();
                    (self.describe)(reading, &mut self.own);
                }
                let present = Present {
                    window: &self.window,
                    engine: &self.engine,
                    last: self.last.as_deref(),
                    own: &self.own,
                    target: &self.target,
                    until: Instant::now() + QUERY_TIME,
                    reply: &reply,
                    stopping: &self.stopping,
                };
                let value = rules::evaluate(&expr, &present, at.unwrap_or_else(now), &Options::default());
                // Whoever asked may have gone away.
                let _ = reply.send(value.map_err(|error| error.to_string()).and_then(bounded));
            }
        }
    }

    fn take_reading(&mut self) {
        let Some(reading) = self.readings.borrow_and_update().clone() else { return };
        if self.rules > 0 {
            self.own.clear();
            (self.describe)(&reading, &mut self.own);
            self.feed(&reading);
        }
        self.last = Some(reading);
    }

    fn feed(&mut self, reading: &Reading) {
        let mut round = match self.window.round(self.source, reading.snapshot.time.as_millis()) {
            Ok(round) => round,
            // Counted by the window, and over in a minute.
            Err(error) => return tracing::debug!("{error}"),
        };
        if round.family("up") {
            round.sample(std::iter::empty(), 1.0);
        }
        for family in reading.snapshot.families.iter().chain(self.own.iter()) {
            if family.section == Section::Rules {
                continue;
            }
            let name = match family.head.suffix {
                "" => Cow::Borrowed(&*family.head.name),
                suffix => Cow::Owned(format!("{}{suffix}", family.head.name)),
            };
            if round.family(&name) {
                self.unread.note(&name, family.section);
                family.samples.iter().for_each(|sample| round.sample(sample.labels.iter(), sample.value));
            }
        }
        let crowded = round.end().left_out;
        self.note_crowd(self.source, crowded);
        if self.unread.keep {
            let failed = |status: &&Status| matches!(status.state, collectors::State::Failed(_));
            let failed: Vec<&str> = reading.collectors.iter().filter(failed).map(|status| status.name).collect();
            self.unread.failed(|collector| failed.contains(&collector));
        }
    }

    /// Says that there are too many series, until whoever brought too many has room.
    fn note_crowd(&mut self, source: Source, left_out: Option<TooMany>) {
        match left_out {
            Some(error) if self.crowded.is_none() => {
                warn!("{error} (rules.max_series)");
                self.crowded = Some(source);
            }
            None if self.crowded == Some(source) => self.crowded = None,
            _ => {}
        }
    }

    fn take_scraped(&mut self, event: Event) {
        match event {
            Event::Targets(ids) => {
                let gone: Vec<u64> = self.targets.keys().filter(|id| !ids.contains(id)).copied().collect();
                for source in gone.iter().filter_map(|id| self.targets.remove(id)).chain(self.awaited.take()) {
                    self.window.remove(source, now());
                    self.crowded = self.crowded.filter(|crowded| *crowded != source);
                }
                for id in ids {
                    self.targets.entry(id).or_insert_with(|| self.window.source(UNLABELLED));
                }
            }
            Event::Scraped(scraped) if self.rules > 0 => self.feed_scraped(&scraped),
            Event::Scraped(_) => {}
        }
    }

    /// Their labels are on the samples: relabelling has had them.
    fn feed_scraped(&mut self, scraped: &Scraped) {
        // One that is not there was removed while it was scraped.
        let Some(source) = self.targets.get(&scraped.target).copied() else { return };
        let mut round = match self.window.round(source, scraped.time) {
            Ok(round) => round,
            Err(error) => return tracing::debug!("{error}"),
        };
        let mut name = None;
        let mut wanted = false;
        for Scrape { series, value, time } in &scraped.samples {
            if time.is_some() {
                continue;
            }
            if name != Some(&*series.name) {
                name = Some(&*series.name);
                wanted = round.family(&series.name);
            }
            if wanted {
                round.sample(series.labels.iter(), *value);
            }
        }
        let crowded = round.end().left_out;
        // Whoever gives times of its own says itself when something ends, by not giving it for a while.
        for Scrape { series, value, time } in &scraped.samples {
            if let Some(time) = *time {
                let labels = Labels::new(series.labels.iter().chain([(NAME, &*series.name)]));
                self.window.add_at(&labels, Sample { time, value: *value }, scraped.time);
            }
        }
        self.note_crowd(source, crowded);
    }

    /// A sampler that hangs is a target that is down: `up` is 0, and everything else has ended.
    fn look_for_the_sampler(&mut self, reading: &Reading) {
        if reading.overdue().is_none() {
            self.down = None;
        } else if self.rules > 0 && self.down.is_none_or(|at| at.elapsed() >= reading.interval) {
            self.down = Some(Instant::now());
            self.unread.failed(|_| true);
            if let Ok(mut round) = self.window.round(self.source, now()) {
                if round.family("up") {
                    round.sample(std::iter::empty(), 0.0);
                }
                round.end();
            }
        }
    }

    fn evaluate(&mut self) {
        let Some(reading) = self.last.clone() else { return };
        self.look_for_the_sampler(&reading);
        let mut evaluated = false;
        // Each group once: those that take longer than their interval must not keep everybody else waiting.
        for _ in 0..self.engine.groups().count() {
            if self.stopping.load(Ordering::Relaxed) {
                break;
            }
            let Some(due) = self.engine.due(now()) else { break };
            let begun = Instant::now();
            let mut store = UntilStop { window: &mut self.window, stopping: &self.stopping, unread: &self.unread };
            let round = self.engine.evaluate(&due, &mut store);
            let took = begun.elapsed();
            self.told.evaluation = Evaluation { total: self.told.evaluation.total + took, last: took };
            let cut_short = self.stopping.load(Ordering::Relaxed);
            for group::RuleFault { file, group, rule, message } in round.faults.iter().filter(|_| !cut_short) {
                warn!("{file}: rule {rule} of group {group}: {message}");
            }
            if round.changed {
                self.states.changed();
            }
            self.announce(round.transitions);
            evaluated = true;
        }
        if evaluated {
            self.show();
        }
    }

    /// Into the log and towards the spool.
    fn announce(&mut self, alerts: Vec<group::Alert>) {
        if !alerts.is_empty() {
            self.states.announced();
        }
        let mut unsaid = [0, 0];
        for (at, alert) in alerts.into_iter().filter(|alert| alert.state != State::Pending).enumerate() {
            let fires = alert.state == State::Firing;
            match fires {
                _ if at >= MOST_LINES => unsaid[usize::from(fires)] += 1,
                true => warn!("alert fires: {}, value {}", alert.labels, text(alert.value)),
                false => info!("alert is over: {}", alert.labels),
            }
            let time = alert.resolved_at.unwrap_or(alert.fired_at.unwrap_or(alert.active_at));
            let state = if fires { AlertState::Firing } else { AlertState::Resolved };
            self.queue(
                Timestamp::from_millis(time),
                AlertTransition { state, alert: wire_alert(&alert, &self.external, &self.redactor) },
            );
        }
        match unsaid {
            [0, 0] => {}
            [0, fire] => warn!("{fire} more alerts fire"),
            [over, 0] => info!("{over} more alerts are over"),
            [over, fire] => warn!("{fire} more alerts fire, and {over} more are over"),
        }
    }

    /// Towards the spool, if there is one.
    fn queue(&mut self, time: Timestamp, transition: AlertTransition) {
        if self.post.is_none() {
            return;
        }
        if self.unsent.len() >= MOST_UNSENT && self.blocked.is_none_or(|since| since.elapsed() >= ASK_AGAIN) {
            // A round may make more than may wait, however much room there is.
            self.write();
            self.send();
            self.blocked = (self.unsent.len() >= MOST_UNSENT).then(Instant::now);
        }
        if self.unsent.len() >= MOST_UNSENT {
            self.unsent.pop_front();
            self.lost("too many wait for room in the spool");
        }
        self.unsent.push_back((time, transition));
    }

    fn lost(&mut self, why: &str) {
        if self.told.lost == 0 {
            error!("the beginning or end of an alert is lost: {why}");
        }
        self.told.lost += 1;
    }

    fn send(&mut self) {
        let Some(post) = self.post.clone() else { return };
        while let Some((time, transition)) = self.unsent.front() {
            match post.put(*time, transition.clone()) {
                // It need not stand among what is being announced for long.
                Ok(_) => self.states.changed(),
                Err(error @ PutError::Large(..)) => self.lost(&error.to_string()),
                // There is room again when older records of less value went, or the disk is well.
                Err(_) => return,
            }
            self.unsent.pop_front();
        }
    }

    /// Shows what the last evaluations made.
    fn show(&mut self) {
        let made = self.engine.recorded().chain(self.engine.alert_series());
        let made = made.map(|(labels, sample)| (labels, sample.value));
        let last = self.last.clone();
        let collected = |name: &str| {
            last.as_ref().is_some_and(|reading| {
                let families = reading.snapshot.families.iter().chain(self.own.iter());
                families.filter(|family| family.section != Section::Rules).any(|family| family.head.name == name)
            })
        };
        let families = self.maker.families(made, &self.target, collected);
        self.series.set(families);
        let mut firing: Vec<Alert> = Vec::new();
        self.told.pending = 0;
        for alert in self.engine.alerts() {
            match alert.state {
                State::Firing => firing.push(wire_alert(alert, &self.external, &self.redactor)),
                State::Pending => self.told.pending += 1,
                State::Resolved => {}
            }
        }
        order::sort_by(&mut firing, &|a, b| a.fingerprint.cmp(&b.fingerprint));
        let same = |a: &Alert, b: &Alert| (&a.fingerprint, a.fired_at) == (&b.fingerprint, b.fired_at);
        self.outlets.fire.send_if_modified(|before| {
            let equal = |before: &Arc<Vec<Alert>>| {
                before.len() == firing.len() && before.iter().zip(&firing).all(|(a, b)| same(a, b))
            };
            let changed = !before.as_ref().is_some_and(equal);
            if changed {
                *before = Some(Arc::new(firing.clone()));
            }
            changed
        });
        self.told.firing = firing;
        self.told.rules = self.rules;
        self.told.groups = self.engine.groups().count();
        self.told.failing = self.engine.health().filter(|rule| rule.error.is_some()).count();
        self.told.counts = self.engine.counts();
        self.told.usage = self.window.usage();
        let counts = self.window.counts();
        self.told.left_out = counts.left_out + counts.labels_too_long + counts.forgotten_early;
        self.tell();
    }

    fn tell(&self) {
        self.outlets.tell.send_replace(Arc::new(self.told.clone()));
    }
}

/// Unless an answer would be too long for an agent.
pub(super) fn bounded(value: rules::Value) -> Result<rules::Value, String> {
    let count = match &value {
        rules::Value::Matrix(series) => series.iter().map(|series| series.samples.len()).sum(),
        rules::Value::Vector(elements) => elements.len(),
        rules::Value::Scalar(_) | rules::Value::Text(_) => 1,
    };
    if count > MOST_ANSWERED {
        return Err(format!(
            "the answer has {count} samples, {MOST_ANSWERED} are the most: select fewer series, or a shorter range"
        ));
    }
    Ok(value)
}

fn external(config: &Config) -> Vec<(String, String)> {
    config.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// With the host's external labels, where the alert has none of that name. What its texts took over from labels of metrics
/// may hold secrets, as a line may.
fn wire_alert(alert: &group::Alert, external: &[(String, String)], redactor: &logs::Redactor) -> Alert {
    let missing = external.iter().filter(|(name, _)| alert.labels.get(name).is_empty());
    let labels = alert.labels.overlaid(missing.map(|(name, value)| (name.as_str(), value.as_str())));
    let set = |labels: &Labels| labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Alert {
        fingerprint: group::fingerprint(&labels),
        labels: set(&labels),
        annotations: alert
            .annotations
            .iter()
            .map(|(name, value)| (name.to_owned(), redactor.text(value).into_owned()))
            .collect(),
        value: wire::Value(alert.value),
        active_at: Timestamp::from_millis(alert.active_at),
        fired_at: Timestamp::from_millis(alert.fired_at.unwrap_or(alert.active_at)),
        resolved_at: alert.resolved_at.map(Timestamp::from_millis),
    }
}

/// What a query sees: all that is kept for rules, and of everything else the last reading.
struct Present<'a> {
    window: &'a Window,
    /// Knows what rules made with all its labels; a reading has it without the host's.
    engine: &'a Engine,
    last: Option<&'a Reading>,
    /// What the agent says of itself beside that.
    own: &'a Families,
    target: &'a [(String, String)],
    /// When it has taken long enough.
    until: Instant,
    stopping: &'a AtomicBool,
    /// Closed when whoever asked has gone away.
    reply: &'a oneshot::Sender<Result<rules::Value, String>>,
}

impl Present<'_> {
    /// Samples of the last reading that a selector matches.
    fn newest(&self, selector: &Selector, families: &Families, add: &mut dyn FnMut(Labels, f64)) {
        for family in families.iter().filter(|family| family.section != Section::Rules) {
            let name = match family.head.suffix {
                "" => Cow::Borrowed(&*family.head.name),
                suffix => Cow::Owned(format!("{}{suffix}", family.head.name)),
            };
            let of_name = |matcher: &Matcher| matcher.name != NAME || matcher.matches(&name);
            if !selector.matchers.iter().all(of_name) {
                continue;
            }
            for sample in family.samples {
                let target = self.target.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                let labels = Labels::new(sample.labels.iter().chain(target).chain([(NAME, &*name)]));
                if selector.matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name))) {
                    add(labels, sample.value);
                }
            }
        }
    }
}

impl Storage for Present<'_> {
    fn series(&self, selector: &Selector, after: Millis, until: Millis, most: usize) -> Vec<Series> {
        let mut found = self.window.series(selector, after, until, most);
        // One that is overdue has ended.
        let Some(reading) = self.last.filter(|reading| reading.overdue().is_none()) else { return found };
        let time = reading.snapshot.time.as_millis();
        if time <= after || time > until {
            return found;
        }
        let known: HashSet<Labels> = found.iter().map(|series| series.labels.clone()).collect();
        let mut add = |labels: Labels, value: f64| {
            if !known.contains(&labels) {
                found.push(Series { labels, samples: vec![Sample { time, value }] });
            }
        };
        let mut up = Families::default();
        up.gauge("up", "");
        up.value(1.0);
        for families in [&up, &reading.snapshot.families, self.own] {
            self.newest(selector, families, &mut add);
        }
        let fits = |labels: &Labels| selector.matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)));
        for (labels, sample) in self.engine.recorded().chain(self.engine.alert_series()) {
            if fits(labels) {
                add(labels.clone(), sample.value);
            }
        }
        found
    }

    fn examined(&self, selector: &Selector) -> usize {
        let families = self.last.map(|reading| &reading.snapshot.families).into_iter().chain([self.own]);
        let samples = families.flat_map(Families::iter).map(|family| family.samples.len());
        self.window.examined(selector) + samples.sum::<usize>()
    }

    fn given_up(&self) -> bool {
        self.reply.is_closed() || self.stopping.load(Ordering::Relaxed) || Instant::now() >= self.until
    }
}

/// The window, for as long as the agent goes on.
struct UntilStop<'a> {
    window: &'a mut Window,
    unread: &'a Unread,
    stopping: &'a AtomicBool,
}

impl Storage for UntilStop<'_> {
    fn series(&self, selector: &Selector, after: Millis, until: Millis, most: usize) -> Vec<Series> {
        self.window.series(selector, after, until, most)
    }

    fn latest(&self, selector: &Selector, after: Millis, until: Millis) -> Vec<(Labels, Sample)> {
        self.window.latest(selector, after, until)
    }

    fn examined(&self, selector: &Selector) -> usize {
        self.window.examined(selector)
    }

    fn given_up(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl group::Store for UntilStop<'_> {
    fn add(&mut self, labels: &Labels, sample: Sample) {
        self.window.add(labels, sample);
    }

    fn covered_since(&self, selector: &Selector) -> Option<Millis> {
        self.window.covered_since(selector)
    }

    fn doubtful(&self, selector: &Selector) -> bool {
        self.unread.is(selector)
    }
}
