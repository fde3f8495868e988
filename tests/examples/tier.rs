//! The exporter tier beside the shortest way to the same end. `tier null`: from a broker into the synced spool, beside a
//! client that acknowledges and forgets. `tier postgres`: a spool that is full, into PostgreSQL with the ledger, beside
//! psql's `\copy … binary` of the same rows. `tier clickhouse`: the same into ClickHouse, beside the same blocks sent raw
//! in Native format.
//!
//! Runs take turns, and of each way the median counts. It starts its own servers; `make bench-tier` runs all three.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers, which may stop at a surprise")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use daemon::shutdown;
use delivery::ledger::{Entry, Key};
use exporter::Settings;
use exporter::frame::{Frame, Mark};
use exporter::rows::{Batch, HostRow, Record};
use exporter::sink::{Ledger, Retained, Sink, SinkError, Written};
use serde_json::json;
use test_servers::{ClickHouse, Mosquitto, Postgres};
use utilizer_exporter_clickhouse::ClickHouseConfig;
use utilizer_exporter_postgres::PostgresConfig;
use wire::{HostName, Kind, Timestamp};

/// Runs of each way.
const RUNS: usize = 7;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match std::env::args().nth(1).as_deref() {
        Some("null") => runtime.block_on(null()),
        Some("postgres") => runtime.block_on(postgres()),
        Some("clickhouse") => runtime.block_on(clickhouse()),
        _ => panic!("tier null|postgres|clickhouse"),
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Seconds of processors that this process has used.
fn processor() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A sink that notes when its first write begins and its last one ends.
#[derive(Debug)]
struct Timed<S> {
    sink: S,
    span: Arc<Mutex<Option<(Instant, Instant)>>>,
}

impl<S> Timed<S> {
    fn note(&self, began: Instant) {
        let mut span = self.span.lock().unwrap();
        *span = Some((span.map_or(began, |(first, _)| first), Instant::now()));
    }
}

impl<S: Sink> Sink for Timed<S> {
    const LEDGER: Ledger = S::LEDGER;

    fn name(&self) -> &'static str {
        self.sink.name()
    }

    fn kinds(&self) -> &'static [Kind] {
        self.sink.kinds()
    }

    async fn open(&mut self) -> Result<(), SinkError> {
        self.sink.open().await
    }

    async fn write(&mut self, batch: &Batch) -> Result<Written, SinkError> {
        let began = Instant::now();
        let written = self.sink.write(batch).await?;
        self.note(began);
        Ok(written)
    }

    fn encode(records: &[&Record]) -> Vec<Bytes> {
        S::encode(records)
    }

    async fn write_encoded(&mut self, batch: &Batch, encoded: Vec<Bytes>) -> Result<Written, SinkError> {
        let began = Instant::now();
        let written = self.sink.write_encoded(batch, encoded).await?;
        self.note(began);
        Ok(written)
    }

    async fn entries(&mut self, hosts: &[HostName]) -> Result<Vec<(Key, Entry)>, SinkError> {
        self.sink.entries(hosts).await
    }

    async fn upsert_hosts(&mut self, hosts: &[HostRow]) -> Result<(), SinkError> {
        self.sink.upsert_hosts(hosts).await
    }

    async fn retain(&mut self, now: Timestamp) -> Result<Retained, SinkError> {
        self.sink.retain(now).await
    }
}

/// Takes everything and keeps nothing.
#[derive(Debug)]
struct Null;

impl Sink for Null {
    const LEDGER: Ledger = Ledger::InStore;

    fn name(&self) -> &'static str {
        "null"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Metrics, Kind::Logs]
    }

    async fn open(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn write(&mut self, _: &Batch) -> Result<Written, SinkError> {
        Ok(Written::default())
    }

    async fn upsert_hosts(&mut self, _: &[HostRow]) -> Result<(), SinkError> {
        Ok(())
    }
}

const BOOT: &str = "0193f9c2-7f5e-7d3a-9b1c-2f6d8e4a0b17";

/// A metrics message of 40 gauges and 20 processes.
fn metrics(host: &str, seq: u64, now: Timestamp) -> Vec<u8> {
    let gauge = |n: usize| match n {
        0..20 => json!({"name": format!("pressure_share_{n}"), "value": (seq as f64 + n as f64) / 7.0}),
        20..30 => {
            json!({"name": "disk_percent", "labels": {"mountpoint": format!("/srv/volume-{n}")}, "value": n as f64 / 3.0})
        }
        _ => {
            json!({"name": "network_receive_bytes_per_second", "labels": {"device": format!("enp{n}s0")}, "value": seq})
        }
    };
    let process = |n: u64| {
        json!({"pid": 1000 + n, "name": format!("worker-{n}"), "cpu_percent": 99.5, "memory_percent": 1.5,
               "resident_memory_bytes": 123_456_789 + n})
    };
    json!({"v": 1, "host": host, "boot": BOOT, "seq": seq, "time": now.to_string(), "interval_seconds": 10.0,
           "labels": {"cluster": "eu-1"}, "gauges": (0..40).map(gauge).collect::<Vec<_>>(),
           "processes": (0..20).map(process).collect::<Vec<_>>()})
    .to_string()
    .into_bytes()
}

/// The same without what differs from one to the other, and without the brace that opens it.
fn tail(now: Timestamp) -> String {
    let mut message: serde_json::Value = serde_json::from_slice(&metrics("x", 1, now)).unwrap();
    let fields = message.as_object_mut().unwrap();
    fields.retain(|name, _| !["v", "host", "boot", "seq"].contains(&name.as_str()));
    message.to_string()[1..].to_owned()
}

/// 100 log lines of about 190 bytes.
fn logs(host: &str, seq: u64, now: Timestamp) -> Vec<u8> {
    let line = |n: u64| {
        json!({"timestamp": now.to_string(), "level": "INFO", "service_name": "checkout", "logger": "app.orders",
               "message": format!("order {} of customer {} was placed with {} items", seq * 100 + n, n * 7919 % 10_007, n % 9),
               "latency_ms": n as f64 / 3.0, "request_id": format!("req-{:016x}", seq * 100 + n),
               "fields": {"region": "eu-1", "status": "200"}})
    };
    json!({"v": 1, "host": host, "boot": BOOT, "seq": seq, "time": now.to_string(),
           "records": (0..100).map(line).collect::<Vec<_>>()})
    .to_string()
    .into_bytes()
}

/// Fills a spool with so many messages of 1,000 hosts, which send in turn.
fn fill(folder: &Path, messages: u64, run: u64, kind: Kind) {
    let (mut log, _) = spool::Log::open(folder, spool::Options::default()).unwrap();
    let now: Timestamp = SystemTime::now().into();
    let mut head = Vec::new();
    for n in 0..messages {
        let host = format!("web-{:04}", n % 1000);
        let seq = run * messages + n / 1000 + 1;
        let body = if kind == Kind::Logs { logs(&host, seq, now) } else { metrics(&host, seq, now) };
        let mark = Mark::Numbered(BOOT.parse().unwrap(), seq);
        head.clear();
        Frame { received: now, host: host.parse().unwrap(), kind, mark, content_type: None }.write(&mut head);
        log.append(&head, &body).unwrap();
    }
    log.sync().unwrap();
}

fn settings(broker: &Mosquitto, folder: &Path) -> Settings {
    let names = ("bench".parse().unwrap(), "bench".parse().unwrap());
    let mut settings = Settings::new(broker.url().parse().unwrap(), names.0, names.1, folder);
    settings.rules.every = Duration::ZERO;
    settings
}

/// Runs a tier over a full spool until it is empty; gives the time from the first write to the end of the last, and the
/// processors' time of all of it.
async fn drain<S: Sink>(sink: S, settings: Settings, rows: u64) -> (f64, f64) {
    let used = processor();
    let span = Arc::new(Mutex::new(None));
    let metrics = settings.metrics.clone();
    let (trigger, shutdown) = shutdown::channel();
    let task = tokio::spawn(exporter::run(Timed { sink, span: span.clone() }, settings, shutdown));
    while metrics.rows_written() < rows {
        assert!(!task.is_finished(), "{:?}", task.await);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    trigger.stop();
    task.await.unwrap().unwrap();
    let (first, last) = span.lock().unwrap().unwrap();
    ((last - first).as_secs_f64(), processor() - used)
}

async fn postgres() {
    const COLUMNS: &str = "recap_system_metrics (job_id, stage, metric_name, metric_value, metadata, recorded_at)";
    const MESSAGES: u64 = 5_000;
    const BATCH: u64 = 5_000;
    let rows = MESSAGES * 40;
    // As it is run: commits reach the disk, and no checkpoint falls into a run of one way alone.
    let server = Postgres::start_with(&["max_wal_size=4GB"]);
    let url = server.url(&server.create_database());
    let broker = Mosquitto::start("");
    let mut psql = Psql::start(&url);
    let (mut seconds, mut used) = ([const { Vec::new() }; 2], Vec::new());
    let mut copies = String::new();
    let files = tempfile::tempdir().unwrap();
    for run in 0..=RUNS {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&broker, folder.path());
        fill(&settings.spool.directory, MESSAGES, run as u64, Kind::Metrics);
        if run > 0 {
            psql.run("TRUNCATE recap_system_metrics; CHECKPOINT;");
        }
        let sink = utilizer_exporter_postgres::Postgres::new(PostgresConfig::new(&url));
        let (took, cpu) = drain(sink, settings, rows).await;
        psql.run(&format!("SELECT 1 / (count(*) = {rows})::int FROM recap_system_metrics;"));
        if run == 0 {
            // The files are made of what our sink wrote, so that both carry the same; and nothing is cold any more.
            let columns = COLUMNS.split_once(' ').unwrap().1.trim_matches(['(', ')']);
            for number in 0..rows / BATCH {
                let file = files.path().join(format!("{number}.copy")).display().to_string();
                psql.run(&format!(
                    "\\copy (SELECT {columns} FROM recap_system_metrics ORDER BY id LIMIT {BATCH} OFFSET {}) to '{file}' \
                     with (format binary)",
                    number * BATCH
                ));
                let _ = writeln!(copies, "\\copy {COLUMNS} from '{file}' with (format binary)");
            }
            continue;
        }
        seconds[0].push(took);
        used.push(cpu);
        psql.run("TRUNCATE recap_system_metrics; CHECKPOINT;");
        let began = Instant::now();
        psql.run(&copies);
        seconds[1].push(began.elapsed().as_secs_f64());
    }
    let [ours, theirs] = seconds.map(median);
    println!("PostgreSQL, {RUNS} runs of {rows} rows, {BATCH} a transaction:");
    println!("  psql \\copy binary      {:9.0} rows/s", rows as f64 / theirs);
    println!("  full spool to ledger   {:9.0} rows/s   {:.3}", rows as f64 / ours, theirs / ours);
    println!("  the tier's own processor time: {:.1} µs a row", median(used) / rows as f64 * 1e6);
}

async fn clickhouse() {
    const MESSAGES: u64 = 4_000;
    const BATCH: usize = 20_000;
    let rows = MESSAGES * 100;
    let server = ClickHouse::start(&[]);
    let broker = Mosquitto::start("");
    let database = server.fresh_database();
    let (mut seconds, mut used) = ([const { Vec::new() }; 2], Vec::new());
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for run in 0..=RUNS {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(&broker, folder.path());
        settings.batch.max_rows = BATCH;
        fill(&settings.spool.directory, MESSAGES, run as u64, Kind::Logs);
        if run > 0 {
            server.query(&database, "TRUNCATE TABLE logs");
        }
        let mut config = ClickHouseConfig::new(server.url());
        config.database.clone_from(&database);
        let (took, cpu) = drain(utilizer_exporter_clickhouse::ClickHouse::new(config), settings, rows).await;
        if run == 0 {
            for offset in (0..rows).step_by(BATCH) {
                let sql = format!("SELECT * FROM logs ORDER BY request_id LIMIT {BATCH} OFFSET {offset} FORMAT Native");
                blocks.push(post(&server, &database, &sql, &[]));
            }
            continue;
        }
        seconds[0].push(took);
        used.push(cpu);
        server.query(&database, "TRUNCATE TABLE logs");
        let began = Instant::now();
        for block in &blocks {
            post(&server, &database, "INSERT INTO logs FORMAT Native", block);
        }
        seconds[1].push(began.elapsed().as_secs_f64());
    }
    let [ours, theirs] = seconds.map(median);
    println!("ClickHouse, {RUNS} runs of {rows} lines, {BATCH} an insert:");
    println!("  raw Native blocks      {:9.0} rows/s", rows as f64 / theirs);
    println!("  full spool to store    {:9.0} rows/s   {:.3}", rows as f64 / ours, theirs / ours);
    println!("  the tier's own processor time: {:.1} µs a row", median(used) / rows as f64 * 1e6);
}

/// A query by HTTP; gives the answer's bytes.
fn post(server: &ClickHouse, database: &str, sql: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let query: String = sql.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02x}");
        text
    });
    let head = format!(
        "POST /?database={database}&query={query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}{}", String::from_utf8_lossy(&answer[end..]));
    if !head.contains("transfer-encoding: chunked") {
        return answer.split_off(end);
    }
    let (mut rest, mut whole) = (&answer[end..], Vec::new());
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(String::from_utf8_lossy(&rest[..line]).trim(), 16).unwrap_or(0);
        if length == 0 {
            break;
        }
        whole.extend_from_slice(&rest[line + 2..line + 2 + length]);
        rest = &rest[line + 4 + length..];
    }
    whole
}

/// What a fleet sends, through the broker, to whoever takes it.
async fn null() {
    // Enough that the second which the last batch waits for more is little.
    const MESSAGES: u64 = 100_000;
    // Nothing is dropped on the way, so that both get the same.
    let broker = Mosquitto::start("max_queued_messages 0\nlog_type error");
    let mut seconds = [const { Vec::new() }; 2];
    for run in 0..2 * RUNS {
        let ours = run % 2 == 0;
        let took = if ours {
            let folder = tempfile::tempdir().unwrap();
            let mut settings = settings(&broker, folder.path());
            // As deployed: one message of six makes rows.
            settings.rules.every = Duration::from_secs(60);
            let counted = settings.metrics.clone();
            let (trigger, shutdown) = shutdown::channel();
            let task = tokio::spawn(exporter::run(Null, settings, shutdown));
            let value = move |series: &str| -> f64 {
                let text = counted.encode();
                text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
            };
            while value("utilizer_exporter_mqtt_connected") < 1.0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            let publishers = publish(&broker, MESSAGES);
            let began = Instant::now();
            while value("utilizer_exporter_messages_received_total{kind=\"metrics\"}") < MESSAGES as f64 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // And it is on the disk and written: the queue behind is short.
            while value("utilizer_exporter_spool_records") > 0.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let took = began.elapsed().as_secs_f64();
            publishers.join().unwrap();
            trigger.stop();
            task.await.unwrap().unwrap();
            took
        } else {
            bare(&broker, MESSAGES).await
        };
        seconds[usize::from(!ours)].push(took);
    }
    let [ours, theirs] = seconds.map(median);
    println!("broker to spool, {RUNS} runs of {MESSAGES} messages of 40 gauges and 20 processes:");
    println!("  bare subscriber        {:9.0} messages/s", MESSAGES as f64 / theirs);
    println!("  tier, synced and read  {:9.0} messages/s   {:.3}", MESSAGES as f64 / ours, theirs / ours);
}

/// Acknowledges and forgets.
async fn bare(broker: &Mosquitto, messages: u64) -> f64 {
    let mut options = mqtt::Options::new(broker.url().parse().unwrap(), "bare");
    options.receive_maximum = exporter::settings::RECEIVE_MAXIMUM;
    let (client, mut events) = mqtt::Client::start(options).unwrap();
    client.subscribe(["$share/bare/utilizer/v1/telemetry/+/metrics"]).await.unwrap();
    while !matches!(events.recv().await, Some(mqtt::Event::Subscribed { .. })) {}
    let publishers = publish(broker, messages);
    let began = Instant::now();
    let mut received = 0;
    while received < messages {
        if let Some(mqtt::Event::Received { ack, .. }) = events.recv().await {
            client.ack(ack);
            received += 1;
        }
    }
    let took = began.elapsed().as_secs_f64();
    publishers.join().unwrap();
    client.disconnect(Duration::from_secs(1)).await;
    took
}

/// Publishes from a thread of its own, as fast as the broker acknowledges.
fn publish(broker: &Mosquitto, messages: u64) -> std::thread::JoinHandle<()> {
    // Each time another run of the agents, since a ledger would know the last one's records.
    let boot: wire::BootId = format!("{:x}", std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()).parse().unwrap();
    let mut options = mqtt::Options::new(broker.url().parse().unwrap(), "publisher");
    options.max_in_flight = 256;
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, mut events) = mqtt::Client::start(options).unwrap();
            let (mut next, mut done, mut open) = (0, 0, false);
            // Made once, so that the publisher's own work is small.
            let base: Timestamp = SystemTime::now().into();
            let tails: Vec<String> = (0..6).map(|n| tail(base.plus(Duration::from_secs(n * 10)))).collect();
            while done < messages {
                while open && next < messages {
                    let (host, seq) = (format!("web-{:04}", next % 1000), next / 1000 + 1);
                    let tail = &tails[seq as usize % tails.len()];
                    let payload = format!("{{\"v\":1,\"host\":\"{host}\",\"boot\":\"{boot}\",\"seq\":{seq},{tail}");
                    let message = mqtt::Message {
                        topic: format!("utilizer/v1/telemetry/{host}/metrics"),
                        payload: payload.into(),
                        content_type: Some(wire::CONTENT_TYPE.to_owned()),
                        user_properties: wire::user_properties(
                            &host.parse().unwrap(),
                            Some(&boot),
                            Kind::Metrics,
                            Some(seq),
                        ),
                        ..mqtt::Message::default()
                    };
                    match client.try_publish(next, message) {
                        Ok(()) => next += 1,
                        Err(_) => break,
                    }
                }
                match events.recv().await.unwrap() {
                    mqtt::Event::Connected { .. } => open = true,
                    mqtt::Event::Acked { .. } => done += 1,
                    mqtt::Event::Lost { .. } | mqtt::Event::Refused { .. } => panic!("a publish was lost"),
                    _ => {}
                }
            }
            client.disconnect(Duration::from_secs(1)).await;
        });
    })
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
