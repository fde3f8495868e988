//! The table `logs` with many lines: room, and the time and the answers of what is asked of it.
//!
//! `bench-logs-store [LINES…]`: by default 1,000,000 and then 10,000,000, of eight days, in an engine that is started for it. Each
//! question is asked five times; the median counts. Answers are held against a count of our own.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers, which may stop at a surprise")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use exporter::rows::{Batch, LogRow, Origin, Record, Rows};
use exporter::sink::Sink;
use serde_json::Value;
use test_servers::ClickHouse as Server;
use utilizer_exporter_clickhouse::{ClickHouse, ClickHouseConfig};
use wire::{Kind, Timestamp};

/// Rows of one insert.
const BATCH: u64 = 50_000;
/// How often each question is asked.
const TIMES: usize = 5;
/// The lines' time, in minutes until now.
const MINUTES: u64 = 8 * 1440;

const WORDS: [&str; 16] = [
    "timeout",
    "refused",
    "connected",
    "cache",
    "miss",
    "token",
    "payment",
    "order",
    "index",
    "shard",
    "replica",
    "leader",
    "retry",
    "queue",
    "flush",
    "commit",
];

/// What is counted beside.
#[derive(Default)]
struct Count {
    day: u64,
    day_errors: u64,
    /// Latencies of the last hour by service.
    latencies: BTreeMap<String, Vec<f64>>,
    /// Errors of the last seven days by message.
    errors: BTreeMap<String, u64>,
    rare: u64,
}

fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).map(|size| size.parse().unwrap()).collect();
    let sizes = if sizes.is_empty() { vec![1_000_000, 10_000_000] } else { sizes };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start(&[]);
    for size in sizes {
        // Without the hourly statistics for comparison, as far as that is quickly done.
        if size <= 1_000_000 {
            runtime.block_on(fill(&server, "bare", size, true));
        }
        let count = runtime.block_on(fill(&server, "bench", size, false));
        ask(&server, size, &count);
        for database in ["bare", "bench"] {
            server.query("default", &format!("DROP DATABASE IF EXISTS {database}"));
        }
    }
}

async fn fill(server: &Server, database: &str, size: u64, bare: bool) -> Count {
    let config = ClickHouseConfig { database: database.to_owned(), ..ClickHouseConfig::new(server.url()) };
    let mut sink = ClickHouse::new(config);
    sink.open().await.unwrap();
    if bare {
        server.query(database, "ALTER TABLE logs DROP PROJECTION hourly");
    }
    let now: Timestamp = SystemTime::now().into();
    let mut count = Count::default();
    let mut writing = Duration::ZERO;
    for number in 0..size / BATCH {
        let rows: Vec<LogRow> = (0..BATCH).map(|n| line(number * BATCH + n, size, now, &mut count)).collect();
        let origin = Origin { host: "web-00".parse().unwrap(), kind: Kind::Logs, boot: None, seq: None };
        let record = Record { origin, rows: Rows::Logs(rows.into()) };
        let batch = Batch { token: format!("{database}-{size}-{number}"), written_at: now, records: vec![record] };
        let begun = Instant::now();
        sink.write(&batch).await.unwrap();
        writing += begun.elapsed();
    }
    server.query(database, "OPTIMIZE TABLE logs FINAL");
    let parts = "SELECT sum(bytes_on_disk) / sum(rows) AS bytes, sum(rows) AS rows FROM system.parts \
                 WHERE database = currentDatabase() AND table = 'logs' AND active";
    let parts: Value = serde_json::from_str(&server.query(database, parts)).unwrap();
    let hourly = "SELECT sum(bytes_on_disk) AS bytes, sum(rows) AS rows FROM system.projection_parts \
                  WHERE database = currentDatabase() AND table = 'logs' AND active";
    let hourly: Value = serde_json::from_str(&server.query(database, hourly)).unwrap();
    println!(
        "{size} lines{}: {:.1} bytes each on disk, of which {:.2} are hourly statistics in {} rows; written at {:.0} lines/s",
        if bare { " without hourly statistics" } else { "" },
        parts["bytes"].as_f64().unwrap(),
        hourly["bytes"].as_f64().unwrap_or_default() / size as f64,
        hourly["rows"],
        size as f64 / writing.as_secs_f64()
    );
    count
}

/// A line, in the order of time; about 150 bytes as an application writes it.
fn line(serial: u64, size: u64, now: Timestamp, count: &mut Count) -> LogRow {
    let mut random = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = |below: u64| {
        random ^= random >> 29;
        random = random.wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(1);
        (random >> 33) % below
    };
    // None close to where a question's time begins.
    let ago = MINUTES * 60_000 - serial * MINUTES * 60_000 / size;
    let near = |edge: u64| ago.abs_diff(edge * 60_000) < 20 * 60_000;
    let ago = if [60, 1440, 10_080].into_iter().any(near) { ago.saturating_sub(45 * 60_000).max(1000) } else { ago };
    let error = next(20) == 0;
    let service = ["checkout", "billing", "search", "gateway", "mail", "auth"][next(6) as usize];
    let words = [WORDS[next(16) as usize], WORDS[next(16) as usize]];
    let latency = (next(4) > 0).then(|| (next(1000) * next(1000)) as f64 / 100.0);
    let rare = next(1_000_000) < 5;
    let message = if error {
        format!("{} {} of upstream {}", words[0], words[1], (next(400) as f64).sqrt() as u64)
    } else {
        format!(
            "{} GET /api/v1/items/{} from 10.0.{}.{} {}, {} bytes{}",
            words[0],
            next(100_000),
            next(256),
            next(256),
            words[1],
            next(50_000),
            if rare { ", Kaboom" } else { "" }
        )
    };
    count.rare += u64::from(rare && !error);
    if ago < 1440 * 60_000 {
        count.day += 1;
        count.day_errors += u64::from(error);
    }
    if ago < 60 * 60_000 {
        count.latencies.entry(service.to_owned()).or_default().extend(latency);
    }
    if error && ago < 10_080 * 60_000 {
        *count.errors.entry(message.clone()).or_default() += 1;
    }
    LogRow {
        timestamp: now.minus(Duration::from_millis(ago)),
        level: if error { "ERROR" } else { "INFO" },
        level_original: if error { "error" } else { "info" }.to_owned(),
        service_name: service.to_owned(),
        message,
        latency_ms: latency,
        host: format!("web-{:02}", next(20)),
        logger: "app.http".to_owned(),
        environment: "production".to_owned(),
        category: String::new(),
        trace_id: format!("{:016x}{:016x}", serial.wrapping_mul(0xd6e8_feb8_6659_fd93), next(1 << 31)),
        request_id: format!("r-{serial}"),
        fields: vec![("user".to_owned(), next(5000).to_string())],
        event_id: format!("0193f9c2-7f5e-7d3a-9b1c-2f6d8e4a0b17-{}-{}", serial / 200, serial % 200),
    }
}

fn ask(server: &Server, size: u64, count: &Count) {
    let rows =
        |answer: &str| -> Vec<Value> { answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let timed = |what: &str, sql: &str| {
        let mut times = [0.0; TIMES];
        let mut answer = String::new();
        for time in &mut times {
            let begun = Instant::now();
            answer = server.query("bench", sql);
            *time = begun.elapsed().as_secs_f64() * 1000.0;
        }
        times.sort_by(f64::total_cmp);
        println!("  {what:<44} {:8.1} ms", times[TIMES / 2]);
        rows(&answer)
    };

    let rate = timed(
        "errors an hour, last day",
        "SELECT toStartOfHour(timestamp) AS hour, countIf(level = 'ERROR') AS errors, count() AS lines, errors / lines AS rate \
         FROM logs WHERE timestamp > now() - INTERVAL 24 HOUR GROUP BY hour ORDER BY hour",
    );
    let sum = |name: &str| rate.iter().filter_map(|row| row[name].as_u64()).sum::<u64>();
    assert_eq!((sum("errors"), sum("lines")), (count.day_errors, count.day));

    let latency = timed(
        "quantiles by service, last hour",
        "SELECT service_name, quantile(0.5)(latency_ms) AS p50, quantile(0.95)(latency_ms) AS p95, \
         quantile(0.99)(latency_ms) AS p99 FROM logs WHERE timestamp > now() - INTERVAL 1 HOUR AND latency_ms IS NOT NULL \
         GROUP BY service_name ORDER BY p99 DESC",
    );
    assert_eq!(latency.len(), count.latencies.len());
    let mut worst = 0.0_f64;
    for row in &latency {
        let mut all = count.latencies[row["service_name"].as_str().unwrap()].clone();
        all.sort_by(f64::total_cmp);
        for (name, level) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            // How many of all lie below the answer: the server keeps a sample of 8,192.
            let below = all.partition_point(|value| *value < row[name].as_f64().unwrap());
            worst = worst.max((below as f64 / all.len() as f64 - level).abs());
        }
    }
    assert!(worst < 0.03, "a quantile is off by {worst} of the ranks");

    let frequent = timed(
        "the ten most frequent errors, last week",
        "SELECT message, count() AS n FROM logs WHERE level = 'ERROR' AND timestamp > now() - INTERVAL 7 DAY \
         GROUP BY message ORDER BY n DESC LIMIT 10",
    );
    let mut counts: Vec<u64> = count.errors.values().copied().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let found: Vec<u64> = frequent.iter().filter_map(|row| row["n"].as_u64()).collect();
    assert_eq!(found, counts[..10]);
    assert!(
        frequent.iter().all(|row| row["n"].as_u64() == count.errors.get(row["message"].as_str().unwrap()).copied())
    );

    let trace = timed("a trace id, any time", &by(&format!("trace_id = '{}'", trace_of(server))));
    assert_eq!(trace.len(), 1);
    let rare = timed("a rare word, any time", &by("hasToken(lower(message), 'kaboom')"));
    assert_eq!(rare.len() as u64, count.rare.min(100));
    timed("a word that is nowhere, any time", &by("hasToken(lower(message), 'nowhere')"));
    timed("a frequent word, any time", &by("hasToken(lower(message), 'refused')"));
    timed("a text in the middle of words, any time", &by("position(message, 'aboom') > 0"));
    timed(
        "errors of a service, last hour",
        &by("timestamp > now() - INTERVAL 1 HOUR AND service_name = 'auth' AND level = 'ERROR'"),
    );
    let hours = timed(
        "logs_hourly: errors by hour, all",
        "SELECT hour, sum(count) AS lines, sumIf(count, level = 'ERROR') AS errors FROM logs_hourly GROUP BY hour",
    );
    assert_eq!(hours.iter().filter_map(|row| row["lines"].as_u64()).sum::<u64>(), size / BATCH * BATCH);
    timed(
        "logs_hourly: quantiles by service, all",
        "SELECT service_name, quantilesTDigestMerge(0.5, 0.95, 0.99)(latency) FROM logs_hourly GROUP BY service_name",
    );
}

/// The newest hundred lines, as `utilizer logs search` asks for them, as if for the first time.
fn by(condition: &str) -> String {
    format!(
        "SELECT timestamp, level, service_name, message, fields FROM logs WHERE {condition} ORDER BY timestamp DESC LIMIT 100"
    )
}

fn trace_of(server: &Server) -> String {
    let row = server.query("bench", "SELECT trace_id FROM logs WHERE request_id = 'r-4711'");
    serde_json::from_str::<Value>(&row).unwrap()["trace_id"].as_str().unwrap().to_owned()
}
