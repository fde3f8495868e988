//! Stores in memory, which go down, refuse and forget on command.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use delivery::Identity;
use delivery::ledger::{Entry, Key};
use utilizer_exporter::rows::{Batch, HostRow, Record, Rows};
use utilizer_exporter::sink::{Ledger, Sink, SinkError, Written};
use wire::messages::Loss;
use wire::{HostName, Kind};

/// What the store does and holds.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Values of `metric_value`, in the order of their commit.
    pub(crate) values: Vec<f64>,
    pub(crate) hosts: Vec<HostRow>,
    pub(crate) writes: usize,
    /// Of these, with what was made ahead.
    pub(crate) encoded: usize,
    pub(crate) opens: usize,
    pub(crate) look_ups: usize,
    /// Tokens of all inserts, in their order.
    pub(crate) tokens: Vec<String>,
    pub(crate) ledger: BTreeMap<Key, Entry>,
    mood: Mood,
    /// Which records are in it, by their number: what a look-up finds.
    records: Vec<Option<Identity>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// Refuses batches with this value.
    Picky(f64),
    Down,
    Broken,
    /// Takes a batch and says nothing, for ever.
    Silent,
    /// Takes a batch and answers with an error.
    Garbled,
    /// Takes the first record of a batch and answers with an error.
    Halfway,
}

type Pairs = Vec<(u64, u64)>;

/// What is made of records ahead: so that each test sees that it is of the records that are written.
fn encoded(records: &[&Record]) -> Vec<Bytes> {
    vec![format!("{records:?}").into()]
}

fn check_encoded(batch: &Batch, bytes: &[Bytes]) {
    assert_eq!(encoded(&batch.records.iter().collect::<Vec<_>>()), bytes);
}

/// A store with a ledger of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(pub(crate) Arc<Mutex<Store>>);

/// The same without.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plain(pub(crate) Memory);

impl Memory {
    pub(crate) fn set(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.0.lock().unwrap())
    }

    pub(crate) fn values(&self) -> Vec<f64> {
        self.look(|store| store.values.clone())
    }

    /// The numbers of the host `web-01` that the ledger has as committed, and as lost.
    pub(crate) fn booked(&self) -> (Pairs, Pairs) {
        let entries = |store: &Store| {
            let of = |pick: fn(&Entry) -> &wire::Ranges| {
                store.ledger.values().flat_map(|entry| pick(entry).iter().collect::<Vec<_>>()).collect()
            };
            (of(|entry| &entry.committed), of(|entry| &entry.lost))
        };
        self.look(entries)
    }

    fn mood(&self) -> Result<Mood, SinkError> {
        let doing = || "writing to memory".to_owned();
        match self.look(|store| store.mood) {
            Mood::Down => Err(SinkError::Retry { doing: doing(), source: "it is down".into() }),
            Mood::Broken => Err(SinkError::Fatal { doing: doing(), source: "it is broken".into() }),
            mood => Ok(mood),
        }
    }

    fn check(&self, batch: &Batch) -> Result<Mood, SinkError> {
        let mood = self.mood()?;
        if let Mood::Picky(bad) = mood
            && batch.metrics().any(|row| row.metric_value == bad)
        {
            return Err(SinkError::Poison { doing: "writing to memory".to_owned(), source: "a bad taste".into() });
        }
        Ok(mood)
    }

    fn insert(&self, record: &Record) {
        let mut store = self.0.lock().unwrap();
        if let Rows::Metrics(rows) = &record.rows {
            store.values.extend(rows.iter().map(|row| row.metric_value));
        }
        store.records.push(record.origin.identity());
    }

    async fn answer(mood: Mood) -> Result<(), SinkError> {
        match mood {
            Mood::Silent => std::future::pending().await,
            Mood::Garbled | Mood::Halfway => {
                Err(SinkError::Retry { doing: "writing to memory".to_owned(), source: "the line is bad".into() })
            }
            _ => Ok(()),
        }
    }
}

impl Sink for Memory {
    const LEDGER: Ledger = Ledger::InStore;

    fn name(&self) -> &'static str {
        "memory"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Metrics, Kind::Pipeline]
    }

    async fn open(&mut self) -> Result<(), SinkError> {
        self.0.lock().unwrap().opens += 1;
        if self.look(|store| store.mood == Mood::Broken) {
            // A store takes its time to say so: enough to connect to a broker.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.mood().map(drop)
    }

    async fn write(&mut self, batch: &Batch) -> Result<Written, SinkError> {
        self.0.lock().unwrap().writes += 1;
        let mood = self.check(batch)?;
        let mut known = Vec::new();
        for (place, record) in batch.records.iter().enumerate() {
            if let Some(identity) = record.origin.identity()
                && !self.0.lock().unwrap().ledger.entry(identity.key()).or_default().commit(identity.seq)
            {
                known.push(place);
                continue;
            }
            self.insert(record);
        }
        Memory::answer(mood).await?;
        Ok(Written { known })
    }

    fn encode(records: &[&Record]) -> Vec<Bytes> {
        encoded(records)
    }

    async fn write_encoded(&mut self, batch: &Batch, encoded: Vec<Bytes>) -> Result<Written, SinkError> {
        check_encoded(batch, &encoded);
        self.0.lock().unwrap().encoded += 1;
        self.write(batch).await
    }

    async fn upsert_hosts(&mut self, hosts: &[HostRow]) -> Result<(), SinkError> {
        self.mood()?;
        self.0.lock().unwrap().hosts.extend_from_slice(hosts);
        Ok(())
    }

    async fn rehearse(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.check(batch).map(drop)
    }

    async fn entries(&mut self, hosts: &[HostName]) -> Result<Vec<(Key, Entry)>, SinkError> {
        self.mood()?;
        let of = |store: &Store| {
            let entries = store.ledger.iter().filter(|(key, _)| hosts.contains(&key.host));
            entries.map(|(key, entry)| (key.clone(), entry.clone())).collect()
        };
        Ok(self.look(of))
    }

    async fn book(&mut self, committed: &[Identity], lost: &[(HostName, Loss)]) -> Result<(), SinkError> {
        self.mood()?;
        let mut store = self.0.lock().unwrap();
        for identity in committed {
            store.ledger.entry(identity.key()).or_default().commit(identity.seq);
        }
        for (host, loss) in lost {
            let key = Key { host: host.clone(), boot: loss.boot.clone(), kind: loss.kind };
            store.ledger.entry(key).or_default().lose(loss.from, loss.to);
        }
        Ok(())
    }
}

impl Sink for Plain {
    const LEDGER: Ledger = Ledger::Beside;

    fn name(&self) -> &'static str {
        "plain"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Metrics, Kind::Pipeline]
    }

    async fn open(&mut self) -> Result<(), SinkError> {
        self.0.open().await
    }

    async fn write(&mut self, batch: &Batch) -> Result<Written, SinkError> {
        self.0.0.lock().unwrap().writes += 1;
        let mood = self.0.check(batch)?;
        self.0.0.lock().unwrap().tokens.push(batch.token.clone());
        let taken = if mood == Mood::Halfway { 1 } else { batch.records.len() };
        for record in batch.records.iter().take(taken) {
            self.0.insert(record);
        }
        Memory::answer(mood).await?;
        Ok(Written::default())
    }

    fn encode(records: &[&Record]) -> Vec<Bytes> {
        encoded(records)
    }

    async fn write_encoded(&mut self, batch: &Batch, encoded: Vec<Bytes>) -> Result<Written, SinkError> {
        check_encoded(batch, &encoded);
        self.0.0.lock().unwrap().encoded += 1;
        self.write(batch).await
    }

    async fn upsert_hosts(&mut self, hosts: &[HostRow]) -> Result<(), SinkError> {
        self.0.upsert_hosts(hosts).await
    }

    async fn look_up(&mut self, batch: &Batch) -> Result<Vec<bool>, SinkError> {
        self.0.0.lock().unwrap().look_ups += 1;
        self.0.mood()?;
        // Longer than an insert may still run.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let there = |record: &Record| {
            let identity = record.origin.identity();
            identity.is_some() && self.0.look(|store| store.records.contains(&identity))
        };
        Ok(batch.records.iter().map(there).collect())
    }
}
