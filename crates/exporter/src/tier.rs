//! The running loop: receive, hand to the spool, confirm to the hosts.
//!
//! ```text
//! connection (here) ─► spool thread ─► reader thread ─► writer thread ─► Sink
//!        ▲ │              │ PUBACK        decode, map        │
//!        │ └─ confirmations ◄─────────── desk ◄──────────────┘ committed
//!      broker
//! ```
//!
//! The loop here waits for nothing but the network: neither a slow disk nor a store that is down keeps it from its pings
//! and from telling hosts what is held. A message is acknowledged when it is on our own disk; a host forgets its record
//! when the confirmation says that it is in the store.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use daemon::http;
use daemon::shutdown::{self, Shutdown};
use delivery::KindSet;
use mqtt::{AckToken, Cause, Client, Event, Events, Message};
use spool::Log;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use wire::messages::{Loss, TierState, TierStatus};
use wire::{BootId, HostName, Kind, Topic};

use crate::beside::Beside;
use crate::dead::{DeadLetter, DeadLetters, Replays};
use crate::desk::Desk;
use crate::frame::Frame;
use crate::health::{Health, Pages};
use crate::intake;
use crate::metrics::Metrics;
use crate::reader::{Reading, UnknownFrame};
use crate::rows::HostRow;
use crate::settings::Settings;
use crate::sink::{Ledger, Sink};
use crate::spooler::{Arrived, Spooler, Spooling, SyncError, Synced};
use crate::writer::{Chore, Fatal, Told, Writer};

/// How long the broker keeps our session: a restart finds its messages, a member that is gone frees them for others.
const SESSION: Duration = Duration::from_secs(60);

/// The largest packet that is taken. An agent makes records of up to 4 MiB, and around them there are topic and
/// properties. What is larger, the broker drops without a word to anyone.
const MOST_PACKET: u32 = (4 << 20) + (64 << 10);

/// Room kept in the spool for its cursor when the disk is full.
const SPOOL_RESERVE: u64 = 1 << 20;

/// Confirmations that may be under way to the broker.
const MOST_PUBLISHES: u16 = 64;

/// Of these, whole ones begin while there are fewer.
const MOST_WHOLE: usize = MOST_PUBLISHES as usize * 3 / 4;

/// Between two looks at what is to be confirmed, written or shown.
const TICK: Duration = Duration::from_millis(50);

/// Hosts that are confirmed in one tick.
const MOST_CONFIRMED: usize = 500;

/// Hosts whose state goes into one statement, and hosts whose state may wait for the store.
const HOSTS_AT_ONCE: usize = 500;
const MOST_HOSTS: usize = 200_000;

/// Declared losses that may wait for the store. Hosts repeat them.
const MOST_LOSSES: usize = 100_000;

/// How often it is said that a host's losses are refused.
const LOSSES_SAID_EVERY: Duration = Duration::from_secs(60);

/// How long the store may take to answer what its ledger has. Hosts are told then what is held, which renews leases.
const LEDGER_PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection waits for the store's first answer, were it only that it is away: a store that is found
/// unusable before is never announced to hosts. The broker keeps a session for longer.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

/// How long the spool may be locked by one that is about to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// What stopping may take for writing what is in memory, for the writer to let go of the rest, and then for the last words
/// to the broker: 5 s together.
const FLUSH_TIME: Duration = Duration::from_millis(3350);
const WRITER_END: Duration = Duration::from_millis(300);
/// How long a stop still takes what comes: a host that stops together with its exporter says goodbye a moment before.
const LAST_CALL: Duration = Duration::from_millis(150);
const FAREWELL_TIME: Duration = Duration::from_millis(900);

/// Why a tier ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store needs a person.
    #[error("{0}")]
    Sink(#[from] Fatal),
    /// Dead letters have no place.
    #[error("can't write the dead letters to {path}: {source}; state_dir must name a folder that this user may write")]
    DeadLetters {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The spool can't be opened.
    #[error("{0}; [spool] directory decides where")]
    Spool(#[from] spool::OpenError),
    /// The spool can't be written safely.
    #[error("{0}; the next start goes on with what is there")]
    Sync(#[from] SyncError),
    /// The spool holds what this program does not know.
    #[error("{0}")]
    Frame(#[from] UnknownFrame),
    /// The ledger beside the spool.
    #[error("{0}")]
    Ledger(String),
    /// The port for `/metrics` and health.
    #[error("{0}; [serve] listen decides where")]
    Serve(#[from] http::BindError),
    /// The broker's options.
    #[error("{0}")]
    Broker(#[from] mqtt::OptionsError),
    /// The connection is gone for good.
    #[error("{0}")]
    Disconnected(String),
    /// The system gives no thread.
    #[error("can't start a thread: {0}")]
    Thread(io::Error),
    /// A task of ours ended.
    #[error("BUG: {0}")]
    Bug(String),
}

/// Runs a tier until `shutdown` asks for the stop, within 5 s. What is not written by then stays in the spool.
///
/// It keeps no state outside of what it is given, and takes no signals, so that several may run in one process.
pub async fn run<S: Sink>(sink: S, settings: Settings, shutdown: Shutdown) -> Result<(), RunError> {
    let metrics = settings.metrics.clone();
    let limits = &settings.dead_letters;
    let dead = DeadLetters::open(limits.path.clone(), limits.max_bytes, metrics.clone())
        .map_err(|source| RunError::DeadLetters { path: limits.path.clone(), source })?;
    let dead = Arc::new(dead);
    let health = Health::new();

    let mut pages = JoinSet::new();
    let (_stop_pages, pages_stop) = shutdown::channel();
    if let Some(serve) = &settings.serve {
        let listener = http::bind(&serve.listen).await?;
        let title = format!("utilizer-exporter-{} {}", sink.name(), env!("CARGO_PKG_VERSION"));
        let handler = Arc::new(Pages { health: health.clone(), metrics: metrics.clone(), title });
        if let Some(address) = listener.local_addr() {
            tracing::info!("/metrics and /readyz are at http://{address}/");
        }
        pages.spawn(http::serve(listener, serve.allow.clone(), handler, pages_stop));
    }

    let result = tend(sink, settings, dead, health, shutdown).await;
    // Waited for, since a reload runs the next tier at once and a task that is only told to end still has its port.
    pages.shutdown().await;
    result
}

/// The part of [`run`] that needs no pages.
async fn tend<S: Sink>(
    sink: S,
    settings: Settings,
    dead: Arc<DeadLetters>,
    health: Health,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    let metrics = settings.metrics.clone();
    let identity = Identity { sink: sink.name(), kinds: sink.kinds(), settings };
    let settings = &identity.settings;
    let folder = settings.spool.directory.clone();
    let (log, recovered) = open_spool(&folder, settings.spool.max_bytes).await?;
    if recovered.torn_bytes > 0 {
        tracing::info!(bytes = recovered.torn_bytes, "cut off what a crash left unfinished at the end of the spool");
    }
    for bad in &recovered.bad_segments {
        metrics.spool_damaged.inc_by(bad.to.saturating_sub(bad.from) + 1);
        tracing::error!(
            "the spool is damaged: up to {} records of {} can't be read; hosts that number theirs send them again",
            bad.to.saturating_sub(bad.from) + 1,
            bad.path.display()
        );
    }
    let beside = match S::LEDGER {
        Ledger::InStore => None,
        Ledger::Beside => {
            Some(Beside::open(&folder.join("ledger"), log.reader(), log.next()).map_err(RunError::Ledger)?)
        }
    };
    let from = log.first().max(beside.as_ref().map_or(0, Beside::written_below));
    let receiver = delivery::receiver::Settings {
        timing: delivery::receiver::Timing::scaled(settings.confirm_every),
        kinds: identity.kinds.iter().copied().collect::<KindSet>(),
        shard: settings.shard,
    };
    let announce_every = Duration::from_millis(receiver.timing.announce);
    let desk = Arc::new(Desk::new(receiver, from));
    let synced = Arc::new(Synced::default());
    // Whatever the way out of here, also for one who drops this future: the threads end with what they wait for.
    let _close = CloseAtEnd(synced.clone());

    // A store that is configured wrong ends the member, and hosts would wait for its group for ever.
    let opened = Arc::new(AtomicBool::new(log.next() > 0));
    let (answered, answer) = oneshot::channel();
    let store_answered = async move {
        if let Ok(Err(_)) = tokio::time::timeout(STORE_PATIENCE, answer).await {
            // The writer is at its end, and so is this client before that time is over.
            tokio::time::sleep(SESSION).await;
        }
    };
    let (client, events) = Client::start_when(identity.options(), store_answered)?;
    let gone = |_| RunError::Bug("the MQTT client stopped at once".to_owned());
    client.subscribe(identity.filters()).await.map_err(gone)?;

    let (reader, scanned) = (log.reader(), log.reader());
    let spooler = Spooler {
        log,
        max_bytes: settings.spool.max_bytes,
        client: client.clone(),
        desk: desk.clone(),
        synced: synced.clone(),
        dead: dead.clone(),
        replays: Replays::new(&settings.dead_letters.path),
        health: health.clone(),
        metrics: metrics.clone(),
    };
    let (spooling, spool_end) = spooler.start(folder).map_err(RunError::Thread)?;
    let spooling = Arc::new(spooling);

    let (jobs, job_receiver) = mpsc::channel(1);
    let reading = Reading {
        reader,
        from,
        synced: synced.clone(),
        kinds: identity.kinds,
        rules: settings.rules.clone(),
        limits: settings.batch.clone(),
        desk: desk.clone(),
        metrics: metrics.clone(),
        ledger: S::LEDGER,
        encode: S::encode,
    };
    let (reader_ended, reader_end) = oneshot::channel();
    thread("reader", move || {
        let _ = reader_ended.send(reading.run(&jobs));
    })?;

    let (chores, chore_receiver) = mpsc::channel(4);
    let (told_sender, told) = mpsc::channel(4);
    let (writer_ended, writer_end) = oneshot::channel();
    let (stop_writer, writer_stop) = oneshot::channel();
    let writer = Writer {
        sink,
        backoff: settings.backoff,
        desk: desk.clone(),
        beside,
        rules: settings.rules.clone(),
        spooling: spooling.clone(),
        dead: dead.clone(),
        health: health.clone(),
        metrics: metrics.clone(),
        answered: Some(answered),
        opened: opened.clone(),
    };
    thread("writer", move || {
        let _ = writer_ended.send(write(writer, job_receiver, chore_receiver, told_sender, writer_stop));
    })?;

    let tier = Tier {
        permits: Arc::new(Semaphore::new(2 * usize::from(settings.receive_maximum))),
        scan: Some(Scan { reader: scanned, synced: synced.clone() }),
        identity,
        desk,
        health,
        metrics,
        spooling,
        chores,
        told,
        hosts: BTreeMap::new(),
        losses: BTreeMap::new(),
        asked: None,
        subscribed: HashSet::new(),
        connected: false,
        connections: 0,
        publishes: 0,
        announce_every,
        losses_said: None,
        opened,
    };
    let ends = Ends { spool: spool_end, reader: reader_end, writer: writer_end };
    tier.run(client, events, ends, stop_writer, shutdown).await
}

struct CloseAtEnd(Arc<Synced>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The one that had the spool before, such as the tier before a reload, may take a moment to let go of it.
async fn open_spool(folder: &Path, max_bytes: u64) -> Result<(Log, spool::Recovered), RunError> {
    let begun = Instant::now();
    loop {
        match Log::open(folder, spool_options(max_bytes)) {
            Err(spool::OpenError::Locked(_)) if begun.elapsed() < LOCK_PATIENCE => tokio::time::sleep(TICK).await,
            opened => return Ok(opened?),
        }
    }
}

/// Segments of a 64th of the bound, so that room comes back in small parts.
pub(crate) fn spool_options(max_bytes: u64) -> spool::Options {
    spool::Options {
        segment_bytes: (max_bytes / 64).clamp(256 << 10, 64 << 20),
        reserve_bytes: SPOOL_RESERVE.min(max_bytes),
        max_record: MOST_PACKET as usize + (4 << 10),
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), RunError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(RunError::Thread)
}

/// The writer's thread: whatever a store's driver does on a processor, it does not do it to the connection.
fn write<S: Sink>(
    writer: Writer<S>,
    jobs: mpsc::Receiver<crate::reader::Job>,
    chores: mpsc::Receiver<Chore>,
    told: mpsc::Sender<Told>,
    stop: oneshot::Receiver<()>,
) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Thread)?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = writer.run(jobs, chores, told) => result,
            // Also when the sender was dropped: what is not written stays in the spool.
            _ = stop => Ok(()),
        }
    });
    // A call that hangs in a store's driver must not keep the thread.
    runtime.shutdown_background();
    Ok(result?)
}

/// Who this member is.
struct Identity {
    sink: &'static str,
    kinds: &'static [Kind],
    settings: Settings,
}

impl Identity {
    fn options(&self) -> mqtt::Options {
        let Settings { broker, group, member, receive_maximum, .. } = &self.settings;
        mqtt::Options {
            client_id: format!("utilizer-exporter-{group}-{member}"),
            clean_start: false,
            session_expiry: SESSION,
            receive_maximum: *receive_maximum,
            max_in_flight: MOST_PUBLISHES,
            max_incoming_packet: MOST_PACKET,
            will: Some(self.status(TierState::Offline)),
            // mosquitto drops what goes beyond some 1,000 retained ones at QoS 1. One that a broken connection loses is
            // retained, and comes with the next.
            at_most_once: vec![Topic::all_statuses()],
            ..broker.clone()
        }
    }

    fn filters(&self) -> Vec<String> {
        let Settings { group, shared, shard, .. } = &self.settings;
        let telemetry = |kind: &Kind| match *shared && shard.is_none() {
            true => Topic::shared_telemetry(group, *kind),
            false => Topic::all_telemetry(*kind),
        };
        let mut filters: Vec<_> = self.kinds.iter().map(telemetry).collect();
        // Every member sees every status: writing it twice is writing it once.
        filters.push(Topic::all_statuses());
        filters
    }

    fn status(&self, state: TierState) -> Message {
        let Settings { group, member, durable, .. } = &self.settings;
        let status = TierStatus {
            v: wire::VERSION,
            group: group.clone(),
            member: member.clone(),
            state,
            time: SystemTime::now().into(),
            sink: self.sink.to_owned(),
            kinds: self.kinds.to_vec(),
            durable: *durable,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Message {
            topic: Topic::Tier(group.clone(), member.clone()).to_string(),
            payload: wire::encode(&status).into(),
            retain: true,
            content_type: Some(wire::CONTENT_TYPE.to_owned()),
            user_properties: Vec::new(),
        }
    }
}

/// How the threads end.
struct Ends {
    spool: oneshot::Receiver<Result<(), SyncError>>,
    reader: oneshot::Receiver<Result<(), UnknownFrame>>,
    writer: oneshot::Receiver<Result<(), RunError>>,
}

/// What a look through the whole spool needs.
struct Scan {
    reader: spool::Reader,
    synced: Arc<Synced>,
}

impl Scan {
    /// Tells the desk of every numbered record between the cursor and what is synced now. Gives itself back.
    fn run(mut self, desk: &Desk) -> Self {
        let mut buffer = Vec::new();
        let mut next = desk.cursor();
        let (end, _) = self.synced.wait(0, Duration::ZERO);
        while next < end {
            match self.reader.read(next, &mut buffer) {
                Ok(Some(entry)) => {
                    if let Some(identity) = Frame::read(entry.head).ok().and_then(|frame| frame.identity()) {
                        desk.restored(next, &identity);
                    }
                    next += 1;
                }
                Ok(None) => break,
                Err(spool::ReadError::Gone { first }) if first > next => next = first,
                Err(spool::ReadError::Gap { to, .. }) if to >= next => next = to + 1,
                Err(error) => {
                    // What is not found is not called held, and comes again.
                    tracing::warn!("the spool was not looked through to its end: {error}");
                    break;
                }
            }
        }
        self
    }
}

struct Tier {
    identity: Identity,
    desk: Arc<Desk>,
    health: Health,
    metrics: Metrics,
    spooling: Arc<Spooling>,
    permits: Arc<Semaphore>,
    scan: Option<Scan>,
    chores: mpsc::Sender<Chore>,
    told: mpsc::Receiver<Told>,
    /// States and losses that wait for the store.
    hosts: BTreeMap<String, HostRow>,
    losses: BTreeMap<(HostName, BootId, Kind, u64, u64), Loss>,
    /// When the writer was asked for hosts' entries, and has not answered yet.
    asked: Option<Instant>,
    subscribed: HashSet<String>,
    connected: bool,
    connections: u64,
    publishes: u64,
    announce_every: Duration,
    /// When it was last said that losses are refused.
    losses_said: Option<Instant>,
    /// Whether the store was open at some time, as far as is known.
    opened: Arc<AtomicBool>,
}

impl Tier {
    async fn run(
        mut self,
        client: Client,
        mut events: Events,
        mut ends: Ends,
        stop_writer: oneshot::Sender<()>,
        shutdown: Shutdown,
    ) -> Result<(), RunError> {
        match self.work(&client, &mut events, &mut ends, shutdown).await {
            Ok(()) => {
                self.hand_over();
                self.stop(&client, &mut events, ends, stop_writer).await
            }
            Err(error) => {
                if let RunError::Sink(_) = error {
                    self.give_up(&client);
                    self.farewell(&client, &mut events).await;
                }
                Err(error)
            }
        }
    }

    /// Until it is to stop, or can't go on.
    async fn work(
        &mut self,
        client: &Client,
        events: &mut Events,
        ends: &mut Ends,
        shutdown: Shutdown,
    ) -> Result<(), RunError> {
        let mut announce = tokio::time::interval(self.announce_every);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut show = tokio::time::interval(Duration::from_secs(1));
        show.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut permit: Option<OwnedSemaphorePermit> = None;
        let (scanner, mut scans) = mpsc::channel(1);
        let last_call = async {
            shutdown.wait().await;
            tokio::time::sleep(LAST_CALL).await;
        };
        tokio::pin!(last_call);
        loop {
            tokio::select! {
                () = &mut last_call => return Ok(()),
                // Without room in the spool's queue nothing is read; the client then waits for us.
                taken = self.permits.clone().acquire_owned(), if permit.is_none() => permit = taken.ok(),
                event = events.recv(), if permit.is_some() => match event {
                    Some(event) => self.on(event, client, &mut permit)?,
                    None => return Err(RunError::Bug("the MQTT client stopped by itself".to_owned())),
                },
                Some(told) = self.told.recv() => self.told(told, client),
                Some(scan) = scans.recv() => self.scan = Some(scan),
                _ = tick.tick() => {
                    self.confirm(client);
                    self.hand_over();
                    self.look_through(&scanner)?;
                }
                // It counts the ranges of all hosts.
                _ = show.tick() => self.show(),
                _ = announce.tick() => self.announce(client, TierState::Online),
                end = &mut ends.spool => return Err(spool_ended(end)),
                end = &mut ends.reader => return Err(match end {
                    // Nobody takes what it reads: the writer knows why.
                    Ok(Ok(())) => writer_ended((&mut ends.writer).await),
                    end => reader_ended(end),
                }),
                end = &mut ends.writer => return Err(writer_ended(end)),
            }
        }
    }

    /// Says to hosts that nothing is written here. An announcement for which there never was a store is taken back, so that
    /// no more hosts wait for its group.
    fn give_up(&mut self, client: &Client) {
        if self.opened.load(Ordering::Relaxed) {
            self.announce(client, TierState::Offline);
        } else if self.connected {
            let group = &self.identity.settings.group;
            tracing::warn!(
                "this exporter announced itself while its store did not answer, and takes that back now; hosts that have \
                 seen it wait for the group {group} until it runs, or is given up by: utilizer group retire {group}"
            );
            let cleared = Message { payload: Default::default(), ..self.identity.status(TierState::Offline) };
            self.publishes += 1;
            if let Err(error) = client.try_publish(self.publishes, cleared) {
                tracing::debug!("the own status was not taken back: {error}");
            }
        }
    }

    /// The client waits for nobody to read its events, but it ends them only when they are read.
    async fn farewell(&self, client: &Client, events: &mut Events) {
        let farewell = async {
            let drained = async { while events.recv().await.is_some() {} };
            tokio::join!(client.disconnect(FAREWELL_TIME), drained)
        };
        let _ = tokio::time::timeout(FAREWELL_TIME, farewell).await;
    }

    /// Takes in what has come, writes what is in memory, says goodbye.
    async fn stop(
        mut self,
        client: &Client,
        events: &mut Events,
        mut ends: Ends,
        stop_writer: oneshot::Sender<()>,
    ) -> Result<(), RunError> {
        // What the client has received already is not waited for: without its PUBACK the broker keeps it.
        self.spooling.stop();
        let flush = async {
            match (&mut ends.spool).await {
                Ok(Ok(())) => {}
                end => return Err(spool_ended(end)),
            }
            // The reader hands over what there is and ends, and the writer after it.
            match (&mut ends.reader).await {
                Ok(Ok(())) => {}
                end => return Err(reader_ended(end)),
            }
            match (&mut ends.writer).await {
                Ok(result) => result,
                end => Err(writer_ended(end)),
            }
        };
        let flushed = tokio::time::timeout(FLUSH_TIME, flush).await;
        drop(stop_writer);
        if flushed.is_err() {
            tracing::info!("stopping before all that came is written; it stays in the spool");
            // It lets go of its ledger.
            let _ = tokio::time::timeout(WRITER_END, ends.writer).await;
        }
        self.confirm_all(client);
        self.announce(client, TierState::Offline);
        self.farewell(client, events).await;
        flushed.unwrap_or(Ok(()))
    }

    fn show(&self) {
        self.metrics.held.set(i64::try_from(self.desk.held()).unwrap_or(i64::MAX));
    }

    /// Looks through the spool for what is held: at the start, and after damage.
    fn look_through(&mut self, scanner: &mpsc::Sender<Scan>) -> Result<(), RunError> {
        if self.scan.is_some() && self.desk.take_rescan() {
            let (Some(scan), desk, scanner) = (self.scan.take(), self.desk.clone(), scanner.clone()) else {
                return Ok(());
            };
            thread("scan", move || {
                let _ = scanner.blocking_send(scan.run(&desk));
            })?;
        }
        Ok(())
    }

    /// Hands the writer what it is to do between batches, as far as it has room.
    fn hand_over(&mut self) {
        while !self.hosts.is_empty()
            && let Ok(place) = self.chores.try_reserve()
        {
            let mut hosts = Vec::with_capacity(HOSTS_AT_ONCE.min(self.hosts.len()));
            while hosts.len() < HOSTS_AT_ONCE
                && let Some((_, host)) = self.hosts.pop_first()
            {
                hosts.push(host);
            }
            place.send(Chore::Hosts(hosts));
        }
        if !self.losses.is_empty()
            && let Ok(place) = self.chores.try_reserve()
        {
            let losses = std::mem::take(&mut self.losses).into_iter();
            place.send(Chore::Losses(losses.map(|((host, ..), loss)| (host, loss)).collect()));
        }
    }

    /// Tells hosts what is held and written, as it is due.
    fn confirm(&mut self, client: &Client) {
        if !self.connected {
            return;
        }
        let (news, mut whole) = self.desk.due(MOST_CONFIRMED);
        for host in news {
            if client.in_flight() >= usize::from(MOST_PUBLISHES) / 2 {
                return;
            }
            self.tell(&host, None, client);
        }
        match &self.asked {
            // The writer is busy with a store that does not answer. What is held can be said without it.
            Some(at) if at.elapsed() > LEDGER_PATIENCE => {
                for host in whole {
                    if client.in_flight() >= usize::from(MOST_PUBLISHES) / 2 {
                        return;
                    }
                    self.tell(&host, None, client);
                }
            }
            Some(_) => {}
            None if whole.is_empty() => {}
            None => {
                // Of no more than can be told: the others are due still, and would be asked for again.
                whole.truncate(MOST_WHOLE.saturating_sub(client.in_flight()));
                if !whole.is_empty()
                    && let Ok(place) = self.chores.try_reserve()
                {
                    self.asked = Some(Instant::now());
                    place.send(Chore::Entries(whole));
                }
            }
        }
    }

    /// The last words to hosts, without waiting for anything to be due.
    fn confirm_all(&mut self, client: &Client) {
        if self.connected {
            for host in self.desk.waiting(usize::from(MOST_PUBLISHES) / 2) {
                self.tell(&host, None, client);
            }
        }
    }

    fn tell(
        &mut self,
        host: &HostName,
        entries: Option<&[(delivery::ledger::Key, delivery::ledger::Entry)]>,
        client: &Client,
    ) {
        let Some(confirmation) = self.desk.confirmation(host, entries) else { return };
        let Settings { group, member, .. } = &self.identity.settings;
        let message = Message {
            topic: Topic::Confirmed(host.clone(), group.clone(), member.clone()).to_string(),
            payload: wire::encode(&confirmation).into(),
            content_type: Some(wire::CONTENT_TYPE.to_owned()),
            ..Message::default()
        };
        self.publishes += 1;
        match client.try_publish(self.publishes, message) {
            Ok(()) => self.metrics.confirmed(confirmation.whole),
            // A whole one makes up for it within minutes.
            Err(error) => tracing::debug!("a confirmation was not published: {error}"),
        }
    }

    fn told(&mut self, told: Told, client: &Client) {
        match told {
            Told::Booked(lost) => self.desk.booked(&lost),
            Told::Entries(hosts, entries) => {
                self.asked = None;
                let mut by_host: BTreeMap<&HostName, Vec<_>> = hosts.iter().map(|host| (host, Vec::new())).collect();
                for (key, entry) in entries {
                    if let Some((_, of_host)) = by_host.iter_mut().find(|(host, _)| ***host == key.host) {
                        of_host.push((key, entry));
                    }
                }
                for (host, entries) in by_host {
                    if !self.connected || client.in_flight() >= MOST_WHOLE {
                        // They are due still.
                        return;
                    }
                    self.tell(host, Some(&entries), client);
                }
            }
        }
    }

    fn announce(&mut self, client: &Client, state: TierState) {
        if self.connected {
            self.publishes += 1;
            // One that does not get through is repeated within minutes, and at the next connection.
            if let Err(error) = client.try_publish(self.publishes, self.identity.status(state)) {
                tracing::debug!("the own status was not published: {error}");
            }
        }
    }

    fn on(&mut self, event: Event, client: &Client, permit: &mut Option<OwnedSemaphorePermit>) -> Result<(), RunError> {
        match event {
            Event::Received { message, ack } => self.received(message, ack, client, permit),
            Event::Connected { session_present, .. } => {
                tracing::info!(session_present, "connected to {}", self.identity.settings.broker.broker);
                self.connected = true;
                self.connections += 1;
                self.spooling.connected(self.connections);
                self.metrics.mqtt_connected.set(1);
                self.subscribed.clear();
                self.ready_when_subscribed();
                self.announce(client, TierState::Online);
            }
            Event::Disconnected { reason, retry_in } => {
                let sentence = reason.to_string();
                self.metrics.mqtt_connected.set(0);
                let known = !self.connected && self.health.broker_fault().as_deref() == Some(&sentence);
                self.connected = false;
                if retry_in.is_none() {
                    return Err(RunError::Disconnected(match reason.cause {
                        Cause::TakenOver => format!(
                            "{sentence}; two exporters of the group {} call themselves {}: give one of them another \
                             [mqtt] member",
                            self.identity.settings.group, self.identity.settings.member
                        ),
                        _ => sentence,
                    }));
                }
                if !known {
                    tracing::warn!("{sentence}; trying again for as long as it takes");
                }
                self.health.broker(Some(sentence));
            }
            Event::Subscribed { filter } => {
                self.subscribed.insert(filter);
                self.ready_when_subscribed();
            }
            Event::SubscriptionRefused { filter, reason, .. } => {
                let sentence = format!(
                    "the broker refuses the subscription to {filter}: {reason}; its access rules must allow it"
                );
                tracing::error!("{sentence}");
                self.health.broker(Some(sentence));
            }
            Event::Refused { reason, .. } => {
                tracing::warn!("the broker refuses this exporter's own status or a confirmation: {reason}");
            }
            Event::Acked { .. } | Event::Lost { .. } => {}
        }
        Ok(())
    }

    fn ready_when_subscribed(&self) {
        if self.connected && self.identity.filters().iter().all(|filter| self.subscribed.contains(filter)) {
            self.health.broker(None);
        }
    }

    fn received(
        &mut self,
        message: Message,
        ack: AckToken,
        client: &Client,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) {
        self.metrics.message(kind_label(&message.topic));
        match message.topic.parse() {
            Ok(Topic::Status(host)) => match self.status(&message, &host) {
                // It is retained: who starts anew gets it anew.
                None => client.ack(ack),
                letter => self.spool(message, letter, ack, permit),
            },
            _ => self.spool(message, None, ack, permit),
        }
    }

    /// To the thread that may wait for a disk.
    fn spool(
        &self,
        message: Message,
        letter: Option<DeadLetter>,
        ack: AckToken,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) {
        if let Some(permit) = permit.take() {
            self.spooling.take(Arrived { message, letter, ack, connection: self.connections, permit });
        }
    }

    /// Takes in a host's status; what can't be taken of it comes back.
    fn status(&mut self, message: &Message, host: &HostName) -> Option<DeadLetter> {
        if !self.desk.takes(host) {
            self.metrics.foreign.inc();
            return None;
        }
        let now = SystemTime::now().into();
        let (row, letter) = match intake::state(message, host, now) {
            intake::Told::Host(status, row, letter) => {
                let (losses, refused) = self.desk.told(&status);
                if refused > 0 {
                    self.metrics.losses_refused.inc_by(refused);
                    if self.losses_said.is_none_or(|at| at.elapsed() >= LOSSES_SAID_EVERY) {
                        self.losses_said = Some(Instant::now());
                        tracing::warn!(
                            "{host} declares losses of more runs than a host can have: {refused} of this status are not \
                             booked now; a host that is honest repeats them"
                        );
                    }
                }
                for (loss, new) in losses {
                    self.metrics.lost(loss.reason, new);
                    // A host repeats them until they are booked.
                    if self.losses.len() < MOST_LOSSES {
                        let name = (host.clone(), loss.boot.clone(), loss.kind, loss.from, loss.to);
                        self.losses.insert(name, loss);
                    }
                }
                (row, letter)
            }
            intake::Told::Cleared => (None, None),
            intake::Told::Dead(letter) => (None, Some(letter)),
        };
        if let Some(row) = row
            && (self.hosts.len() < MOST_HOSTS || self.hosts.contains_key(&row.host))
        {
            self.hosts.insert(row.host.clone(), row);
        }
        letter
    }
}

fn kind_label(topic: &str) -> &'static str {
    let last = topic.rsplit('/').next().unwrap_or_default();
    match last.parse::<Kind>() {
        Ok(kind) => kind.as_str(),
        Err(_) if last == "status" => "status",
        Err(_) => "other",
    }
}

fn spool_ended(end: Result<Result<(), SyncError>, oneshot::error::RecvError>) -> RunError {
    match end {
        Ok(Err(error)) => RunError::Sync(error),
        Ok(Ok(())) => RunError::Bug("the spool's thread ended by itself".to_owned()),
        Err(_) => RunError::Bug("the spool's thread failed".to_owned()),
    }
}

fn reader_ended(end: Result<Result<(), UnknownFrame>, oneshot::error::RecvError>) -> RunError {
    match end {
        Ok(Err(error)) => RunError::Frame(error),
        Ok(Ok(())) => RunError::Bug("the reader's thread ended by itself".to_owned()),
        Err(_) => RunError::Bug("the reader's thread failed".to_owned()),
    }
}

fn writer_ended(end: Result<Result<(), RunError>, oneshot::error::RecvError>) -> RunError {
    match end {
        Ok(Err(error)) => error,
        Ok(Ok(())) => RunError::Bug("the writer's thread ended by itself".to_owned()),
        Err(_) => RunError::Bug("the writer's thread failed".to_owned()),
    }
}
