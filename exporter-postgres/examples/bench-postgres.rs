//! Our sink beside `\copy … binary` of psql: the same rows into the same table, as many a transaction.
//!
//! `bench-postgres [URL]`: a database of your own, in which `recap_system_metrics` is emptied; without one a server is started.
//! Runs take turns, and of each way the median counts.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers, which may stop at a surprise")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Instant, SystemTime};

use exporter::rows::{Batch, JsonObject, MetricRow, Origin, Record, Rows};
use exporter::sink::Sink;
use utilizer_exporter_postgres::{Postgres, PostgresConfig};
use wire::{Kind, Timestamp};

/// Rows of one message.
const GAUGES: usize = 40;
/// Messages of one batch: 5,000 rows.
const MESSAGES: usize = 125;
/// Hosts, which send in turn.
const HOSTS: usize = 1000;
/// Batches of one run.
const BATCHES: usize = 40;
/// Runs of each way.
const RUNS: usize = 7;

const COLUMNS: &str = "recap_system_metrics (job_id, stage, metric_name, metric_value, metadata, recorded_at)";

fn main() {
    let given = std::env::args().nth(1);
    let server = given.is_none().then(|| test_servers::Postgres::start_with(&["max_wal_size=4GB"]));
    let url = given.or_else(|| server.as_ref().map(|server| server.url(&server.create_database()))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut psql = Psql::start(&url);
    let mut sinks = [1, 2].map(|connections| {
        let mut config = PostgresConfig::new(&url);
        config.connections = connections;
        let mut sink = Postgres::new(config);
        runtime.block_on(sink.open()).unwrap();
        sink
    });

    // The files are made of what our sink wrote, so that both carry the same.
    let empty = "TRUNCATE recap_system_metrics; CHECKPOINT;";
    for (number, batch) in batches(0, true).iter().enumerate() {
        psql.run(empty);
        runtime.block_on(sinks[0].write(batch)).unwrap();
        let columns = COLUMNS.split_once(' ').unwrap().1.trim_matches(['(', ')']);
        psql.run(&format!(
            "\\copy (SELECT {columns} FROM recap_system_metrics ORDER BY id) to '{}' with (format binary)",
            file(folder.path(), number)
        ));
    }
    let copies = (0..BATCHES).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "\\copy {COLUMNS} from '{}' with (format binary)", file(folder.path(), number));
        text
    });

    let rows = (BATCHES * MESSAGES * GAUGES) as f64;
    let names = ["psql \\copy", "sink, ledger", "sink, 2 connections", "sink, no identity"];
    let mut seconds = [const { Vec::new() }; 4];
    for run in 1..=RUNS {
        for (way, seconds) in seconds.iter_mut().enumerate() {
            psql.run(empty);
            let batches = batches(run * 10 + way, way != 3);
            let began = Instant::now();
            match way {
                0 => psql.run(&copies),
                way => {
                    let sink = &mut sinks[usize::from(way == 2)];
                    for batch in &batches {
                        assert!(runtime.block_on(sink.write(batch)).unwrap().known.is_empty());
                    }
                }
            }
            seconds.push(began.elapsed().as_secs_f64());
            psql.run(&format!("SELECT 1 / (count(*) = {rows})::int FROM recap_system_metrics;"));
        }
    }
    let medians = seconds.map(|mut of| {
        of.sort_by(f64::total_cmp);
        of[of.len() / 2]
    });
    println!("{RUNS} runs of {rows} rows, {} a transaction", MESSAGES * GAUGES);
    for (name, median) in names.iter().zip(medians) {
        println!("{name:20} {:9.0} rows/s   {:.3} of psql's speed", rows / median, medians[0] / median);
    }
}

fn file(folder: &Path, number: usize) -> String {
    folder.join(format!("{number}.copy")).display().to_string()
}

/// What a fleet sends in one interval after the other: a batch has one message of each of 125 hosts.
fn batches(run: usize, numbered: bool) -> Vec<Batch> {
    let now: Timestamp = SystemTime::now().into();
    (0..BATCHES)
        .map(|batch| {
            let message = |n: usize| {
                let number = batch * MESSAGES + n;
                message(number % HOSTS, run * BATCHES * MESSAGES + number, now, numbered)
            };
            Batch { records: (0..MESSAGES).map(message).collect(), ..Batch::default() }
        })
        .collect()
}

fn message(host: usize, number: usize, now: Timestamp, numbered: bool) -> Record {
    let name = format!("web-{host:04}");
    let job_id = format!("host:{name}").into();
    let plain = JsonObject::of_texts([("cluster", "eu-1"), ("host", name.as_str())]);
    let row = |n: usize| {
        let (stage, metric, metadata) = match n {
            0..20 => ("system", format!("pressure_share_{n}"), plain.clone()),
            20..30 => {
                let mount = format!("/srv/volume-{n}");
                let labels = [("cluster", "eu-1"), ("mountpoint", mount.as_str()), ("host", name.as_str())];
                ("disk", "disk_percent".to_owned(), JsonObject::of_texts(labels))
            }
            _ => {
                let device = format!("enp{n}s0");
                let labels = [("cluster", "eu-1"), ("device", device.as_str()), ("host", name.as_str())];
                ("network", "network_receive_bytes_per_second".to_owned(), JsonObject::of_texts(labels))
            }
        };
        let metric_value = (number * GAUGES + n) as f64 / 7.0;
        let job_id: std::sync::Arc<str> = std::sync::Arc::clone(&job_id);
        MetricRow {
            job_id,
            stage: stage.into(),
            metric_name: metric,
            metric_value,
            metadata: Some(metadata),
            recorded_at: now,
        }
    };
    let origin = Origin {
        host: name.parse().unwrap(),
        kind: Kind::Metrics,
        // Of this process alone: the database may know what an earlier one wrote.
        boot: Some(format!("bench-{:031}", std::process::id()).parse().unwrap()),
        seq: numbered.then_some(number as u64 / HOSTS as u64 + 1),
    };
    Record { origin, rows: Rows::Metrics((0..GAUGES).map(row).collect()) }
}

/// A psql that waits for orders, so that its start is in no figure.
struct Psql {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Psql {
    fn start(url: &str) -> Self {
        let mut child = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("can't run psql ({e}); install it with: apt-get install postgresql-client"));
        let (orders, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut psql = Self { child, orders, answers };
        psql.run("SET client_min_messages = warning;");
        psql
    }

    /// Returns when all of it is done.
    fn run(&mut self, orders: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{orders}\n\\echo done").unwrap();
        let mut line = String::new();
        while line.trim() != "done" {
            line.clear();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "psql stopped at: {orders}");
        }
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}
