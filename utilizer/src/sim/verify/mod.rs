//! Whether a store has every record exactly once.
//!
//! A record is known in a store by what its rows carry: log lines and alerts by their `event_id`, metrics by host and time,
//! which no two readings of a host share, pipeline records by their metadata. For those with values, the sum of all values
//! in its rows is held against the sum that was sent, to the hundredth: a row that is there twice while another is missing
//! does not pass.

mod clickhouse;
mod postgres;
mod sqlite;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use wire::{Kind, Timestamp};

use super::content::{Content, GAUGES, PIPELINE_ROWS};
use super::host::Host;
use super::line::Shared;
use super::plan::{KINDS, Plan, RecordId, Run};
use crate::command::CommandError;

/// Records that are named one by one.
const MOST_NAMED: usize = 10;

/// A store to look into.
#[derive(Debug, Clone)]
pub(super) enum Store {
    /// PostgreSQL.
    Postgres(Box<tokio_postgres::Config>),
    /// ClickHouse's HTTP interface.
    ClickHouse(clickhouse::Server),
    /// A SQLite file.
    Sqlite(PathBuf),
}

impl FromStr for Store {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            // The text may hold a password and is not repeated.
            return url.parse().map(|config| Self::Postgres(Box::new(config))).map_err(|_| {
                "it is no URL of PostgreSQL; write postgres://USER:PASSWORD@HOST:PORT/DATABASE".to_owned()
            });
        }
        if url.starts_with("http://") {
            return url.parse().map(Self::ClickHouse);
        }
        Err("write postgres://…, http://… (ClickHouse, without TLS) or sqlite:FILE".to_owned())
    }
}

impl Store {
    /// Looks for every record.
    pub(super) async fn look(&self, expected: &Expected<'_>) -> Result<Verdict, CommandError> {
        match self {
            Self::Postgres(config) => postgres::look(config, expected).await,
            Self::ClickHouse(server) => clickhouse::look(server, expected).await,
            Self::Sqlite(path) => sqlite::look(path, expected),
        }
    }
}

/// What ought to be in a store.
pub(super) struct Expected<'a> {
    plan: &'a Plan,
    runs: &'a [Run],
    content: &'a Content,
    hosts: &'a [Host],
    rows_every: Duration,
}

impl<'a> Expected<'a> {
    /// From what was made. `hosts` in their order.
    pub(super) fn new(shared: &'a Shared, hosts: &'a [Host], rows_every: Duration) -> Self {
        Self { plan: &shared.plan, runs: &shared.runs, content: &shared.content, hosts, rows_every }
    }

    /// How job ids of hosts begin, and how hosts' names do.
    fn prefix(&self) -> String {
        format!("{}-", self.plan.prefix)
    }

    /// Nothing of ours is older, in ms since 1970.
    fn since(&self) -> i64 {
        self.runs.first().map_or(0, |run| run.start)
    }

    /// Rows of a record.
    fn rows(&self, record: RecordId) -> usize {
        match record.kind {
            Kind::Metrics => {
                let Some(run) = self.runs.get(record.run) else { return 0 };
                let time = self.plan.record_time(run, record.host, record.kind, record.seq);
                let seconds = self.plan.interval as f64 / 1000.0;
                if exporter::map::chosen(time, seconds, self.rows_every) { GAUGES } else { 0 }
            }
            Kind::Logs => self.plan.log_lines as usize,
            Kind::Alerts | Kind::Jobs => 1,
            Kind::Pipeline => PIPELINE_ROWS,
        }
    }

    /// The metrics record of a host's rows at a time.
    fn metrics_at(&self, host: &str, time: i64) -> Option<RecordId> {
        let host = self.plan.host_of(host)?;
        let run = self.runs.iter().rposition(|run| run.start <= time)?;
        let reading = self.plan.reading_at(self.runs.get(run)?, host, time)?;
        Some(RecordId { host, run, kind: Kind::Metrics, seq: u64::from(reading) + 1 })
    }

    /// The record of an identity as it stands in event ids: `<run>-<host>-<seq>`.
    fn record_of(&self, identity: &str, kind: Kind) -> Option<RecordId> {
        let mut parts = identity.split('-');
        let (run, host, seq) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let run = self.runs.iter().position(|of| of.id == run)?;
        (parts.next().is_none() && host < self.plan.hosts).then_some(RecordId { host, run, kind, seq })
    }
}

/// What was found of one record.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    rows: u32,
    /// The rows are not those that were sent, though their number may be right.
    wrong: bool,
}

/// What was found in a store.
struct Tally<'a> {
    expected: &'a Expected<'a>,
    found: BTreeMap<(u32, usize, Kind), Vec<Found>>,
    strangers: u64,
}

impl<'a> Tally<'a> {
    fn new(expected: &'a Expected<'a>) -> Self {
        Self { expected, found: BTreeMap::new(), strangers: 0 }
    }

    /// Rows were found of a record: so many, of which so many are distinct, and the sum of their values in hundredths.
    fn note(&mut self, record: Option<RecordId>, rows: u64, distinct: Option<u64>, sum: Option<i64>) {
        let made = |record: &RecordId| {
            let host = self.expected.hosts.get(record.host as usize);
            host.map_or(0, |host| host.made(record.run, record.kind))
        };
        let Some((record, made)) =
            record.map(|record| (record, made(&record))).filter(|(r, made)| (1..=*made).contains(&r.seq))
        else {
            self.strangers += rows;
            return;
        };
        let stream = self.found.entry((record.host, record.run, record.kind)).or_default();
        stream.resize(made as usize, Found::default());
        if let Some(found) = stream.get_mut(record.seq as usize - 1) {
            found.rows = found.rows.saturating_add(u32::try_from(rows).unwrap_or(u32::MAX));
            found.wrong |= distinct.is_some_and(|distinct| distinct != rows);
            found.wrong |= sum.is_some_and(|sum| sum != self.expected.content.sum(record));
        }
    }

    /// Holds what was found against what ought to be there.
    fn judge(self, store: String, kinds: &[Kind]) -> Verdict {
        let Self { expected, found, strangers } = self;
        let mut verdict = Verdict { store, kinds: Vec::new(), strangers, named: Vec::new() };
        for &kind in KINDS.iter().filter(|kind| kinds.contains(kind) && expected.plan.kinds.contains(kind)) {
            let mut count =
                Count { kind, records: 0, with_rows: 0, rows: 0, lost: 0, double: 0, wrong: 0, declared: 0 };
            for host in expected.hosts {
                for run in 0..expected.runs.len() {
                    let of = found.get(&(host.place, run, kind));
                    let declared = host.declared.get(&(run, kind));
                    for seq in 1..=host.made(run, kind) {
                        let record = RecordId { host: host.place, run, kind, seq };
                        let found = of.and_then(|of| of.get(seq as usize - 1).copied()).unwrap_or_default();
                        let declared = declared.is_some_and(|declared| declared.contains(seq));
                        if let Some(fault) = count.add(found, expected.rows(record), declared)
                            && verdict.named.len() < MOST_NAMED
                        {
                            verdict.named.push(expected.name(record, fault));
                        }
                    }
                }
            }
            verdict.kinds.push(count);
        }
        verdict
    }
}

impl Expected<'_> {
    fn name(&self, record: RecordId, fault: &str) -> String {
        let RecordId { host, run, kind, seq } = record;
        let Some(run) = self.runs.get(run) else { return String::new() };
        let (boot, time) = (self.plan.boot(run, host), self.plan.record_time(run, host, kind, seq));
        format!("{fault}: {} boot {boot} {kind} {seq} of {time}", self.plan.host(host))
    }
}

/// What was found of one kind.
#[derive(Debug)]
struct Count {
    kind: Kind,
    records: u64,
    /// Of them, those that make rows.
    with_rows: u64,
    rows: u64,
    lost: u64,
    double: u64,
    wrong: u64,
    declared: u64,
}

impl Count {
    /// Adds a record; says what is wrong with it.
    fn add(&mut self, found: Found, wanted: usize, declared: bool) -> Option<&'static str> {
        let rows = found.rows as usize;
        self.records += 1;
        self.with_rows += u64::from(wanted > 0);
        self.rows += rows as u64;
        if rows > wanted {
            self.double += 1;
            Some("double")
        } else if rows == wanted && !found.wrong {
            None
        } else if rows == 0 && declared {
            self.declared += 1;
            None
        } else if rows == wanted {
            self.wrong += 1;
            Some("wrong")
        } else {
            self.lost += 1;
            Some(if rows == 0 { "lost" } else { "lost in part" })
        }
    }
}

/// What a look into a store found.
pub(super) struct Verdict {
    store: String,
    kinds: Vec<Count>,
    strangers: u64,
    named: Vec<String>,
}

impl Verdict {
    /// Whether something is lost, and nothing else is wrong.
    pub(super) fn only_lacks(&self) -> bool {
        let sum = |of: fn(&Count) -> u64| self.kinds.iter().map(of).sum::<u64>();
        sum(|count| count.lost) > 0 && sum(|count| count.double + count.wrong) == 0
    }

    /// Whether something is lost, double or wrong.
    pub(super) fn has_faults(&self) -> bool {
        self.kinds.iter().any(|count| count.lost + count.double + count.wrong > 0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nverified {}:", self.store)?;
        for count in &self.kinds {
            let Count { kind, records, with_rows, rows, lost, double, wrong, declared } = count;
            write!(f, "  {:<9} {records} records", kind.as_str())?;
            if with_rows != records {
                write!(f, " ({with_rows} of them make rows)")?;
            }
            write!(f, ", {rows} rows: {lost} lost, {double} double")?;
            if *wrong > 0 {
                write!(f, ", {wrong} wrong")?;
            }
            writeln!(f, ", {declared} declared lost")?;
        }
        for name in &self.named {
            writeln!(f, "  {name}")?;
        }
        if self.strangers > 0 {
            writeln!(f, "  {} rows look like ours and are of no record of this simulation", self.strangers)?;
        }
        write!(f, "{}", if self.has_faults() { "NOT exactly once" } else { "exactly once" })
    }
}

/// A failure of a store, as a sentence.
fn failed(store: &str, error: impl fmt::Display) -> CommandError {
    CommandError::Failed(format!("can't verify {store}: {error}"))
}

/// A time of a text column.
fn millis(text: &str) -> Option<i64> {
    text.parse().ok().map(Timestamp::as_millis)
}
