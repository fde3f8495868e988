//! `utilizer logs stats`: lines by level, service and hour.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use clap::Args;
use serde::{Deserialize, Serialize};
use wire::Timestamp;
use wire::messages::Level;

use super::clickhouse::{ClickHouse, Conditions, HOUR};
use super::filter::{Filter, FilterArgs, Order};
use super::store::{Store, StoreArgs};
use crate::command::CommandError;
use crate::terminal::{Cell, Colour, Paint, cell, plain, plain_json, table};

/// Services that are told, those with most lines.
const MOST_SERVICES: usize = 1000;

/// With more hours than this, people get days.
const MOST_HOURS: usize = 48;

/// An hour in ms.
const HOUR_MS: i64 = 3_600_000;

/// Lines that count as errors, as a condition.
const IS_ERROR: &str = "level IN ('ERROR', 'FATAL')";

/// What `utilizer logs stats` is asked for.
#[derive(Debug, Args)]
pub struct StatsArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// One JSON object, also on a terminal.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// The numbers.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Stats {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    lines: u64,
    errors: u64,
    error_rate: f64,
    levels: BTreeMap<String, u64>,
    services: Vec<Service>,
    hours: Vec<Hour>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Service {
    service_name: String,
    lines: u64,
    errors: u64,
    error_rate: f64,
    /// Lines with a latency, and what it is of half of them, 95 and 99 of a hundred, in milliseconds.
    with_latency: u64,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Hour {
    hour: Timestamp,
    lines: u64,
    errors: u64,
    error_rate: f64,
}

/// Counts.
pub(super) async fn run(args: StatsArgs) -> Result<(), CommandError> {
    let filter = args.filter.filter()?.in_whole_hours();
    let stats = match args.store.open()? {
        Store::ClickHouse(server) => of_clickhouse(&server, &filter).await?,
        store @ Store::Sqlite(_) => by_reading(&store, &filter).await?,
    };
    let mut stdout = std::io::stdout();
    let terminal = stdout.is_terminal();
    let text = if args.json || !terminal {
        plain_json(serde_json::to_string(&stats).unwrap_or_default()) + "\n"
    } else {
        as_text(&stats, &filter, Paint::new(terminal, |name| std::env::var(name).ok()))
    };
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| CommandError::output(&error))
}

/// A count comes with quotes or without, as the server is set.
#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Bare(i64),
    Quoted(String),
}

impl Count {
    fn get(&self) -> i64 {
        match self {
            Self::Bare(count) => *count,
            Self::Quoted(text) => text.parse().unwrap_or_default(),
        }
    }

    fn lines(&self) -> u64 {
        u64::try_from(self.get()).unwrap_or_default()
    }
}

/// Name, lines, errors, lines with a latency, quantiles of it.
type OfService = (String, Count, Count, Count, Vec<Option<f64>>);

fn rate(errors: u64, lines: u64) -> f64 {
    if lines == 0 { 0.0 } else { errors as f64 / lines as f64 }
}

async fn of_clickhouse(server: &ClickHouse, filter: &Filter) -> Result<Stats, CommandError> {
    let conditions = Conditions::of_hours(filter);
    let wanted = conditions.text();
    let levels: Vec<(String, Count)> =
        server.all(&format!("SELECT level, count() FROM logs{wanted} GROUP BY level"), &conditions).await?;
    // What is counted by level first is what the hourly statistics have.
    let services = format!(
        "SELECT service_name, sum(n) AS lines, sumIf(n, {IS_ERROR}), sum(timed), quantilesTDigestMerge(0.5, 0.95, 0.99)(l) \
         FROM (SELECT service_name, level, count() AS n, count(latency_ms) AS timed, \
         quantilesTDigestState(0.5, 0.95, 0.99)(latency_ms) AS l FROM logs{wanted} GROUP BY service_name, level) \
         GROUP BY service_name ORDER BY lines DESC, service_name LIMIT {MOST_SERVICES}"
    );
    let services: Vec<OfService> = server.all(&services, &conditions).await?;
    let hours = format!(
        "SELECT toUnixTimestamp64Milli(toDateTime64(hour, 3)), sum(n), sumIf(n, {IS_ERROR}) FROM (SELECT {HOUR} AS hour, \
         level, count() AS n FROM logs{wanted} GROUP BY hour, level) GROUP BY hour ORDER BY hour"
    );
    let hours: Vec<(Count, Count, Count)> = server.all(&hours, &conditions).await?;

    let levels: BTreeMap<String, u64> = levels.into_iter().map(|(level, count)| (level, count.lines())).collect();
    let services = services.into_iter().map(|(service_name, lines, errors, timed, quantiles)| {
        let (lines, errors, with_latency) = (lines.lines(), errors.lines(), timed.lines());
        let quantile = |place: usize| quantiles.get(place).copied().flatten().filter(|_| with_latency > 0);
        let (p50, p95, p99) = (quantile(0), quantile(1), quantile(2));
        Service { service_name, lines, errors, error_rate: rate(errors, lines), with_latency, p50, p95, p99 }
    });
    let hours = hours.into_iter().map(|(hour, lines, errors)| {
        let (hour, lines, errors) = (Timestamp::from_millis(hour.get()), lines.lines(), errors.lines());
        Hour { hour, lines, errors, error_rate: rate(errors, lines) }
    });
    Ok(Stats::of(filter, levels, services.collect(), hours.collect()))
}

/// What a store without such functions has is counted here.
async fn by_reading(store: &Store, filter: &Filter) -> Result<Stats, CommandError> {
    let mut levels = BTreeMap::<String, u64>::new();
    let mut services = BTreeMap::<String, (u64, u64, Vec<f64>)>::new();
    let mut hours = BTreeMap::<i64, (u64, u64)>::new();
    store
        .rows(filter, Order::Oldest, None, &mut |row| {
            let error = u64::from(row.level() >= Level::Error);
            *levels.entry(row.level).or_default() += 1;
            let hour = hours.entry(row.timestamp.as_millis().div_euclid(HOUR_MS) * HOUR_MS).or_default();
            *hour = (hour.0 + 1, hour.1 + error);
            let service = services.entry(row.service_name).or_default();
            (service.0, service.1) = (service.0 + 1, service.1 + error);
            service.2.extend(row.latency_ms);
            Ok(())
        })
        .await?;
    let mut services: Vec<Service> = services
        .into_iter()
        .map(|(service_name, (lines, errors, mut latencies))| {
            latencies.sort_by(f64::total_cmp);
            let with_latency = latencies.len() as u64;
            let (p50, p95, p99) = (quantile(&latencies, 0.5), quantile(&latencies, 0.95), quantile(&latencies, 0.99));
            Service { service_name, lines, errors, error_rate: rate(errors, lines), with_latency, p50, p95, p99 }
        })
        .collect();
    services.sort_by(|a, b| b.lines.cmp(&a.lines).then_with(|| a.service_name.cmp(&b.service_name)));
    services.truncate(MOST_SERVICES);
    let hours = hours.into_iter().map(|(hour, (lines, errors))| Hour {
        hour: Timestamp::from_millis(hour),
        lines,
        errors,
        error_rate: rate(errors, lines),
    });
    Ok(Stats::of(filter, levels, services, hours.collect()))
}

/// Between the two values beside the place, as far as it is from each.
fn quantile(sorted: &[f64], level: f64) -> Option<f64> {
    let place = level * sorted.len().checked_sub(1)? as f64;
    let (low, part) = (place.floor(), place.fract());
    let low = *sorted.get(low as usize)?;
    let high = *sorted.get(place.ceil() as usize)?;
    Some(low + (high - low) * part)
}

impl Stats {
    fn of(filter: &Filter, levels: BTreeMap<String, u64>, services: Vec<Service>, hours: Vec<Hour>) -> Self {
        let lines = levels.values().sum();
        let errors = ["ERROR", "FATAL"].iter().filter_map(|level| levels.get(*level)).sum();
        let time = |ms: Option<i64>| ms.map(Timestamp::from_millis);
        let (from, to) = (time(filter.from), time(filter.to));
        Self { from, to, lines, errors, error_rate: rate(errors, lines), levels, services, hours }
    }
}

/// For people.
fn as_text(stats: &Stats, filter: &Filter, paint: Paint) -> String {
    let percent = |rate: f64| format!("{:.2}%", rate * 100.0);
    let mut text = format!("{} lines {}: {} errors", stats.lines, filter.time(), percent(stats.error_rate));
    let levels: Vec<String> = stats.levels.iter().map(|(level, count)| format!("{} {count}", plain(level))).collect();
    let _ = writeln!(text, "\n{}", levels.join("  "));
    if stats.lines == 0 {
        return text;
    }
    let errors = |count: u64, rate: f64| -> [Cell; 2] {
        let colour = (count > 0).then_some(Colour::Red);
        [(count.to_string(), colour), (percent(rate), colour)]
    };
    let ms = |latency: Option<f64>| cell(latency.map(|ms| format!("{ms:.1}")).unwrap_or_default());
    let rows = stats.services.iter().map(|of| {
        let name = if of.service_name.is_empty() { "(none)" } else { of.service_name.as_str() };
        let [count, share] = errors(of.errors, of.error_rate);
        let name = (plain(name).into_owned(), Some(Colour::Blue));
        vec![name, cell(of.lines.to_string()), count, share, ms(of.p50), ms(of.p95), ms(of.p99)]
    });
    let head = ["SERVICE", "LINES", "ERRORS", "RATE", "P50 MS", "P95 MS", "P99 MS"];
    let _ = write!(text, "\n{}", table(&head, rows.collect(), paint));
    let (head, hours) =
        if stats.hours.len() > MOST_HOURS { ("DAY", days(&stats.hours)) } else { ("HOUR", hours(stats)) };
    let rows = hours.into_iter().map(|(time, lines, wrong)| {
        let [count, share] = errors(wrong, rate(wrong, lines));
        vec![cell(time), cell(lines.to_string()), count, share]
    });
    let _ = write!(text, "\n{}", table(&[head, "LINES", "ERRORS", "RATE"], rows.collect(), paint));
    text
}

fn hours(stats: &Stats) -> Vec<(String, u64, u64)> {
    let time = |hour: Timestamp| hour.to_string().chars().take(16).collect::<String>().replace('T', " ");
    stats.hours.iter().map(|hour| (time(hour.hour), hour.lines, hour.errors)).collect()
}

fn days(hours: &[Hour]) -> Vec<(String, u64, u64)> {
    let mut days = BTreeMap::<String, (u64, u64)>::new();
    for hour in hours {
        let day = days.entry(hour.hour.to_string().chars().take(10).collect()).or_default();
        *day = (day.0 + hour.lines, day.1 + hour.errors);
    }
    days.into_iter().map(|(day, (lines, errors))| (day, lines, errors)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        let values = [10.0, 20.0, 30.0, 40.0];
        assert_eq!(quantile(&values, 0.5), Some(25.0));
        assert_eq!(quantile(&values, 0.75), Some(32.5));
        assert_eq!(quantile(&values[..1], 0.99), Some(10.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn people_get_tables() {
        let hour = |n: i64| Hour { hour: Timestamp::from_millis(n * HOUR_MS), lines: 10, errors: 1, error_rate: 0.1 };
        let service = Service {
            service_name: "check\u{1b}out".to_owned(),
            lines: 10,
            errors: 1,
            error_rate: 0.1,
            with_latency: 9,
            p50: Some(12.25),
            p95: None,
            p99: None,
        };
        let levels = BTreeMap::from([("ERROR".to_owned(), 1), ("INFO".to_owned(), 9)]);
        let stats = Stats::of(&Filter::default(), levels, vec![service], vec![hour(0)]);
        assert_eq!(
            as_text(&stats, &Filter::default(), Paint(false)),
            "10 lines of any time: 10.00% errors\nERROR 1  INFO 9\n\n\
             SERVICE       LINES  ERRORS  RATE    P50 MS  P95 MS  P99 MS\n\
             check\\x1bout  10     1       10.00%  12.2\n\n\
             HOUR              LINES  ERRORS  RATE\n\
             1970-01-01 00:00  10     1       10.00%\n"
        );
        let month: Vec<Hour> = (0..720).map(hour).collect();
        let days = days(&month);
        assert_eq!((days.len(), &days[0]), (30, &("1970-01-01".to_owned(), 240, 24)));
    }
}
