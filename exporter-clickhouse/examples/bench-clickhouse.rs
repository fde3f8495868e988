//! Our sink beside the same Native blocks sent raw over HTTP, with the same settings, into the same table.
//!
//! `bench-clickhouse [URL]`: a server of your own, in which the database `utilizer_bench` is made anew; without one the engine of the
//! tests is started. Runs take turns, and of each way the median counts.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers, which may stop at a surprise")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use exporter::rows::{Batch, LogRow, Origin, Record, Rows};
use exporter::sink::Sink;
use utilizer_exporter_clickhouse::{ClickHouse, ClickHouseConfig, encoded};
use wire::{Kind, Timestamp};

/// Lines of one message.
const LINES: usize = 200;
/// Rows of one run.
const ROWS: usize = 200_000;
/// Runs of each way.
const RUNS: usize = 7;

const DATABASE: &str = "utilizer_bench";

fn main() {
    let given = std::env::args().nth(1);
    let server = given.is_none().then(|| test_servers::ClickHouse::start(&[]));
    let url = given.or_else(|| server.as_ref().map(test_servers::ClickHouse::url)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut raw = Raw::connect(&url);
    raw.ask("default", "", &[], &format!("DROP DATABASE IF EXISTS {DATABASE}"), &[]);
    let mut sink = ClickHouse::new(ClickHouseConfig { database: DATABASE.to_owned(), ..ClickHouseConfig::new(&url) });
    runtime.block_on(sink.open()).unwrap();

    println!("{RUNS} runs of {ROWS} rows");
    for size in [5_000, 20_000, 100_000] {
        let mut seconds = [const { Vec::new() }; 3];
        for run in 0..RUNS {
            for (way, seconds) in seconds.iter_mut().enumerate() {
                raw.ask(DATABASE, "", &[], "TRUNCATE TABLE logs", &[]);
                let batches: Vec<Batch> =
                    (0..ROWS / size).map(|n| batch(n, size, &format!("{size}-{run}-{way}"))).collect();
                let bodies: Vec<_> = batches.iter().map(encoded).collect();
                let began = Instant::now();
                match way {
                    0 => {
                        for (batch, inserts) in batches.iter().zip(&bodies) {
                            for (number, (sql, blocks)) in inserts.iter().enumerate() {
                                let token = format!("{}-raw-{number}", batch.token);
                                raw.ask(DATABASE, sql, &settings(&token), "", blocks);
                            }
                        }
                    }
                    1 => {
                        for batch in &batches {
                            runtime.block_on(sink.write(batch)).unwrap();
                        }
                    }
                    // What of it is encoding.
                    _ => {
                        for batch in &batches {
                            std::hint::black_box(encoded(batch));
                        }
                    }
                }
                seconds.push(began.elapsed().as_secs_f64());
                if way < 2 {
                    let rows = raw.ask(DATABASE, "", &[], "SELECT count() FROM logs", &[]);
                    assert_eq!(rows.trim(), ROWS.to_string());
                }
            }
        }
        let medians = seconds.map(|mut of| {
            of.sort_by(f64::total_cmp);
            of[of.len() / 2]
        });
        let speed = |seconds: f64| ROWS as f64 / seconds;
        println!(
            "{size:6} a batch: raw {:7.0} rows/s, sink {:7.0} rows/s, {:.3} of raw; encoding alone takes {:.3} of raw's time",
            speed(medians[0]),
            speed(medians[1]),
            medians[0] / medians[1],
            medians[2] / medians[0],
        );
    }
}

fn settings(token: &str) -> Vec<(&str, &str)> {
    vec![
        ("query_id", token),
        ("insert_deduplication_token", token),
        ("async_insert", "0"),
        ("insert_deduplicate", "1"),
        ("deduplicate_blocks_in_dependent_materialized_views", "1"),
        ("replace_running_query", "0"),
    ]
}

fn batch(number: usize, size: usize, token: &str) -> Batch {
    let now: Timestamp = SystemTime::now().into();
    let records = (0..size / LINES).map(|n| message(number * size / LINES + n, now));
    Batch { token: format!("{token}-{number}"), written_at: now, records: records.collect() }
}

fn message(number: usize, now: Timestamp) -> Record {
    let host = format!("web-{:04}", number % 100);
    let boot = "0193f9c2-7f5e-7d3a-9b1c-2f6d8e4a0b17";
    let line = |n: usize| {
        let serial = number * LINES + n;
        LogRow {
            timestamp: now,
            level: if n.is_multiple_of(20) { "ERROR" } else { "INFO" },
            level_original: if n.is_multiple_of(20) { "error" } else { "info" }.to_owned(),
            service_name: ["checkout", "billing", "search"][n % 3].to_owned(),
            // The text of 190 bytes a line, as an application writes it.
            message: format!(
                "{} GET /api/v1/items/{serial} from 10.{}.{}.{} took {} ms, {} bytes, cache miss, upstream shard-{} retried {} times, session {:032x}",
                if n.is_multiple_of(20) { "failed" } else { "served" },
                serial % 256,
                serial / 7 % 256,
                serial / 11 % 256,
                serial % 997,
                serial * 7919 % 100_000,
                serial % 16,
                serial % 3,
                (serial as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
            ),
            latency_ms: Some((serial % 997) as f64),
            host: host.clone(),
            logger: "app.http".to_owned(),
            environment: "production".to_owned(),
            category: String::new(),
            trace_id: String::new(),
            request_id: format!("r-{serial}"),
            fields: vec![("user".to_owned(), (serial % 5000).to_string())],
            event_id: format!("{boot}-{number}-{n}"),
        }
    };
    let origin = Origin {
        host: host.parse().unwrap(),
        kind: Kind::Logs,
        boot: Some(boot.parse().unwrap()),
        seq: Some(number as u64 + 1),
    };
    Record { origin, rows: Rows::Logs((0..LINES).map(line).collect()) }
}

/// One connection that is kept.
struct Raw(TcpStream);

impl Raw {
    fn connect(url: &str) -> Self {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    fn ask(&mut self, database: &str, query: &str, settings: &[(&str, &str)], sql: &str, blocks: &[Bytes]) -> String {
        let mut path = format!("/?database={database}");
        let query = [("query", query.replace(' ', "%20").replace(',', "%2C"))];
        let query = query.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (*name, value.as_str()));
        for (name, value) in query.chain(settings.iter().copied()) {
            path.push_str(&format!("&{name}={value}"));
        }
        // In chunks, as the sink's client sends them: the engine's front has more work with them.
        let head = format!("POST {path} HTTP/1.1\r\nhost: bench\r\ntransfer-encoding: chunked\r\n\r\n");
        self.0.write_all(head.as_bytes()).unwrap();
        for piece in [sql.as_bytes()].into_iter().chain(blocks.iter().map(Bytes::as_ref)).filter(|p| !p.is_empty()) {
            self.0.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
            self.0.write_all(piece).unwrap();
            self.0.write_all(b"\r\n").unwrap();
        }
        self.0.write_all(b"0\r\n\r\n").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let read = self.0.read(&mut piece).unwrap();
            assert_ne!(read, 0, "the server closed the connection");
            answer.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            assert!(head.starts_with("HTTP/1.1 200"), "{text}");
            let lower = head.to_ascii_lowercase();
            if let Some((_, length)) = lower.split_once("content-length: ") {
                let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                if body.len() >= length {
                    return body.to_owned();
                }
            } else if body.ends_with("0\r\n\r\n") {
                // A real server answers in chunks; one number is one of them.
                return body.split("\r\n").nth(1).unwrap_or_default().to_owned();
            }
        }
    }
}
