//! `utilizer up`: agent, broker and SQLite exporter in one process, for this host alone and no server.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::config::{ConfigError, duration};
use daemon::shutdown;
use daemon::signals::{Signal, Signals};
use exporter::Settings;
use exporter::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use utilizer_agent::app::{App, AppError};
use utilizer_agent::config as agent_config;
use utilizer_agent::sampler::Reading;
use utilizer_exporter_sqlite::{Sqlite, SqliteConfig};
use wire::{GroupName, MemberName, Topic};

use crate::broker::{Broker, BrokerError};
use crate::terminal::{human_bytes, plain};

/// The name of the SQLite file among the data.
pub const DATABASE: &str = "utilizer.db";

/// What `utilizer up` was asked for.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// Where database and broker keep their files.
    pub data_dir: PathBuf,
    /// Where the agent serves.
    pub listen: String,
    /// Where the broker listens.
    pub mqtt_listen: SocketAddr,
    /// Time between two readings.
    pub interval: Duration,
    /// Stop by itself after this time.
    pub run_for: Option<Duration>,
}

/// `utilizer up` can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// A value makes no sense.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// No place for the data.
    #[error("can't make the data directory {path}: {source}; choose another with --data-dir DIR")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The broker.
    #[error("{0}; choose another with --mqtt-listen ADDR")]
    BrokerAddress(BrokerError),
    /// The broker's state.
    #[error("{0}; is another `utilizer up` using this data directory? --data-dir DIR chooses another")]
    Broker(BrokerError),
    /// The agent's address.
    #[error("{0}; choose another with --listen ADDR")]
    Listen(daemon::http::BindError),
    /// The agent.
    #[error(transparent)]
    Agent(AppError),
    /// The exporter.
    #[error(transparent)]
    Exporter(#[from] exporter::RunError),
    /// The broker's own URL.
    #[error(transparent)]
    Url(#[from] mqtt::OptionsError),
    /// A task ended.
    #[error("BUG: a part of utilizer ended: {0}")]
    Ended(JoinError),
    /// The process can't take signals.
    #[error("can't take signals: {0}")]
    Signals(io::Error),
}

impl UpError {
    /// Whether the remedy is to call it differently.
    pub fn is_usage(&self) -> bool {
        matches!(self, UpError::Config(_))
    }
}

/// Where the data goes if nobody says otherwise: `$XDG_DATA_HOME/utilizer`, `~/.local/share/utilizer`, or
/// `/var/lib/utilizer/up` where there is no home.
pub fn default_data_dir(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    let set = |name: &str| variable(name).filter(|value| value.starts_with('/'));
    match (set("XDG_DATA_HOME"), set("HOME")) {
        (Some(data), _) => Path::new(&data).join("utilizer"),
        (None, Some(home)) => Path::new(&home).join(".local/share/utilizer"),
        (None, None) => PathBuf::from("/var/lib/utilizer/up"),
    }
}

/// Runs until a signal, or for the time asked for; what a person should know goes to `out`.
pub async fn run(options: UpOptions, out: &mut impl Write) -> Result<(), UpError> {
    let UpOptions { data_dir, listen, mqtt_listen, interval, run_for } = options;
    let mut signals = Signals::install().map_err(UpError::Signals)?;
    make_dir(&data_dir)?;
    // Absolute, so that what is printed can be pasted in another folder.
    let data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);
    let database = data_dir.join(DATABASE);

    // First the parts that can fail on an address, so that nothing runs if one is taken.
    let file = |broker: SocketAddr| agent_config::File {
        interval,
        serve: agent_config::ServeSection { listen: listen.clone(), ..Default::default() },
        mqtt: agent_config::MqttSection { url: format!("mqtt://{broker}"), ..Default::default() },
        spool: agent_config::SpoolSection { directory: data_dir.join("agent-spool"), ..Default::default() },
        ..Default::default()
    };
    // The port that the system chooses for port 0 is not known yet; any other stands for it.
    let port = mqtt_listen.port().max(1);
    agent_config::Config::from_file(file(SocketAddr::new(mqtt_listen.ip(), port)))?;
    let broker = Broker::start(mqtt_listen, &data_dir.join("broker")).await.map_err(|error| match error {
        BrokerError::State { .. } => UpError::Broker(error),
        BrokerError::Exposed(_) | BrokerError::Listen { .. } => UpError::BrokerAddress(error),
    })?;
    let config = agent_config::Config::from_file(file(broker.local_addr()))?;
    let host = config.host.clone();
    let app = App::build(config).await.map_err(|error| match error {
        AppError::Bind(error) => UpError::Listen(error),
        error => UpError::Agent(error),
    })?;
    let address = app.local_addr().map_or_else(|| listen.clone(), |address| address.to_string());

    let mut settings = Settings::new(
        format!("mqtt://{}", broker.local_addr()).parse()?,
        constant::<GroupName>("up"),
        constant::<MemberName>("up"),
        &data_dir.join("exporter"),
    );
    settings.rules.every = Duration::ZERO;
    settings.rules.processes = true;
    let metrics = settings.metrics.clone();
    let sink = Sqlite::new(SqliteConfig::new(database.clone()));

    let begun = Instant::now();
    let mqtt_address = broker.local_addr();
    let text = format!(
        "utilizer {} samples {host} every {} and keeps it on this machine.\n\n  data      {}\n  metrics   http://{address}/metrics\n  \
         page      http://{address}/\n  topics    mosquitto_sub -V 5 -h {} -p {} -t '{}' -v\n  query     sqlite3 {} \
         \"SELECT recorded_at, stage, metric_name, metric_value FROM recap_system_metrics WHERE stage <> 'process' ORDER BY id DESC LIMIT 20\"\n\n{}\n",
        env!("CARGO_PKG_VERSION"),
        duration::format(interval),
        database.display(),
        mqtt_address.ip(),
        mqtt_address.port(),
        Topic::everything(),
        database.display(),
        match run_for {
            Some(time) => format!("It stops by itself after {}; Ctrl-C stops it now.", duration::format(time)),
            None => "Ctrl-C stops it.".to_owned(),
        },
    );
    say(out, &text);

    let mut readings = app.sampler().readings();
    let mut totals = Totals::default();
    let (stop_agent, agent_stop) = shutdown::channel();
    let (stop_exporter, exporter_stop) = shutdown::channel();
    let mut parts: JoinSet<Result<(), UpError>> = JoinSet::new();
    parts.spawn(async move { Ok(exporter::run(sink, settings, exporter_stop).await?) });
    parts.spawn(async move {
        let stop = async { agent_stop.wait().await };
        app.run(stop).await.map_err(UpError::Agent)
    });

    let deadline = async {
        match run_for {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let mut deadline = std::pin::pin!(deadline);
    let mut result = loop {
        tokio::select! {
            () = &mut deadline => break Ok(()),
            signal = signals.next() => if signal == Signal::Stop { break Ok(()) },
            ended = parts.join_next() => break match ended {
                Some(Ok(result)) => result,
                Some(Err(panic)) => Err(UpError::Ended(panic)),
                None => Ok(()),
            },
            changed = readings.changed() => if changed.is_ok() {
                totals.note(&mut readings, &metrics, out);
            },
        }
    };
    // The agent first: its last records then still find the exporter, and the exporter the broker.
    drop(readings);
    stop_agent.stop();
    if result.is_ok() {
        result = join(&mut parts).await;
    }
    stop_exporter.stop();
    while let Some(ended) = parts.join_next().await {
        let ended = ended.map_err(UpError::Ended).and_then(|result| result);
        result = result.and(ended);
    }
    broker.stop().await;
    result?;
    say(out, &totals.summary(begun.elapsed(), &metrics, &database));
    Ok(())
}

/// Waits for the next part to end.
async fn join(parts: &mut JoinSet<Result<(), UpError>>) -> Result<(), UpError> {
    match parts.join_next().await {
        Some(ended) => ended.map_err(UpError::Ended)?,
        None => Ok(()),
    }
}

fn constant<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str) -> T {
    name.parse().unwrap_or_else(|e| unreachable!("BUG: {name} is a valid name: {e}"))
}

/// Readable by this user only: log lines may hold what is nobody else's business.
fn make_dir(path: &Path) -> Result<(), UpError> {
    use std::os::unix::fs::DirBuilderExt;

    let data_dir = |source| UpError::DataDir { path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(data_dir)
}

/// A closed terminal must not end the work.
fn say(out: &mut impl Write, text: &str) {
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[derive(Default)]
struct Totals {
    samples: u64,
}

impl Totals {
    fn note(&mut self, readings: &mut watch::Receiver<Option<Arc<Reading>>>, metrics: &Metrics, out: &mut impl Write) {
        let Some(reading) = readings.borrow_and_update().clone() else { return };
        self.samples += reading.snapshot.families.len() as u64;
        if !reading.first {
            say(out, &status_line(&reading, metrics));
        }
    }

    fn summary(&self, ran: Duration, metrics: &Metrics, database: &Path) -> String {
        // What the write-ahead log holds has not moved into the file yet.
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let bytes = size(database) + size(&database.with_extension("db-wal"));
        let mut text = format!(
            "\nran {}: {} samples read, {} rows written, {} bytes in {}\n",
            duration::format(Duration::from_secs(ran.as_secs())),
            self.samples,
            metrics.rows_written(),
            bytes,
            database.display(),
        );
        if metrics.dead_letters() > 0 {
            text += &format!(
                "{} records could not be read; exporter/dead-letters.ndjson beside it says why\n",
                metrics.dead_letters()
            );
        }
        text
    }
}

fn status_line(reading: &Reading, metrics: &Metrics) -> String {
    let all =
        |name: &'static str| reading.gauges.iter().filter(move |gauge| gauge.name == name).map(|gauge| gauge.value);
    let percent = |name| all(name).next().map_or("     -".to_owned(), |value| format!("{value:5.1}%"));
    let fullest = all("disk_percent").fold(None, |most: Option<f64>, value| Some(most.map_or(value, |m| m.max(value))));
    let disk = fullest.map_or("     -".to_owned(), |value| format!("{value:5.1}%"));
    let rate = |name| human_bytes(all(name).sum());
    let top = reading.processes.as_ref().and_then(|list| list.first());
    let top =
        top.map_or(String::new(), |process| format!("  top {} ({:.0}%)", plain(&process.name), process.cpu_percent));
    let time = reading.snapshot.time.to_string();
    format!(
        "{}  cpu {}  memory {}  disk {disk}  network {}/s in {}/s out  rows {}{top}\n",
        time.get(11..19).unwrap_or(&time),
        percent("cpu_percent"),
        percent("memory_percent"),
        rate("network_receive_bytes_per_second"),
        rate("network_transmit_bytes_per_second"),
        metrics.rows_written(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_has_a_place_for_everyone() {
        let dir = |pairs: &'static [(&str, &str)]| {
            default_data_dir(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(dir(&[("HOME", "/home/u")]), Path::new("/home/u/.local/share/utilizer"));
        assert_eq!(dir(&[("HOME", "/home/u"), ("XDG_DATA_HOME", "/data")]), Path::new("/data/utilizer"));
        assert_eq!(dir(&[("XDG_DATA_HOME", "relative")]), Path::new("/var/lib/utilizer/up"));
    }
}
