//! The one task that calls the sink: tries again, isolates what the store refuses, gives up only on what is fatal.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use delivery::fixed::{FixedBatch, Outcome, Part, Step};
use delivery::ledger::{Entry, Key};
use tokio::sync::{mpsc, oneshot};
use wire::messages::Loss;
use wire::{BootId, HostName, Kind, Ranges, Timestamp, Topic};

use crate::beside::Beside;
use crate::dead::{DeadLetter, DeadLetters, Reason};
use crate::desk::Desk;
use crate::health::Health;
use crate::map::Rules;
use crate::metrics::Metrics;
use crate::reader::{Encoded, Job};
use crate::refused::{halves, letter_of};
use crate::rows::{Batch, HostRow, Record, Rows};
use crate::sink::{Ledger, Sink, SinkError, Written};
use crate::spooler::Spooling;

/// Pauses between attempts: from the first, doubling to the longest, each shortened by up to a half at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), most: Duration::from_secs(30) }
    }
}

/// The same failure is logged when it begins and then this often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// An idle store is asked this often whether it is still there: `/readyz` must not be the last to know.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// Between two runs of the retention job.
const RETAIN_EVERY: Duration = Duration::from_secs(3600);

/// The first of them comes soon after the start, but not before what waits is on its way.
const RETAIN_FIRST: Duration = Duration::from_secs(60);

/// A ledger's entry that nobody touched for so long may go, once its host names the run no more.
const FORGET_AFTER: Duration = Duration::from_secs(30 * 86_400);

/// What is done between batches.
#[derive(Debug)]
pub(crate) enum Chore {
    /// States of hosts, none twice.
    Hosts(Vec<HostRow>),
    /// Records that hosts declared lost.
    Losses(Vec<(HostName, Loss)>),
    /// Asks for the ledger's entries of hosts, to confirm them.
    Entries(Vec<HostName>),
}

/// What the writer tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// The entries that were asked for: of these hosts, all that there are.
    Entries(Vec<HostName>, Vec<(Key, Entry)>),
    /// The losses are booked.
    Booked(Vec<(HostName, Loss)>),
}

/// The store can't go on without a person. The text is the whole chain of causes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub(crate) String);

pub(crate) struct Writer<S> {
    pub(crate) sink: S,
    pub(crate) backoff: Backoff,
    pub(crate) desk: Arc<Desk>,
    /// The ledger and the fixed batch of a sink that has none.
    pub(crate) beside: Option<Beside>,
    /// Which rows a message makes.
    pub(crate) rules: Rules,
    pub(crate) spooling: Arc<Spooling>,
    pub(crate) dead: Arc<DeadLetters>,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    /// Told when the store has answered for the first time, unless it can't be used.
    pub(crate) answered: Option<oneshot::Sender<()>>,
    /// Whether the store was open at some time.
    pub(crate) opened: Arc<AtomicBool>,
}

impl<S: Sink> Writer<S> {
    /// Opens the store, says so, then does what it is handed until there is no more.
    pub(crate) async fn run(
        mut self,
        mut jobs: mpsc::Receiver<Job>,
        mut chores: mpsc::Receiver<Chore>,
        told: mpsc::Sender<Told>,
    ) -> Result<(), Fatal> {
        self.open().await?;
        self.recover().await?;
        let mut retain = tokio::time::interval_at((Instant::now() + RETAIN_FIRST).into(), RETAIN_EVERY);
        loop {
            tokio::select! {
                // Chores are few and small, and hosts wait for their confirmation; a backlog must not keep them.
                biased;
                Some(chore) = chores.recv() => self.chore(chore, &told).await?,
                _ = retain.tick() => self.retain().await?,
                job = jobs.recv() => match job {
                    Some(job) => self.job(job).await?,
                    None => return Ok(()),
                },
                () = tokio::time::sleep(CHECK_EVERY) => self.open().await?,
            }
        }
    }

    async fn open(&mut self) -> Result<(), Fatal> {
        let mut trouble = Trouble::new(self.backoff);
        loop {
            let opened = self.sink.open().await;
            if matches!(opened, Ok(()) | Err(SinkError::Retry { .. }))
                && let Some(answered) = self.answered.take()
            {
                let _ = answered.send(());
            }
            match opened {
                Ok(()) => {
                    self.opened.store(true, Ordering::Relaxed);
                    return self.well(&trouble);
                }
                Err(error) => self.wait(&mut trouble, error).await?,
            }
        }
    }

    async fn chore(&mut self, chore: Chore, told: &mpsc::Sender<Told>) -> Result<(), Fatal> {
        match chore {
            Chore::Hosts(hosts) => self.hosts(hosts).await,
            Chore::Losses(lost) => {
                let mut trouble = Trouble::new(self.backoff);
                loop {
                    let Some(beside) = &mut self.beside else {
                        break self.until_done(async |sink| sink.book(&[], &lost).await).await?;
                    };
                    match beside.lose(&lost) {
                        Ok(()) => break self.well(&trouble)?,
                        Err(error) => {
                            let fault = ledger_fault(beside, error);
                            self.wait(&mut trouble, fault).await?;
                        }
                    }
                }
                let _ = told.send(Told::Booked(lost)).await;
                Ok(())
            }
            Chore::Entries(hosts) => {
                let entries = match &self.beside {
                    Some(beside) => beside.entries(&hosts),
                    None => self.until_done(async |sink| sink.entries(&hosts).await).await?,
                };
                let _ = told.send(Told::Entries(hosts, entries)).await;
                Ok(())
            }
        }
    }

    /// Calls the sink until it does what it is told.
    async fn until_done<T>(&mut self, mut call: impl AsyncFnMut(&mut S) -> Result<T, SinkError>) -> Result<T, Fatal> {
        let mut trouble = Trouble::new(self.backoff);
        loop {
            match call(&mut self.sink).await {
                Ok(done) => {
                    self.well(&trouble)?;
                    return Ok(done);
                }
                Err(error) => self.wait_and_open(&mut trouble, error).await?,
            }
        }
    }

    async fn hosts(&mut self, hosts: Vec<HostRow>) -> Result<(), Fatal> {
        let mut parts = vec![hosts];
        while let Some(mut part) = parts.pop() {
            let mut trouble = Trouble::new(self.backoff);
            loop {
                match self.sink.upsert_hosts(&part).await {
                    Ok(()) => self.metrics.hosts_written(part.len()),
                    Err(SinkError::Poison { .. }) if part.len() > 1 => {
                        parts.push(part.split_off(part.len() / 2));
                        parts.push(part);
                    }
                    Err(SinkError::Poison { doing, source }) => {
                        let letters: Vec<_> =
                            part.iter().map(|host| host_letter(host, &doing, source.as_ref())).collect();
                        self.keep(&letters).await;
                    }
                    Err(error) => {
                        self.wait_and_open(&mut trouble, error).await?;
                        continue;
                    }
                }
                self.well(&trouble)?;
                break;
            }
        }
        Ok(())
    }

    /// Deletes what is old: from the tables, and from the ledger what nobody asks for any more.
    async fn retain(&mut self) -> Result<(), Fatal> {
        let now: Timestamp = SystemTime::now().into();
        let retained = self.until_done(async |sink| sink.retain(now).await).await?;
        if retained != crate::sink::Retained::default() {
            tracing::info!(
                partitions = retained.partitions,
                rows = retained.rows,
                "deleted what is older than the retention"
            );
        }
        let named: Vec<(HostName, BootId)> = self.desk.named_boots();
        let since = now.minus(FORGET_AFTER);
        let forgotten = match &mut self.beside {
            Some(beside) => beside.forget(since, &named).or_else(|error| match ledger_fault(beside, error) {
                // There is time for that.
                SinkError::Retry { .. } => Ok(0),
                SinkError::Poison { doing, source } | SinkError::Fatal { doing, source } => {
                    Err(Fatal(chain(&doing, source.as_ref())))
                }
            })?,
            None => self.until_done(async |sink| sink.forget(since, &named).await).await?,
        };
        if forgotten > 0 {
            tracing::info!(entries = forgotten, "the ledger forgot runs of agents that ended long ago");
        }
        Ok(())
    }

    /// Writes a job, all of it but what the store refuses, and lets the spool forget it.
    async fn job(&mut self, job: Job) -> Result<(), Fatal> {
        self.keep(&job.dead).await;
        match S::LEDGER {
            Ledger::InStore => self.in_store(job.records, job.encoded).await?,
            Ledger::Beside => {
                if let Some(beside) = &mut self.beside {
                    beside.fix(&job.indices, &job.records);
                }
                self.drive(job.indices.iter().copied().zip(job.records).collect(), job.encoded).await?;
            }
        }
        let trim = self.desk.done(&job.indices, &job.gaps);
        self.spooling.trim(trim);
        Ok(())
    }

    /// A refused batch is cut in halves until what is refused stands alone. The rows of one record are then tried apart,
    /// without writing them, and the record is written as a whole with those that are good.
    async fn in_store(&mut self, records: Vec<Record>, mut encoded: Vec<Encoded>) -> Result<(), Fatal> {
        // A stack, so that the order of receipt is kept.
        let mut parts = vec![records];
        while let Some(records) = parts.pop() {
            if records.is_empty() {
                continue;
            }
            let batch = new_batch(records);
            match self.write(&batch, take_encoded(&mut encoded, None, batch.records.len())).await? {
                None => self.committed(&batch.records),
                Some(refusal) => match halves(batch.records) {
                    Ok((first, second)) => parts.extend([second, first]),
                    Err(record) => self.record(record, refusal).await?,
                },
            }
        }
        Ok(())
    }

    /// Writes one record without the rows that the store refuses.
    async fn record(&mut self, record: Record, refusal: String) -> Result<(), Fatal> {
        let mut good = Vec::new();
        let mut letters = Vec::new();
        let mut parts = vec![record.rows];
        while let Some(rows) = parts.pop() {
            let part = new_batch(vec![Record { origin: record.origin.clone(), rows }]);
            let refused = self.rehearse(&part).await?;
            let rows = part.records.into_iter().next().map(|record| record.rows);
            match (rows, refused) {
                (Some(rows), None) => good.push(rows),
                (Some(rows), Some(refusal)) => match rows.halves() {
                    Ok((first, second)) => parts.extend([second, first]),
                    Err(rows) => letters.push(letter_of(&record.origin, &rows, refusal)),
                },
                (None, _) => {}
            }
        }
        let mut rest = Record { origin: record.origin, rows: Rows::joined(good) };
        self.keep(&letters).await;
        let batch = new_batch(vec![rest.clone()]);
        if let Some(again) = self.write(&batch, Vec::new()).await? {
            // Each row would do alone, and together they don't.
            let refusal = if letters.is_empty() { refusal } else { again };
            let rows = std::mem::replace(&mut rest.rows, Rows::Metrics(Vec::new()));
            self.keep(&[letter_of(&rest.origin, &rows, refusal)]).await;
            let empty = new_batch(vec![rest.clone()]);
            if let Some(refusal) = self.write(&empty, Vec::new()).await? {
                return Err(Fatal(format!("the store refuses to book a record without rows: {refusal}")));
            }
        }
        self.committed(std::slice::from_ref(&rest));
        Ok(())
    }

    /// Ends what a batch was at when the exporter ended before it.
    async fn recover(&mut self) -> Result<(), Fatal> {
        let (kinds, rules) = (self.sink.kinds(), self.rules.clone());
        let Some(beside) = &mut self.beside else { return Ok(()) };
        if beside.fixed.batch().is_some() {
            let records = beside.records(kinds, &rules);
            tracing::info!(records = records.len(), "looking up a batch that was on its way when the exporter ended");
            self.drive(records, Vec::new()).await?;
        }
        Ok(())
    }

    /// Takes the fixed batch through its steps, with its records by their places in the spool.
    async fn drive(&mut self, mut records: BTreeMap<u64, Record>, mut encoded: Vec<Encoded>) -> Result<(), Fatal> {
        let Some(mut beside) = self.beside.take() else { return Ok(()) };
        let identities: Vec<_> = records.values().filter_map(|record| record.origin.identity()).collect();
        let mut trouble = Trouble::new(self.backoff);
        let mut refusal = String::new();
        let mut sending: Option<Sending> = None;
        let result = loop {
            let step = match beside.fixed.step() {
                Step::Idle => break Ok(()),
                Step::Save => match beside.save() {
                    Ok(()) => Ok(()),
                    Err(error) => self.wait(&mut trouble, ledger_fault(&beside, error)).await,
                },
                Step::LookUp(part) => {
                    let part = Sending::of(part, beside.fixed.batch(), &mut sending, &mut records);
                    match self.look_up(part).await {
                        Ok(found) => {
                            beside.fixed.looked_up(&found);
                            Ok(())
                        }
                        Err(error) => self.wait_and_open(&mut trouble, transient(error)).await,
                    }
                }
                Step::Insert(part) => {
                    let part = Sending::of(part, beside.fixed.batch(), &mut sending, &mut records);
                    let began = Instant::now();
                    let kind = part.batch.records.first().map(|record| record.origin.kind);
                    let encoded = take_encoded(&mut encoded, kind, part.batch.records.len());
                    match self.insert(&part.batch, encoded).await {
                        Ok(()) => {
                            self.metrics.write_seconds.observe(began.elapsed().as_secs_f64());
                            self.metrics.written(&part.batch, &[]);
                            let well = self.well(&trouble);
                            trouble = Trouble::new(self.backoff);
                            beside.fixed.inserted(Outcome::Written);
                            well
                        }
                        Err(SinkError::Poison { doing, source }) => {
                            refusal = chain(&doing, source.as_ref());
                            beside.fixed.inserted(Outcome::Refused);
                            Ok(())
                        }
                        Err(error) => {
                            beside.fixed.inserted(Outcome::Unknown);
                            self.wait_and_open(&mut trouble, error).await
                        }
                    }
                }
                Step::DeadLetter(place) => {
                    Sending::put_back(&mut sending, &mut records);
                    if let Some(record) = records.get(&place) {
                        self.keep(&[letter_of(&record.origin, &record.rows, refusal.clone())]).await;
                    }
                    beside.fixed.kept();
                    Ok(())
                }
                Step::Book { from, to } => match beside.book(&identities, to) {
                    Ok(()) => {
                        self.desk.committed(&identities);
                        let trim = self.desk.done(&(from..to).collect::<Vec<_>>(), &Ranges::default());
                        self.spooling.trim(trim);
                        self.well(&std::mem::replace(&mut trouble, Trouble::new(self.backoff)))
                    }
                    Err(error) => self.wait(&mut trouble, ledger_fault(&beside, error)).await,
                },
            };
            if step.is_err() {
                break step;
            }
        };
        self.beside = Some(beside);
        result
    }

    async fn look_up(&mut self, sending: &Sending) -> Result<Vec<bool>, SinkError> {
        let there = match sending.batch.row_count() {
            0 => vec![true; sending.batch.records.len()],
            _ => self.sink.look_up(&sending.batch).await?,
        };
        // A record that can't be read any more can't be sent either.
        let mut there = sending.places.iter().copied().zip(there).collect::<BTreeMap<_, _>>();
        Ok(sending
            .wanted
            .iter()
            .flat_map(|(from, to)| from..=to)
            .map(|place| there.remove(&place).unwrap_or(true))
            .collect())
    }

    async fn insert(&mut self, batch: &Batch, encoded: Vec<Bytes>) -> Result<(), SinkError> {
        match batch.row_count() {
            0 => Ok(()),
            _ => self.send(batch, encoded).await.map(drop),
        }
    }

    async fn send(&mut self, batch: &Batch, encoded: Vec<Bytes>) -> Result<Written, SinkError> {
        match encoded.is_empty() {
            true => self.sink.write(batch).await,
            false => self.sink.write_encoded(batch, encoded).await,
        }
    }

    /// Writes a batch; what comes back is why the store refuses it.
    async fn write(&mut self, batch: &Batch, mut encoded: Vec<Bytes>) -> Result<Option<String>, Fatal> {
        let mut trouble = Trouble::new(self.backoff);
        loop {
            let began = Instant::now();
            match self.send(batch, std::mem::take(&mut encoded)).await {
                Ok(written) => {
                    self.metrics.write_seconds.observe(began.elapsed().as_secs_f64());
                    self.metrics.written(batch, &written.known);
                    self.well(&trouble)?;
                    return Ok(None);
                }
                Err(SinkError::Poison { doing, source }) => {
                    self.well(&trouble)?;
                    return Ok(Some(chain(&doing, source.as_ref())));
                }
                Err(error) => self.wait_and_open(&mut trouble, error).await?,
            }
        }
    }

    async fn rehearse(&mut self, batch: &Batch) -> Result<Option<String>, Fatal> {
        let mut trouble = Trouble::new(self.backoff);
        loop {
            match self.sink.rehearse(batch).await {
                Ok(()) => return self.well(&trouble).map(|()| None),
                Err(SinkError::Poison { doing, source }) => {
                    return self.well(&trouble).map(|()| Some(chain(&doing, source.as_ref())));
                }
                Err(error) => self.wait_and_open(&mut trouble, error).await?,
            }
        }
    }

    fn committed(&self, records: &[Record]) {
        let identities: Vec<_> = records.iter().filter_map(|record| record.origin.identity()).collect();
        self.desk.committed(&identities);
    }

    /// Keeps dead letters, for as long as it takes: what they stand for is booked only then.
    async fn keep(&self, letters: &[DeadLetter]) {
        let mut trouble = Trouble::new(self.backoff);
        while let Err(error) = self.dead.keep(letters, SystemTime::now().into()) {
            let text = format!("can't write the dead letters to {}: {error}", self.dead.path().display());
            let pause = trouble.pause();
            if trouble.is_news() {
                tracing::error!("{text}; trying again for as long as it takes");
            }
            self.health.sink(Some(text));
            tokio::time::sleep(pause).await;
        }
    }

    fn well(&self, trouble: &Trouble) -> Result<(), Fatal> {
        if trouble.failures > 0 {
            tracing::info!(attempts = trouble.failures + 1, "the store takes writes again");
        }
        self.metrics.sink_ready.set(1);
        self.health.sink(None);
        Ok(())
    }

    pub(crate) async fn wait_and_open(&mut self, trouble: &mut Trouble, error: SinkError) -> Result<(), Fatal> {
        self.wait(trouble, error).await?;
        while let Err(error) = self.sink.open().await {
            self.wait(trouble, error).await?;
        }
        Ok(())
    }

    /// Pauses before another attempt, unless no attempt can help.
    async fn wait(&mut self, trouble: &mut Trouble, error: SinkError) -> Result<(), Fatal> {
        let (retry, text) = match &error {
            SinkError::Retry { doing, source } => (true, chain(doing, source.as_ref())),
            SinkError::Poison { doing, source } | SinkError::Fatal { doing, source } => {
                (false, chain(doing, source.as_ref()))
            }
        };
        self.metrics.sink_ready.set(0);
        self.health.sink(Some(text.clone()));
        if !retry {
            return Err(Fatal(text));
        }
        self.metrics.retries.inc();
        let pause = trouble.pause();
        if trouble.is_news() {
            tracing::warn!(attempts = trouble.failures, "{text}; trying again for as long as it takes");
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// The part of a fixed batch that is being sent, with its records.
struct Sending {
    wanted: Ranges,
    places: Vec<u64>,
    batch: Batch,
}

impl Sending {
    /// The records of this part, moved out of `records`; those of another part go back.
    fn of<'a>(
        part: &Part,
        batch: Option<&FixedBatch>,
        current: &'a mut Option<Sending>,
        records: &mut BTreeMap<u64, Record>,
    ) -> &'a Sending {
        if current.as_ref().is_none_or(|sending| sending.batch.token != part.token) {
            Self::put_back(current, records);
        }
        current.get_or_insert_with(|| {
            let places = part.records.iter().flat_map(|(from, to)| from..=to);
            let (places, records) = places.filter_map(|place| Some((place, records.remove(&place)?))).unzip();
            let written_at = batch.map_or(Timestamp::from_millis(0), |batch| batch.written_at);
            let batch = Batch { token: part.token.clone(), written_at, records };
            Sending { wanted: part.records.clone(), places, batch }
        })
    }

    fn put_back(current: &mut Option<Sending>, records: &mut BTreeMap<u64, Record>) {
        if let Some(sending) = current.take() {
            records.extend(sending.places.into_iter().zip(sending.batch.records));
        }
    }
}

/// A look-up that is refused says nothing about the rows.
fn transient(error: SinkError) -> SinkError {
    match error {
        SinkError::Poison { doing, source } => SinkError::Retry { doing, source },
        error => error,
    }
}

/// A full disk is waited for. After any other fault nobody knows what is there before it is read again.
fn ledger_fault(beside: &Beside, error: std::io::Error) -> SinkError {
    let doing = format!("writing the ledger in {}", beside.folder().display());
    let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let source = Box::new(error);
    if full { SinkError::Retry { doing, source } } else { SinkError::Fatal { doing, source } }
}

/// What was made ahead of these records, once: of the job's records of a kind, or of all, each part has some or all, so that
/// as many are the same ones.
fn take_encoded(encoded: &mut Vec<Encoded>, kind: Option<Kind>, records: usize) -> Vec<Bytes> {
    let found = encoded.iter().position(|encoded| encoded.kind == kind && encoded.records == records);
    found.map(|at| encoded.swap_remove(at).bytes).unwrap_or_default()
}

/// Attempts of one batch go by one name, and so do not its halves.
pub(crate) fn new_batch(records: Vec<Record>) -> Batch {
    Batch { token: uuid::Uuid::new_v4().to_string(), written_at: SystemTime::now().into(), records }
}

fn host_letter(host: &HostRow, doing: &str, source: &(dyn Error + 'static)) -> DeadLetter {
    let row = serde_json::json!({"host": host.host, "state": host.state, "version": host.version,
                                 "interval_seconds": host.interval_seconds, "inventory": host.inventory});
    DeadLetter {
        topic: host.host.parse().map(|host| Topic::Status(host).to_string()).unwrap_or_default(),
        reason: Reason::Poison,
        detail: chain(doing, source),
        payload: row.to_string().into_bytes(),
        numbered: None,
    }
}

/// A run of failures.
pub(crate) struct Trouble {
    backoff: Backoff,
    failures: u32,
    logged: Option<Instant>,
}

impl Trouble {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { backoff, failures: 0, logged: None }
    }

    fn pause(&mut self) -> Duration {
        let doubled = self.backoff.first.saturating_mul(1 << self.failures.min(16)).min(self.backoff.most);
        self.failures = self.failures.saturating_add(1);
        // Members that lost the same database must not come back in one instant. A random id's bits do for that.
        let random = f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
        doubled.mul_f64(1.0 - random / 2.0)
    }

    fn is_news(&mut self) -> bool {
        if self.logged.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            return false;
        }
        self.logged = Some(Instant::now());
        true
    }
}

/// A sentence and its causes.
pub(crate) fn chain(doing: &str, source: &(dyn Error + 'static)) -> String {
    let mut text = doing.to_owned();
    let mut cause = Some(source);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
